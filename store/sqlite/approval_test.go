package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/storetest"
	"github.com/kluis-io/kluis/vault"
)

// approvals are the vault's.
type approvals struct {
	t *testing.T
	vault.Store
}

func (a approvals) View(fn func(rbac.ApprovalTx) error) error {
	return a.Store.View(a.t.Context(), func(tx vault.Tx) error { return fn(tx) })
}

func (a approvals) Update(fn func(rbac.ApprovalTx) error) error {
	return a.Store.Update(a.t.Context(), func(tx vault.Tx) error { return fn(tx) })
}

func TestApprovals(t *testing.T) {
	storetest.Approvals(t, func(t *testing.T) storetest.ApprovalStore {
		return approvals{t, open(t, store.VaultSchema).Vault()}
	})
}
