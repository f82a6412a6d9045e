package account_test

import (
	"strings"
	"testing"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/internal/check"
)

// A check finds what was changed in the database, and nothing in one that is whole.
func TestCheck(t *testing.T) {
	a, _, _, s := startOver(t)
	for _, name := range []account.Name{"whole", "moved", "keyless", "swapped"} {
		if _, _, err := a.Put(t.Context(), who(1), path(name), account.Spec{Location: new("l")}); err != nil {
			t.Fatal(err)
		}
	}
	run := func() *check.Report {
		r := &check.Report{}
		if err := account.Check(t.Context(), s, testRoot{}, r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := run(); r.Total != 0 || len(r.Counts) != 2 || r.Counts[0].Checked != 4 || r.Counts[1].Checked != 8 {
		t.Fatalf("%+v", r)
	}
	ids := map[string]string{}
	err := s.Update(t.Context(), func(tx account.Tx) error {
		all, err := tx.AccountsIn(sub)
		if err != nil {
			return err
		}
		for _, row := range all {
			ids[string(row.ID)] = string(row.Name)
			keys, err := tx.AccountKeys(row.ID)
			if err != nil {
				return err
			}
			switch row.Name {
			case "moved":
				if err := tx.DeleteAccount(row.ID); err != nil {
					return err
				}
				row.ResourceGroup = "another"
				if err := tx.PutAccount(row); err != nil {
					return err
				}
				for _, k := range keys {
					if err := tx.PutAccountKey(k); err != nil {
						return err
					}
				}
			case "keyless":
				if err := tx.DeleteAccount(row.ID); err != nil {
					return err
				}
				if err := tx.PutAccount(row); err != nil {
					return err
				}
			case "swapped": // a key put in the other's place
				keys[0].Sealed = keys[1].Sealed
				if err := tx.PutAccountKey(keys[0]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, f := range run().Findings {
		found[ids[f.Subject]] = f.Text
	}
	for name, text := range map[string]string{"moved": "another place", "keyless": "two keys", "swapped": "key1"} {
		if !strings.Contains(found[name], text) {
			t.Errorf("%s: %q", name, found[name])
		}
	}
	if len(found) != 3 {
		t.Errorf("found %v", found)
	}
}
