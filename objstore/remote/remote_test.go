package remote_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/objtest"
	"github.com/kluis-io/kluis/objstore/remote"
)

func TestStore(t *testing.T) {
	for _, prefix := range []string{"", "a/b"} {
		t.Run("prefix "+prefix, func(t *testing.T) {
			objtest.Run(t, func(t *testing.T) func() lake.Objects {
				m := newMemory()
				return func() lake.Objects { return remote.New(m, prefix) }
			})
		})
	}
}

func content(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

const mib = 1 << 20

// An object costs one request to a part's size, and above that one for each part and
// two more. No body is longer than a part.
func TestRequestsOfAWrite(t *testing.T) {
	for _, c := range []struct {
		size int
		want string
	}{
		{1, "put"},
		{remote.PartSize, "put"},
		{remote.PartSize + 1, "begin part part finish"},
		{2 * remote.PartSize, "begin part part finish"},
	} {
		m := newMemory()
		s, id, body := remote.New(m, ""), objtest.ID(), content(c.size)
		objtest.Put(t, s, id, body)
		largest := m.largest
		if got := strings.Join(m.asked(), " "); got != c.want || largest > remote.PartSize {
			t.Errorf("%d bytes are written by %q, the largest of %d bytes; want %q", c.size, got, largest, c.want)
		}
		if !bytes.Equal(objtest.Get(t, s, id), body) {
			t.Errorf("%d bytes come back changed", c.size)
		}
	}
}

// read reads as the sealed format does: the header, then runs of 256 KiB.
func read(t *testing.T, s lake.Objects, id string, off, n int64) []byte {
	t.Helper()
	o, err := s.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var header [56]byte
	if _, err := o.ReadAt(header[:], 0); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256<<10)
	var out bytes.Buffer
	if _, err := io.CopyBuffer(struct{ io.Writer }{&out}, struct{ io.Reader }{io.NewSectionReader(o, off, n)}, buf); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A read costs one request for an object of a head's size; a range costs one more;
// the whole of a large one as many as doublings lead to its size; and what is sent for
// is at most twice what is read, and a head.
func TestRequestsOfARead(t *testing.T) {
	m := newMemory()
	s := remote.New(m, "")
	for _, c := range []struct {
		name      string
		size      int
		off, n    int64
		wantCalls int
	}{
		{"small", remote.HeadSize, 0, remote.HeadSize, 1},
		{"beginning of a large one", 64 * mib, 0, 40 << 10, 1},
		{"range", 64 * mib, 33 * mib, 4 << 10, 2},
		{"last bytes", 64 * mib, 64*mib - 100, 100, 2},
		{"1 MiB", mib, 0, mib, 4},
		{"64 MiB", 64 * mib, 0, 64 * mib, 10},
		{"second half", 64 * mib, 32 * mib, 32 * mib, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, body := objtest.ID(), content(c.size)
			objtest.Put(t, s, id, body)
			m.asked()
			got := read(t, s, id, c.off, c.n)
			sent := m.sent
			calls := m.asked()
			if !bytes.Equal(got, body[c.off:c.off+c.n]) {
				t.Error("other bytes come back")
			}
			if len(calls) != c.wantCalls || sent > 2*c.n+remote.HeadSize {
				t.Errorf("%d requests for %d bytes, want %d requests for %d bytes read", len(calls), sent, c.wantCalls, c.n)
			}
		})
	}
}

// A commit whose answer is lost finds its own object; another's is not taken for it.
func TestLostAnswer(t *testing.T) {
	for _, size := range []int{100, remote.PartSize + 100} {
		m := newMemory()
		m.decide = func(call string, _ int) verdict {
			if call == "put" || call == "finish" {
				return lost
			}
			return works
		}
		s, id, body := remote.New(m, ""), objtest.ID(), content(size)
		objtest.Put(t, s, id, body)
		if !bytes.Equal(objtest.Get(t, s, id), body) || m.parts != 0 {
			t.Errorf("%d bytes: not what was written; %d parts are left", size, m.parts)
		}
		w, err := s.Create(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		w.Write(content(size))
		if err := w.Commit(); !errors.Is(err, fault.Conflict) {
			t.Errorf("writing over another's object: %v", err)
		}
		if !bytes.Equal(objtest.Get(t, s, id), body) || m.parts != 0 {
			t.Errorf("%d bytes: written over; %d parts are left", size, m.parts)
		}
	}
}

// Each call of a large write fails once: nothing is visible, no part is left, and the
// reason is that the store is unavailable.
func TestEveryCallFails(t *testing.T) {
	body := content(2*remote.PartSize + 1)
	for n := 1; ; n++ {
		m := newMemory()
		m.decide = func(_ string, i int) verdict {
			if i == n {
				return fails
			}
			return works
		}
		s, id := remote.New(m, ""), objtest.ID()
		w, err := s.Create(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = w.Write(body); err == nil {
			err = w.Commit()
		}
		w.Abort()
		if err == nil {
			if n <= 5 {
				t.Errorf("call %d failed, and the write did not", n)
			}
			return
		}
		if !errors.Is(err, fault.Unavailable) || len(m.objects) != 0 || m.parts != 0 {
			t.Errorf("call %d fails: %v; %d objects, %d parts", n, err, len(m.objects), m.parts)
		}
	}
}

// An upload is given up also when what it was for has ended.
func TestAbortAfterTheEnd(t *testing.T) {
	m := newMemory()
	ctx, cancel := context.WithCancel(t.Context())
	w, err := remote.New(m, "").Create(ctx, objtest.ID())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content(remote.PartSize + 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	w.Abort()
	if m.parts != 0 {
		t.Error("parts are left")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("an aborted object is written to")
	}
}

// A download that breaks off goes on where it did; one that always does fails, and
// yields nothing that is not the object's.
func TestBrokenDownloads(t *testing.T) {
	m := newMemory()
	s, id, body := remote.New(m, ""), objtest.ID(), content(3*mib)
	objtest.Put(t, s, id, body)
	m.asked()
	m.decide = func(_ string, n int) verdict {
		if n%2 == 1 {
			return cut
		}
		return works
	}
	if got := objtest.Get(t, s, id); !bytes.Equal(got, body) {
		t.Error("other bytes come back")
	}
	m.decide = func(_ string, n int) verdict {
		if n == 1 {
			return works
		}
		return fails
	}
	m.asked()
	o, err := s.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got := make([]byte, mib)
	n, err := o.ReadAt(got, 0)
	if !errors.Is(err, fault.Unavailable) || !bytes.Equal(got[:n], body[:n]) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// What is deleted while it is open reads as not there, so that its reader can look for
// what took its place.
func TestDeletedWhileOpen(t *testing.T) {
	m := newMemory()
	s, id := remote.New(m, ""), objtest.ID()
	objtest.Put(t, s, id, content(mib))
	o, err := s.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := s.Delete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := o.ReadAt(make([]byte, 100), 500_000); !errors.Is(err, fault.NotFound) {
		t.Errorf("reading what is gone: %v", err)
	}
}

func TestClaim(t *testing.T) {
	m := newMemory()
	s := remote.New(m, "p")
	for range 2 {
		if err := s.Claim(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Claim(t.Context(), "two"); !errors.Is(err, fault.Conflict) {
		t.Errorf("another installation takes the place: %v", err)
	}
	if err := remote.New(m, "q").Claim(t.Context(), "two"); err != nil {
		t.Errorf("another prefix: %v", err)
	}
	m.decide = func(string, int) verdict { return fails }
	if err := s.Claim(t.Context(), "one"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a store that does not answer: %v", err)
	}
	m.decide = nil
	m.asked()
	objtest.Put(t, s, objtest.ID(), []byte("x"))
	if err := s.Claim(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"put", "get"}, m.asked()); diff != "" {
		t.Error(diff)
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		header string
		off    int64
		want   int64 // -1: it is refused
	}{
		{"bytes 0-9/10", 0, 10},
		{"bytes 5-9/10", 5, 10},
		{"bytes 0-4/10", 5, -1},
		{"", 0, -1},
		{"bytes 0-4/*", 0, -1},
		{"bytes */10", 0, -1},
		{"bytes 5-9/5", 5, -1},
	} {
		got, err := remote.Size(c.header, c.off)
		if (err != nil) != (c.want < 0) || err == nil && got != c.want {
			t.Errorf("%q at %d: %d, %v", c.header, c.off, got, err)
		}
	}
}
