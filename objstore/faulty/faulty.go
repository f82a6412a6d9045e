// Package faulty wraps an object store and makes its calls fail: cleanly, or
// after they have happened, as when a reply is lost. It is for tests.
package faulty

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// An Op is a call of an object store.
type Op string

// The operations.
const (
	Create Op = "create"
	Write  Op = "write"
	Commit Op = "commit"
	Open   Op = "open"
	Read   Op = "read"
	Delete Op = "delete"
	List   Op = "list"
)

// A Fault is what becomes of a call.
type Fault int

// The faults.
const (
	None      Fault = iota
	Fails           // the call fails and has done nothing
	FailsDone       // the call fails and has happened
	Short           // a write takes half, a read gives half, and fails
)

// A Store is an object store with faults.
type Store struct {
	lake.Objects

	mu     sync.Mutex
	decide func(op Op, n int) Fault
	calls  int
}

// Wrap returns a Store whose every call asks decide what becomes of it; n counts
// calls from 1. A nil decide lets all pass.
func Wrap(o lake.Objects, decide func(op Op, n int) Fault) *Store {
	return &Store{Objects: o, decide: decide}
}

// Nth makes the nth call fail in the given way, and no other.
func Nth(nth int, f Fault) func(Op, int) Fault {
	return func(_ Op, n int) Fault {
		if n == nth {
			return f
		}
		return None
	}
}

// Set exchanges what decides.
func (s *Store) Set(decide func(op Op, n int) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decide, s.calls = decide, 0
}

// Calls tells how many calls there were since Wrap or Set.
func (s *Store) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *Store) pass(op Op) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.decide == nil {
		return None
	}
	return s.decide(op, s.calls)
}

// do runs one call under its fault.
func (s *Store) do(op Op, call func() error) error {
	f := s.pass(op)
	if f == Fails || f == Short {
		return injected(op)
	}
	err := call()
	if f == FailsDone && err == nil {
		err = injected(op)
	}
	return err
}

func injected(op Op) error { return fault.New(fault.Unavailable, "Injected: "+string(op)+" failed.") }

// Create implements [lake.Objects].
func (s *Store) Create(ctx context.Context, id string) (lake.ObjectWriter, error) {
	var w lake.ObjectWriter
	err := s.do(Create, func() (err error) {
		w, err = s.Objects.Create(ctx, id)
		return err
	})
	if err != nil {
		if w != nil {
			w.Abort()
		}
		return nil, err
	}
	return &writer{w, s}, nil
}

type writer struct {
	lake.ObjectWriter
	s *Store
}

func (w *writer) Write(p []byte) (n int, err error) {
	switch w.s.pass(Write) {
	case Fails:
		return 0, injected(Write)
	case Short:
		n, _ = w.ObjectWriter.Write(p[:len(p)/2])
		return n, injected(Write)
	case FailsDone:
		n, _ = w.ObjectWriter.Write(p)
		return n, injected(Write)
	}
	return w.ObjectWriter.Write(p)
}

func (w *writer) Commit() error { return w.s.do(Commit, w.ObjectWriter.Commit) }

// Open implements [lake.Objects].
func (s *Store) Open(ctx context.Context, id string) (lake.Object, error) {
	var o lake.Object
	err := s.do(Open, func() (err error) {
		o, err = s.Objects.Open(ctx, id)
		return err
	})
	if err != nil {
		if o != nil {
			o.Close()
		}
		return nil, err
	}
	return &object{o, s}, nil
}

type object struct {
	lake.Object
	s *Store
}

func (o *object) ReadAt(p []byte, off int64) (int, error) {
	switch o.s.pass(Read) {
	case Fails, FailsDone:
		return 0, injected(Read)
	case Short:
		n, err := o.Object.ReadAt(p[:len(p)/2], off)
		if err == nil || err == io.EOF {
			err = injected(Read)
		}
		return n, err
	}
	return o.Object.ReadAt(p, off)
}

// Delete implements [lake.Objects].
func (s *Store) Delete(ctx context.Context, id string) error {
	return s.do(Delete, func() error { return s.Objects.Delete(ctx, id) })
}

// List implements [lake.Objects].
func (s *Store) List(ctx context.Context, each func(string, time.Time) error) error {
	return s.do(List, func() error { return s.Objects.List(ctx, each) })
}
