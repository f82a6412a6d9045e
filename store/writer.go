package store

import (
	"context"
	"sync"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// groupLimit bounds how many transactions share one commit.
const groupLimit = 256

// upkeepRetry is how soon upkeep that is owed is tried again.
const upkeepRetry = 100 * time.Millisecond

// A Committer is an engine's way to write. One goroutine calls it.
type Committer interface {
	// Begin begins a transaction that nobody else's overlaps, and returns what its
	// statements run on.
	Begin() (*Conn, error)
	// Commit makes it durable, and is told what of it must leave the disk. After an
	// error nothing of it is there, or the engine takes no more writes until a restart
	// has found out.
	Commit(Shreds) error
	// Rollback undoes it, as far as the engine has not done so by itself.
	Rollback() error
	// Upkeep is called after each transaction, and again soon while it returns that
	// something is owed and nobody wants to write.
	Upkeep() (owed bool)
}

// Shreds says of what a transaction has overwritten how soon it must leave the disk.
type Shreds int

// The degrees. What is retired is sealed under a key that is about to be shredded
// itself: thousands of item keys share one scrub.
const (
	Nothing  Shreds = iota
	Retired         // soon
	Shredded        // before anybody is told, if no reader stands in the way
)

// A Writer is the one goroutine of a process that writes to a database.
// Transactions that arrive together share one commit, and therefore one flush; one
// that fails takes nothing of the others with it.
type Writer struct {
	to    Committer
	queue chan *job
	done  chan struct{}

	memory *Memory // nil if nothing is remembered

	mu     sync.RWMutex // held for reading while sending to queue, so that Close may close it
	closed bool
}

type job struct {
	ctx      context.Context
	fn       func(*Tx) error
	err      error
	finished chan struct{}
}

// Remembers makes the writer tell m what it changes. It is for setting up, before the
// first transaction.
func (w *Writer) Remembers(m *Memory) { w.memory = m }

// NewWriter starts a writer.
func NewWriter(to Committer) *Writer {
	w := &Writer{to: to, queue: make(chan *job, groupLimit), done: make(chan struct{})}
	go w.run()
	return w
}

// Close waits for the transactions that have been taken, and ends the writer. It
// may be called more than once; the first call returns true.
func (w *Writer) Close() (first bool) {
	w.mu.Lock()
	first = !w.closed
	if first {
		w.closed = true
		close(w.queue)
	}
	w.mu.Unlock()
	<-w.done
	return first
}

// Closed reports whether Close was called.
func (w *Writer) Closed() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.closed
}

// ErrClosed is what a closed database answers.
var ErrClosed = fault.New(fault.Unavailable, "The database is closed.")

// Update runs fn in one write transaction, as [Runner] says.
func (w *Writer) Update(ctx context.Context, fn func(*Tx) error) error {
	j := &job{ctx: ctx, fn: fn, finished: make(chan struct{})}
	if err := w.enqueue(j); err != nil {
		return err
	}
	<-j.finished
	return j.err
}

func (w *Writer) enqueue(j *job) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return ErrClosed
	}
	select {
	case w.queue <- j:
		return nil
	case <-j.ctx.Done():
		return notBegun(j.ctx)
	}
}

func notBegun(ctx context.Context) error {
	return fault.Wrap(fault.Unavailable, ctx.Err(), "The request ended before the database took it: nothing was written.")
}

// run takes what waits, commits it together, and tells each caller.
func (w *Writer) run() {
	defer close(w.done)
	owed := false
	for {
		first, ok := w.next(owed)
		if !ok {
			return
		}
		jobs := w.gather(first)
		if err := w.commit(jobs); err != nil {
			for _, j := range jobs {
				if j.err == nil { // it would have succeeded
					j.err = err
				}
			}
		}
		owed = w.to.Upkeep()
		for _, j := range jobs {
			close(j.finished)
		}
	}
}

// next waits for a job, and meanwhile does what upkeep is owed.
func (w *Writer) next(owed bool) (*job, bool) {
	for owed {
		select {
		case j, ok := <-w.queue:
			return j, ok
		case <-time.After(upkeepRetry):
			owed = w.to.Upkeep()
		}
	}
	j, ok := <-w.queue
	return j, ok
}

func (w *Writer) gather(first *job) []*job {
	jobs := []*job{first}
	for len(jobs) < groupLimit {
		select {
		case j, ok := <-w.queue:
			if !ok {
				return jobs
			}
			jobs = append(jobs, j)
		default:
			return jobs
		}
	}
	return jobs
}

// commit runs jobs in one transaction. Every job learns its own error; the error
// returned is that of all the others.
func (w *Writer) commit(jobs []*job) error {
	c, err := w.to.Begin()
	if err != nil {
		return err
	}
	g, succeeded := &group{conn: c, memory: w.memory}, false
	for _, j := range jobs {
		if j.ctx.Err() != nil {
			j.err = notBegun(j.ctx)
			continue
		}
		var broken error
		if j.err, broken = g.run(j.ctx, j.fn); broken != nil {
			w.to.Rollback() // the engine may have done so by itself
			return broken
		}
		succeeded = succeeded || j.err == nil
	}
	if !succeeded {
		return w.to.Rollback()
	}
	if err := g.finish(); err != nil {
		w.to.Rollback()
		return err
	}
	if w.memory == nil || g.changes.empty() {
		return w.to.Commit(g.shreds)
	}
	w.memory.committing(&g.changes)
	err = w.to.Commit(g.shreds)
	w.memory.committed(&g.changes, err == nil)
	return err
}
