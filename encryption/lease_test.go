package encryption_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

func TestPlatformManagedNeedsNoVault(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.wire.before = func(op kek.Op) { t.Errorf("the vault was asked to %s", op) }
		w.must(w.write(ws, lake, "o"))
		w.sleep(5 * time.Minute)
		w.must(w.read(ws, "o"))
		w.crash()
		w.must(w.read(ws, "o"))
		if st := w.status(); st.Mode != encryption.PlatformManaged || st.State != encryption.Disabled || st.InProgress() {
			t.Errorf("status: %+v", st)
		}
	})
}

// One unwrap for each half lease, or a little less of it, while a scope is in use, and
// none while it is idle.
func TestRenewals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		before := w.vault.Count(kek.OpUnwrap)
		const minutes = 10
		for range minutes * 60 {
			w.must(w.read(ws, "o"))
			time.Sleep(time.Second)
		}
		if n := w.vault.Count(kek.OpUnwrap) - before; n < minutes*4-1 || n > minutes*5+1 {
			t.Errorf("%d unwraps in %d half leases", n, minutes*4)
		}
		w.sleep(time.Minute)
		before = w.vault.Count(kek.OpUnwrap)
		w.sleep(time.Hour)
		if n := w.vault.Count(kek.OpUnwrap) - before; n != 0 {
			t.Errorf("%d unwraps of an idle scope", n)
		}
		if st := w.status(); st.Scope.Serving != encryption.Serves {
			t.Errorf("an idle scope is %q", st.Scope.Serving)
		}
		w.must(w.read(ws, "o"))
		if n := w.vault.Count(kek.OpUnwrap) - before; n != 1 {
			t.Errorf("%d unwraps to open an idle scope", n)
		}
	})
}

// However many ask at once, the vault is asked once, whether it answers or not.
func TestSingleFlight(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		stampede := func() (failed int) {
			var all sync.WaitGroup
			var mu sync.Mutex
			for range 200 {
				all.Go(func() {
					if err := w.read(ws, "o"); err != nil {
						mu.Lock()
						failed++
						mu.Unlock()
					}
				})
			}
			all.Wait()
			return failed
		}
		w.sleep(time.Minute) // the lease is over
		w.wire.before = func(op kek.Op) {
			if op == kek.OpUnwrap {
				time.Sleep(time.Second)
			}
		}
		before := w.vault.Count(kek.OpUnwrap)
		if failed := stampede(); failed > 0 {
			t.Errorf("%d of 200 failed", failed)
		}
		if n := w.vault.Count(kek.OpUnwrap) - before; n != 1 {
			t.Errorf("%d unwraps", n)
		}
		w.sleep(time.Minute)
		w.vault.Disconnect(true)
		before = w.vault.Count(kek.OpUnwrap)
		if failed := stampede(); failed != 200 {
			t.Errorf("%d of 200 failed without a vault", failed)
		}
		if n := w.vault.Count(kek.OpUnwrap) - before; n != 1 {
			t.Errorf("%d unwraps of a vault that does not answer", n)
		}
	})
}

// A vault that does not answer lets the lease run out, and access returns by
// itself when it answers again.
func TestUnreachable(t *testing.T) {
	for _, cut := range []string{"disconnected", "hanging"} {
		t.Run(cut, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.settled("a")
				w.must(w.write(ws, lake, "o"))
				w.sleep(time.Minute)
				w.must(w.read(ws, "o"))
				began := time.Now()
				off := func(off bool) {
					if cut == "hanging" {
						w.wire.hang(off)
					} else {
						w.vault.Disconnect(off)
					}
				}
				off(true)
				var err error
				for err == nil {
					time.Sleep(250 * time.Millisecond)
					err = w.read(ws, "o")
				}
				served := time.Since(began)
				w.reason("after the lease", err, fault.KEKUnreachable)
				if served < encryption.DefaultLease-time.Second || served > encryption.DefaultLease+11*time.Second {
					t.Errorf("served for %v without a vault", served)
				}
				w.reason("a write", w.write(ws, lake, "p"), fault.KEKUnreachable)
				w.serving(encryption.Unreachable, 15*time.Second)
				w.sleep(time.Hour)
				w.reason("an hour later", w.read(ws, "o"), fault.KEKUnreachable)
				off(false)
				w.serving(encryption.Serves, 20*time.Second)
				w.must(w.read(ws, "o"))
				w.must(w.write(ws, lake, "p"))
			})
		})
	}
}

// A caller who hangs up says nothing about the vault.
func TestImpatientCaller(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		w.sleep(time.Minute)
		w.wire.hang(true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := w.ring.Use(ctx, ws); err == nil {
			t.Error("opened without a vault")
		}
		w.wire.hang(false)
		w.must(w.read(ws, "o"))
		if st := w.status(); st.Scope.Serving != encryption.Serves {
			t.Errorf("the scope is %q", st.Scope.Serving)
		}
	})
}

// A vault that lies has not answered: nothing changes, and no key is lost.
func TestLyingVault(t *testing.T) {
	other := func([]byte) []byte { return make([]byte, 32) }
	lies := map[string]func(*world){
		"another share": func(w *world) { w.vault.Tamper(kek.OpUnwrap, other) },
		"a flipped bit": func(w *world) {
			w.vault.Tamper(kek.OpUnwrap, func(b []byte) []byte { b[0] ^= 1; return b })
		},
		"truncated": func(w *world) { w.vault.Tamper(kek.OpUnwrap, func(b []byte) []byte { return b[:16] }) },
		"nothing":   func(w *world) { w.vault.Tamper(kek.OpUnwrap, func([]byte) []byte { return nil }) },
		"too long": func(w *world) {
			w.vault.Tamper(kek.OpUnwrap, func(b []byte) []byte { return append(b, 0) })
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.settled("a")
				w.must(w.write(ws, lake, "o"))
				w.must(w.read(ws, "o"))
				rows := w.store.copy().data
				lie(w)
				for range 120 {
					w.read(ws, "o")
					time.Sleep(500 * time.Millisecond)
				}
				if err := w.read(ws, "o"); fault.ReasonOf(err) != fault.KEKIntegrity && fault.ReasonOf(err) != fault.KEKUnreachable {
					t.Errorf("reading: %v", err)
				}
				st := w.status()
				if st.Scope.Serving != encryption.Unreachable || st.Scope.Serial != 0 {
					t.Errorf("a lie was taken for an answer: %+v", st.Scope)
				}
				after := w.store.copy().data
				for k, g := range rows.generations {
					if string(after.generations[k].Wrapped) != string(g.Wrapped) || after.generations[k].Epoch != g.Epoch {
						t.Error("a lie changed the row")
					}
				}
				// Nor does a lie end a revocation, nor move the share to a new version.
				w.vault.Rotate("a")
				w.sleep(time.Minute)
				if got := w.status().KID; got != st.KID {
					t.Errorf("moved to %s", got)
				}
				w.vault.Tamper(kek.OpUnwrap, nil)
				w.serving(encryption.Serves, 20*time.Second)
				w.must(w.read(ws, "o"))
				w.sleep(time.Second)
				if got := w.status().KID; got != w.vault.Newest("a") {
					t.Errorf("under %s", got)
				}
			})
		})
	}
}

// A vault that cannot unwrap what it wrapped gets no share: the old wrap stays.
func TestRotateToABadVersion(t *testing.T) {
	tests := map[string]struct {
		spoil func(w *world, old, next kek.KID)
		mend  func(w *world, next kek.KID)
	}{
		"wraps wrongly": {
			func(w *world, _, _ kek.KID) {
				w.vault.Tamper(kek.OpWrap, func(b []byte) []byte { b[5] ^= 1; return b })
			},
			func(w *world, _ kek.KID) { w.vault.Tamper(kek.OpWrap, nil) },
		},
		"wraps another share": {
			func(w *world, _, next kek.KID) {
				other, err := w.vault.Wrap(context.Background(), string(tenant), next, kek.RSAOAEP256, bytes.Repeat([]byte{7}, kek.ShareSize))
				w.must(err)
				w.vault.Tamper(kek.OpWrap, func([]byte) []byte { return other })
			},
			func(w *world, _ kek.KID) { w.vault.Tamper(kek.OpWrap, nil) },
		},
		"not yet valid": {
			func(w *world, _, next kek.KID) {
				w.vault.State(next, func(k *kek.KeyInfo) { k.NotBefore = time.Now().Add(time.Hour) })
			},
			func(w *world, _ kek.KID) { w.sleep(time.Hour) },
		},
		"no unwrap": {
			func(w *world, _, next kek.KID) {
				w.vault.State(next, func(k *kek.KeyInfo) { k.Ops = []string{"wrapKey"} })
			},
			func(w *world, next kek.KID) {
				w.vault.State(next, func(k *kek.KeyInfo) { k.Ops = []string{"wrapKey", "unwrapKey"} })
			},
		},
		"lying about which key it is": {
			func(w *world, old, _ kek.KID) {
				w.wire.latest = func(info kek.KeyInfo, err error) (kek.KeyInfo, error) {
					return kek.KeyInfo{}, kek.Answer{From: kek.Vault, Op: kek.OpGet, Status: 200, Err: kek.ErrWrongKID}.Fault(string(old))
				}
			},
			func(w *world, _ kek.KID) {
				w.wire.mu.Lock()
				defer w.wire.mu.Unlock()
				w.wire.latest = nil
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.settled("a")
				w.must(w.write(ws, lake, "o"))
				w.sleep(time.Minute) // nothing is open
				old := w.status().KID
				next := w.vault.Rotate("a")
				tt.spoil(w, old, next)
				for range 60 {
					w.must(w.read(ws, "o"))
					time.Sleep(time.Second)
				}
				if got := w.status(); got.KID != old || got.Scope.Serving != encryption.Serves {
					t.Fatalf("moved to %s, %q", got.KID, got.Scope.Serving)
				}
				tt.mend(w, next)
				for range 20 {
					w.must(w.read(ws, "o"))
					time.Sleep(time.Second)
				}
				if got := w.status().KID; got != next {
					t.Errorf("under %s", got)
				}
			})
		})
	}
}

// A new version is followed without touching data, and the old one is then safe
// to disable.
func TestRotate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		old := w.status().KID
		before := w.store.copy().data
		began := time.Now()
		next := w.vault.Rotate("a")
		for w.status().KID != next {
			if time.Since(began) > 2*time.Second {
				t.Fatal("not noticed with a feed standing")
			}
			time.Sleep(50 * time.Millisecond)
		}
		after := w.store.copy().data
		if before.objects["o"].key != after.objects["o"].key || string(before.objects["o"].sealed) != string(after.objects["o"].sealed) {
			t.Error("data was rewritten")
		}
		for id, k := range before.keys {
			if string(after.keys[id].Sealed) != string(k.Sealed) {
				t.Error("a key was sealed anew")
			}
		}
		for _, v := range w.status().Versions {
			if want := v.KID != next; v.SafeToDisable != want {
				t.Errorf("%s: safe to disable %v", v.KID, v.SafeToDisable)
			}
		}
		w.vault.Disable(old)
		w.sleep(time.Minute)
		w.must(w.read(ws, "o"))
		w.crash()
		w.must(w.read(ws, "o"))
	})
}

// What is open fails, for the right reason, once the ring ends, and nothing is
// opened any more; neither a hanging vault nor an open poll delays that.
func TestShutdown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		ctx := context.Background()
		u, err := w.ring.Use(ctx, ws)
		w.must(err)
		key, err := u.Current(ctx, lake, encryption.ContentKey)
		w.must(err)
		w.sleep(10 * time.Second) // a poll is open
		w.wire.hang(true)
		w.sleep(10 * time.Second) // a renewal hangs
		began := time.Now()
		w.stop()
		if d := time.Since(began); d > time.Second {
			t.Errorf("took %v to stop", d)
		}
		_, err = key.Seal(nil, purpose, "o")
		w.reason("sealing", err, fault.Unavailable)
		w.reason("checking", u.Check(), fault.Unavailable)
		w.wire.hang(false)
		_, err = w.ring.Use(ctx, ws)
		w.reason("opening", err, fault.Unavailable)
	})
}

// Sealing goes on from many sides while the vault says no and yes again; nothing
// is sealed or opened with a key that was dropped, and nobody waits for anybody.
func TestRevokedWhileSealing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		stop := make(chan struct{})
		var all sync.WaitGroup
		var mu sync.Mutex
		reasons := map[fault.Reason]int{}
		for g := range 8 {
			all.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
					}
					id := fmt.Sprintf("%d-%d", g, n%5)
					err := w.write(ws, lake, id)
					if err == nil {
						err = w.read(ws, id)
					}
					if err != nil {
						mu.Lock()
						reasons[fault.ReasonOf(err)]++
						mu.Unlock()
					}
				}
			})
		}
		for range 10 {
			w.vault.SetEnabled("a", false)
			time.Sleep(2 * time.Second)
			w.vault.SetEnabled("a", true)
			time.Sleep(2 * time.Second)
		}
		close(stop)
		all.Wait()
		delete(reasons, fault.KEKRefused)
		delete(reasons, fault.EncryptionChanged)
		if len(reasons) > 0 {
			t.Errorf("failed otherwise: %v", reasons)
		}
		w.serving(encryption.Serves, time.Minute)
		for id := range w.store.copy().data.objects {
			w.must(w.read(ws, id))
		}
	})
}

// Nothing is opened or renewed that cannot be recorded; a no counts all the same.
func TestAuditFailing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		mute := func(err error) {
			w.store.mu.Lock()
			defer w.store.mu.Unlock()
			w.store.mute = err
		}
		mute(errors.New("disk full"))
		w.sleep(time.Minute)
		w.reason("opening", w.read(ws, "o"), fault.AuditFailed)
		mute(nil)
		w.must(w.read(ws, "o"))
		mute(errors.New("disk full"))
		w.vault.Grant(false)
		w.sleep(3 * time.Second)
		w.reason("after a no", w.read(ws, "o"), fault.KEKRefused)
		mute(nil)
		w.vault.Grant(true)
		w.sleep(3 * time.Second)
		w.must(w.read(ws, "o"))
	})
}

// A key in hand does not outlive its lease, even where nobody looks at the clock.
func TestKeyInHandEndsWithItsLease(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		w.settled("a")
		still := encryption.NewKeyring(encryption.Config{
			Store: w.store, Root: w.root, Vault: w.wire, Recorder: w.store, Policy: w.vault.Policy(),
		}) // does not run
		u, err := still.Use(ctx, ws)
		w.must(err)
		key, err := u.Current(ctx, lake, encryption.ContentKey)
		w.must(err)
		time.Sleep(encryption.DefaultLease - time.Millisecond)
		_, err = key.Seal(nil, purpose, "o")
		w.must(err)
		time.Sleep(time.Millisecond)
		_, err = key.Seal(nil, purpose, "o")
		w.reason("after the lease", err, fault.KEKUnreachable)
	})
}
