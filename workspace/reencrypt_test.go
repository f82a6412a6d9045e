package workspace_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

// A gate is a store whose updates fail once no token is left: as a worker does
// that crashes between two of its steps.
type gate struct {
	workspace.Store
	tokens atomic.Int64
	before func() // each update
}

func (g *gate) Update(ctx context.Context, fn func(workspace.Tx) error) error {
	if g.tokens.Add(-1) < 0 {
		return fault.New(fault.Unavailable, "the worker is gone")
	}
	if g.before != nil {
		g.before()
	}
	return g.Store.Update(ctx, fn)
}

// crashing lets the state machine re-encrypt through a second replica that stops
// where the gate says.
func (w *world) crashing(batch int) *gate {
	g := &gate{Store: w.db.Workspace()}
	other := workspace.New(workspace.Config{Store: g, Keys: w.ring, Audit: w.recorder})
	other.SetBatch(batch)
	w.content.set(other)
	return g
}

// keysOf returns the keys that are named by what the workspace package keeps.
func (w *world) keysOf(ws encryption.ScopeID) map[encryption.KeyID]bool {
	named := map[encryption.KeyID]bool{}
	w.view(func(tx workspace.Tx) error {
		row, err := tx.Workspace(ws)
		w.must(err)
		named[row.DescriptionKey] = true
		l, err := tx.ItemList(ws)
		w.must(err)
		named[l.Key], named[l.NextKey] = true, true
		entries, err := tx.ItemEntries(ws, "", "", 0)
		w.must(err)
		for _, e := range entries {
			named[e.Key] = true
			d, ok, err := tx.ItemDefinition(e.ID)
			w.must(err)
			if ok {
				named[d.Key] = true
			}
		}
		return nil
	})
	delete(named, "")
	return named
}

func TestReencrypt(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		created := w.create("Sales")
		ws := created.ID
		w.ws.SetBatch(3)
		want := map[string]workspace.Item{}
		for i := range 10 {
			item := w.item(ws, fmt.Sprint("I", i), workspace.Notebook)
			want[item.DisplayName] = item
		}
		deleted := w.item(ws, "Deleted", workspace.Notebook)
		w.must(w.ws.DeleteItem(ctx, member, ws, deleted.ID, "", false))
		before := w.keysOf(ws)

		check := func(when string) {
			w.Helper()
			all, err := w.ws.ItemsOf(ctx, w.use(ws), ws)
			w.must(err)
			got := map[string]workspace.Item{}
			for _, i := range all {
				got[i.DisplayName] = i
				found, err := w.find(ws, i.DisplayName+".notebook")
				if err != nil || found.ID != i.ID {
					w.Errorf("%s: %s finds %v, %v", when, i.DisplayName, found, err)
				}
				d, err := w.ws.Definition(ctx, member, ws, i.ID)
				if err != nil || !cmp.Equal(d, definition) {
					w.Errorf("%s: the definition of %s reads %v, %v", when, i.DisplayName, d, err)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				w.Errorf("%s (-want +got):\n%s", when, d)
			}
			now, err := w.ws.Get(ctx, creator, ws)
			w.must(err)
			if d := cmp.Diff(created, now); d != "" {
				w.Errorf("%s (-want +got):\n%s", when, d)
			}
		}

		// Crash after every single step, with a look around in between.
		g := w.crashing(3)
		w.assign(ws, "k1")
		for n := 0; ; n++ {
			g.tokens.Store(1)
			time.Sleep(5 * time.Second)
			st, err := w.scopes.Status(ctx, creator, ws)
			w.must(err)
			check(fmt.Sprint("after step ", n))
			if st.State == encryption.Active {
				break
			}
			if n == 100 {
				w.Fatalf("not done: %+v", st)
			}
		}
		after := w.keysOf(ws)
		for k := range before {
			if after[k] {
				w.Errorf("something is still under key %s", k)
			}
			w.view(func(tx workspace.Tx) error {
				if alive, err := tx.KeyAlive(k); err != nil || alive {
					w.Errorf("key %s is alive: %v, %v", k, alive, err)
				}
				return nil
			})
		}
		w.view(func(tx workspace.Tx) error {
			l, err := tx.ItemList(ws)
			w.must(err)
			if l.NextKey != "" || l.Seals != 11 {
				w.Errorf("the list is left as %+v", l)
			}
			return nil
		})

		// Another key, then reset: both end with everything in its place.
		w.content.set(w.ws)
		w.assign(ws, "k2")
		check("while changing the key")
		w.settle(ws, encryption.Active)
		check("under another key")
		w.must(w.scopes.Reset(ctx, creator, ws))
		check("while resetting")
		w.settle(ws, encryption.Disabled)
		check("after the reset")
		w.assign(ws, "k3")
		w.settle(ws, encryption.Active)
		check("assigned once more")
	})
}

// What happens between a batch's reading and its writing is not undone by it.
func TestChangedWhileResealed(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		ws := w.create("Sales").ID
		item := func(name string) workspace.Item { // without a definition, which would be updated too
			i, err := w.ws.CreateItem(ctx, member, ws, workspace.NewItem{DisplayName: name, Type: workspace.Notebook})
			w.must(err)
			return i
		}
		renamed, soft, hard := item("R"), item("S"), item("H")
		g := w.crashing(100)
		g.tokens.Store(1 << 30)
		var updates atomic.Int64
		g.before = func() {
			if updates.Add(1) != 2 { // the first names the key to come
				return
			}
			name := "R2"
			_, err := w.ws.UpdateItem(ctx, member, ws, renamed.ID, workspace.Change{DisplayName: &name})
			w.must(err)
			w.must(w.ws.DeleteItem(ctx, creator, ws, soft.ID, "", false))
			w.must(w.ws.DeleteItem(ctx, creator, ws, hard.ID, "", true))
		}
		w.assign(ws, "k")
		w.settle(ws, encryption.Active)
		all, err := w.ws.ItemsOf(ctx, w.use(ws), ws)
		w.must(err)
		if updates.Load() < 3 || len(all) != 1 || all[0].ID != renamed.ID || all[0].DisplayName != "R2" {
			w.Errorf("after %d updates: %v", updates.Load(), all)
		}
		for name, found := range map[string]bool{"R2": true, "R": false, "S": false, "H": false} {
			if _, err := w.find(ws, name+".Notebook"); (err == nil) != found {
				w.Errorf("%s: %v", name, err)
			}
		}
	})
}

// An item that was half created when the process died holds its name no longer
// than it takes to be sure, and nothing of it stays.
func TestCrashedCreation(t *testing.T) {
	run(t, func(w *world) {
		ws := w.create("Sales").ID
		g := &gate{Store: w.db.Workspace()}
		g.tokens.Store(1)
		dying := workspace.New(workspace.Config{Store: g, Keys: w.ring, Audit: w.recorder, Now: w.now})
		n := workspace.NewItem{DisplayName: "Book", Type: workspace.Notebook, Definition: &definition}
		_, err := dying.CreateItem(w.Context(), member, ws, n)
		w.want(err, fault.Unavailable)
		_, err = w.find(ws, "Book.Notebook")
		w.want(err, fault.ItemNotFound)
		all, err := w.ws.ItemsOf(w.Context(), w.use(ws), ws)
		w.must(err)
		if len(all) != 0 {
			w.Errorf("a half created item is seen: %v", all)
		}
		_, err = w.ws.CreateItem(w.Context(), member, ws, n)
		w.want(err, fault.ItemNameTaken)
		w.skew = 20 * time.Minute
		w.must(w.ws.Sweep(w.Context()))
		w.item(ws, "Book", workspace.Notebook)
	})
}

// busy reports whether a key cannot be changed now, because items are in progress
// or its state machine has just taken a step.
func busy(err error) bool {
	r := fault.ReasonOf(err)
	return r == fault.EncryptionInProgress || r == fault.EncryptionChanged
}

// Random histories of the list of items agree with a map, also while it is being
// re-sealed and while the one who does it crashes.
func TestListHistories(t *testing.T) {
	// A history takes half a second. The flag, if given, asks for more.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("12")
		defer f.Value.Set(f.DefValue)
	}
	run(t, func(w *world) {
		n := 0
		keys := []string{w.vault.Create("k1").String(), w.vault.Create("k2").String()}
		rapid.Check(t, func(r *rapid.T) {
			n++
			ws := w.create(fmt.Sprint("W", n)).ID
			g := w.crashing(2)
			type key struct {
				name string
				t    workspace.ItemType
			}
			model := map[key]encryption.ItemID{}
			u := func() *encryption.Use { return w.use(ws) }
			canonical := func(name string, t workspace.ItemType) key { return key{workspace.Canonical(name), t} }
			names := rapid.SampledFrom([]string{"a", "A", "b", "straße", "STRASSE", "ſ", "s", "ä", "Ä", "K", "K"}) // the last is KELVIN SIGN
			types := rapid.SampledFrom([]workspace.ItemType{workspace.Notebook, workspace.Lakehouse})
			pick := func(r *rapid.T) (key, encryption.ItemID) {
				all := slices.SortedFunc(maps.Keys(model), func(a, b key) int { return strings.Compare(a.name+string(a.t), b.name+string(b.t)) })
				if len(all) == 0 {
					r.Skip("no items")
				}
				k := rapid.SampledFrom(all).Draw(r, "item")
				return k, model[k]
			}
			r.Repeat(map[string]func(*rapid.T){
				"create": func(r *rapid.T) {
					name, typ := names.Draw(r, "name"), types.Draw(r, "type")
					i, err := w.ws.CreateItem(w.Context(), member, ws, workspace.NewItem{DisplayName: name, Type: typ})
					k := canonical(name, typ)
					if _, taken := model[k]; taken {
						if fault.ReasonOf(err) != fault.ItemNameTaken {
							r.Fatalf("a taken name: %v", err)
						}
						return
					}
					if err != nil {
						r.Fatal(err)
					}
					model[k] = i.ID
				},
				"rename": func(r *rapid.T) {
					from, id := pick(r)
					name := names.Draw(r, "name")
					to := canonical(name, from.t)
					_, err := w.ws.UpdateItem(w.Context(), member, ws, id, workspace.Change{DisplayName: &name})
					if other, taken := model[to]; taken && other != id {
						if fault.ReasonOf(err) != fault.ItemNameTaken {
							r.Fatalf("a taken name: %v", err)
						}
						return
					}
					if err != nil {
						r.Fatal(err)
					}
					delete(model, from)
					model[to] = id
				},
				"delete": func(r *rapid.T) {
					k, id := pick(r)
					if err := w.ws.DeleteItem(w.Context(), creator, ws, id, "", rapid.Bool().Draw(r, "hard")); err != nil {
						r.Fatal(err)
					}
					delete(model, k)
				},
				"assign": func(r *rapid.T) {
					err := w.scopes.Assign(w.Context(), creator, ws, rapid.SampledFrom(keys).Draw(r, "key"))
					if err != nil && !busy(err) {
						r.Fatal(err)
					}
				},
				"reset": func(r *rapid.T) {
					err := w.scopes.Reset(w.Context(), creator, ws)
					if err != nil && !busy(err) {
						r.Fatal(err)
					}
				},
				"reseal": func(r *rapid.T) {
					g.tokens.Store(rapid.Int64Range(1, 4).Draw(r, "steps"))
					time.Sleep(3 * time.Second)
				},
				"": func(r *rapid.T) {
					all, err := w.ws.ItemsOf(w.Context(), u(), ws)
					if err != nil {
						r.Fatal(err)
					}
					got := map[key]encryption.ItemID{}
					for _, i := range all {
						got[canonical(i.DisplayName, i.Type)] = i.ID
						if len(got) > 3 {
							continue // a look-up of a few is enough
						}
						found, err := w.ws.FindItem(w.Context(), u(), ws, i.DisplayName+"."+string(i.Type))
						if err != nil || found.ID != i.ID {
							r.Fatalf("%s finds %v, %v", i.DisplayName, found, err)
						}
					}
					if d := cmp.Diff(model, got); d != "" {
						r.Fatalf("(-model +listed):\n%s", d)
					}
				},
			})
			g.tokens.Store(1 << 30)
			if err := w.ws.Delete(w.Context(), creator, ws); err != nil {
				r.Fatal(err)
			}
		})
	})
}

// An item that was shredded holds its keys' rows for a while; they must not hold
// up one change of key after another.
func TestShreddedItemDoesNotDelayTheNextChange(t *testing.T) {
	run(t, func(w *world) {
		ws := w.create("W")
		i := w.item(ws.ID, "gone", workspace.Notebook)
		w.must(w.ws.DeleteItem(w.Context(), creator, ws.ID, i.ID, "", true))
		w.assign(ws.ID, "k")
		w.settle(ws.ID, encryption.Active)
		w.must(w.scopes.Reset(w.Context(), creator, ws.ID))
		begun := time.Now()
		w.settle(ws.ID, encryption.Disabled)
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("the reset took %s", d)
		}
	})
}

// A replica that knows a workspace's list from before another one re-sealed it, and has
// dropped its keys since, reads the list again: the key that it knows of is gone from memory
// and from the database.
func TestReencryptedElsewhere(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		ws := w.create("Sales").ID
		item := w.item(ws, "Plan", workspace.Notebook)
		ring := encryption.NewKeyring(encryption.Config{
			Store: w.db.Encryption(), Root: root{}, Vault: w.vault, Recorder: w.recorder, Policy: w.vault.Policy(), Shared: true,
			Log: slog.New(slog.DiscardHandler),
		})
		ctx, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { ring.Run(ctx); close(done) }()
		defer func() { stop(); <-done }()
		other := workspace.New(workspace.Config{Store: w.db.Workspace(), Keys: ring, Audit: w.recorder, Now: w.now})
		find := func(when string) {
			w.Helper()
			u, err := ring.Use(ctx, ws)
			w.must(err)
			got, err := other.FindItem(ctx, u, ws, "Plan.notebook")
			if err != nil || got.ID != item.ID {
				w.Errorf("%s the other replica finds %v, %v", when, got, err)
			}
		}
		find("At first")
		w.assign(ws, "k1")
		w.settle(ws, encryption.Active)
		w.vault.SetEnabled("k1", false)
		time.Sleep(time.Minute)
		w.vault.SetEnabled("k1", true)
		time.Sleep(time.Minute)
		find("After the change of keys")
	})
}
