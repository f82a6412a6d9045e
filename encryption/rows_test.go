package encryption_test

import (
	"context"
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

const ws2 = encryption.ScopeID("11111111-1111-4111-8111-111111111112")

// Every field that a generation's row binds, changed alone, is an integrity
// failure, and the vault is not even asked.
func TestGenerationRowBinds(t *testing.T) {
	edits := map[string]func(g *encryption.Generation, s *encryption.Scope){
		"mode":                     func(g *encryption.Generation, _ *encryption.Scope) { g.Mode = encryption.PlatformManaged },
		"state":                    func(g *encryption.Generation, _ *encryption.Scope) { g.State = encryption.Enabling },
		"root":                     func(g *encryption.Generation, _ *encryption.Scope) { g.RootID = "id of another" },
		"algorithm":                func(g *encryption.Generation, _ *encryption.Scope) { g.Algorithm = kek.A256KW },
		"key identifier":           func(g *encryption.Generation, _ *encryption.Scope) { g.KeyIdentifier += "x" },
		"kid":                      func(g *encryption.Generation, _ *encryption.Scope) { g.KID += "0" },
		"epoch":                    func(g *encryption.Generation, s *encryption.Scope) { g.Epoch++; s.Epoch++ },
		"epoch of the row alone":   func(g *encryption.Generation, _ *encryption.Scope) { g.Epoch-- },
		"epoch of the scope alone": func(_ *encryption.Generation, s *encryption.Scope) { s.Epoch++ },
		"re-seal only":             func(g *encryption.Generation, _ *encryption.Scope) { g.ReSealOnly = true },
		"wrapped":                  func(g *encryption.Generation, _ *encryption.Scope) { g.Wrapped[7] ^= 1 },
		"no wrapped":               func(g *encryption.Generation, _ *encryption.Scope) { g.Wrapped = nil },
		"sealed":                   func(g *encryption.Generation, _ *encryption.Scope) { g.Sealed[len(g.Sealed)-1] ^= 1 },
		"truncated":                func(g *encryption.Generation, _ *encryption.Scope) { g.Sealed = g.Sealed[:len(g.Sealed)-1] },
		"no sealed":                func(g *encryption.Generation, _ *encryption.Scope) { g.Sealed = nil },
		"number":                   func(g *encryption.Generation, s *encryption.Scope) { g.Number++; s.Sealing++ },
		"sealing":                  func(_ *encryption.Generation, s *encryption.Scope) { s.Sealing++ },
		"tenant":                   func(_ *encryption.Generation, s *encryption.Scope) { s.Tenant = "22f988bf-0000-4000-8000-00000000c0de" },
	}
	bubble(t, func(t *testing.T, w *world) {
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		good := w.store
		for name, edit := range edits {
			w.crashOnto(good)
			w.must(w.store.update(func(tx *memoryTx) error {
				s := tx.scopes[ws]
				g := tx.generations[generationKey{ws, s.Sealing}]
				delete(tx.generations, generationKey{ws, s.Sealing})
				g.Wrapped, g.Sealed = append([]byte(nil), g.Wrapped...), append([]byte(nil), g.Sealed...)
				edit(&g, &s)
				tx.scopes[ws] = s
				return tx.PutGeneration(g)
			}))
			before := w.vault.Count(kek.OpUnwrap)
			if err := w.read(ws, "o"); fault.ReasonOf(err) != fault.Integrity {
				t.Errorf("%s: %v", name, err)
			}
			if w.vault.Count(kek.OpUnwrap) != before {
				t.Errorf("%s: the vault was asked", name)
			}
			if s := w.store.copy().data.scopes[ws]; s.Serving != encryption.Serves {
				t.Errorf("%s: the scope is said to be %q", name, s.Serving)
			}
		}
		w.crashOnto(good)
		w.must(w.read(ws, "o"))
	})
}

// crashOnto goes on with a copy of another store.
func (w *world) crashOnto(m *memory) {
	w.stop()
	w.store = m.copy()
	w.start()
}

// Between any two rows of one kind, any sealed column swapped opens nothing.
func TestSwapMatrix(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const other = encryption.ItemID("22222222-2222-4222-8222-222222222223")
		w.addItem(ws, other)
		w.addScope(ws2)
		w.addItem(ws2, "22222222-2222-4222-8222-222222222224")
		w.must(w.write(ws, lake, "o"))
		w.keep.each = func(object) { time.Sleep(time.Hour) } // so that links and old keys are there
		w.must(w.assign("a"))
		w.sleep(time.Second)
		good := w.store.copy()
		w.idle = true

		opens := func(id encryption.KeyID) error {
			k := w.store.copy().data.keys[id]
			u, err := w.ring.Use(context.Background(), k.Scope)
			if err == nil {
				_, err = u.Key(context.Background(), k.Item, id)
			}
			return err
		}
		swaps := 0
		for a, rowA := range good.data.keys {
			for b, rowB := range good.data.keys {
				if a >= b {
					continue
				}
				swaps++
				w.crashOnto(good)
				w.must(w.store.update(func(tx *memoryTx) error {
					rowA, rowB := rowA, rowB
					rowA.Sealed, rowB.Sealed = rowB.Sealed, rowA.Sealed
					tx.keys[a], tx.keys[b] = rowA, rowB
					return nil
				}))
				for _, id := range []encryption.KeyID{a, b} {
					if err := opens(id); fault.ReasonOf(err) != fault.Integrity {
						t.Fatalf("swapped keys %+v and %+v: %v", rowA, rowB, err)
					}
				}
			}
		}
		for id, row := range good.data.keys {
			for name, edit := range map[string]func(*encryption.KeyRow){
				"purpose": func(k *encryption.KeyRow) {
					k.Purpose = map[encryption.Purpose]encryption.Purpose{encryption.ContentKey: encryption.NamesKey, encryption.NamesKey: encryption.ContentKey}[k.Purpose]
				},
				"item":  func(k *encryption.KeyRow) { k.Item += "0" },
				"bytes": func(k *encryption.KeyRow) { k.Sealed = append([]byte{k.Sealed[0] ^ 1}, k.Sealed[1:]...) },
				"none":  func(k *encryption.KeyRow) { k.Sealed = nil },
			} {
				swaps++
				w.crashOnto(good)
				w.must(w.store.update(func(tx *memoryTx) error {
					row := row
					edit(&row)
					tx.keys[id] = row
					return nil
				}))
				if err := opens(id); fault.ReasonOf(err) != fault.Integrity {
					t.Fatalf("%s of %+v: %v", name, row, err)
				}
			}
		}
		if swaps < 50 || len(good.data.links) != 1 {
			t.Fatalf("%d swaps, %d links", swaps, len(good.data.links))
		}
		// A link, changed in any way, lets nothing of the scope be opened.
		for name, edit := range map[string]func(*encryption.Link){
			"under": func(l *encryption.Link) { l.Under++ },
			"which": func(l *encryption.Link) { l.Generation-- },
			"bytes": func(l *encryption.Link) { l.Sealed = append([]byte{l.Sealed[0] ^ 1}, l.Sealed[1:]...) },
		} {
			w.crashOnto(good)
			w.must(w.store.update(func(tx *memoryTx) error {
				for k, l := range tx.links {
					delete(tx.links, k)
					edit(&l)
					tx.links[k] = l
				}
				return nil
			}))
			if _, err := w.ring.Use(context.Background(), ws); fault.ReasonOf(err) != fault.Integrity {
				t.Errorf("link %s: %v", name, err)
			}
		}
		// A whole generation moved to another scope, and to the same scope of another root.
		w.crashOnto(good)
		w.must(w.store.update(func(tx *memoryTx) error {
			g := tx.generations[generationKey{ws2, 1}]
			g.Scope, g.Number, g.Epoch = ws, tx.scopes[ws].Sealing, tx.scopes[ws].Epoch
			return tx.PutGeneration(g)
		}))
		w.reason("another scope's row", w.read(ws, "o"), fault.Integrity)
	})
}

// Once every item is Active, an old backup and the platform's root open nothing of
// what is live; and the live database and the vault without the root open nothing.
func TestOldBackupAndStolenDatabase(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.addItem(ws, "22222222-2222-4222-8222-222222222223")
		for _, id := range []string{"o", "p", "q"} {
			w.must(w.write(ws, lake, id))
		}
		backup := w.store.copy().data
		w.settled("a")
		live := w.store.copy().data
		old, err := encryption.ScopeKeyOf(w.root, tenant, backup.generations[generationKey{ws, 1}])
		w.must(err)

		opened := 0
		for _, k := range backup.keys { // the thief can do what he does
			if _, err := encryption.OpenItemKey("instance", tenant, k, old); err != nil {
				t.Fatal(err)
			}
			opened++
		}
		if opened != 6 || len(live.keys) != 6 || len(live.links) != 0 || len(live.generations) != 1 {
			t.Fatalf("%d keys then, %d now, %d links, %d generations", opened, len(live.keys), len(live.links), len(live.generations))
		}
		for id, k := range live.keys {
			if _, was := backup.keys[id]; was {
				t.Errorf("key %s is still there", id)
			}
			for n := range int64(4) {
				k.Generation = n
				if _, err := encryption.OpenItemKey("instance", tenant, k, old); err == nil {
					t.Errorf("key %s opens under the old scope key", id)
				}
			}
		}
		for id, o := range live.objects {
			if o.key == backup.objects[id].key {
				t.Errorf("object %s is under its old key", id)
			}
			for _, k := range backup.keys {
				dek, err := encryption.OpenItemKey("instance", tenant, k, old)
				w.must(err)
				for _, as := range []encryption.KeyID{k.ID, o.key} {
					c := envelope.NewContext(purpose, "instance", string(tenant), string(ws), string(o.item), string(as), string(encryption.ContentKey), id)
					if _, err := envelope.Open(dek, c, o.sealed); err == nil {
						t.Errorf("object %s opens under an old key", id)
					}
				}
			}
		}
		// The root, and the live database, without the vault.
		w.crashOnto(w.store)
		w.vault.Disconnect(true)
		w.reason("the database and the root", w.read(ws, "o"), fault.KEKUnreachable)
		w.vault.Disconnect(false)
		// The vault and the live database, with a root of the thief's own.
		w.sleep(time.Minute)
		thief := newRoot("guessed")
		thief.id = w.root.id
		w.root = thief
		w.crashOnto(w.store)
		w.reason("the database and the vault", w.read(ws, "o"), fault.Integrity)
	})
}
