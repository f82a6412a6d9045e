package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

// Encryption checks an implementation of [encryption.Tx]. open returns a new,
// empty one.
func Encryption(t *testing.T, open func(t *testing.T) encryption.Store) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	scope := func(id encryption.ScopeID) encryption.Scope {
		return encryption.Scope{ID: id, Tenant: "tenant", Sealing: 1, Epoch: 1}
	}
	generation := func(s encryption.ScopeID, number int64) encryption.Generation {
		return encryption.Generation{
			Scope: s, Number: number, Mode: encryption.PlatformManaged, State: encryption.Disabled, RootID: "root",
			Epoch: 1, Sealed: []byte("sealed"), Created: at,
		}
	}
	item := func(s encryption.ScopeID, id encryption.ItemID) encryption.Item {
		return encryption.Item{ID: id, Scope: s, Type: "Lakehouse", Generation: 1}
	}
	key := func(s encryption.ScopeID, i encryption.ItemID, id encryption.KeyID, p encryption.Purpose) encryption.KeyRow {
		return encryption.KeyRow{
			ID: id, Scope: s, Item: i, Purpose: p, Generation: 1, State: encryption.Current, Sealed: []byte("dek " + id), Created: at,
		}
	}
	// fill makes scopes s and r, each with its names, and items i and j in s, each
	// with one key of its name.
	fill := func(t *testing.T) encryption.Store {
		st := open(t)
		update(t, st, func(tx encryption.Tx) error {
			errs := []error{}
			for _, s := range []encryption.ScopeID{"s", "r"} {
				errs = append(errs, tx.InsertScope(scope(s)), tx.InsertGeneration(generation(s, 1)),
					tx.InsertItem(item(s, encryption.ScopeItem(s))))
			}
			for _, i := range []encryption.ItemID{"i", "j"} {
				errs = append(errs, tx.InsertItem(item("s", i)), tx.InsertKey(key("s", i, encryption.KeyID(i), encryption.ContentKey)))
			}
			return errors.Join(errs...)
		})
		return st
	}
	same := func(t *testing.T, what string, got, want any, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	reason := func(t *testing.T, what string, err error, want fault.Reason) {
		t.Helper()
		if fault.ReasonOf(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	ids := func(items []encryption.Item) (out []encryption.ItemID) {
		for _, i := range items {
			out = append(out, i.ID)
		}
		return out
	}

	t.Run("renewal", func(t *testing.T) {
		st := fill(t)
		want := encryption.Renewal{
			Scope: "s", Generation: 2, KID: "kid", Epoch: 3, Serial: 4, Ends: at, MAC: []byte("mac"), Asking: at.Add(time.Second),
		}
		get := func() (r encryption.Renewal, ok bool) {
			view(t, st, func(tx encryption.Tx) (err error) {
				r, ok, err = tx.Renewal("s")
				return err
			})
			return r, ok
		}
		if r, ok := get(); ok {
			t.Errorf("there is %+v", r)
		}
		for range 2 {
			want.Epoch++
			update(t, st, func(tx encryption.Tx) error { return tx.PutRenewal(want) })
			r, ok := get()
			same(t, "renewal", r, want, nil)
			if !ok {
				t.Error("there is none")
			}
		}
		update(t, st, func(tx encryption.Tx) error { return tx.PutRenewal(encryption.Renewal{Scope: "r", Asking: at}) })
		begun := time.Now()
		for _, run := range []func(context.Context, func(encryption.Tx) error) error{st.View, st.Update} {
			if err := run(t.Context(), func(tx encryption.Tx) error {
				now, err := tx.Now()
				if d := now.Sub(begun); d < -time.Second || d > time.Minute {
					t.Errorf("the database's clock is %v away", d)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("scope", func(t *testing.T) {
		st := fill(t)
		changed := encryption.Scope{
			ID: "s", Tenant: "tenant", Sealing: 2, Epoch: 2, Serving: encryption.Revoked, Reason: fault.KEKRefused,
			Detail: "mend", ServingSince: at, Serial: 3,
		}
		update(t, st, func(tx encryption.Tx) error { return tx.UpdateScope(changed, 1) })
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.Scope("s")
			same(t, "changed", got, changed, err)
			got, err = tx.Scope("r")
			same(t, "the other", got, scope("r"), err)
			_, err = tx.Scope("q")
			reason(t, "missing", err, fault.WorkspaceNotFound)
			return nil
		})
		reason(t, "another epoch", st.Update(t.Context(), func(tx encryption.Tx) error { return tx.UpdateScope(changed, 1) }),
			fault.EncryptionChanged)
	})
	t.Run("a failed transaction leaves nothing", func(t *testing.T) {
		st := fill(t)
		failure := errors.New("no")
		err := st.Update(t.Context(), func(tx encryption.Tx) error {
			if err := errors.Join(tx.ShredItem("i"), tx.DeleteGeneration("s", 1)); err != nil {
				t.Error(err)
			}
			return failure
		})
		if !errors.Is(err, failure) {
			t.Errorf("got %v", err)
		}
		view(t, st, func(tx encryption.Tx) error {
			gs, err := tx.Generations("s")
			same(t, "generations", gs, []encryption.Generation{generation("s", 1)}, err)
			alive, err := tx.KeyAlive("i")
			same(t, "key", alive, true, err)
			return nil
		})
	})
	t.Run("scopes to be done", func(t *testing.T) {
		st := fill(t)
		todo := func(what string, want ...encryption.ScopeID) {
			t.Helper()
			view(t, st, func(tx encryption.Tx) error {
				latched, err := tx.Latched(time.Time{})
				changing, err2 := tx.Changing("", 10)
				var got []encryption.ScopeID
				for _, s := range append(latched, changing...) {
					got = append(got, s.ID)
				}
				same(t, what, got, want, errors.Join(err, err2))
				n, err := tx.Pending()
				same(t, what+", counted", n.Changing+n.Revoked+n.Unreachable, len(want), err)
				return nil
			})
		}
		todo("at rest")
		s := scope("s")
		g := generation("s", 2)
		g.Mode, g.State = encryption.CustomerManaged, encryption.Enabling
		s.Sealing, s.Epoch = 2, 2
		update(t, st, func(tx encryption.Tx) error { return errors.Join(tx.PutGeneration(g), tx.UpdateScope(s, 1)) })
		todo("items behind", "s")
		done := func(state encryption.State) {
			update(t, st, func(tx encryption.Tx) error {
				g.State = state
				for _, id := range []encryption.ItemID{"s", "i", "j"} {
					i, err := tx.Item(id)
					i.Generation = 2
					if err := errors.Join(err, tx.UpdateItem(i, i.Fence)); err != nil {
						return err
					}
				}
				return tx.PutGeneration(g)
			})
		}
		for state, want := range map[encryption.State][]encryption.ScopeID{
			encryption.Active: nil, encryption.Disabled: nil, encryption.Enabling: {"s"}, encryption.Disabling: {"s"},
		} {
			done(state)
			todo(string(state), want...)
		}
		done(encryption.Active)
		for serving, want := range map[encryption.Serving][]encryption.ScopeID{
			encryption.Revoked: {"s"}, encryption.Unreachable: {"s"}, encryption.Serves: nil,
		} {
			s.Serving = serving
			update(t, st, func(tx encryption.Tx) error { return tx.UpdateScope(s, 2) })
			todo("serving "+string(serving), want...)
		}
		s.Serving, s.ServingSince = encryption.Revoked, at
		update(t, st, func(tx encryption.Tx) error { return tx.UpdateScope(s, 2) })
		view(t, st, func(tx encryption.Tx) error {
			for since, want := range map[time.Time]int{at: 1, at.Add(time.Microsecond): 0} {
				got, err := tx.Latched(since)
				same(t, "latched since", len(got), want, err)
			}
			return nil
		})
		done(encryption.Enabling)
		view(t, st, func(tx encryption.Tx) error {
			for after, want := range map[encryption.ScopeID]int{"r": 1, "s": 0} {
				got, err := tx.Changing(after, 10)
				same(t, "changing after "+string(after), len(got), want, err)
			}
			got, err := tx.Changing("", 0)
			same(t, "no more than asked for", len(got), 0, err)
			return nil
		})
	})
	t.Run("generations", func(t *testing.T) {
		st := fill(t)
		g := encryption.Generation{
			Scope: "s", Number: 2, Mode: encryption.CustomerManaged, State: encryption.Enabling, RootID: "root",
			Algorithm: kek.RSAOAEP256, KeyIdentifier: "https://v/keys/K", KID: "https://v/keys/k/1", Epoch: 2,
			Wrapped: []byte("wrapped"), Sealed: []byte("sealed 2"), ReSealOnly: true, Created: at,
		}
		update(t, st, func(tx encryption.Tx) error { return tx.PutGeneration(g) })
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.Generations("s")
			same(t, "newest first", got, []encryption.Generation{g, generation("s", 1)}, err)
			return nil
		})
		g.State, g.Wrapped, g.Sealed, g.Epoch, g.KID, g.RootID = encryption.Active, []byte("w"), []byte("x"), 3, "https://v/keys/k/2", "root 2"
		update(t, st, func(tx encryption.Tx) error { return errors.Join(tx.PutGeneration(g), tx.DeleteGeneration("s", 1)) })
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.Generations("s")
			same(t, "replaced", got, []encryption.Generation{g}, err)
			got, err = tx.Generations("r")
			same(t, "the other scope's", got, []encryption.Generation{generation("r", 1)}, err)
			return nil
		})
	})
	t.Run("links", func(t *testing.T) {
		st := fill(t)
		l1 := encryption.Link{Scope: "s", Generation: 1, Under: 2, Sealed: []byte("1")}
		l2 := encryption.Link{Scope: "s", Generation: 2, Under: 3, Sealed: []byte("2"), KeyIdentifier: "https://v/keys/k"}
		update(t, st, func(tx encryption.Tx) error { return errors.Join(tx.PutLink(l1), tx.PutLink(l2)) })
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.Links("s")
			same(t, "newest first", got, []encryption.Link{l2, l1}, err)
			return nil
		})
		update(t, st, func(tx encryption.Tx) error { return tx.DeleteLink("s", 1) })
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.Links("s")
			same(t, "after one went", got, []encryption.Link{l2}, err)
			return nil
		})
	})
	t.Run("key versions", func(t *testing.T) {
		st := fill(t)
		use := func(kid string, first, last time.Time) {
			update(t, st, func(tx encryption.Tx) error {
				return tx.UseVersion("s", encryption.VersionUse{KID: kid, First: first, Last: last})
			})
		}
		later := at.Add(time.Hour)
		use("1", at, time.Time{})
		use("2", later, time.Time{})
		use("1", later, later)
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.VersionsUsed("s")
			same(t, "versions", got, []encryption.VersionUse{{KID: "2", First: later}, {KID: "1", First: at, Last: later}}, err)
			return nil
		})
	})
	t.Run("backups", func(t *testing.T) {
		st := fill(t)
		later := at.Add(time.Hour)
		known := func(want ...encryption.Backup) {
			t.Helper()
			got, err := encryption.Backups(t.Context(), st)
			same(t, "backups", got, want, err)
		}
		record := func(folder string, all ...encryption.Backup) {
			t.Helper()
			if err := encryption.RecordBackups(t.Context(), st, folder, all); err != nil {
				t.Fatal(err)
			}
		}
		known()
		record("b", encryption.Backup{Made: at, Begun: at})
		record("a", encryption.Backup{Made: at})
		known(encryption.Backup{Folder: "a", Made: at}, encryption.Backup{Folder: "b", Made: at, Begun: at})
		// Its end becomes known, its beginning stays, and another is begun.
		record("b", encryption.Backup{Made: at, Begun: later, Ended: later}, encryption.Backup{Made: later, Begun: later})
		known(encryption.Backup{Folder: "a", Made: at}, encryption.Backup{Folder: "b", Made: at, Begun: at, Ended: later}, encryption.Backup{Folder: "b", Made: later, Begun: later})
		// What is there still stays as it is, and what is not is forgotten.
		record("b", encryption.Backup{Made: at})
		record("a")
		known(encryption.Backup{Folder: "b", Made: at, Begun: at, Ended: later})
	})
	t.Run("scopes under a vault", func(t *testing.T) {
		st := fill(t)
		load := func(what, vault string, want ...encryption.Load) {
			t.Helper()
			view(t, st, func(tx encryption.Tx) error {
				got, err := tx.VaultLoad(scope("s").Tenant, vault)
				same(t, what, got, want, err)
				return nil
			})
		}
		load("platform-managed", "contoso.vault.azure.net")
		s := scope("s")
		g := generation("s", 2)
		g.Mode, g.State, g.KID, g.Wrapped = encryption.CustomerManaged, encryption.Active, "https://contoso.vault.azure.net/keys/a/0", make([]byte, 512)
		s.Sealing, s.Epoch, s.Bound = 2, 2, time.Minute
		update(t, st, func(tx encryption.Tx) error { return errors.Join(tx.PutGeneration(g), tx.UpdateScope(s, 1)) })
		load("one", "contoso.vault.azure.net", encryption.Load{Wrapped: 512, Bound: time.Minute, Scopes: 1})
		load("another vault", "contoso.vault.azure.ne")
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.VaultLoad("another", "contoso.vault.azure.net")
			same(t, "another tenant's", got, []encryption.Load(nil), err)
			return nil
		})
	})
	t.Run("items", func(t *testing.T) {
		st := fill(t)
		i := encryption.Item{
			ID: "i", Scope: "s", Type: "Lakehouse", Generation: 1, Failed: true, Reason: fault.Integrity, Detail: "why",
			Progress: encryption.Progress{Files: 1, TotalFiles: 2, Bytes: 3, TotalBytes: 4}, Fence: 1, Owner: "me",
			Until: at, Attempt: 5, NextRun: at.Add(time.Minute),
		}
		update(t, st, func(tx encryption.Tx) error { return tx.UpdateItem(i, 0) })
		reason(t, "a lost fence", st.Update(t.Context(), func(tx encryption.Tx) error { return tx.UpdateItem(i, 0) }), fault.EncryptionChanged)
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.Item("i")
			same(t, "i", got, i, err)
			_, err = tx.Item("k")
			reason(t, "missing", err, fault.ItemNotFound)
			all, err := tx.ItemStates("s")
			same(t, "states without the scope's own", all, []encryption.Item{i, item("s", "j")}, err)
			half := encryption.ItemTotals{Items: 2, Behind: 2, Failed: 1, Done: 0.75, Progress: i.Progress}
			totals, err := tx.ItemTotals("s", 2)
			same(t, "totals", totals, half, err)
			totals, err = tx.ItemTotals("s", 1)
			half.Behind, half.Failed, half.Done = 0, 0, 2
			same(t, "totals when none is behind", totals, half, err)
			for _, x := range []struct {
				status     encryption.ItemEncryption
				after      encryption.ItemID
				generation int64
				limit      int
				want       []encryption.ItemID
			}{
				{"", "", 2, 10, []encryption.ItemID{"i", "j"}},
				{"", "", 2, 1, []encryption.ItemID{"i"}},
				{"", "i", 2, 10, []encryption.ItemID{"j"}},
				{encryption.ItemFailed, "", 2, 10, []encryption.ItemID{"i"}},
				{encryption.ItemInProgress, "", 2, 10, []encryption.ItemID{"j"}},
				{encryption.ItemActive, "", 2, 10, nil},
				{encryption.ItemActive, "", 1, 10, []encryption.ItemID{"i", "j"}},
			} {
				page, err := tx.ItemPage("s", x.generation, x.status, x.after, x.limit)
				same(t, "a page of "+string(x.status)+" items", ids(page), x.want, err)
			}
			for _, x := range []struct {
				what string
				now  time.Time
				want []encryption.ItemID
			}{
				{"while it is worked on", at.Add(-1), []encryption.ItemID{"j", "s"}},
				{"while it is backing off", at.Add(time.Minute - 1), []encryption.ItemID{"j", "s"}},
				{"when it is due", at.Add(time.Minute), []encryption.ItemID{"j", "s", "i"}},
			} {
				behind, failed, next, err := tx.ItemsBehind("s", 2, x.now.Truncate(time.Microsecond))
				same(t, x.what, []int{behind, failed}, []int{3, 1}, err)
				same(t, x.what, ids(next), x.want, nil)
			}
			behind, failed, next, err := tx.ItemsBehind("s", 1, at.Add(time.Hour))
			same(t, "none behind", []int{behind, failed, len(next)}, []int{0, 0, 0}, err)
			return nil
		})
		update(t, st, func(tx encryption.Tx) error { return tx.ReleaseItems() })
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.Item("i")
			i.Until, i.Owner, i.Fence = time.Time{}, "", i.Fence+1
			same(t, "released", got, i, err)
			return nil
		})
		reason(t, "the fence of a released item", st.Update(t.Context(), func(tx encryption.Tx) error { return tx.UpdateItem(i, i.Fence-1) }), fault.EncryptionChanged)
	})
	t.Run("keys", func(t *testing.T) {
		st := fill(t)
		names := key("s", "i", "in", encryption.NamesKey)
		old := key("s", "i", "i", encryption.ContentKey)
		fresh := key("s", "i", "i2", encryption.ContentKey)
		fresh.Created, fresh.Generation = at.Add(time.Second), 2
		old.State = encryption.Retiring
		update(t, st, func(tx encryption.Tx) error { return tx.InsertKey(names) })
		reason(t, "two current keys of one purpose",
			st.Update(t.Context(), func(tx encryption.Tx) error { return tx.InsertKey(fresh) }), fault.EncryptionChanged)
		update(t, st, func(tx encryption.Tx) error { return errors.Join(tx.UpdateKey(old), tx.InsertKey(fresh)) })
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.ItemKeys("i")
			same(t, "keys", got, []encryption.KeyRow{old, names, fresh}, err)
			n, err := tx.KeysBehind("s", 2)
			same(t, "keys behind", n, 3, err) // those of i and j
			return nil
		})
		old.Generation, old.Sealed = 2, []byte("resealed")
		update(t, st, func(tx encryption.Tx) error { return errors.Join(tx.UpdateKey(old), tx.DeleteKey("in")) })
		view(t, st, func(tx encryption.Tx) error {
			got, err := tx.ItemKeys("i")
			same(t, "keys", got, []encryption.KeyRow{old, fresh}, err)
			n, err := tx.KeysBehind("s", 2)
			same(t, "keys behind", n, 1, err)
			alive, err := tx.KeyAlive("in")
			same(t, "a key that is gone", alive, false, err)
			return nil
		})
	})
	t.Run("shredding", func(t *testing.T) {
		st := fill(t)
		update(t, st, func(tx encryption.Tx) error { return tx.ShredItem("i") })
		view(t, st, func(tx encryption.Tx) error {
			shredded := key("s", "i", "i", encryption.ContentKey)
			shredded.State, shredded.Sealed = encryption.Shredded, nil
			got, err := tx.ItemKeys("i")
			same(t, "rows", got, []encryption.KeyRow{shredded}, err)
			alive, err := tx.KeyAlive("i")
			same(t, "alive", alive, false, err)
			alive, err = tx.KeyAlive("j")
			same(t, "the other item's", alive, true, err)
			n, err := tx.KeysBehind("s", 2)
			same(t, "keys behind", n, 1, err)
			states, err := tx.ItemStates("s")
			same(t, "states", ids(states), []encryption.ItemID{"j"}, err)
			return nil
		})
	})
	t.Run("deleting", func(t *testing.T) {
		st := fill(t)
		reason(t, "a scope with items", st.Update(t.Context(), func(tx encryption.Tx) error { return tx.DeleteScope("s") }), fault.Conflict)
		update(t, st, func(tx encryption.Tx) error {
			return errors.Join(tx.PutLink(encryption.Link{Scope: "s", Generation: 1, Under: 2, Sealed: []byte("x")}),
				tx.UseVersion("s", encryption.VersionUse{KID: "1", First: at}),
				tx.DeleteItemKeys("i"), tx.DeleteItemKeys("j"), tx.DeleteItemKeys("s"), tx.DeleteScope("s"))
		})
		view(t, st, func(tx encryption.Tx) error {
			_, err := tx.Scope("s")
			reason(t, "scope", err, fault.WorkspaceNotFound)
			gs, err := tx.Generations("s")
			same(t, "generations", gs, []encryption.Generation(nil), err)
			ls, err := tx.Links("s")
			same(t, "links", ls, []encryption.Link(nil), err)
			_, err = tx.Item("i")
			reason(t, "item", err, fault.ItemNotFound)
			_, err = tx.Scope("r")
			return err
		})
	})
	t.Run("tenant setting", func(t *testing.T) {
		view(t, open(t), func(tx encryption.Tx) error {
			on, err := tx.TenantSettingEnabled("tenant", "NoSuchSetting")
			same(t, "an unknown switch", on, false, err)
			return nil
		})
	})
}
