package lake

import (
	"container/list"
	"sync"

	"github.com/kluis-io/kluis/encryption"
)

// An orderCache keeps orders; the least recently used go first.
type orderCache struct {
	making chan struct{} // holds one while an order is made

	mu       sync.Mutex
	byFolder map[NodeID]*list.Element
	recent   list.List // of orderEntry
	bytes    int64
}

type orderEntry struct {
	folder NodeID
	order  *order
}

func (c *orderCache) get(folder NodeID) *order {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byFolder[folder]
	if el == nil {
		return nil
	}
	c.recent.MoveToFront(el)
	return el.Value.(orderEntry).order
}

// put keeps an order.
func (c *orderCache) put(folder NodeID, o *order) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(c.byFolder[folder])
	if c.byFolder == nil {
		c.byFolder = map[NodeID]*list.Element{}
	}
	c.byFolder[folder] = c.recent.PushFront(orderEntry{folder, o})
	c.bytes += o.bytes
	for c.bytes > maxOrders {
		c.remove(c.recent.Back())
	}
}

func (c *orderCache) remove(el *list.Element) {
	if el == nil {
		return
	}
	e := c.recent.Remove(el).(orderEntry)
	delete(c.byFolder, e.folder)
	c.bytes -= e.order.bytes
}

// dropIf drops the orders that the function names.
func (c *orderCache) dropIf(drop func(*order) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for el := c.recent.Front(); el != nil; {
		next := el.Next()
		if drop(el.Value.(orderEntry).order) {
			c.remove(el)
		}
		el = next
	}
}

func (c *orderCache) forget(scope encryption.ScopeID) {
	c.dropIf(func(o *order) bool { return o.use.Scope() == scope })
}

func (c *orderCache) expire() {
	c.dropIf(func(o *order) bool { return o.use.Check() != nil })
}
