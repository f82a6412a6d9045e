package encryption

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kluis-io/kluis/encryption/pace"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

// An entry is one scope's keys, open in memory under a lease. It lives from the
// moment the scope key was opened until the lease is over or the vault says no;
// after that every use of it fails, and another entry takes its place.
//
// A change of the scope's key does not end the entry: it gains a generation.
type entry struct {
	ring  *Keyring
	scope ScopeID

	lease    atomic.Pointer[kek.Lease]
	ended    atomic.Pointer[fault.Error] // why, once it has ended
	lastUsed atomic.Int64                // Unix nanoseconds
	next     atomic.Int64                // when to renew again, Unix nanoseconds

	mu        sync.RWMutex // guards what follows
	row       Scope
	sealing   Generation              // the sealing generation's row
	share     *envelope.Key           // the customer share of that row, if a vault guards it
	scopeKeys map[int64]*envelope.Key // by generation
	keys      map[KeyID]*Key          // opened so far
	currents  map[currentKey]KeyID    // the items' sealing keys

	renewing sync.Mutex // one renewal at a time
}

type currentKey struct {
	item    ItemID
	purpose Purpose
}

// maxKeys bounds how many opened item keys one scope keeps in memory.
const maxKeys = 20_000

func (e *entry) touch(now time.Time) { e.lastUsed.Store(now.UnixNano()) }

func (e *entry) check() error {
	if err := e.ended.Load(); err != nil {
		return err
	}
	if !e.lease.Load().Valid(e.ring.now()) {
		return leaseOver(e.scope)
	}
	return nil
}

func leaseOver(s ScopeID) *fault.Error {
	return fault.New(fault.KEKUnreachable, "The key lease is over and the vault has not answered.").
		About(string(s)).WithMend("Try again shortly.")
}

// refusal says why keys of the entry are no longer there.
func (e *entry) refusal() error {
	if err := e.check(); err != nil {
		return err
	}
	return fault.New(fault.EncryptionChanged, "The key has been dropped from memory.").WithMend("Try again.")
}

// end makes every use of the entry fail for the reason, and forgets its keys. Who
// ends it first is given the customer share, if there was one, and must clear it.
func (e *entry) end(why *fault.Error) (share *envelope.Key) {
	if !e.ended.CompareAndSwap(nil, why) {
		return nil
	}
	e.lease.Load().End()
	share = e.forgetKeys()
	for _, fn := range e.ring.dropped {
		fn(e.scope)
	}
	return share
}

// forgetKeys overwrites the keys, and hands out the customer share.
func (e *entry) forgetKeys() (share *envelope.Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range e.keys {
		k.drop()
	}
	for _, k := range e.scopeKeys {
		k.Clear()
	}
	share = e.share
	e.share, e.keys, e.scopeKeys, e.currents = nil, nil, nil, nil
	return share
}

// drop ends the entry, and its share with it.
func (e *entry) drop(why *fault.Error) {
	if share := e.end(why); share != nil {
		share.Clear()
	}
}

// newEntry returns an entry that holds opened keys.
func newEntry(k *Keyring, m *material) *entry {
	e := &entry{
		ring: k, scope: m.scope.ID, row: m.scope, sealing: m.sealing, share: m.share, scopeKeys: m.scopeKeys,
		keys: map[KeyID]*Key{}, currents: map[currentKey]KeyID{},
	}
	e.lease.Store(&m.lease)
	e.renewLater()
	e.touch(k.now())
	return e
}

// adopt takes opened keys over, in place of those it had. It reports false, and
// leaves them alone, if the entry is over.
func (e *entry) adopt(m *material) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.lease.Load()
	if e.ended.Load() != nil || !old.Valid(e.ring.now()) {
		return false
	}
	for _, key := range e.scopeKeys {
		key.Clear()
	}
	if e.share != nil {
		e.share.Clear()
	}
	if e.sealing.Number != m.sealing.Number {
		e.currents = map[currentKey]KeyID{}
		old = nil // given for another key
	}
	e.row, e.sealing, e.share, e.scopeKeys = m.scope, m.sealing, m.share, m.scopeKeys
	e.dropUnlinked()
	if old == nil || m.lease.Expires().After(old.Expires()) { // a slow answer does not shorten what a quicker one gave
		e.lease.Store(&m.lease)
	}
	e.renewLater()
	return true
}

// renewLater notes when the lease is to be renewed.
func (e *entry) renewLater() {
	l := e.lease.Load()
	e.next.Store(pace.Renewal(l.Expires().Add(-l.Length()), l.Length(), rand.Float64()).UnixNano())
}

// base returns the context's fields that all keys of an item share.
func (e *entry) base(row KeyRow) []string {
	return []string{
		e.ring.root.Instance(), string(e.row.Tenant), string(e.scope), string(row.Item), string(row.ID), string(row.Purpose),
	}
}

// current returns the item's sealing key, making fresh ones first if the item's
// are of a generation that no longer seals.
func (e *entry) current(ctx context.Context, item ItemID, p Purpose) (*Key, error) {
	e.mu.RLock()
	id, ok := e.currents[currentKey{item, p}]
	k := e.keys[id]
	e.mu.RUnlock()
	if ok && k != nil {
		return k, nil
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	rows, err := e.load(ctx, item)
	if err != nil {
		return nil, err
	}
	row, ok := currentOf(rows, p)
	if ok && e.outdated(row) {
		if rows, err = e.refresh(ctx, item); err != nil {
			return nil, err
		}
		row, ok = currentOf(rows, p)
	}
	if !ok {
		return nil, noKey(item)
	}
	return e.opened(row, true)
}

// open returns one of the item's keys by its id.
func (e *entry) open(ctx context.Context, item ItemID, id KeyID) (*Key, error) {
	e.mu.RLock()
	k := e.keys[id]
	e.mu.RUnlock()
	if k != nil && k.item == item {
		return k, nil
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	rows, err := e.load(ctx, item)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		switch {
		case row.ID == id && row.State == Shredded:
			return nil, noKey(item)
		case row.ID == id:
			return e.opened(row, false)
		}
	}
	return nil, fault.New(fault.Integrity, "The key that this was sealed under is not among the item's keys.").About(string(item))
}

func currentOf(rows []KeyRow, p Purpose) (KeyRow, bool) {
	for _, r := range rows {
		if r.Purpose == p && r.State == Current {
			return r, true
		}
	}
	return KeyRow{}, false
}

func noKey(item ItemID) error {
	return fault.New(fault.ItemNotFound, "The item has no key: it has been deleted.").About(string(item))
}

// outdated reports whether new data must not be sealed under the row's key: it
// belongs to a generation before the sealing one, and that demands fresh keys.
func (e *entry) outdated(row KeyRow) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.sealing.outdates(row)
}

func (g Generation) outdates(row KeyRow) bool { return row.Generation < g.Number && !g.ReSealOnly }

func (e *entry) load(ctx context.Context, item ItemID) (rows []KeyRow, err error) {
	err = e.ring.store.View(ctx, func(tx Tx) error {
		rows, err = tx.ItemKeys(item)
		return err
	})
	return rows, err
}

// opened opens a key's row and remembers the key.
func (e *entry) opened(row KeyRow, current bool) (*Key, error) {
	if row.Scope != e.scope {
		return nil, fault.New(fault.Integrity, "The item's key belongs to another workspace.").About(string(row.Item))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.scopeKeys == nil {
		return nil, e.refusal()
	}
	k := e.keys[row.ID]
	if k == nil {
		scopeKey := e.scopeKeys[row.Generation]
		if scopeKey == nil {
			return nil, e.behind()
		}
		raw, err := openItemKey(e.ring.root.Instance(), e.row.Tenant, row, scopeKey)
		if err != nil {
			return nil, err
		}
		if len(e.keys) >= maxKeys {
			e.evict()
		}
		k = &Key{id: row.ID, item: row.Item, generation: row.Generation, base: e.base(row), entry: e, key: raw}
		e.keys[row.ID] = k
	}
	if current && !e.sealing.outdates(row) { // it may have become so since it was read
		e.currents[currentKey{row.Item, row.Purpose}] = row.ID
	}
	return k, nil
}

// behind makes the ring look again soon, since the database has moved on.
func (e *entry) behind() error {
	e.next.Store(0)
	return fault.Wrap(fault.EncryptionChanged, errBehind, keysChanged().Detail).WithMend("Try again.")
}

// errBehind is what keys of a generation fail with that is not open here yet.
var errBehind = errors.New("the scope's key is a newer one than is open")

// evict forgets some keys to make room. They are not dropped, since somebody may
// be using them: their bytes are overwritten once nobody does, and they end with
// the entry's check all the same.
func (e *entry) evict() {
	n := 0
	for id := range e.keys {
		e.letGo(id)
		if n++; n >= maxKeys/10 {
			break
		}
	}
}

func (e *entry) letGo(id KeyID) {
	k := e.keys[id]
	runtime.AddCleanup(k, func(key *envelope.Key) { key.Clear() }, k.key)
	delete(e.keys, id)
}

// forget makes the entry look up an item's sealing keys again, after they have
// changed, and drops the keys that were retired.
func (e *entry) forget(item ItemID, retired ...KeyID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range retired {
		if k := e.keys[id]; k != nil {
			k.drop()
			delete(e.keys, id)
		}
	}
	for _, p := range []Purpose{ContentKey, NamesKey} {
		delete(e.currents, currentKey{item, p})
	}
}

// refresh gives the item fresh keys under the sealing generation, unless somebody
// has done so. The old ones only open from then on.
func (e *entry) refresh(ctx context.Context, item ItemID) (rows []KeyRow, err error) {
	err = e.ring.store.Update(ctx, func(tx Tx) error {
		e.mu.RLock()
		defer e.mu.RUnlock()
		sealing := e.sealing.Number
		scopeKey := e.scopeKeys[sealing]
		if scopeKey == nil {
			return e.refusal()
		}
		sc, err := tx.Scope(e.scope)
		if err != nil {
			return err
		}
		if sc.Sealing != sealing {
			return e.behind()
		}
		if rows, err = tx.ItemKeys(item); err != nil {
			return err
		}
		if len(rows) == 0 || rows[0].State == Shredded {
			return noKey(item)
		}
		if row, ok := currentOf(rows, ContentKey); ok && row.Generation >= sealing {
			return nil
		}
		for _, r := range rows {
			if r.State == Current {
				r.State = Retiring
				if err := tx.UpdateKey(r); err != nil {
					return err
				}
			}
		}
		for _, r := range newItemKeys(e.ring.root.Instance(), e.row, sealing, scopeKey, item, e.ring.now()) {
			if err := tx.InsertKey(r); err != nil {
				return err
			}
		}
		rows, err = tx.ItemKeys(item)
		return err
	})
	if err == nil {
		e.forget(item)
	}
	return rows, err
}

// newItem makes the keys of a new item under the sealing generation.
func (e *entry) newItem(item ItemID, itemType string) (*ItemKeys, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	sealing := e.sealing.Number
	scopeKey := e.scopeKeys[sealing]
	if scopeKey == nil {
		return nil, e.refusal()
	}
	return &ItemKeys{
		Row:  Item{ID: item, Scope: e.scope, Type: itemType, Generation: sealing},
		Keys: newItemKeys(e.ring.root.Instance(), e.row, sealing, scopeKey, item, e.ring.now()),
	}, nil
}

// forgetItem drops an item's keys.
func (e *entry) forgetItem(item ItemID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, k := range e.keys {
		if k.item == item {
			k.drop()
			delete(e.keys, id)
		}
	}
	for _, p := range []Purpose{ContentKey, NamesKey} {
		delete(e.currents, currentKey{item, p})
	}
}
