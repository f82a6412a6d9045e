package workspace

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// A record is an item's listing record. It repeats the type, which the row shows
// in the clear, so that a changed row is found out.
type record struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Type        ItemType `json:"type"`
}

// maxSeals bounds the records sealed under one salt: the random nonces' limit
// (design: names; NIST SP 800-38D §8.3).
const maxSeals = 1 << 31

func newSalt() (s [24]byte) {
	rand.Read(s[:])
	return s
}

// sameKeys reports whether two readings of a list's row name the same keys.
func (l List) sameKeys(o List) bool { l.Seals = o.Seals; return l == o }

// salt returns the salt of one of the list's keys. An entry under another key is
// not of this list.
func (l List) salt(key encryption.KeyID) ([24]byte, error) {
	switch {
	case key == "":
	case key == l.Key:
		return l.Salt, nil
	case key == l.NextKey:
		return l.NextSalt, nil
	}
	return [24]byte{}, fault.New(fault.Integrity, "An item's name is under a key that its workspace's list does not have.")
}

// sealing returns the key that seals what is written now.
func (l List) sealing() encryption.KeyID {
	if l.NextKey != "" {
		return l.NextKey
	}
	return l.Key
}

// names is a workspace's list of items, with the right to use its keys. It is
// good for one act.
type names struct {
	list    List
	use     *encryption.Use
	folders *folders
}

func (n names) with(ctx context.Context, key encryption.KeyID, fn func(*envelope.Folder) error) error {
	salt, err := n.list.salt(key)
	if err != nil {
		return err
	}
	return n.folders.with(ctx, n.use, folderKey{n.list.Workspace, key, salt}, fn)
}

// among says among which entries the entry's name is its own: items of its type
// in the workspace, folders in the same folder.
func (e Entry) among() string {
	if e.Type == FolderType {
		return string(FolderType) + "/" + string(e.Folder)
	}
	return string(e.Type)
}

// lookups returns the codes of a name among others, by [Entry.among], under the
// list's keys: one, or two while it is being re-sealed, the one that seals last.
func (n names) lookups(ctx context.Context, among, name string) ([][32]byte, error) {
	keys := []encryption.KeyID{n.list.Key}
	if n.list.NextKey != "" {
		keys = append(keys, n.list.NextKey)
	}
	codes := make([][32]byte, len(keys))
	for i, k := range keys {
		err := n.with(ctx, k, func(f *envelope.Folder) error {
			codes[i] = f.LookupMAC(among, Canonical(name))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return codes, nil
}

// open returns an entry's item.
func (n names) open(ctx context.Context, e Entry) (Item, error) {
	r, err := n.record(ctx, e)
	return e.item(r), err
}

func (n names) record(ctx context.Context, e Entry) (r record, err error) {
	err = n.with(ctx, e.Key, func(f *envelope.Folder) error {
		plain, err := f.OpenRecord([]byte(e.ID), e.Revision, e.Record)
		if err != nil {
			return err
		}
		if json.Unmarshal(plain, &r) != nil || r.Type != e.Type ||
			e.Workspace != n.list.Workspace || f.LookupMAC(e.among(), Canonical(r.Name)) != e.Lookup {
			return fault.New(fault.Integrity, "An item's row does not agree with its sealed record.")
		}
		return nil
	})
	return r, err
}

// seal puts a record into an entry, at the revision that the entry has, under the
// key that seals.
func (n names) seal(ctx context.Context, e *Entry, r record) error {
	plain, err := json.Marshal(r)
	if err != nil {
		return err
	}
	e.Key = n.list.sealing()
	return n.with(ctx, e.Key, func(f *envelope.Folder) error {
		e.Record = f.SealRecord([]byte(e.ID), e.Revision, plain)
		e.Lookup = f.LookupMAC(e.among(), Canonical(r.Name))
		return nil
	})
}

// names reads the workspace's list, for looking things up in it.
func (w *Workspaces) names(ctx context.Context, u *encryption.Use) (names, error) {
	if l, ok := w.lists.Load(u.Scope()); ok {
		return names{l.(List), u, &w.folders}, nil
	}
	return w.freshNames(ctx, u)
}

func (w *Workspaces) freshNames(ctx context.Context, u *encryption.Use) (names, error) {
	var l List
	err := w.store.View(ctx, func(tx Tx) (err error) {
		l, err = tx.ItemList(u.Scope())
		return err
	})
	if err != nil {
		return names{}, err
	}
	w.lists.Store(u.Scope(), l)
	return names{l, u, &w.folders}, nil
}

// reading runs fn in a read transaction in which the list's keys are those that
// prepare saw. prepare runs before and outside of it, and may use keys; both run
// again if the list has moved on.
func (w *Workspaces) reading(ctx context.Context, u *encryption.Use, prepare func(names) error, fn func(Tx, names) error) error {
	n, err := w.names(ctx, u)
	if err != nil {
		return err
	}
	for range attempts {
		if prepare != nil {
			if err := prepare(n); err != nil {
				return w.listMoved(ctx, n, err) // another process may have re-sealed it since it was read here
			}
		}
		var now List
		err := w.store.View(ctx, func(tx Tx) (err error) {
			if now, err = tx.ItemList(u.Scope()); err != nil || !now.sameKeys(n.list) {
				return err
			}
			return fn(tx, n)
		})
		if err != nil {
			return err
		}
		if now.sameKeys(n.list) {
			return nil
		}
		w.lists.Store(u.Scope(), now)
		n.list = now
	}
	return errMoved()
}

func errMoved() error {
	return fault.New(fault.EncryptionChanged, "The workspace's names were being re-sealed meanwhile.").WithMend("Try again.")
}

// listMoved and entryMoved return [fault.EncryptionChanged] in place of err if the
// list, or the entry, is not under the keys any more that it was read with:
// re-sealing drops a key once nothing is left under it.
func (w *Workspaces) listMoved(ctx context.Context, n names, err error) error {
	if fault.ReasonOf(err) != fault.Integrity {
		return err
	}
	if now, view := w.freshNames(ctx, n.use); view == nil && !now.list.sameKeys(n.list) {
		return errMoved()
	}
	return err
}

func (w *Workspaces) entryMoved(ctx context.Context, e Entry, err error) error {
	if fault.ReasonOf(err) != fault.Integrity {
		return err
	}
	var now Entry
	view := w.store.View(ctx, func(tx Tx) (err error) {
		now, err = tx.ItemEntry(e.ID)
		return err
	})
	if view == nil && now.Revision != e.Revision {
		return errMoved()
	}
	return err
}

// writing prepares a change of the list: its names, and the list's row as the
// change must leave it. What is written goes under the current names key from its
// first instant, so a list that is not yet moving to it begins to.
func (w *Workspaces) writing(ctx context.Context, u *encryption.Use) (n names, old List, err error) {
	if n, err = w.freshNames(ctx, u); err != nil {
		return n, old, err
	}
	old = n.list
	k, err := u.Current(ctx, encryption.ScopeItem(u.Scope()), encryption.NamesKey)
	if err != nil {
		return n, old, err
	}
	if old.NextKey == "" && old.Key != k.ID() {
		n.list.NextKey, n.list.NextSalt, n.list.Seals = k.ID(), newSalt(), 0
	}
	return n, old, nil
}

// confirm checks, in the transaction of the change, that the list is as it was
// prepared for and that its key is alive, moves it on if the change does so, and
// counts one seal.
func (n names) confirm(tx Tx, old List) error {
	now, err := tx.ItemList(old.Workspace)
	if err != nil {
		return err
	}
	if !now.sameKeys(old) {
		return errMoved()
	}
	if err := n.use.Confirm(tx, n.list.sealing()); err != nil {
		return err
	}
	if !n.list.sameKeys(old) {
		if err := tx.PutItemList(n.list); err != nil {
			return err
		}
	} else if now.Seals >= maxSeals {
		return fault.New(fault.Conflict, "The workspace's list of items has been written as often as one key may seal it.").
			WithMend("Assign or reset the workspace's key, which makes a new one.")
	}
	return tx.CountItemListSeal(old.Workspace)
}

// folders keeps the opened keys of lists, for as long as the key leases that they
// were opened under hold. Only bytes that are derived in a few microseconds are
// kept, so dropping one too early costs nothing.
type folders struct {
	mu      sync.Mutex
	open    map[folderKey]*folder
	ticking bool
}

type folderKey struct {
	scope encryption.ScopeID
	key   encryption.KeyID
	salt  [24]byte
}

type folder struct {
	use  *encryption.Use // whose lease it lives under
	mu   sync.RWMutex
	keys *envelope.Folder // nil once cleared
}

const (
	maxFolders = 4096        // opened at a time
	folderTick = time.Second // how often those are cleared whose lease is over and that nobody asks for
)

// with calls fn with a folder's keys, which cannot be cleared meanwhile.
func (c *folders) with(ctx context.Context, u *encryption.Use, k folderKey, fn func(*envelope.Folder) error) error {
	for {
		if err := u.Check(); err != nil {
			return err
		}
		f, err := c.get(ctx, u, k)
		if err != nil {
			return err
		}
		f.mu.RLock()
		if f.keys == nil { // cleared since
			f.mu.RUnlock()
			continue
		}
		err = fn(f.keys)
		f.mu.RUnlock()
		return err
	}
}

func (c *folders) get(ctx context.Context, u *encryption.Use, k folderKey) (*folder, error) {
	c.mu.Lock()
	f := c.open[k]
	c.mu.Unlock()
	if f != nil && f.use.Check() == nil {
		return f, nil
	}
	key, err := u.Key(ctx, encryption.ScopeItem(k.scope), k.key)
	if err != nil {
		return nil, err
	}
	// The folder's id is the workspace's.
	keys, err := key.Folder([]byte(k.scope), k.salt)
	if err != nil {
		return nil, err
	}
	f = &folder{use: u, keys: keys}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[folderKey]*folder{}
	}
	if old := c.open[k]; old != nil {
		go old.clear() // waits for those who use it
	}
	for o, old := range c.open {
		if len(c.open) < maxFolders {
			break
		}
		delete(c.open, o)
		go old.clear()
	}
	c.open[k] = f
	if !c.ticking {
		c.ticking = true
		time.AfterFunc(folderTick, c.tick)
	}
	return f, nil
}

// forget clears the folders of a scope whose key is no longer needed.
func (c *folders) forget(scope encryption.ScopeID, key encryption.KeyID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, f := range c.open {
		if k.scope == scope && k.key == key {
			delete(c.open, k)
			go f.clear()
		}
	}
}

// tick clears the folders whose leases are over, and ticks on while there are
// others.
func (c *folders) tick() {
	c.mu.Lock()
	var over []*folder
	for k, f := range c.open {
		if f.use.Check() != nil {
			delete(c.open, k)
			over = append(over, f)
		}
	}
	c.ticking = len(c.open) > 0
	if c.ticking {
		time.AfterFunc(folderTick, c.tick)
	}
	c.mu.Unlock()
	for _, f := range over {
		f.clear()
	}
}

func (f *folder) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys != nil {
		f.keys.Clear()
		f.keys = nil
	}
}
