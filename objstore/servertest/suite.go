package servertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/objtest"
	"github.com/kluis-io/kluis/objstore/remote"
)

// Requests are what each operation costs, as [Proxy.Calls] has them.
type Requests struct {
	Put, PutLarge, Get, Range, Delete, List string
}

// Run checks a store on its real server: what package objstore promises, what each
// operation costs, and that no fault of the way there loses or invents anything. open
// opens the place of that name with an account's key.
func Run(t *testing.T, s *Server, want Requests, open func(t *testing.T, place, key, prefix string) *remote.Store) {
	fresh := func(t *testing.T) *remote.Store { return open(t, s.Place, s.Key, objtest.ID()) }
	t.Run("Objects", func(t *testing.T) {
		objtest.Run(t, func(t *testing.T) func() lake.Objects {
			prefix := objtest.ID()
			return func() lake.Objects { return open(t, s.Place, s.Key, prefix) }
		})
	})
	t.Run("Records", func(t *testing.T) {
		objtest.RunRecords(t, func(t *testing.T) func() objtest.Records {
			prefix := objtest.ID()
			return func() objtest.Records { return open(t, s.Place, s.Key, prefix).Records("records") }
		})
		s.records(t, fresh(t).Records("records"))
	})
	t.Run("Requests", func(t *testing.T) { s.requests(t, fresh(t), want) })
	t.Run("Lost", func(t *testing.T) { s.lost(t, fresh(t)) })
	t.Run("Cut", func(t *testing.T) { s.cut(t, fresh(t)) })
	t.Run("Outage", func(t *testing.T) { s.outage(t, fresh(t)) })
	t.Run("Refused", func(t *testing.T) {
		wrong := strings.Repeat("a", len(s.Key)-2) + "==" // as long, and base64
		refused(t, "another key", open(t, s.Place, wrong, ""), s.Key, wrong)
		refused(t, "no such place", open(t, "nowhere", s.Key, ""), s.Key)
	})
	t.Run("Claim", func(t *testing.T) {
		prefix := objtest.ID()
		for range 2 {
			if err := open(t, s.Place, s.Key, prefix).Claim(t.Context(), "one"); err != nil {
				t.Fatal(err)
			}
		}
		if err := open(t, s.Place, s.Key, prefix).Claim(t.Context(), "two"); !errors.Is(err, fault.Conflict) {
			t.Errorf("another installation takes the place: %v", err)
		}
		if err := open(t, s.Place, s.Key, prefix).List(t.Context(), func(id string, _ time.Time) error {
			return errors.New("it is listed: " + id)
		}); err != nil {
			t.Error(err)
		}
	})
}

func content(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

const large = 2*remote.PartSize + 1000

func (s *Server) requests(t *testing.T, o lake.Objects, want Requests) {
	id, big := objtest.ID(), objtest.ID()
	small, body := content(remote.HeadSize), content(large)
	for _, c := range []struct {
		name, want string
		do         func()
	}{
		{"put", want.Put, func() { objtest.Put(t, o, id, small) }},
		{"put of three parts", want.PutLarge, func() { objtest.Put(t, o, big, body) }},
		{"get", want.Get, func() {
			if !bytes.Equal(objtest.Get(t, o, id), small) {
				t.Error("other bytes come back")
			}
		}},
		{"range", want.Range, func() {
			f, err := o.Open(t.Context(), big)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			p := make([]byte, 1000)
			if _, err := f.ReadAt(p, large/2); err != nil || !bytes.Equal(p, body[large/2:large/2+1000]) {
				t.Errorf("other bytes come back: %v", err)
			}
		}},
		{"list", want.List, func() {
			n := 0
			if err := o.List(t.Context(), func(string, time.Time) error { n++; return nil }); err != nil || n != 2 {
				t.Errorf("%d objects are listed: %v", n, err)
			}
		}},
		{"delete", want.Delete, func() {
			if err := o.Delete(t.Context(), big); err != nil {
				t.Error(err)
			}
		}},
	} {
		s.Reset(nil)
		c.do()
		if got := strings.Join(s.Calls(), ", "); got != c.want {
			t.Errorf("%s costs %q, want %q", c.name, got, c.want)
		}
	}
}

// lost loses the answer to each request of a write in turn: the write succeeds, and
// what is there is what was written.
func (s *Server) lost(t *testing.T, o lake.Objects) {
	for _, size := range []int{100, remote.PartSize + 100} {
		for nth, seen := 1, 1; nth <= seen; nth++ {
			s.Reset(func(_ *http.Request, n int) Fault {
				if n == nth {
					return Lost
				}
				return None
			})
			id, body := objtest.ID(), content(size)
			objtest.Put(t, o, id, body)
			seen = len(s.Calls()) - 1 // without the repetition
			s.Reset(nil)
			if !bytes.Equal(objtest.Get(t, o, id), body) {
				t.Errorf("%d bytes: the answer to request %d is lost, and so is the object", size, nth)
			}
		}
	}
	s.Reset(nil)
}

// cut breaks off each second answer.
func (s *Server) cut(t *testing.T, o lake.Objects) {
	id, body := objtest.ID(), content(large)
	objtest.Put(t, o, id, body)
	s.Reset(func(_ *http.Request, n int) Fault {
		if n%2 == 1 {
			return Cut
		}
		return None
	})
	if !bytes.Equal(objtest.Get(t, o, id), body) {
		t.Error("other bytes come back")
	}
	s.Reset(nil)
}

// outage makes every request fail: each operation fails for a while's reason, after as
// many tries as are bounded, and what was there is there.
func (s *Server) outage(t *testing.T, o lake.Objects) {
	id := objtest.ID()
	objtest.Put(t, o, id, []byte("there"))
	for name, do := range operations(o, id) {
		s.Reset(func(*http.Request, int) Fault { return Fails })
		if err := do(t.Context()); !errors.Is(err, fault.Unavailable) {
			t.Errorf("%s while the store fails: %v", name, err)
		}
		if n := len(s.Calls()); n < 2 || n > 5 {
			t.Errorf("%s was tried %d times", name, n)
		}
	}
	s.Reset(nil)
	if got := objtest.Get(t, o, id); string(got) != "there" {
		t.Errorf("after the outage there is %q", got)
	}
}

// operations are those of a store.
func operations(o lake.Objects, id string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"create": func(ctx context.Context) error {
			w, err := o.Create(ctx, objtest.ID())
			if err != nil {
				return err
			}
			defer w.Abort()
			if _, err := io.WriteString(w, "x"); err != nil {
				return err
			}
			return w.Commit()
		},
		"open":   func(ctx context.Context) error { _, err := o.Open(ctx, id); return err },
		"delete": func(ctx context.Context) error { return o.Delete(ctx, id) },
		"list":   func(ctx context.Context) error { return o.List(ctx, func(string, time.Time) error { return nil }) },
	}
}

// refused checks that a store that says no is not one that does not have the object,
// and that no error names a secret.
func refused(t *testing.T, why string, o lake.Objects, secrets ...string) {
	for name, do := range operations(o, objtest.ID()) {
		err := do(t.Context())
		if !errors.Is(err, fault.Unavailable) || errors.Is(err, fault.NotFound) {
			t.Errorf("%s, %s: %v", why, name, err)
			continue
		}
		for _, secret := range secrets {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s, %s: the error holds the key", why, name)
			}
		}
	}
}

// records loses and refuses answers to each request of a record's writing in turn, and
// breaks off its reading: it is written once, and no other is in its place.
func (s *Server) records(t *testing.T, r *remote.Records) {
	defer s.Reset(nil)
	for range 2 {
		if err := r.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	once := func(fault Fault, nth int) func(*http.Request, int) Fault {
		return func(_ *http.Request, n int) Fault {
			if n == nth {
				return fault
			}
			return None
		}
	}
	for nth := range 2 { // a Replace reads and writes
		for _, fault := range []Fault{Lost, Fails, Cut} {
			want := []byte(objtest.ID())
			s.Reset(once(fault, nth+1))
			if err := r.Replace(t.Context(), "head.json", func([]byte) ([]byte, error) { return want, nil }); err != nil {
				t.Errorf("fault %d of request %d: %v", fault, nth+1, err)
			}
			s.Reset(once(fault, 1))
			if got, err := r.Read(t.Context(), "head.json"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("fault %d: %q, %v; want %q", fault, got, err, want)
			}
			s.Reset(once(fault, 1))
			if err := r.Create(t.Context(), string(want), want); err != nil {
				t.Errorf("fault %d of making a record: %v", fault, err)
			}
		}
	}
	s.Reset(func(*http.Request, int) Fault { return Fails })
	if got, err := r.Read(t.Context(), "head.json"); got != nil || !errors.Is(err, fault.Unavailable) {
		t.Errorf("a store that fails has %q, %v", got, err)
	}
	if err := r.Replace(t.Context(), "head.json", func([]byte) ([]byte, error) {
		t.Error("it decides on nothing")
		return nil, nil
	}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a store that fails: %v", err)
	}
}
