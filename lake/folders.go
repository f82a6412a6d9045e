package lake

import (
	"container/list"
	"encoding/hex"
	"runtime"
	"sync"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// maxFolderKeys bounds how many folders' keys are kept derived.
const maxFolderKeys = 4096

// folderKeys are one folder's keys, derived from one namespace key and salt.
type folderKeys struct {
	id  []byte
	key encryption.KeyID
	use *encryption.Use

	mu sync.RWMutex
	f  *envelope.Folder // nil once dropped
}

func (k *folderKeys) with(fn func(*envelope.Folder) error) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.f == nil {
		if err := k.use.Check(); err != nil {
			return err
		}
		return fault.New(fault.EncryptionChanged, "The workspace's keys have changed meanwhile.").WithMend("Try again.")
	}
	return fn(k.f)
}

func (k *folderKeys) lookup(name string) (mac [32]byte, err error) {
	err = k.with(func(f *envelope.Folder) error {
		mac = f.LookupMAC("entry", name)
		return nil
	})
	return mac, err
}

func (k *folderKeys) seal(e EntryRow, r record) (sealed []byte, err error) {
	err = k.with(func(f *envelope.Folder) error {
		sealed = f.SealRecord(rawID(e.ID), uint64(e.Revision), r.encode())
		return nil
	})
	return sealed, err
}

func (k *folderKeys) open(e EntryRow) (r record, err error) {
	err = k.with(func(f *envelope.Folder) error {
		b, err := f.OpenRecord(rawID(e.ID), uint64(e.Revision), e.Record)
		if err == nil {
			r, err = decodeRecord(b)
		}
		return err
	})
	return r, err
}

func (k *folderKeys) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.f != nil {
		k.f.Clear()
		k.f = nil
	}
}

// rawID returns the bytes that an id spells.
func rawID(id NodeID) []byte {
	b, err := hex.DecodeString(string(id))
	if err != nil || len(b) == 0 {
		return []byte(id) // not one of ours, and then it opens nothing
	}
	return b
}

// A folderCache keeps folders' keys for as long as their scope's lease holds,
// the least recently used go first.
type folderCache struct {
	mu    sync.Mutex
	byKey map[folderCacheKey]*list.Element
	order list.List // of *folderKeys' cache entries, most recent first
}

type folderCacheKey struct {
	folder NodeID
	key    encryption.KeyID
	salt   [24]byte
}

type folderCacheEntry struct {
	at   folderCacheKey
	keys *folderKeys
}

// get returns the keys of the folder under one of its namespace keys.
func (c *folderCache) get(u *encryption.Use, f FolderRow, key *encryption.Key) (*folderKeys, error) {
	if err := u.Check(); err != nil {
		c.forget(u.Scope())
		return nil, err
	}
	at := folderCacheKey{f.ID, key.ID(), f.Salt}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.byKey[at]; el != nil {
		c.order.MoveToFront(el)
		return el.Value.(folderCacheEntry).keys, nil
	}
	derived, err := key.Folder(rawID(f.ID), f.Salt)
	if err != nil {
		return nil, err
	}
	k := &folderKeys{id: rawID(f.ID), key: key.ID(), use: u, f: derived}
	// Whoever still holds evicted keys may use them; they are overwritten when
	// nobody does.
	runtime.AddCleanup(k, (*envelope.Folder).Clear, derived)
	if c.byKey == nil {
		c.byKey = map[folderCacheKey]*list.Element{}
	}
	c.byKey[at] = c.order.PushFront(folderCacheEntry{at, k})
	for c.order.Len() > maxFolderKeys {
		last := c.order.Back()
		delete(c.byKey, c.order.Remove(last).(folderCacheEntry).at)
	}
	return k, nil
}

// forget drops the keys of a scope.
func (c *folderCache) forget(scope encryption.ScopeID) {
	c.dropIf(func(k *folderKeys) bool { return k.use.Scope() == scope })
}

// expire drops the keys of scopes whose lease is over.
func (c *folderCache) expire() {
	c.dropIf(func(k *folderKeys) bool { return k.use.Check() != nil })
}

func (c *folderCache) dropIf(drop func(*folderKeys) bool) {
	var dropped []*folderKeys
	c.mu.Lock()
	for el := c.order.Front(); el != nil; {
		next := el.Next()
		if e := el.Value.(folderCacheEntry); drop(e.keys) {
			c.order.Remove(el)
			delete(c.byKey, e.at)
			dropped = append(dropped, e.keys)
		}
		el = next
	}
	c.mu.Unlock()
	for _, k := range dropped {
		k.drop()
	}
}
