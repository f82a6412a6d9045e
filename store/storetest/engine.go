package storetest

import (
	"testing"

	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/vault"
)

// Engine runs every domain's suite on an engine. open returns a new, empty database,
// and closes it with the test.
func Engine(t *testing.T, open func(*testing.T, store.Schema) store.Domains) {
	run(t, "Audit", Audit, open, store.Schema{"audit"}, store.Domains.Audit)
	run(t, "Identity", Identity, open, store.DirectorySchema, store.Domains.Identity)
	run(t, "RBAC", RBAC, open, store.Schema{"rbac"}, store.Domains.Roles)
	run(t, "Approvals", Approvals, open, store.VaultSchema, func(d store.Domains) ApprovalStore { return approvals{t, d.Vault()} })
	run(t, "Vault", Vault, open, store.VaultSchema, store.Domains.Vault)
	run(t, "Event", Event, open, store.VaultSchema, store.Domains.Event)
	run(t, "Encryption", Encryption, open, store.PlatformSchema, store.Domains.Encryption)
	run(t, "Workspace", Workspace, open, store.PlatformSchema, store.Domains.Workspace)
	run(t, "Control", Control, open, store.PlatformSchema, store.Domains.Workspace)
	run(t, "Lake", Lake, open, store.PlatformSchema, store.Domains.Lake)
	run(t, "Check", Check, open, store.PlatformSchema, func(d store.Domains) Platform {
		return Platform{Encryption: d.Encryption(), Workspace: d.Workspace(), Lake: d.Lake()}
	})
	run(t, "Posture", Posture, open, store.GovernanceSchema, store.Domains.Posture)
	run(t, "Alert", Alert, open, store.GovernanceSchema, store.Domains.Alert)
}

func run[S any](t *testing.T, name string, suite func(*testing.T, func(*testing.T) S),
	open func(*testing.T, store.Schema) store.Domains, schema store.Schema, of func(store.Domains) S,
) {
	t.Run(name, func(t *testing.T) { suite(t, func(t *testing.T) S { return of(open(t, schema)) }) })
}

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
