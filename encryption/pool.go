package encryption

import "sync"

// itemsAtOnce is how many items of one scope are worked on at once. Most of their
// steps wait for the disk, and steps that arrive together share one flush.
const itemsAtOnce = 16

// A pool works on several items of one scope at once. One goroutine hands them out.
type pool struct {
	sync.WaitGroup
	free chan struct{}

	mu    sync.Mutex
	items map[ItemID]bool // that were handed out, and whether they are done
	err   error           // the first
}

// take reports whether the item is to be started: it is not, if it was handed out
// since the last call of forget, for then it may have been read before it was done.
func (p *pool) take(i ItemID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.items[i]; ok {
		return false
	}
	if p.items == nil {
		p.items, p.free = map[ItemID]bool{}, make(chan struct{}, itemsAtOnce)
	}
	p.items[i] = false
	return true
}

// start works on an item that was taken, as soon as somebody is free.
func (p *pool) start(i ItemID, work func() error) {
	p.free <- struct{}{}
	p.Go(func() {
		defer func() { <-p.free }()
		err := work()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.items[i] = true
		if p.err == nil {
			p.err = err
		}
	})
}

// forget forgets the items that are done, before it is read anew which are due.
func (p *pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, done := range p.items {
		if done {
			delete(p.items, i)
		}
	}
}

func (p *pool) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
