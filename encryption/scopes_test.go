package encryption_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
)

// A whole life: assigned, in progress, Active, another key, reset, and again.
func TestLifeOfAScope(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.vault.Create("b")
		for n := range 20 {
			w.must(w.write(ws, lake, fmt.Sprint(n)))
		}
		readable := func() {
			t.Helper()
			for n := range 20 {
				w.must(w.read(ws, fmt.Sprint(n)))
			}
		}
		w.keep.each = func(object) { time.Sleep(100 * time.Millisecond) }
		w.must(w.assign("a"))
		w.sleep(time.Second)
		st := w.status()
		if st.Mode != encryption.CustomerManaged || st.State != encryption.Enabling || !st.InProgress() || st.ReSealOnly ||
			st.KeyIdentifier != w.key("a") || st.KID != w.vault.Newest("a") || len(st.Items) != 1 ||
			st.Items[0].Status != encryption.ItemInProgress || st.Items[0].Progress.Files == 0 || st.Totals.Progress.TotalFiles != 20 {
			t.Errorf("in progress: %+v", st)
		}
		readable()
		w.must(w.write(ws, lake, "new"))
		w.reason("assigning meanwhile", w.assign("b"), fault.EncryptionInProgress)
		w.reason("assigning the same meanwhile", w.assign("a"), fault.EncryptionInProgress)
		w.reason("resetting meanwhile", w.reset(), fault.EncryptionInProgress)
		w.sleep(10 * time.Second)
		if st := w.status(); st.State != encryption.Active || st.Behind != 0 || st.Items[0].Status != encryption.ItemActive || st.PreviousKeyIdentifier != "" {
			t.Errorf("active: %+v", st)
		}
		readable()

		w.must(w.assign("b"))
		if st := w.status(); st.PreviousKeyIdentifier != w.key("a") || st.KeyIdentifier != w.key("b") {
			t.Errorf("changing keys: %+v", st)
		}
		w.vault.Delete("a") // the old key is needed no more
		w.sleep(10 * time.Second)
		w.crash()
		readable()
		if st := w.status(); st.State != encryption.Active || len(st.Versions) != 2 || !st.Versions[1].SafeToDisable || st.Versions[0].SafeToDisable {
			t.Errorf("under another key: %+v", st)
		}

		before := w.store.copy().data
		w.must(w.reset())
		w.sleep(3 * time.Second)
		st = w.status()
		if st.Mode != encryption.PlatformManaged || st.State != encryption.Disabled || !st.ReSealOnly || st.KeyIdentifier != "" || st.Behind != 0 {
			t.Errorf("reset: %+v", st)
		}
		after := w.store.copy().data
		for id, o := range before.objects {
			if string(after.objects[id].sealed) != string(o.sealed) {
				t.Error("reset re-encrypted data")
			}
		}
		w.vault.Remove(true)
		w.crash()
		readable()
		w.must(w.read(ws, "new"))
		w.must(w.reset()) // nothing to do
		w.vault.Remove(false)
		w.settled("b")
		readable()
	})
}

// Each thing that forbids an assign is told with what to do about it, and changes
// nothing.
func TestAssignBlockers(t *testing.T) {
	tests := map[string]struct {
		arrange func(*world) (undo func())
		key     string // "" for key a
		want    fault.Reason
	}{
		"setting off": {func(w *world) func() {
			set := func(off bool) { w.store.update(func(tx *memoryTx) error { tx.off = off; return nil }) }
			set(true)
			return func() { set(false) }
		}, "", fault.TenantSwitchDisabled},
		"versioned identifier": {nil, "https://contoso.vault.localhost:8443/keys/a/0123456789abcdef0123456789abcdef", fault.InvalidKeyID},
		"foreign host":         {nil, "https://evil.example/keys/a", fault.InvalidKeyID},
		"no such key":          {nil, "https://contoso.vault.localhost:8443/keys/nope", fault.EncryptionBlocked},
		"no role": {func(w *world) func() {
			w.vault.Grant(false)
			return func() { w.vault.Grant(true) }
		}, "", fault.EncryptionBlocked},
		"disabled": {func(w *world) func() {
			w.vault.SetEnabled("a", false)
			return func() { w.vault.SetEnabled("a", true) }
		}, "", fault.KEKUnsuitable},
		"no unwrap": {state(func(k *kek.KeyInfo) { k.Ops = []string{"wrapKey"} }), "", fault.KEKUnsuitable},
		"too small": {state(func(k *kek.KeyInfo) { k.Algorithm = "" }), "", fault.KEKUnsuitable},
		"expired":   {state(func(k *kek.KeyInfo) { k.Expires = time.Now().Add(-time.Hour) }), "", fault.KEKUnsuitable},
		"purgeable": {state(func(k *kek.KeyInfo) { k.RecoveryLevel = "Recoverable+Purgeable" }), "", fault.KEKUnsuitable},
		"foreign directory": {func(w *world) func() {
			w.vault.BelongTo("22f988bf-0000-4000-8000-00000000c0de")
			return func() { w.vault.BelongTo(string(tenant)) }
		}, "", fault.EncryptionBlocked},
		"unsupported item": {func(w *world) func() {
			w.store.update(func(tx *memoryTx) error {
				i := tx.items[lake]
				i.Type = "Dashboard"
				tx.items[lake] = i
				return nil
			})
			return func() {
				w.store.update(func(tx *memoryTx) error {
					i := tx.items[lake]
					i.Type = "Lakehouse"
					tx.items[lake] = i
					return nil
				})
			}
		}, "", fault.UnsupportedItemType},
		"a vault that does not unwrap what it wraps": {func(w *world) func() {
			w.vault.Tamper(kek.OpUnwrap, func(b []byte) []byte { b[0] ^= 1; return b })
			return func() { w.vault.Tamper(kek.OpUnwrap, nil) }
		}, "", fault.KEKIntegrity},
		"no answer": {func(w *world) func() {
			w.vault.Disconnect(true)
			return func() { w.vault.Disconnect(false) }
		}, "", fault.KEKUnreachable},
	}
	bubble(t, func(t *testing.T, w *world) {
		w.must(w.write(ws, lake, "o"))
		for name, tt := range tests {
			undo := func() {}
			if tt.arrange != nil {
				undo = tt.arrange(w)
			}
			key := tt.key
			if key == "" {
				key = w.key("a")
			}
			err := w.scopes.Assign(context.Background(), admin, ws, key)
			if fault.ReasonOf(err) != tt.want {
				t.Errorf("%s: %v, want %s", name, err, tt.want)
			} else if f := fault.As(err); f.Detail == "" || f.Mend == "" && tt.want != fault.KEKIntegrity {
				t.Errorf("%s: says %q, and to do %q", name, f.Detail, f.Mend)
			}
			undo()
			if st := w.status(); st.Mode != encryption.PlatformManaged || st.Scope.Epoch != 1 || st.Scope.Serving != encryption.Serves {
				t.Fatalf("%s: changed the scope: %+v", name, st)
			}
			last := w.store.copy().data.audit[len(w.store.copy().data.audit)-2] // before the status's
			if last.Operation != "ApplyWorkspaceEncryption" || last.Outcome != audit.Failed || last.Reason != tt.want {
				t.Errorf("%s: recorded as %+v", name, last)
			}
		}
		w.must(w.read(ws, "o"))
		w.settled("a")
		w.must(w.read(ws, "o"))
	})
}

func state(edit func(*kek.KeyInfo)) func(*world) func() {
	return func(w *world) func() {
		var was kek.KeyInfo
		kid := w.vault.Newest("a")
		w.vault.State(kid, func(k *kek.KeyInfo) { was = *k; edit(k) })
		return func() { w.vault.State(kid, func(k *kek.KeyInfo) { *k = was }) }
	}
}

func TestRights(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		for name, tt := range map[string]struct {
			caller identity.Caller
			want   fault.Reason
		}{
			"no role":           {identity.Caller{Tenant: tenant, Principal: "other"}, fault.Denied},
			"another directory": {identity.Caller{Tenant: "22f988bf-0000-4000-8000-00000000c0de", Principal: "admin"}, fault.WorkspaceNotFound},
		} {
			_, err := w.scopes.Status(ctx, tt.caller, ws)
			for op, err := range map[string]error{
				"assign": w.scopes.Assign(ctx, tt.caller, ws, w.key("a")),
				"reset":  w.scopes.Reset(ctx, tt.caller, ws),
				"status": err,
			} {
				if fault.ReasonOf(err) != tt.want {
					t.Errorf("%s %s: %v", name, op, err)
				}
			}
		}
		if w.vault.Count(kek.OpGet) > 0 {
			t.Error("a vault was asked for somebody without the right")
		}
		if n := len(w.store.copy().data.audit); n != 6 {
			t.Errorf("%d refusals recorded", n)
		}
	})
}

// To change or reset a key needs a yes of the old key's vault, now.
func TestChangeNeedsAFreshYes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.vault.WithoutFeed()
		w.vault.Create("b")
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		w.must(w.read(ws, "o"))
		w.vault.SetEnabled("a", false)
		w.reason("assign", w.assign("b"), fault.KEKRefused)
		w.reason("what was leased", w.read(ws, "o"), fault.KEKRefused)
		w.reason("reset", w.reset(), fault.KEKRefused)
		w.vault.SetEnabled("a", true)
		w.serving(encryption.Serves, time.Minute)
		w.vault.Disconnect(true)
		w.reason("reset without an answer", w.reset(), fault.KEKUnreachable)
		w.vault.Disconnect(false)
		w.store.update(func(tx *memoryTx) error { tx.off = true; return nil })
		w.reason("reset with the switch off", w.reset(), fault.TenantSwitchDisabled)
		w.must(w.read(ws, "o"))
		if st := w.status(); st.KeyIdentifier != w.key("a") || st.State != encryption.Active {
			t.Errorf("changed: %+v", st)
		}
	})
}

// Of many changes at once, one wins and the others change nothing.
func TestConcurrentChanges(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.must(w.write(ws, lake, "o"))
		w.keep.each = func(object) { time.Sleep(time.Second) }
		names := []string{"a", "b", "c", "d"}
		for _, n := range names[1:] {
			w.vault.Create(n)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		var won []string
		for _, n := range names {
			all.Go(func() {
				err := w.assign(n)
				mu.Lock()
				defer mu.Unlock()
				switch r := fault.ReasonOf(err); {
				case err == nil:
					won = append(won, n)
				case r != fault.EncryptionChanged && r != fault.EncryptionInProgress:
					t.Errorf("%s: %v", n, err)
				}
			})
		}
		all.Wait()
		if len(won) != 1 || w.status().KeyIdentifier != w.key(won[0]) {
			t.Fatalf("won: %v, under %s", won, w.status().KeyIdentifier)
		}
		w.sleep(10 * time.Second)
		w.must(w.read(ws, "o"))
		if st := w.status(); st.State != encryption.Active || st.Scope.Epoch != 3 {
			t.Errorf("%+v", st)
		}
	})
}

// A failed item says why, is tried again by itself, at once when asked for, and
// with another key too; those that could be done are done.
func TestFailedItems(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const good = encryption.ItemID("22222222-2222-4222-8222-222222222223")
		w.vault.Create("b")
		w.addItem(ws, good)
		w.must(w.write(ws, lake, "o"))
		w.must(w.write(ws, good, "p"))
		w.keep.failing(lake, fault.New(fault.Integrity, "An extent is damaged."))
		w.must(w.assign("a"))
		w.sleep(5 * time.Second)
		st := w.status()
		if st.State != encryption.Enabling || st.InProgress() || st.Failed != 1 || st.Items[0].Status != encryption.ItemFailed ||
			st.Items[0].Reason != fault.Integrity || st.Items[0].Detail == "" || st.Items[1].Status != encryption.ItemActive {
			t.Errorf("failed: %+v", st)
		}
		w.must(w.read(ws, "o"))
		w.must(w.read(ws, "p"))

		before := w.keep.count(lake)
		w.sleep(time.Hour)
		if n := w.keep.count(lake) - before; n < 5 || n > 20 {
			t.Errorf("tried %d times in an hour", n)
		}
		w.keep.failing(lake, nil)
		w.must(w.assign("a"))
		w.sleep(3 * time.Second)
		if st := w.status(); st.State != encryption.Active || st.Failed != 0 {
			t.Errorf("after a retry: %+v", st)
		}

		w.keep.failing(lake, fault.New(fault.Integrity, "An extent is damaged."))
		w.must(w.assign("b"))
		w.sleep(20 * time.Minute)
		w.keep.failing(lake, nil)
		w.must(w.assign("a"))
		w.sleep(3 * time.Second)
		if st := w.status(); st.State != encryption.Active || st.Failed != 0 {
			t.Errorf("after another key: %+v", st)
		}
		w.crash()
		w.must(w.read(ws, "o"))
		w.must(w.read(ws, "p"))

		w.keep.failing(encryption.ScopeItem(ws), fault.New(fault.Integrity, "A name is damaged."))
		w.must(w.assign("b"))
		w.sleep(20 * time.Minute)
		w.keep.failing(encryption.ScopeItem(ws), nil)
		w.must(w.assign("b"))
		w.sleep(3 * time.Second)
		if st := w.status(); st.State != encryption.Active {
			t.Errorf("after the names were retried: %+v", st)
		}
	})
}

// A scope that loses access in the middle waits, without failing and without a
// busy loop, and goes on by itself.
func TestAccessLostInTheMiddle(t *testing.T) {
	for name, way := range waysToRevoke {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				for n := range 10 {
					w.must(w.write(ws, lake, fmt.Sprint(n)))
				}
				w.keep.each = func(object) { time.Sleep(500 * time.Millisecond) }
				w.must(w.assign("a"))
				w.sleep(2 * time.Second)
				way.act(w)
				w.sleep(2 * time.Second)
				if st := w.status(); st.Scope.Serving != encryption.Revoked || st.State != encryption.Enabling || st.Failed > 0 || !st.InProgress() {
					t.Errorf("%+v", st)
				}
				calls, entries := w.keep.count(lake), len(w.store.copy().data.audit)
				w.sleep(10 * time.Minute)
				if n := w.keep.count(lake) - calls; n > 0 {
					t.Errorf("worked %d times without access", n)
				}
				if n := len(w.store.copy().data.audit) - entries; n > 10*6 {
					t.Errorf("%d entries in ten minutes without access", n)
				}
				way.undo(w)
				w.serving(encryption.Serves, 30*time.Second)
				w.sleep(10 * time.Second)
				if st := w.status(); st.State != encryption.Active {
					t.Errorf("%+v", st)
				}
				for n := range 10 {
					w.must(w.read(ws, fmt.Sprint(n)))
				}
			})
		})
	}
}

// Two workers on one database: each object is done once, nobody steps on the
// other, and a worker that lost its item publishes nothing more.
func TestTwoWorkers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for n := range 10 {
			w.must(w.write(ws, lake, fmt.Sprint(n)))
		}
		other := *w
		other.start()
		defer other.stop()
		w.keep.each = func(o object) { time.Sleep(time.Second) }
		other.keep.each = w.keep.each
		w.must(w.assign("a"))
		w.sleep(20 * time.Second)
		if st := w.status(); st.State != encryption.Active {
			t.Errorf("%+v", st)
		}
		if a, b := w.keep.count(lake), other.keep.count(lake); a+b != 1 {
			t.Errorf("the item was worked on %d and %d times", a, b)
		}

		// One worker stalls for longer than its lease.
		w.vault.Create("b")
		stall := func(object) { time.Sleep(workLease + 10*time.Second) }
		w.keep.mu.Lock()
		w.keep.each = stall
		w.keep.mu.Unlock()
		other.keep.mu.Lock()
		other.keep.each = func(object) {}
		other.keep.mu.Unlock()
		w.must(w.assign("b"))
		w.sleep(2 * time.Minute)
		if st := w.status(); st.State != encryption.Active || st.Failed > 0 {
			t.Errorf("%+v", st)
		}
		for n := range 10 {
			w.must(w.read(ws, fmt.Sprint(n)))
		}
	})
}

const workLease = 30 * time.Second

// A worker whose item was taken over publishes nothing any more, not even what it was
// about to.
func TestFencedWorkerPublishesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.must(w.write(ws, lake, "o"))
		before := w.store.copy().data.objects["o"].key
		taken := false
		w.keep.mu.Lock()
		w.keep.each = func(object) {
			if !taken {
				taken = true
				w.must(w.store.update(func(tx *memoryTx) error {
					i := tx.items[lake]
					i.Fence++
					i.Owner, i.Until = "another", time.Now().Add(workLease)
					tx.items[lake] = i
					return nil
				}))
			}
		}
		w.keep.mu.Unlock()
		w.must(w.assign("a"))
		w.sleep(workLease / 2)
		if key := w.store.copy().data.objects["o"].key; !taken || key != before {
			t.Errorf("taken over: %t; published: %t", taken, key != before)
		}
		w.sleep(time.Minute) // the other one has died, and its lease is over
		if st := w.status(); st.State != encryption.Active || w.store.copy().data.objects["o"].key == before {
			t.Errorf("%+v", st)
		}
		w.must(w.read(ws, "o"))
	})
}

// The keys of an item that were made before a change of the scope's key are not
// inserted after it: nobody would bring them under the new one.
func TestItemMadeBeforeAChange(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		u, err := w.ring.Use(context.Background(), ws)
		w.must(err)
		keys, err := u.NewItem("22222222-2222-4222-8222-00000000000a", "Lakehouse")
		w.must(err)
		w.settled("a")
		err = w.store.update(func(tx *memoryTx) error { return keys.Insert(tx) })
		w.reason("inserting", err, fault.EncryptionChanged)
	})
}

// A write that began under an old key, and one that is published just before the
// old keys go, are both readable in the end.
func TestWritesDuringReencryption(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		for n := range 10 {
			w.must(w.write(ws, lake, fmt.Sprint(n)))
		}
		u, err := w.ring.Use(ctx, ws)
		w.must(err)
		old, err := u.Current(ctx, lake, encryption.ContentKey)
		w.must(err)
		sealed, err := old.Seal([]byte(plain("late")), purpose, "late")
		w.must(err)
		item, err := u.NewItem("33333333-3333-4333-8333-333333333333", "Lakehouse")
		w.must(err)
		publish := func(id string) error {
			return w.store.update(func(tx *memoryTx) error {
				if err := u.Confirm(tx, old.ID()); err != nil {
					return err
				}
				tx.objects[id] = object{id: id, item: lake, key: old.ID(), sealed: sealed}
				return nil
			})
		}
		n := 0
		w.keep.each = func(object) {
			time.Sleep(200 * time.Millisecond)
			if n++; n == 9 {
				w.must(publish("late"))
			}
		}
		w.must(w.assign("a"))
		current, err := u.Current(ctx, lake, encryption.ContentKey)
		w.must(err)
		if current.ID() == old.ID() {
			t.Error("new writes go under the old key")
		}
		w.reason("a new item under the old key", w.store.update(func(tx *memoryTx) error { return item.Insert(tx) }), fault.EncryptionChanged)
		w.sleep(20 * time.Second)
		if st := w.status(); st.State != encryption.Active {
			t.Fatalf("%+v", st)
		}
		w.must(w.read(ws, "late"))
		w.reason("a write published after its key went", publish("later"), fault.EncryptionChanged)
		_, err = old.Seal(nil, purpose, "x")
		w.reason("the old key in hand", err, fault.EncryptionChanged)
	})
}

// An item deleted while its scope's key is changed holds nothing up, and one that
// only seems to be deleted is not given up.
func TestDeletedItem(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const gone = encryption.ItemID("22222222-2222-4222-8222-222222222223")
		w.addItem(ws, gone)
		w.must(w.write(ws, gone, "o"))
		w.must(w.write(ws, lake, "p"))
		w.keep.each = func(o object) {
			if o.item == gone {
				time.Sleep(2 * time.Second)
			}
		}
		w.keep.failing(lake, fault.New(fault.ItemNotFound, "A part of it is missing."))
		w.must(w.assign("a"))
		w.sleep(time.Second)
		w.must(w.store.update(func(tx *memoryTx) error { return tx.ShredItem(gone) }))
		w.sleep(10 * time.Second)
		st := w.status()
		if st.State != encryption.Enabling || st.Behind != 1 || st.Failed != 1 || len(st.Items) != 1 || st.Items[0].ID != lake {
			t.Errorf("%+v", st)
		}
		w.must(w.read(ws, "p"))
		w.keep.failing(lake, nil)
		w.must(w.assign("a"))
		w.sleep(5 * time.Second)
		if st := w.status(); st.State != encryption.Active {
			t.Errorf("%+v", st)
		}
		w.must(w.read(ws, "p"))
	})
}

// An item deleted before the work on it began, with its objects still there.
func TestDeletedItemWithObjects(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.must(w.write(ws, lake, "o"))
		w.crash() // so that its keys are not in memory
		w.must(w.store.update(func(tx *memoryTx) error { return tx.ShredItem(lake) }))
		w.reason("reading", w.read(ws, "o"), fault.ItemNotFound)
		w.keep.failing(lake, fault.New(fault.Integrity, "Nothing of it opens."))
		w.settled("a")
	})
}

// One scope with much to do does not hold the others up.
func TestScopesAreWorkedOnSideBySide(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.must(w.write(ws, lake, "o"))
		w.addScope(ws2)
		w.keep.each = func(o object) { time.Sleep(time.Hour) }
		w.must(w.assign("a"))
		w.sleep(time.Second)
		w.must(w.store.update(func(tx *memoryTx) error {
			a := tx.grants["1"]
			a.ID, a.Scope = "2", "/"
			return tx.PutRoleAssignment(a)
		}))
		w.must(w.scopes.Assign(context.Background(), admin, ws2, w.key("a")))
		w.sleep(5 * time.Second)
		st, err := w.scopes.Status(context.Background(), admin, ws2)
		w.must(err)
		if st.State != encryption.Active {
			t.Errorf("%+v", st)
		}
	})
}

// A crash after any number of transactions loses nothing, and the work goes on by
// itself: assign, rotate and reset.
func TestCrashAnywhere(t *testing.T) {
	for _, op := range []string{"assign", "change", "rotate", "reset"} {
		t.Run(op, func(t *testing.T) {
			crashes := 0
			for n := 1; ; n++ {
				done := false
				bubble(t, func(t *testing.T, w *world) {
					w.vault.Create("b")
					for n := range 3 {
						w.must(w.write(ws, lake, fmt.Sprint(n)))
					}
					if op != "assign" {
						w.settled("a")
					}
					w.store.crashAfter(n)
					switch op {
					case "assign":
						w.assign("a")
					case "change":
						w.assign("b")
					case "rotate":
						w.vault.Rotate("a")
						w.read(ws, "0")
					case "reset":
						w.reset()
					}
					time.Sleep(5 * time.Second)
					done = !w.store.cut()
					if !done {
						crashes++
					}
					w.crash()
					for n := range 3 {
						w.must(w.read(ws, fmt.Sprint(n)))
					}
					w.must(w.write(ws, lake, "3"))
					w.sleep(time.Minute)
					st := w.status()
					if st.State != encryption.Active && st.State != encryption.Disabled || st.Behind > 0 || st.Scope.Serving != encryption.Serves {
						t.Errorf("after %d transactions: %+v", n, st)
					}
					for n := range 4 {
						w.must(w.read(ws, fmt.Sprint(n)))
					}
				})
				if done || t.Failed() {
					break
				}
			}
			if crashes < 3 {
				t.Errorf("only %d crashes", crashes)
			}
		})
	}
}
