package encryption_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

// replicas returns the world and others beside it on the same database, each of which
// is a process of its own. They all go on until the test's end.
func (w *world) replicas(n int) []*world {
	w.stop()
	w.edit = func(c *encryption.Config) { c.Shared = true }
	w.start()
	all := []*world{w}
	for len(all) < n {
		o := &world{t: w.t, store: w.store, vault: w.vault, wire: &wire{Vault: w.vault}, root: w.root, edit: w.edit}
		o.start()
		all = append(all, o)
	}
	return all
}

func endAll(all []*world) {
	for _, o := range all[1:] {
		o.end()
	}
}

// inUse reads on every replica, once a second.
func inUse(t *testing.T, all []*world, object string, d time.Duration) {
	t.Helper()
	for range d / time.Second {
		for _, o := range all {
			o.must(o.read(ws, object))
		}
		time.Sleep(time.Second)
	}
}

// The load on the vault does not grow with the replicas: one unwrap a half lease for
// all, and one more for each that opens the scope.
func TestRenewalsAreShared(t *testing.T) {
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				all := w.replicas(n)
				defer endAll(all)
				w.settled("a")
				w.must(w.write(ws, lake, "o"))
				inUse(t, all, "o", time.Minute)
				const minutes = 10
				before, gets := w.vault.Count(kek.OpUnwrap), w.vault.Count(kek.OpGet)
				inUse(t, all, "o", minutes*time.Minute)
				unwraps, gets := w.vault.Count(kek.OpUnwrap)-before, w.vault.Count(kek.OpGet)-gets
				t.Logf("%d replicas: %d unwraps and %d gets in %d half leases", n, unwraps, gets, minutes*4)
				// A lease of 30 s is renewed after 12 to 15 s, by whoever is first.
				if unwraps < minutes*4-2 || unwraps > minutes*5+1 || gets > unwraps {
					t.Errorf("%d unwraps and %d gets in %d half leases", unwraps, gets, minutes*4)
				}
				w.sleep(time.Minute)
				before = w.vault.Count(kek.OpUnwrap)
				w.sleep(time.Hour)
				if n := w.vault.Count(kek.OpUnwrap) - before; n != 0 {
					t.Errorf("%d unwraps of an idle scope", n)
				}
				for _, o := range all {
					o.must(o.read(ws, "o"))
				}
				if got := w.vault.Count(kek.OpUnwrap) - before; got != n {
					t.Errorf("%d unwraps to open an idle scope on %d replicas", got, n)
				}
			})
		})
	}
}

// A replica that was asking when it died keeps the others from renewing for a moment,
// and no longer.
func TestWhoAsksDies(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := w.replicas(3)
		defer endAll(all)
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		inUse(t, all, "o", time.Minute)
		all[1].wire.hang(true) // it claims the question, and never has an answer
		inUse(t, all[:1], "o", 10*time.Minute)
		inUse(t, all[2:], "o", 10*time.Minute)
	})
}

// What the custodian takes away at one replica's question is taken away everywhere: from
// what begins after it at once, and from what is under way within a second, or as soon
// as it hears.
func TestRevocationReachesReplicas(t *testing.T) {
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprint("told=", told), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				all := w.replicas(3)
				defer endAll(all)
				w.settled("a")
				w.must(w.write(ws, lake, "o"))
				inUse(t, all, "o", 20*time.Second)
				under := make([]*encryption.Use, len(all)) // streams that are under way
				for i, o := range all {
					var err error
					under[i], err = o.ring.Use(context.Background(), ws)
					w.must(err)
				}
				for _, o := range all[1:] {
					o.wire.hang(true) // they cannot ask by themselves
				}
				w.vault.SetEnabled("a", false)
				began := time.Now()
				for w.status().Scope.Serving != encryption.Revoked {
					if time.Since(began) > 30*time.Second {
						t.Fatal("not revoked")
					}
					time.Sleep(10 * time.Millisecond)
				}
				for _, o := range all {
					o.reason("a read that begins after the revocation", o.read(ws, "o"), fault.KEKRefused)
				}
				if told {
					for _, o := range all {
						o.ring.Hear(ws)
					}
					w.sleep(0)
				} else {
					w.sleep(1250 * time.Millisecond)
				}
				for _, u := range under {
					w.reason("a stream", u.Check(), fault.KEKRefused)
				}
				for _, o := range all {
					o.wire.hang(false)
				}
				w.vault.SetEnabled("a", true)
				w.sleep(40 * time.Second)
				for _, o := range all {
					o.must(o.read(ws, "o"))
				}
			})
		})
	}
}

// A revoked scope is asked for by one replica at a time.
func TestOneAsksForARevokedScope(t *testing.T) {
	counts := map[int]int{}
	for n := 1; n <= 3; n += 2 {
		bubble(t, func(t *testing.T, w *world) {
			all := w.replicas(n)
			defer endAll(all)
			w.settled("a")
			w.must(w.write(ws, lake, "o"))
			inUse(t, all, "o", 20*time.Second)
			w.vault.SetEnabled("a", false)
			w.sleep(2 * time.Minute)
			before := w.vault.Count(kek.OpUnwrap)
			w.sleep(time.Hour)
			counts[n] = w.vault.Count(kek.OpUnwrap) - before
		})
	}
	t.Logf("questions an hour, by replicas: %v", counts)
	if counts[3] > counts[1]*3/2 || counts[3] == 0 {
		t.Errorf("questions an hour, by replicas: %v", counts)
	}
}

// Writers and readers on three replicas go on while one after the other changes the
// key, and what is written after a change lies under the new one, wherever.
func TestChangesReachReplicas(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.vault.Create("b")
		all := w.replicas(3)
		defer endAll(all)
		n := 0
		everywhere := func(what string) {
			t.Helper()
			for _, o := range all {
				n++
				id := fmt.Sprint("o", n)
				err := o.write(ws, lake, id)
				if errors.Is(err, fault.EncryptionChanged) { // another replica has just done with the item
					err = o.write(ws, lake, id)
				}
				if err != nil {
					t.Fatalf("%s: writing: %v", what, err)
				}
				w.must(w.store.view(func(tx *memoryTx) error {
					if key, sc := tx.keys[tx.objects[id].key], tx.scopes[ws]; key.Generation != sc.Sealing && !tx.generations[generationKey{ws, sc.Sealing}].ReSealOnly {
						t.Errorf("%s: written under generation %d of %d", what, key.Generation, sc.Sealing)
					}
					return nil
				}))
				for i := 1; i <= n; i++ {
					for _, o := range all {
						if err := o.read(ws, fmt.Sprint("o", i)); err != nil {
							t.Fatalf("%s: reading o%d: %v", what, i, err)
						}
					}
				}
			}
		}
		everywhere("before")
		for i, change := range []func(*world) error{
			func(o *world) error { return o.assign("a") },
			func(o *world) error { return o.rotateDeep() },
			func(o *world) error { o.vault.Rotate("a"); return nil },
			func(o *world) error { return o.assign("b") },
			func(o *world) error { return o.reset() },
			func(o *world) error { return o.reseal("a") },
		} {
			what := fmt.Sprint("change ", i)
			w.must(change(all[i%len(all)]))
			for range 30 {
				everywhere(what)
				w.sleep(500 * time.Millisecond)
			}
			if st := w.status(); st.Behind > 0 || st.InProgress() {
				t.Fatalf("%s: %+v", what, st)
			}
		}
		done := map[string]int{}
		w.must(w.store.view(func(tx *memoryTx) error {
			for _, e := range tx.audit {
				switch e.Operation {
				case "ReencryptItem", "ResealItem", "CompleteWorkspaceEncryption":
					done[e.Operation+" "+e.Resource+" "+e.Detail["generation"]]++
				}
			}
			return nil
		}))
		for what, n := range done {
			if n != 1 {
				t.Errorf("%s: %d times", what, n)
			}
		}
		if len(done) < 3*5 {
			t.Errorf("only %v", done)
		}
	})
}

// A worker that stands still for twice its lease loses its item, and when it goes on
// does nothing more to it.
func TestPausedWorkerDoesNothingTwice(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.must(w.write(ws, lake, "o1"))
		w.must(w.write(ws, lake, "o2"))
		all := w.replicas(3)
		defer endAll(all)
		var taken atomic.Bool
		paused := make(chan struct{})
		for _, o := range all {
			o.keep.each = func(object) {
				if taken.CompareAndSwap(false, true) { // whoever takes it first
					time.Sleep(2 * 30 * time.Second)
					close(paused)
				}
			}
		}
		w.must(w.assign("a"))
		w.sleep(40 * time.Second)
		select {
		case <-paused:
			t.Fatal("nobody was paused for long")
		default:
		}
		if st := w.status(); st.State != encryption.Active || st.Behind > 0 {
			t.Fatalf("nobody took over: %+v", st)
		}
		before := map[string]object{}
		w.must(w.store.view(func(tx *memoryTx) error {
			before["o1"], before["o2"] = tx.objects["o1"], tx.objects["o2"]
			return nil
		}))
		<-paused
		w.sleep(time.Minute)
		w.must(w.store.view(func(tx *memoryTx) error {
			for id, o := range before {
				if string(tx.objects[id].sealed) != string(o.sealed) {
					t.Errorf("%s was written again", id)
				}
			}
			times := 0
			for _, e := range tx.audit {
				if e.Operation == "ReencryptItem" && e.Resource == "/workspaces/"+string(ws)+"/items/"+string(lake) {
					times++
				}
			}
			if times != 1 {
				t.Errorf("the item was brought under its key %d times", times)
			}
			return nil
		}))
		for _, o := range all {
			o.must(errors.Join(o.read(ws, "o1"), o.read(ws, "o2")))
		}
	})
}

// Whoever writes to the database, or sets its clock, cannot have a lease go on.
func TestRenewalIsNotForged(t *testing.T) {
	for name, forge := range map[string]func(tx *memoryTx, kept encryption.Renewal, elapsed time.Duration){
		"an end put off": func(tx *memoryTx, kept encryption.Renewal, elapsed time.Duration) {
			kept.Ends = kept.Ends.Add(elapsed)
			tx.renewals[ws] = kept
		},
		"an old row, and the clock stopped": func(tx *memoryTx, kept encryption.Renewal, elapsed time.Duration) {
			tx.renewals[ws], tx.skew = kept, -elapsed
		},
		"nobody may ask": func(tx *memoryTx, kept encryption.Renewal, elapsed time.Duration) {
			kept.Asking = time.Now().Add(time.Hour)
			tx.renewals[ws] = kept
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				all := w.replicas(2)
				defer endAll(all)
				w.settled("a")
				w.must(w.write(ws, lake, "o"))
				inUse(t, all, "o", 16*time.Second)
				var kept encryption.Renewal
				w.must(w.store.view(func(tx *memoryTx) error { kept = tx.renewals[ws]; return nil }))
				for _, o := range all {
					o.wire.hang(true)
				}
				began := time.Now()
				for time.Since(began) < 38*time.Second { // a lease, and the drift that is borne
					w.must(w.store.update(func(tx *memoryTx) error { forge(tx, kept, time.Since(began)); return nil }))
					for _, o := range all {
						o.read(ws, "o")
					}
					time.Sleep(200 * time.Millisecond)
				}
				for _, o := range all {
					o.reason("long after the last yes", o.read(ws, "o"), fault.KEKUnreachable)
				}
			})
		})
	}
}
