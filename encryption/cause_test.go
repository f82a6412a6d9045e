package encryption_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/kek"
)

// Every question about a key goes out under the id of the request or job that it is asked
// for, and the log's entry names the same: of many who wait for one answer the id of who
// asked, and of renewals one of their own.
func TestQuestionsNameTheirCause(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var lock sync.Mutex
		var asked []string
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		w.sleep(time.Minute) // the lease is over
		recorded := len(w.store.copy().data.audit)
		w.wire.mu.Lock()
		w.wire.under = func(op kek.Op, id string) {
			lock.Lock()
			defer lock.Unlock()
			if id == "" && op != kek.OpChanges {
				t.Errorf("the vault was asked to %s for nobody", op)
			}
			if op == kek.OpUnwrap {
				asked = append(asked, id)
			}
		}
		w.wire.mu.Unlock()

		var all sync.WaitGroup
		ids := make([]string, 20)
		for i := range ids {
			ids[i] = "request-" + string(rune('a'+i))
			all.Go(func() {
				u, err := w.ring.Use(audit.WithRequest(context.Background(), ids[i]), ws)
				if err != nil || u.Check() != nil {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
		lock.Lock()
		if len(asked) != 1 || !slices.Contains(ids, asked[0]) {
			t.Errorf("twenty requests at once have asked under %q", asked)
		}
		lock.Unlock()
		for range 60 {
			w.must(w.read(ws, "o"))
			time.Sleep(time.Second)
		}
		lock.Lock()
		defer lock.Unlock()
		if len(asked) < 3 || slices.Contains(ids, asked[1]) || asked[1] == asked[2] {
			t.Errorf("renewals have asked under %q", asked[1:])
		}
		var named []string
		for _, e := range w.store.copy().data.audit[recorded:] {
			if e.Operation == "UnwrapScopeShare" {
				named = append(named, e.Request)
			}
		}
		if !slices.Equal(named, asked) {
			t.Errorf("the log names %q, and the vault was asked under %q", named, asked)
		}
	})
}
