package account

import (
	"context"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/check"
)

// A CheckTx is the part of a transaction that only checks need.
type CheckTx interface {
	// AccountsAfter returns at most limit accounts in any state with ids above after,
	// by id.
	AccountsAfter(after encryption.ScopeID, limit int) ([]Row, error)
}

// What a check of this package looks at.
const (
	partAccount = "storage account"
	partKey     = "account key"
)

// Check checks, without a vault, that every storage account is a scope of its own
// tenant at its own place, and that both of its keys open with the root. What is
// being deleted is left alone.
func Check(ctx context.Context, store Store, root Root, r *check.Report) error {
	opener := &Accounts{root: root}
	return check.Pages(func(after encryption.ScopeID, limit int) (page []Row, err error) {
		err = store.View(ctx, func(tx Tx) (err error) {
			page, err = tx.AccountsAfter(after, limit)
			return err
		})
		return page, err
	}, func(row Row) encryption.ScopeID { return row.ID }, func(row Row) error {
		if row.Deleted {
			return nil
		}
		return store.View(ctx, func(tx Tx) error { return opener.check(tx, row, r) })
	})
}

func (a *Accounts) check(tx Tx, row Row, r *check.Report) error {
	r.Checked(partAccount)
	found := func(format string, args ...any) { r.Found(partAccount, string(row.ID), format, args...) }
	if name, err := ParseName(string(row.Name)); err != nil || name != row.Name {
		found("Its name is none that an account can have.")
	}
	sc, err := tx.Scope(row.ID)
	switch {
	case fault.ReasonOf(err) == fault.WorkspaceNotFound:
		found("It has no scope, and so no keys.")
		return nil
	case err != nil:
		return err
	case sc.Tenant != row.Tenant:
		found("It belongs to another tenant than its scope.")
	case sc.Path.Key() != row.Scope().Key():
		found("Its scope is at another place of Resource Manager's tree.")
	}
	keys, err := tx.AccountKeys(row.ID)
	if err != nil {
		return err
	}
	names := ""
	for _, k := range keys {
		r.Checked(partKey)
		names += k.Name + " "
		opened, err := a.openKeys(row.Tenant, []KeyRow{k})
		clearKeys(opened)
		if err != nil {
			r.Found(partKey, string(row.ID), "Key %s: %s", k.Name, check.Text(err))
		}
	}
	if names != key1+" "+key2+" " {
		found("It does not have the two keys that an account has.")
	}
	return nil
}
