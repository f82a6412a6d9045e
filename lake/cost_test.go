package lake_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/faulty"
	"github.com/kluis-io/kluis/store"
)

// A cost is what a request takes of what lies beyond the process.
type cost struct {
	Reads, Writes int // transactions
	Statements    int // of all of them; begin, commit, and the log's that many share aside
	Objects       int // calls of the object store
}

// What requests cost, by counting: docs/scale.md has these figures, and a change of them
// is a change of what an installation carries. Of a database on a server, which other
// processes change too, nothing is remembered between requests.
func TestCosts(t *testing.T) {
	var mu sync.Mutex
	var c cost
	p := start(t, t.TempDir())
	must(t, p.db.Close())
	p.watch = func(_ context.Context, one store.Cost) {
		mu.Lock()
		defer mu.Unlock()
		if one.Writes {
			c.Writes++
		} else {
			c.Reads++
		}
		c.Statements += one.Statements
	}
	p.open(t)
	p.objects.Set(func(faulty.Op, int) faulty.Fault {
		mu.Lock()
		defer mu.Unlock()
		c.Objects++
		return faulty.None
	})
	took := func(what string, embedded, server cost, request func()) {
		t.Helper()
		mu.Lock()
		c = cost{}
		mu.Unlock()
		request()
		mu.Lock()
		defer mu.Unlock()
		want := embedded
		if os.Getenv("KLUIS_TEST_STORE") == "postgres" {
			want = server
		}
		t.Logf("%s: %+v", what, c)
		if c != want {
			t.Errorf("%s took %+v, want %+v", what, c, want)
		}
	}
	small, large := make([]byte, 4<<10), make([]byte, 1<<20)
	get := func(path string) func() {
		return func() {
			_, err := p.get(t.Context(), path, lake.Range{})
			must(t, err)
		}
	}
	p.put(t, "Files/warm", small) // opens the scope and the item's keys
	put := func(path string, body []byte) func() { return func() { p.put(t, path, body) } }
	took("a small file written", cost{1, 1, 7, 0}, cost{1, 1, 15, 0}, put("Files/small", small))
	took("a small file written over", cost{1, 1, 8, 0}, cost{1, 1, 19, 0}, put("Files/small", small))
	took("1 MiB written", cost{2, 1, 7, 7}, cost{2, 1, 25, 7}, put("Files/large", large))
	took("a small file read for the first time", cost{2, 1, 0, 0}, cost{2, 1, 8, 0}, get("Files/small"))
	took("a small file read again", cost{2, 1, 0, 0}, cost{2, 1, 8, 0}, get("Files/small"))
	took("1 MiB read for the first time", cost{2, 1, 0, 7}, cost{2, 1, 8, 7}, get("Files/large"))
	took("1 MiB read again", cost{2, 1, 0, 7}, cost{2, 1, 8, 7}, get("Files/large"))
	took("the properties of a file", cost{2, 1, 0, 0}, cost{2, 1, 7, 0}, func() {
		_, err := p.Stat(t.Context(), p.caller, at("Files/small"), lake.Conditions{})
		must(t, err)
	})
	for i := range 100 {
		p.put(t, fmt.Sprintf("Files/many/%03d", i), nil)
	}
	took("a folder of 100 listed", cost{2, 1, 2, 0}, cost{2, 1, 9, 0}, func() {
		l, err := p.List(t.Context(), p.caller, at("Files/many"), lake.ListOptions{})
		must(t, err)
		if len(l.Entries) != 100 {
			t.Errorf("%d entries", len(l.Entries))
		}
	})
	took("a file deleted", cost{1, 1, 5, 0}, cost{1, 1, 17, 0}, func() { must(t, p.Delete(t.Context(), p.caller, at("Files/small"), false, lake.Conditions{})) })
}
