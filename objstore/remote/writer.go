package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// newMark returns what tells a writer's object from any other.
func newMark() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Create implements [lake.Objects].
func (s *Store) Create(ctx context.Context, id string) (lake.ObjectWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, err := s.name(id)
	if err != nil {
		return nil, err
	}
	return &writer{ctx: ctx, client: s.client, name: name, mark: newMark()}, nil
}

// parts are buffers of a part each, of writers that have come to an end: what is longer
// than smallSize takes one, and need not grow one.
var parts = sync.Pool{New: func() any { b := make([]byte, PartSize); return &b }}

const smallSize = 64 << 10

type writer struct {
	ctx    context.Context
	client Client
	name   string
	mark   string

	buf    []byte // the part that is being filled
	upload Upload // nil while there is no part but that
	done   bool
	err    error
}

func (w *writer) Write(p []byte) (n int, err error) {
	if w.err == nil && w.done {
		w.err = fault.New(fault.Internal, "An object was written to after its end.")
	}
	for len(p) > 0 && w.err == nil {
		if len(w.buf) == PartSize { // more comes after it
			w.err = w.part()
			continue
		}
		m := min(len(p), PartSize-len(w.buf))
		if len(w.buf)+m > smallSize && cap(w.buf) < PartSize {
			w.buf = append((*parts.Get().(*[]byte))[:0], w.buf...)
		}
		w.buf = append(w.buf, p[:m]...)
		p, n = p[m:], n+m
	}
	return n, w.err
}

// part sends the part that is full, or the last one.
func (w *writer) part() (err error) {
	if w.upload == nil {
		if w.upload, err = w.client.Begin(w.ctx, w.name, w.mark); err != nil {
			return err
		}
	}
	if err := w.upload.Part(w.ctx, w.buf); err != nil {
		return err
	}
	w.buf = w.buf[:0]
	return nil
}

// Commit makes the object visible and durable.
func (w *writer) Commit() error {
	if w.done {
		return fault.New(fault.Internal, "An object was committed twice.")
	}
	err := w.err
	if err == nil {
		err = w.commit()
	}
	if err != nil {
		w.Abort()
		return err
	}
	if cap(w.buf) == PartSize { // all requests have ended well, so that none reads it any more
		b := w.buf[:PartSize]
		parts.Put(&b)
	}
	w.done, w.buf = true, nil
	return nil
}

func (w *writer) commit() error {
	var err error
	if w.upload == nil {
		err = w.client.Put(w.ctx, w.name, w.mark, w.buf)
	} else if err = w.part(); err == nil {
		err = w.upload.Finish(w.ctx)
	}
	if !errors.Is(err, ErrExists) {
		return err
	}
	// The answer to an earlier try may have been lost.
	mark, err := w.client.Mark(w.ctx, w.name)
	switch {
	case errors.Is(err, fault.NotFound):
		return Failed(err) // NotFound would say something else to who reads
	case err != nil:
		return err
	case mark != w.mark:
		return fault.New(fault.Conflict, "There is an object of this id already.")
	}
	w.upload = nil
	return nil
}

// cancelTime bounds how long giving up an upload may take.
const cancelTime = 10 * time.Second

// Abort gives the object up.
func (w *writer) Abort() {
	if w.done {
		return
	}
	w.done, w.buf = true, nil
	if w.upload == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), cancelTime)
	defer cancel()
	w.upload.Cancel(ctx) // else List does, in a day
}
