package encryption_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

// waysToRevoke are what a custodian can do, and how he takes it back.
var waysToRevoke = map[string]struct {
	act, undo func(*world)
	reason    fault.Reason
}{
	"role removed": {
		func(w *world) { w.vault.Grant(false) }, func(w *world) { w.vault.Grant(true) }, fault.KEKRefused},
	"key disabled": {
		func(w *world) { w.vault.SetEnabled("a", false) }, func(w *world) { w.vault.SetEnabled("a", true) }, fault.KEKRefused},
	"key deleted": {
		func(w *world) { w.vault.Delete("a") }, func(w *world) { w.vault.Recover("a") }, fault.KEKRefused},
	"vault deleted": {
		func(w *world) { w.vault.Remove(true) }, func(w *world) { w.vault.Remove(false) }, fault.KEKVaultGone},
}

// With a feed standing a no and a yes reach the scope in seconds. What is in
// flight stops, nothing is published, and all of it comes back by itself.
func TestRevokeAndRestore(t *testing.T) {
	for name, way := range waysToRevoke {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				ctx := context.Background()
				w.settled("a")
				w.must(w.write(ws, lake, "o"))
				w.sleep(time.Second)
				u, err := w.ring.Use(ctx, ws)
				w.must(err)
				key, err := u.Current(ctx, lake, encryption.ContentKey)
				w.must(err)

				way.act(w)
				began := time.Now()
				for u.Check() == nil {
					time.Sleep(10 * time.Millisecond)
				}
				if d := time.Since(began); d > 2*time.Second {
					t.Errorf("revoked after %v", d)
				}
				w.serving(encryption.Revoked, time.Second)
				w.reason("a stream", u.Check(), way.reason)
				_, err = key.Seal(nil, purpose, "x")
				w.reason("sealing with a key in hand", err, way.reason)
				_, err = u.Current(ctx, lake, encryption.ContentKey)
				w.reason("a key from a right in hand", err, way.reason)
				_, err = u.NewItem("33333333-3333-4333-8333-333333333333", "Lakehouse")
				w.reason("a new item", err, way.reason)
				err = w.store.view(func(tx *memoryTx) error { return u.Confirm(tx, key.ID()) })
				w.reason("publishing what was sealed before", err, way.reason)
				w.reason("reading", w.read(ws, "o"), way.reason)
				w.reason("writing", w.write(ws, lake, "p"), way.reason)
				w.reason("reset", w.reset(), way.reason)

				w.crash()
				w.reason("after a restart", w.read(ws, "o"), way.reason)
				w.sleep(4 * time.Hour)
				w.reason("hours later", w.read(ws, "o"), way.reason)

				way.undo(w)
				if d := w.serving(encryption.Serves, 5*time.Second); d > 3*time.Second {
					t.Errorf("restored after %v", d)
				}
				w.must(w.read(ws, "o"))
				w.must(w.write(ws, lake, "p"))
				w.reason("the old right", u.Check(), way.reason)
			})
		})
	}
}

// Without a feed a no is found at the next renewal, and access returns after two
// yeses ten seconds apart, and not after one in between two noes.
func TestRestoreFromForeignVault(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.vault.WithoutFeed()
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		w.vault.Grant(false)
		began := time.Now()
		for w.read(ws, "o") == nil {
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(began); d > encryption.DefaultLease {
			t.Errorf("revoked after %v", d)
		}
		w.serving(encryption.Revoked, time.Second)

		// One yes is not enough.
		w.vault.Grant(true)
		before := w.vault.Count(kek.OpUnwrap)
		for w.vault.Count(kek.OpUnwrap) == before {
			time.Sleep(100 * time.Millisecond)
		}
		w.vault.Grant(false)
		w.sleep(time.Minute)
		w.reason("after a single yes", w.read(ws, "o"), fault.KEKRefused)

		w.vault.Grant(true)
		before = w.vault.Count(kek.OpUnwrap)
		for w.vault.Count(kek.OpUnwrap) == before {
			time.Sleep(100 * time.Millisecond)
		}
		first := time.Now()
		w.reason("after the first yes", w.read(ws, "o"), fault.KEKRefused)
		w.serving(encryption.Serves, 20*time.Second)
		if d := time.Since(first); d < 9*time.Second || d > 12*time.Second {
			t.Errorf("restored %v after the first yes", d)
		}
		w.must(w.read(ws, "o"))
	})
}

// The old version is disabled before the share was moved to the new one: serving
// stops, the leased share is moved, and access returns by itself.
func TestOldVersionDisabledBeforeTheRewrap(t *testing.T) {
	tests := map[string]func(w *world){
		"at once": func(*world) {},
		"the newest version is told only after a while": func(w *world) {
			var asked atomic.Int32
			w.wire.latest = func(info kek.KeyInfo, err error) (kek.KeyInfo, error) {
				if asked.Add(1) < 5 {
					return kek.KeyInfo{}, kek.Answer{From: kek.Vault, Op: kek.OpGet, Status: 503}.Fault("key")
				}
				return info, err
			}
		},
		"without a feed": func(w *world) {
			w.vault.WithoutFeed()
			w.crash()
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.settled("a")
				prepare(w)
				w.must(w.write(ws, lake, "o"))
				old := w.status().KID
				w.sleep(time.Minute)
				w.must(w.read(ws, "o"))
				w.sleep(time.Second)
				// One act, so that the platform never sees the new version alone.
				w.wire.mu.Lock()
				w.vault.Rotate("a")
				w.vault.Disable(old)
				w.wire.mu.Unlock()
				began := time.Now()
				for w.status().KID == old {
					if time.Since(began) > encryption.DefaultLease {
						t.Fatalf("never moved: %+v", w.status().Scope)
					}
					w.read(ws, "o")
					time.Sleep(100 * time.Millisecond)
				}
				w.serving(encryption.Serves, time.Second)
				w.must(w.read(ws, "o"))
				w.must(w.write(ws, lake, "p"))
				if got := w.status().Scope.Serial; got != 1 {
					t.Errorf("%d revocations", got)
				}
			})
		})
	}
}

// Without a leased share the state says which version to enable again; that done,
// access returns and the share moves on.
func TestOldVersionDisabledWithoutLease(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		old := w.status().KID
		w.sleep(2 * time.Minute)
		next := w.vault.Rotate("a")
		w.vault.Disable(old)
		w.reason("reading", w.read(ws, "o"), fault.KEKRefused)
		w.sleep(time.Minute)
		if st := w.status(); st.Scope.Serving != encryption.Revoked || !strings.Contains(st.Scope.Detail, old.Version()) {
			t.Errorf("the state does not name the version: %+v", st.Scope)
		}
		w.vault.Enable(old)
		w.serving(encryption.Serves, 5*time.Second)
		w.must(w.read(ws, "o"))
		w.sleep(time.Second)
		if got := w.status().KID; got != next {
			t.Errorf("under %s", got)
		}
	})
}

// Disabling every version is final, whatever is leased.
func TestEveryVersionDisabled(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		w.vault.Rotate("a")
		w.vault.SetEnabled("a", false)
		w.serving(encryption.Revoked, 3*time.Second)
		w.sleep(time.Hour)
		w.reason("reading", w.read(ws, "o"), fault.KEKRefused)
	})
}

// An expired key still unwraps: no revocation.
func TestExpiredKeyServes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		w.vault.State(w.status().KID, func(k *kek.KeyInfo) { k.Expires = time.Now().Add(-time.Hour) })
		w.sleep(time.Minute)
		w.must(w.read(ws, "o"))
	})
}

// A no that comes while a yes is on its way counts: what was opened by the yes is
// not put in use, and the latch stays.
func TestNoOvertakesYes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		w.sleep(2 * time.Minute)
		v := w.store
		w.wire.before = nil
		// The yes takes three seconds to arrive. Meanwhile another replica hears no.
		w.vault.Tamper(kek.OpUnwrap, func(b []byte) []byte {
			time.Sleep(3 * time.Second)
			return b
		})
		done := make(chan error)
		go func() { done <- w.read(ws, "o") }()
		time.Sleep(time.Second)
		w.must(v.update(func(tx *memoryTx) error {
			s := tx.scopes[ws]
			s.Serving, s.Reason, s.Serial, s.ServingSince = encryption.Revoked, fault.KEKRefused, s.Serial+1, time.Now()
			tx.scopes[ws] = s
			return nil
		}))
		w.reason("reading", <-done, fault.KEKRefused)
	})
}

// The same for a share on its way to a new version: a no that comes while the vault's
// last yes is under way is not undone by what that yes publishes.
func TestNoOvertakesRewrap(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.vault.WithoutFeed()
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		old := w.status().KID
		wrapped, verifying := false, make(chan struct{})
		w.vault.Tamper(kek.OpWrap, func(b []byte) []byte { wrapped = true; return b })
		w.vault.Tamper(kek.OpUnwrap, func(b []byte) []byte {
			if wrapped { // the comparison of the new wrap: the answer takes three seconds to arrive
				wrapped = false
				close(verifying)
				time.Sleep(3 * time.Second)
			}
			return b
		})
		w.vault.Rotate("a")
		for waiting := true; waiting; { // for the renewal that follows the new version
			w.must(w.read(ws, "o"))
			select {
			case <-verifying:
				waiting = false
			case <-time.After(time.Second):
			}
		}
		w.vault.Grant(false)
		w.must(w.store.update(func(tx *memoryTx) error { // another replica hears no
			s := tx.scopes[ws]
			s.Serving, s.Reason, s.Serial, s.ServingSince = encryption.Revoked, fault.KEKRefused, s.Serial+1, time.Now()
			tx.scopes[ws] = s
			return nil
		}))
		w.sleep(3500 * time.Millisecond)
		if st := w.status(); st.Scope.Serving != encryption.Revoked || st.KID != old {
			t.Errorf("the status says %q, under %s", st.Scope.Serving, st.KID)
		}
		w.reason("reading", w.read(ws, "o"), fault.KEKRefused)
	})
}

// What was sealed while the lease ran is not published once it is over, though nobody
// has said no.
func TestPublishedAfterTheLease(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		u, err := w.ring.Use(context.Background(), ws)
		w.must(err)
		key, err := u.Current(context.Background(), lake, encryption.ContentKey)
		w.must(err)
		_, err = key.Seal([]byte("x"), purpose, "o")
		w.must(err)
		publish := func() error { return w.store.update(func(tx *memoryTx) error { return u.Confirm(tx, key.ID()) }) }
		w.must(publish())
		w.vault.Disconnect(true)
		w.sleep(2 * time.Minute)
		w.reason("publishing", publish(), fault.KEKUnreachable)
	})
}

// A change of key needs the old key's yes, and a no that overtakes it stops the change:
// the scope stays revoked, under the key that it was under.
func TestNoOvertakesChange(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.vault.WithoutFeed()
		w.vault.Create("b")
		w.settled("a")
		asked := 0
		w.vault.Tamper(kek.OpUnwrap, func(b []byte) []byte {
			if asked++; asked == 2 { // the first is of the new key
				time.Sleep(3 * time.Second)
			}
			return b
		})
		done := make(chan error)
		go func() { done <- w.assign("b") }()
		time.Sleep(time.Second)
		w.vault.SetEnabled("a", false)
		w.must(w.store.update(func(tx *memoryTx) error { // another replica hears no
			s := tx.scopes[ws]
			s.Serving, s.Reason, s.Serial, s.ServingSince = encryption.Revoked, fault.KEKRefused, s.Serial+1, time.Now()
			tx.scopes[ws] = s
			return nil
		}))
		w.reason("assigning", <-done, fault.EncryptionChanged)
		if st := w.status(); st.Scope.Serving != encryption.Revoked || st.KeyIdentifier != w.key("a") {
			t.Errorf("the status says %q, under %s", st.Scope.Serving, st.KeyIdentifier)
		}
	})
}

// Two replicas on one database: the one that was not told hears of it within a
// second or two.
func TestRevokedByAnotherReplica(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.vault.WithoutFeed()
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		u, err := w.ring.Use(context.Background(), ws)
		w.must(err)
		other := *w
		other.start()
		defer other.stop()
		time.Sleep(time.Second)
		w.vault.Grant(false)
		w.reason("the replica that asks", other.read(ws, "o"), fault.KEKRefused)
		began := time.Now()
		for u.Check() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("the other learned it after %v", d)
		}
	})
}

// A hundred rounds of each way, each within the promise.
func TestRevocationBound(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		var worst time.Duration
		for round := range 100 {
			for name, way := range waysToRevoke {
				time.Sleep(time.Duration(round*37) * time.Millisecond)
				u, err := w.ring.Use(context.Background(), ws)
				w.must(err)
				way.act(w)
				began := time.Now()
				for u.Check() == nil {
					time.Sleep(10 * time.Millisecond)
				}
				worst = max(worst, time.Since(began))
				w.serving(encryption.Revoked, time.Second)
				way.undo(w)
				w.serving(encryption.Serves, 5*time.Second)
				if err := w.read(ws, "o"); err != nil {
					t.Fatal(fmt.Errorf("round %d, %s: %w", round, name, err))
				}
			}
		}
		if worst > 2*time.Second {
			t.Errorf("the slowest took %v", worst)
		}
	})
}
