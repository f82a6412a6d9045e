package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
)

// Account checks a store of package account. open returns a new, empty one.
func Account(t *testing.T, open func(t *testing.T) account.Store) {
	created := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	row := func(id encryption.ScopeID, name account.Name) account.Row {
		return account.Row{
			Path: account.Path{Subscription: "s1", ResourceGroup: "Group", Name: name}, ID: id, Tenant: "t", Location: "local",
			SKU: "Standard_LRS", Kind: "StorageV2", Tags: map[string]string{}, SharedKey: true, Created: created, Updated: created,
		}
	}
	key := func(id encryption.ScopeID, name string) account.KeyRow {
		return account.KeyRow{Account: id, Name: name, Serial: 1, Sealed: []byte("sealed " + name), Created: created}
	}
	// put stores accounts, each with the scope that it is.
	put := func(t *testing.T, s account.Store, rows ...account.Row) {
		t.Helper()
		update(t, s, func(tx account.Tx) error {
			for _, r := range rows {
				if err := errors.Join(tx.InsertScope(encryption.Scope{ID: r.ID, Tenant: r.Tenant, Sealing: 1}), tx.PutAccount(r)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	named := func(t *testing.T, s account.Store, name account.Name, want fault.Reason) (r account.Row) {
		t.Helper()
		view(t, s, func(tx account.Tx) error {
			var err error
			if r, err = tx.AccountNamed(name); fault.ReasonOf(err) != want || err != nil && want == "" {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
			return nil
		})
		return r
	}

	t.Run("Rows", func(t *testing.T) {
		s := open(t)
		one, two := row("a1", "beta"), row("a2", "alpha")
		two.Tags = map[string]string{"owner": "é"}
		two.Identity = account.ManagedIdentity{Type: account.UserAssigned, UserAssigned: []string{"/subscriptions/s/x", "/subscriptions/s/y"}}
		two.KeyIdentity, two.SharedKey = "/subscriptions/s/x", false
		other := row("a3", "gamma")
		other.Subscription = "s2"
		put(t, s, one, two, other)
		if diff := cmp.Diff(two, named(t, s, "alpha", "")); diff != "" {
			t.Errorf("stored (-) and read (+): %s", diff)
		}
		named(t, s, "delta", fault.ResourceNotFound)
		view(t, s, func(tx account.Tx) error {
			all, err := tx.AccountsIn("s1")
			if diff := cmp.Diff([]account.Row{two, one}, all); diff != "" || err != nil {
				t.Errorf("of the subscription, by name: %v %s", err, diff)
			}
			return nil
		})
		// What makes an account what it is stays; the rest is replaced.
		changed := one
		changed.Tags, changed.SharedKey, changed.Updated = map[string]string{"a": "b"}, false, created.Add(time.Hour)
		changed.BlobService = account.BlobService{
			Logging: account.Logging{Version: "2.0", Read: true, Retention: account.Retention{Enabled: true, Days: 3}}, Version: "2021-12-02",
			CORS: []account.CORSRule{{Origins: []string{"https://a.test"}, Methods: []string{"GET"}, Headers: []string{"*"}, MaxAge: 5}},
		}
		update(t, s, func(tx account.Tx) error { return tx.PutAccount(changed) })
		if diff := cmp.Diff(changed, named(t, s, "beta", "")); diff != "" {
			t.Errorf("changed (-) and read (+): %s", diff)
		}
	})

	t.Run("NamesAreTaken", func(t *testing.T) {
		s := open(t)
		put(t, s, row("a1", "name"))
		update(t, s, func(tx account.Tx) error { return tx.InsertScope(encryption.Scope{ID: "a2", Tenant: "t", Sealing: 1}) })
		second := row("a2", "name")
		err := s.Update(t.Context(), func(tx account.Tx) error { return tx.PutAccount(second) })
		if fault.ReasonOf(err) != fault.Conflict {
			t.Errorf("a taken name: %v", err)
		}
		first := row("a1", "name")
		first.Deleted = true
		update(t, s, func(tx account.Tx) error { return tx.PutAccount(first) })
		named(t, s, "name", fault.ResourceNotFound)
		update(t, s, func(tx account.Tx) error { return tx.PutAccount(second) })
		if got := named(t, s, "name", ""); got.ID != "a2" {
			t.Errorf("the name is %s's", got.ID)
		}
		view(t, s, func(tx account.Tx) error {
			all, err := tx.AccountsDeleted()
			if len(all) != 1 || all[0].ID != "a1" {
				t.Errorf("deleted: %+v, %v", all, err)
			}
			live, err := tx.AccountsIn("s1")
			if len(live) != 1 || live[0].ID != "a2" {
				t.Errorf("live: %+v, %v", live, err)
			}
			return err
		})
	})

	t.Run("Keys", func(t *testing.T) {
		s := open(t)
		put(t, s, row("a1", "one"), row("a2", "two"))
		update(t, s, func(tx account.Tx) error {
			return errors.Join(tx.PutAccountKey(key("a1", "key2")), tx.PutAccountKey(key("a1", "key1")), tx.PutAccountKey(key("a2", "key1")))
		})
		renewed := key("a1", "key1")
		renewed.Serial, renewed.Sealed = 2, []byte("renewed")
		update(t, s, func(tx account.Tx) error { return tx.PutAccountKey(renewed) })
		keys := func(id encryption.ScopeID) (all []account.KeyRow) {
			view(t, s, func(tx account.Tx) (err error) {
				all, err = tx.AccountKeys(id)
				return err
			})
			return all
		}
		if diff := cmp.Diff([]account.KeyRow{renewed, key("a1", "key2")}, keys("a1")); diff != "" {
			t.Errorf("want (-) and read (+): %s", diff)
		}
		update(t, s, func(tx account.Tx) error { return tx.DeleteAccount("a1") })
		if got := keys("a1"); len(got) != 0 {
			t.Errorf("keys of a deleted account: %+v", got)
		}
		named(t, s, "one", fault.ResourceNotFound)
		if len(keys("a2")) != 1 {
			t.Error("another account has lost its key")
		}
	})
}
