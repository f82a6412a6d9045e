package softkey

import (
	"container/list"
	"crypto"
	"sync"

	"github.com/kluis-io/kluis/vault"
)

// A cache keeps the keys used last: RSA and EC keys as the libraries have them, oct
// keys as their bytes. They cannot be overwritten reliably while somebody may use
// them: a dropped one lies in memory until it is collected.
type cache struct {
	mu    sync.Mutex
	limit int
	drops int        // how many there were; a key opened across one is not kept
	order *list.List // of *cached, the last used in front
	byRef map[vault.Ref]*list.Element
}

type cached struct {
	ref vault.Ref
	key crypto.PrivateKey
}

func newCache(limit int) *cache {
	return &cache{limit: limit, order: list.New(), byRef: map[vault.Ref]*list.Element{}}
}

// get returns the key, or nil and what put wants to be told.
func (c *cache) get(ref vault.Ref) (key crypto.PrivateKey, drops int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byRef[ref]
	if e == nil {
		return nil, c.drops
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).key, c.drops
}

func (c *cache) put(ref vault.Ref, key crypto.PrivateKey, drops int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byRef[ref] != nil || c.drops != drops {
		return
	}
	c.byRef[ref] = c.order.PushFront(&cached{ref, key})
	if c.order.Len() > c.limit {
		c.remove(c.order.Back())
	}
}

// drop removes all versions of a key.
func (c *cache) drop(key vault.KeyID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	for e := c.order.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*cached).ref.Key == key {
			c.remove(e)
		}
		e = next
	}
}

func (c *cache) remove(e *list.Element) {
	c.order.Remove(e)
	delete(c.byRef, e.Value.(*cached).ref)
}
