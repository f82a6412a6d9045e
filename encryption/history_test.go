package encryption_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
)

// TestHistories plays random histories of custodian, administrator, writers and
// crashes against a small model: what should be readable is, what should not be is
// not, what was acknowledged stands, and the status is true. It plays 200, 2,000 in
// CI, 100,000 where [effort.Of] is full, and twice as many as -rapid.checks says if that
// is given.
func TestHistories(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set(strconv.Itoa(effort.Of(100, 1_000, 50_000)))
		t.Cleanup(func() { f.Value.Set(f.DefValue) })
	}
	histories := flag.Lookup("rapid.checks").Value.String()
	for name, feed := range map[string]bool{"with a feed": true, "without a feed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				var failure any // rapid fails by panicking, on its own goroutine
				synctest.Test(t, func(t *testing.T) {
					defer func() { failure = recover() }()
					play(t, rt, feed)
				})
				if failure != nil {
					panic(failure)
				}
			})
			effort.Proof(t, "histories", histories, "contradictions", 0)
		})
	}
}

func play(t *testing.T, rt *rapid.T, feed bool) {
	vault := kektest.NewVault(t, "contoso")
	vault.Cheap()
	h := &history{world: newWorld(rt, vault), enabled: map[kek.KID]bool{}, deleted: map[string]bool{},
		granted: true, connected: true, items: []encryption.ItemID{lake}, objects: map[string]encryption.ItemID{}}
	defer func() { h.stop() }()
	h.remember() // whatever crashes when, no mere crash is taken for a rollback
	h.vault.Create("b")
	for _, k := range keyNames {
		h.enabled[h.vault.Newest(k)] = true
	}
	if !feed {
		h.vault.WithoutFeed()
	}
	rt.Repeat(map[string]func(*rapid.T){
		"assign":      func(rt *rapid.T) { h.act(draw(rt), h.assign) },
		"reseal":      func(rt *rapid.T) { h.act(draw(rt), h.reseal) },
		"reset":       func(*rapid.T) { h.act("", func(string) error { return h.reset() }) },
		"deep rotate": func(*rapid.T) { h.act(h.key, func(string) error { return h.rotateDeep() }) },
		"rotate":      h.rotate,
		"disable":     h.disable,
		"disable old": h.disableOld,
		"enable":      h.enable,
		"delete":      h.delete,
		"grant":       func(*rapid.T) { h.grant(!h.granted) },
		"connect":     func(*rapid.T) { h.connect(!h.connected) },
		"write":       h.writeObject,
		"new item":    h.newItem,
		"delete item": h.deleteItem,
		"crash":       h.crashDuring,
		"settle":      func(*rapid.T) { h.settle() },
		"wait": func(rt *rapid.T) {
			h.sleep(time.Duration(rapid.IntRange(0, 40_000).Draw(rt, "ms")) * time.Millisecond)
		},
	})
	h.settle()
	// In the end everybody relents, and all of it is there.
	h.connect(true)
	h.grant(true)
	for _, k := range keyNames {
		h.vault.Recover(k)
		h.deleted[k] = false
		h.setEnabled(k, true)
	}
	h.settle()
}

var keyNames = []string{"a", "b"}

// A history is the model beside the world.
type history struct {
	*world
	key       string // the scope's; "" while platform-managed
	enabled   map[kek.KID]bool
	deleted   map[string]bool
	granted   bool
	connected bool
	items     []encryption.ItemID
	objects   map[string]encryption.ItemID // acknowledged, and not deleted
	n         int
}

// expected fails if an error is not one that a customer's vault or a change under
// way explains.
func (h *history) expected(what string, err error) {
	h.t.Helper()
	switch r := fault.ReasonOf(err); r {
	case "", fault.KEKRefused, fault.KEKUnreachable, fault.EncryptionChanged, fault.EncryptionInProgress,
		fault.EncryptionBlocked, fault.KEKUnsuitable:
	default:
		h.t.Fatalf("%s: %v", what, err)
	}
}

// act changes the scope's key.
func (h *history) act(to string, change func(string) error) {
	h.t.Helper()
	err := change(to)
	h.expected("changing the key", err)
	if err == nil {
		h.key = to
	}
}

func draw(rt *rapid.T) string { return rapid.SampledFrom(keyNames).Draw(rt, "key") }

func (h *history) grant(on bool) {
	h.granted = on
	h.vault.Grant(on)
}

func (h *history) connect(on bool) {
	h.connected = on
	h.vault.Disconnect(!on)
}

func (h *history) rotate(rt *rapid.T) { h.enabled[h.vault.Rotate(draw(rt))] = true }

func (h *history) disable(rt *rapid.T) { h.setEnabled(draw(rt), false) }

func (h *history) enable(rt *rapid.T) { h.setEnabled(draw(rt), true) }

func (h *history) setEnabled(key string, on bool) {
	h.vault.SetEnabled(key, on)
	for kid := range h.enabled {
		if kid.Name() == key {
			h.enabled[kid] = on
		}
	}
}

func (h *history) disableOld(rt *rapid.T) {
	key := draw(rt)
	for kid := range h.enabled {
		if kid.Name() == key && kid != h.vault.Newest(key) {
			h.vault.Disable(kid)
			h.enabled[kid] = false
		}
	}
}

func (h *history) delete(rt *rapid.T) {
	key := draw(rt)
	if h.deleted[key] = !h.deleted[key]; h.deleted[key] {
		h.vault.Delete(key)
	} else {
		h.vault.Recover(key)
	}
}

func (h *history) writeObject(rt *rapid.T) {
	item := rapid.SampledFrom(h.items).Draw(rt, "item")
	h.n++
	id := fmt.Sprint(h.n)
	err := h.write(ws, item, id)
	h.expected("writing", err)
	if err == nil {
		h.objects[id] = item
	}
}

func (h *history) newItem(*rapid.T) {
	u, err := h.ring.Use(context.Background(), ws)
	if err == nil {
		h.n++
		id := encryption.ItemID(fmt.Sprintf("22222222-2222-4222-8222-%012d", h.n))
		var keys *encryption.ItemKeys
		if keys, err = u.NewItem(id, "Lakehouse"); err == nil {
			err = h.store.update(func(tx *memoryTx) error { return keys.Insert(tx) })
		}
		if err == nil {
			h.items = append(h.items, id)
		}
	}
	h.expected("making an item", err)
}

func (h *history) deleteItem(rt *rapid.T) {
	if len(h.items) < 2 {
		rt.Skip("the last item")
	}
	n := rapid.IntRange(0, len(h.items)-1).Draw(rt, "item")
	item := h.items[n]
	h.must(h.store.update(func(tx *memoryTx) error { return tx.ShredItem(item) }))
	h.items = slices.Delete(h.items, n, n+1)
	for id, i := range h.objects {
		if i == item {
			delete(h.objects, id)
		}
	}
}

// crashDuring lets something begin, cuts it off after some transactions, and looks
// what became of it: what was acknowledged stands, and what was not is there whole
// or not at all.
func (h *history) crashDuring(rt *rapid.T) {
	h.store.crashAfter(rapid.IntRange(1, 12).Draw(rt, "transactions"))
	to, key := h.key, draw(rt)
	err := errCrashed
	switch rapid.IntRange(0, 6).Draw(rt, "operation") {
	case 0:
		to, err = key, h.assign(key)
	case 1:
		to, err = key, h.reseal(key)
	case 2:
		to, err = "", h.reset()
	case 3:
		err = h.rotateDeep()
	case 4:
		h.rotate(rt)
	case 5:
		h.n++
		id, item := fmt.Sprint(h.n), rapid.SampledFrom(h.items).Draw(rt, "item")
		if h.write(ws, item, id) == nil {
			h.objects[id] = item
		}
	case 6:
	}
	h.sleep(time.Duration(rapid.IntRange(0, 5000).Draw(rt, "ms")) * time.Millisecond)
	h.crash()
	under := ""
	if id := h.status().KeyIdentifier; id != "" {
		under = id[len(h.world.key("")):]
	}
	if under != to && (err == nil || under != h.key) {
		h.t.Fatalf("after a crash under %q: was under %q, to be put under %q, which said %v", under, h.key, to, err)
	}
	h.key = under
}

// settle lets all that goes on by itself go on, and compares.
func (h *history) settle() {
	h.t.Helper()
	for id := range h.objects { // in use, so that a no is noticed
		h.expected("reading", h.read(ws, id))
		break
	}
	h.sleep(90 * time.Second)
	st := h.status()
	if want := h.key; want != "" && st.KeyIdentifier != h.world.key(want) || want == "" && st.KeyIdentifier != "" {
		h.t.Fatalf("under %q, want %q", st.KeyIdentifier, want)
	}
	accessible := h.key == "" || h.connected && h.granted && !h.deleted[h.key] && h.enabled[st.KID]
	for id := range h.objects {
		err := h.read(ws, id)
		h.expected("reading "+id, err)
		if (err == nil) != accessible {
			h.t.Fatalf("object %s: %v, though accessible is %v: %+v", id, err, accessible, h.status())
		}
		if r := fault.ReasonOf(err); r == fault.KEKUnreachable && h.connected {
			h.t.Fatalf("a no was taken for no answer: %v", err)
		}
	}
	st = h.status()
	switch {
	case accessible && (st.Scope.Serving != encryption.Serves || st.Behind > 0 || st.Failed > 0 ||
		st.State != encryption.Active && st.State != encryption.Disabled):
		h.t.Fatalf("accessible, and the status says: %+v\n%+v", st, h.store.copy().data.items)
	case !accessible && len(h.objects) > 0 && st.Scope.Serving == encryption.Serves:
		h.t.Fatalf("not accessible, and the status says: %+v", st)
	case !accessible && h.connected && len(h.objects) > 0 && st.Scope.Serving != encryption.Revoked:
		h.t.Fatalf("revoked, and the status says: %+v", st)
	}
	if accessible {
		if len(st.Items) != len(h.items) {
			h.t.Fatalf("%d items, want %d", len(st.Items), len(h.items))
		}
		for _, v := range st.Versions {
			if v.SafeToDisable == (v.KID == st.KID) {
				h.t.Fatalf("version %s safe to disable: %v", v.KID, v.SafeToDisable)
			}
		}
		for _, g := range h.store.copy().data.links {
			h.t.Fatalf("a link is left: %+v", g)
		}
	}
}
