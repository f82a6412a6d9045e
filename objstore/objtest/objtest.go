// Package objtest is the conformance suite of the object stores: every
// implementation's tests call [Run].
package objtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// Run checks what package objstore promises. open returns an empty store, and
// another one on the same objects each time the function that it returns is
// called.
func Run(t *testing.T, open func(t *testing.T) (reopen func() lake.Objects)) {
	t.Run("RoundTrip", func(t *testing.T) { roundTrip(t, open(t)) })
	t.Run("Invisible", func(t *testing.T) { invisible(t, open(t)()) })
	t.Run("Delete", func(t *testing.T) { remove(t, open(t)()) })
	t.Run("List", func(t *testing.T) { list(t, open(t)()) })
	t.Run("Parallel", func(t *testing.T) { parallel(t, open(t)()) })
	t.Run("Context", func(t *testing.T) { ended(t, open(t)()) })
	t.Run("BadID", func(t *testing.T) { badID(t, open(t)()) })
}

// ID returns an id as the lake makes them.
func ID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func content(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Put writes an object.
func Put(t *testing.T, s lake.Objects, id string, body []byte) {
	t.Helper()
	w, err := s.Create(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for part := range slices.Chunk(body, 100_000) {
		if n, err := w.Write(part); err != nil || n != len(part) {
			t.Fatalf("wrote %d of %d bytes: %v", n, len(part), err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

// Get reads an object whole; nil if there is none.
func Get(t *testing.T, s lake.Objects, id string) []byte {
	t.Helper()
	o, err := s.Open(t.Context(), id)
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	body, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func roundTrip(t *testing.T, reopen func() lake.Objects) {
	s := reopen()
	for _, n := range []int{1, 16 << 10, 1_000_003} {
		id, body := ID(), content(n)
		Put(t, s, id, body)
		for name, s := range map[string]lake.Objects{"same": s, "reopened": reopen()} {
			if got := Get(t, s, id); !bytes.Equal(got, body) {
				t.Errorf("%s store: %d bytes came back as %d others", name, n, len(got))
			}
		}
		o, err := s.Open(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if o.Size() != int64(n) {
			t.Errorf("size %d, want %d", o.Size(), n)
		}
		var part [10]byte
		off := int64(n / 2)
		m, err := o.ReadAt(part[:], off)
		want := body[off:min(off+10, int64(n))]
		if !bytes.Equal(part[:m], want) || (m < 10) != (err == io.EOF) {
			t.Errorf("a range of %d bytes at %d: %d bytes, %v", len(want), off, m, err)
		}
		o.Close()
	}
}

func invisible(t *testing.T, s lake.Objects) {
	id := ID()
	w, err := s.Create(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content(300_000)); err != nil {
		t.Fatal(err)
	}
	if Get(t, s, id) != nil {
		t.Error("an object is visible before its commit")
	}
	w.Abort()
	w.Abort()
	if Get(t, s, id) != nil {
		t.Error("an aborted object is visible")
	}
	if ids := all(t, s); len(ids) > 0 {
		t.Errorf("an aborted object is listed: %v", ids)
	}
	Put(t, s, id, []byte("again"))
	if got := Get(t, s, id); string(got) != "again" {
		t.Errorf("after an abort the id holds %q", got)
	}
}

func remove(t *testing.T, s lake.Objects) {
	id, body := ID(), content(100_000)
	if err := s.Delete(t.Context(), id); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	Put(t, s, id, body)
	o, err := s.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for range 2 {
		if err := s.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if Get(t, s, id) != nil {
		t.Error("a deleted object is still there")
	}
	if got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size())); err == nil && !bytes.Equal(got, body) {
		t.Error("an object that was open when it was deleted reads other bytes")
	}
}

func all(t *testing.T, s lake.Objects) []string {
	t.Helper()
	var ids []string
	if err := s.List(t.Context(), func(id string, modified time.Time) error {
		ids = append(ids, id)
		if age := time.Since(modified); age < -time.Minute || age > time.Hour {
			t.Errorf("a new object is said to be of %v", modified)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

func list(t *testing.T, s lake.Objects) {
	var want []string
	for range 20 {
		id := ID()
		want = append(want, id)
		Put(t, s, id, []byte(id))
	}
	if err := s.Delete(t.Context(), want[0]); err != nil {
		t.Fatal(err)
	}
	want = want[1:]
	slices.Sort(want)
	if got := all(t, s); !slices.Equal(got, want) {
		t.Errorf("listed %d objects, want %d", len(got), len(want))
	}
	stop := errors.New("stop")
	n := 0
	if err := s.List(t.Context(), func(string, time.Time) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("a listing goes on after an error: %d calls, %v", n, err)
	}
}

func parallel(t *testing.T, s lake.Objects) {
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for range 16 {
		wg.Go(func() {
			id, body := ID(), content(50_000)
			errs <- func() error {
				w, err := s.Create(t.Context(), id)
				if err != nil {
					return err
				}
				defer w.Abort()
				if _, err := w.Write(body); err != nil {
					return err
				}
				if err := w.Commit(); err != nil {
					return err
				}
				o, err := s.Open(t.Context(), id)
				if err != nil {
					return err
				}
				defer o.Close()
				got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
				if err == nil && !bytes.Equal(got, body) {
					err = fmt.Errorf("object %s came back changed", id)
				}
				return err
			}()
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

func ended(t *testing.T, s lake.Objects) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if w, err := s.Create(ctx, ID()); !errors.Is(err, context.Canceled) {
		t.Errorf("create after the end of its context: %v, %v", w, err)
	}
	if o, err := s.Open(ctx, ID()); !errors.Is(err, context.Canceled) {
		t.Errorf("open after the end of its context: %v, %v", o, err)
	}
}

func badID(t *testing.T, s lake.Objects) {
	for _, id := range []string{"", "..", "../../../../etc/passwd", ID() + "/x", "ABCD" + ID()[4:]} {
		if _, err := s.Create(t.Context(), id); err == nil {
			t.Errorf("an object can be named %q", id)
		}
		if _, err := s.Open(t.Context(), id); err == nil {
			t.Errorf("an object named %q can be opened", id)
		}
	}
}
