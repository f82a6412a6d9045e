package encryption_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/witness"
)

// records is a witness's store in memory, outside of every world's database.
type records struct {
	mu     sync.Mutex
	m      map[string][]byte
	broken error
}

func (r *records) Read(_ context.Context, name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m[name], r.broken
}

func (r *records) Replace(_ context.Context, name string, decide func([]byte) ([]byte, error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		return r.broken
	}
	record, err := decide(r.m[name])
	if err == nil && record != nil {
		r.m[name] = record
	}
	return err
}

func (r *records) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = err
}

func (*testRoot) Generation() int { return 1 }

// remember gives the world a witness, from its next start on.
func (w *world) remember() *records {
	outside := &records{m: map[string][]byte{}}
	w.edit = func(c *encryption.Config) {
		x, err := witness.Open(context.Background(), outside, w.root, "platform")
		w.must(err)
		c.Witness = x
	}
	w.crash()
	return outside
}

// witnessedBubble runs a test in a world that has a witness.
func witnessedBubble(t *testing.T, test func(t *testing.T, w *world, outside *records)) {
	t.Helper()
	bubble(t, func(t *testing.T, w *world) { test(t, w, w.remember()) })
}

// A database writer puts rows back that the root once sealed: the platform-managed
// key of before, the wrap of an older version, the state of before. Each is refused,
// in a platform that starts and in one that runs; nothing is written under them.
func TestOldRowsPutBack(t *testing.T) {
	witnessedBubble(t, func(t *testing.T, w *world, outside *records) {
		w.must(w.write(ws, lake, "before"))
		old := map[string]*memory{"the platform-managed key": w.store.copy()}
		w.idle = true
		w.crash()
		w.must(w.assign("a"))
		old["the state of before"] = w.store.copy()
		w.idle = false
		w.crash()
		w.sleep(time.Minute)
		w.must(w.write(ws, lake, "o"))
		old["the wrap of an older version"] = w.store.copy()
		w.vault.Rotate("a")
		w.sleep(time.Minute)
		w.must(w.read(ws, "o"))
		good := w.store.copy()
		if good.data.scopes[ws].Epoch <= old["the wrap of an older version"].data.scopes[ws].Epoch {
			t.Fatal("the version was not followed")
		}
		for name, was := range old {
			w.crashOnto(was)
			w.reason(name+", at the start: a read", w.read(ws, "before"), fault.Integrity)
			w.reason(name+", at the start: a write", w.write(ws, lake, "p"), fault.Integrity)

			w.crashOnto(good)
			w.must(w.read(ws, "o"))
			w.putBack(was)
			w.sleep(encryption.DefaultLease + time.Second)
			w.reason(name+", under a running platform", w.write(ws, lake, "p"), fault.Integrity)
		}
		w.crashOnto(good)
		w.must(w.read(ws, "o"))
	})
}

// putBack replaces a scope's and its generations' rows by those of another store.
func (w *world) putBack(was *memory) {
	from := was.copy()
	w.must(w.store.update(func(tx *memoryTx) error {
		for k := range tx.generations {
			if k.scope == ws {
				delete(tx.generations, k)
			}
		}
		for k, g := range from.data.generations {
			tx.generations[k] = g
		}
		tx.scopes[ws] = from.data.scopes[ws]
		return nil
	}))
}

// A witness that does not answer is a vault that does not answer: the lease runs
// out, nothing is opened without it, and all returns by itself.
func TestWitnessSilent(t *testing.T) {
	witnessedBubble(t, func(t *testing.T, w *world, outside *records) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		outside.fail(fault.New(fault.Unavailable, "The disk is gone."))
		w.must(w.read(ws, "o"))
		w.sleep(encryption.DefaultLease + time.Second)
		w.reason("without a witness", w.read(ws, "o"), fault.Unavailable)
		outside.fail(nil)
		w.sleep(time.Minute)
		w.must(w.read(ws, "o"))
	})
}

// Who can write the database cannot make the witness remember what never was.
func TestWitnessBelievesTheRootAlone(t *testing.T) {
	witnessedBubble(t, func(t *testing.T, w *world, outside *records) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		good := w.store.copy()
		w.must(w.store.update(func(tx *memoryTx) error {
			s := tx.scopes[ws]
			g := tx.generations[generationKey{ws, s.Sealing}]
			s.Epoch, g.Epoch = 1<<40, 1<<40
			tx.scopes[ws] = s
			return tx.PutGeneration(g)
		}))
		w.sleep(encryption.DefaultLease + time.Second)
		w.reason("a forged epoch", w.read(ws, "o"), fault.Integrity)
		w.crashOnto(good)
		w.must(w.read(ws, "o"))
	})
}
