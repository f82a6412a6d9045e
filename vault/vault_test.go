package vault_test

import (
	"slices"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

func TestVaultLifecycle(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1", func(s *vault.Spec) { s.Tags = &map[string]string{"team": "a"} })
	if v.RetentionDays != 90 || v.PurgeProtection || !v.RBAC || v.Location != "westeurope" || v.Tenant != vaulttest.Tenant {
		t.Fatalf("defaults: %+v", v)
	}
	f.Key(t, "kv1", "k")
	_, wrapped, err := wrap(t, f, f.Officer, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Vaults.DeleteVault(t.Context(), f.Officer, vaulttest.Path("kv1")); err != nil {
		t.Fatal(err)
	}
	_, err = unwrap(t.Context(), f, f.Officer, "", wrapped)
	wantReason(t, err, fault.VaultNotFound)
	_, err = f.Vaults.Vault(t.Context(), f.Officer, vaulttest.Path("kv1"))
	wantReason(t, err, fault.ResourceNotFound)
	_, _, err = f.Vaults.PutVault(t.Context(), f.Officer, vaulttest.Path("kv1"), vault.Spec{Location: new("westeurope")})
	wantReason(t, err, fault.VaultDeleted)
	free, reason, err := f.Vaults.NameFree(t.Context(), f.Officer, "KV1")
	if free || reason != fault.VaultDeleted || err != nil {
		t.Errorf("name of a deleted vault: %v %q %v", free, reason, err)
	}
	back, created, err := f.Vaults.PutVault(t.Context(), f.Officer, vaulttest.Path("kv1"), vault.Spec{Recover: true})
	if err != nil || created || back.ID != v.ID || back.Tags["team"] != "a" {
		t.Fatalf("recover: %v, %+v", err, back)
	}
	if _, err := unwrap(t.Context(), f, f.Officer, "", wrapped); err != nil {
		t.Fatalf("unwrap after recovery: %v", err)
	}
	if _, err := f.Vaults.DeleteVault(t.Context(), f.Officer, vaulttest.Path("kv1")); err != nil {
		t.Fatal(err)
	}
	if all, err := f.Vaults.DeletedVaults(t.Context(), f.Officer, vaulttest.Subscription); err != nil || len(all) != 1 {
		t.Fatalf("deleted vaults: %v, %d", err, len(all))
	}
	wantReason(t, f.Vaults.DeleteResourceGroup(t.Context(), f.Officer, vaulttest.Subscription, vaulttest.Group), fault.Conflict)
	// Whoever may purge it sees who has used its keys, and nobody else does.
	used, err := f.Vaults.DeletedVaultUsage(t.Context(), f.Officer, vault.Standard, vaulttest.Subscription, "kv1")
	if err != nil || !slices.ContainsFunc(used, func(u vault.KeyUse) bool {
		return u.Key == "k" && u.Operation == vault.UnwrapKey && u.Principal == f.Officer.Principal && u.Count > 0
	}) {
		t.Errorf("usage of a deleted vault: %+v, %v", used, err)
	}
	reader := vaulttest.Caller(8)
	f.Grant(t, reader, rbac.Reader, vault.Subscription{ID: vaulttest.Subscription}.Scope())
	_, err = f.Vaults.DeletedVaultUsage(t.Context(), reader, vault.Standard, vaulttest.Subscription, "kv1")
	wantReason(t, err, fault.Denied)
	_, err = f.Vaults.DeletedVaultUsage(t.Context(), f.Officer, vault.ManagedHSM, vaulttest.Subscription, "kv1")
	wantReason(t, err, fault.VaultNotFound)
	if err := f.Vaults.PurgeVault(t.Context(), f.Officer, vaulttest.Subscription, "kv1"); err != nil {
		t.Fatal(err)
	}
	if v2 := f.Vault(t, "kv1"); v2.ID == v.ID {
		t.Error("a purged vault's id came back")
	}
	_, err = f.Vaults.Key(t.Context(), f.Officer, "kv1", "k", "")
	wantReason(t, err, fault.KeyNotFound)
}

func TestVaultProperties(t *testing.T) {
	f := vaulttest.New(t)
	at := vaulttest.Path("kv1")
	for name, c := range map[string]struct {
		spec vault.Spec
		want fault.Reason
	}{
		"no location":     {vault.Spec{}, fault.InvalidArgument},
		"6 days":          {vault.Spec{Location: new("l"), RetentionDays: new(6)}, fault.InvalidArgument},
		"91 days":         {vault.Spec{Location: new("l"), RetentionDays: new(91)}, fault.InvalidArgument},
		"no soft delete":  {vault.Spec{Location: new("l"), SoftDelete: new(false)}, fault.InvalidArgument},
		"other tenant":    {vault.Spec{Location: new("l"), Tenant: new(vaulttest.OtherTenant)}, fault.InvalidArgument},
		"policy's tenant": {vault.Spec{Location: new("l"), AccessPolicies: &[]vault.AccessPolicy{{Tenant: string(vaulttest.OtherTenant), Object: vaulttest.ID(2)}}}, fault.InvalidArgument},
		"policy's object": {vault.Spec{Location: new("l"), AccessPolicies: &[]vault.AccessPolicy{{Tenant: string(vaulttest.Tenant), Object: "me"}}}, fault.InvalidArgument},
		"permission":      {vault.Spec{Location: new("l"), AccessPolicies: &[]vault.AccessPolicy{policy(vaulttest.Caller(2), "unwrapp")}}, fault.InvalidArgument},
		"trusted service": {vault.Spec{Location: new("l"), TrustedServices: &[]string{"fabric"}}, fault.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := f.Vaults.PutVault(t.Context(), f.Officer, at, c.spec)
			wantReason(t, err, c.want)
		})
	}
	f.Vault(t, "kv1", func(s *vault.Spec) { s.RetentionDays = new(7) })
	v, err := f.Vaults.PatchVault(t.Context(), f.Officer, at, vault.Spec{PurgeProtection: new(true)})
	if err != nil || !v.PurgeProtection || v.RetentionDays != 7 {
		t.Fatalf("patch: %v, %+v", err, v)
	}
	_, err = f.Vaults.PatchVault(t.Context(), f.Officer, at, vault.Spec{PurgeProtection: new(false)})
	wantReason(t, err, fault.InvalidArgument)
	_, err = f.Vaults.PatchVault(t.Context(), f.Officer, at, vault.Spec{RetentionDays: new(8)})
	wantReason(t, err, fault.InvalidArgument)

	// Purge protection outlives deletion; the end of the retention does not.
	if _, err := f.Vaults.DeleteVault(t.Context(), f.Officer, at); err != nil {
		t.Fatal(err)
	}
	wantReason(t, f.Vaults.PurgeVault(t.Context(), f.Officer, vaulttest.Subscription, "kv1"), fault.PurgeProtected)
	f.Advance(7*24*time.Hour + time.Minute)
	if err := f.Vaults.Sweep(t.Context(), f.Now()); err != nil {
		t.Fatal(err)
	}
	_, err = f.Vaults.DeletedVault(t.Context(), f.Officer, vaulttest.Subscription, "kv1")
	wantReason(t, err, fault.VaultNotFound)
}

// Names are unique across tenants, and one tenant's management does not reach
// another's.
func TestTenantsApart(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	const otherSub = "55555555-0000-4000-8000-000000000005"
	other := vaulttest.Caller(7)
	other.Tenant = vaulttest.OtherTenant
	err := f.Vaults.Provision(t.Context(), vault.Subscription{ID: otherSub, Tenant: other.Tenant},
		rbac.Assignment{Principal: other.Principal, Role: rbac.Owner, Scope: "/"},
		rbac.Assignment{Principal: other.Principal, Role: rbac.KeyVaultAdministrator, Scope: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Vaults.PutResourceGroup(t.Context(), other, vault.ResourceGroup{Subscription: otherSub, Name: "g", Location: "l"}); err != nil {
		t.Fatal(err)
	}
	_, _, err = f.Vaults.PutVault(t.Context(), other, vault.Path{Subscription: otherSub, ResourceGroup: "g", Name: "kv1"}, vault.Spec{Location: new("l")})
	wantReason(t, err, fault.VaultExists)
	_, err = f.Vaults.DeleteVault(t.Context(), other, vaulttest.Path("kv1"))
	wantReason(t, err, fault.SubscriptionNotFound)
	_, _, err = f.Vaults.PutRoleAssignment(t.Context(), other, vault.Grant{
		ID: vaulttest.ID(77), Scope: v.Scope(), Principal: other.Principal, Role: rbac.KeyVaultAdministrator,
	})
	wantReason(t, err, fault.SubscriptionNotFound)
	_, err = f.Vaults.Key(t.Context(), other, "kv1", "k", "")
	wantReason(t, err, fault.Denied)
	if subs, err := f.Vaults.Subscriptions(t.Context(), other); err != nil || len(subs) != 1 || subs[0].ID != otherSub {
		t.Errorf("subscriptions: %v, %v", subs, err)
	}
	if all, err := f.Vaults.RoleAssignments(t.Context(), other, "/", true); err != nil || len(all) != 2 {
		t.Errorf("role assignments at /: %d, %v", len(all), err)
	}
}

func TestRoleAssignments(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	service := vaulttest.Caller(2)
	grant := vault.Grant{ID: vaulttest.ID(500), Scope: v.KeyScope("k"), Principal: service.Principal, Role: rbac.KeyVaultCryptoServiceEncryption}

	// Only who may give roles gives them.
	crypto := vaulttest.Caller(4)
	f.Grant(t, crypto, rbac.KeyVaultCryptoOfficer, v.Scope())
	_, _, err := f.Vaults.PutRoleAssignment(t.Context(), crypto, grant)
	wantReason(t, err, fault.Denied)
	access := vaulttest.Caller(5)
	f.Grant(t, access, rbac.KeyVaultDataAccessAdministrator, v.Scope())
	owner := grant
	owner.Role = rbac.Owner
	_, _, err = f.Vaults.PutRoleAssignment(t.Context(), access, owner)
	wantReason(t, err, fault.Denied)
	a, created, err := f.Vaults.PutRoleAssignment(t.Context(), access, grant)
	if err != nil || !created || a.CreatedBy != access.Principal {
		t.Fatalf("assign: %v, %+v", err, a)
	}
	if _, created, err := f.Vaults.PutRoleAssignment(t.Context(), access, grant); err != nil || created {
		t.Errorf("the same again: %v, created %v", err, created)
	}
	changed := grant
	changed.Principal = identity.PrincipalID(vaulttest.ID(6))
	_, _, err = f.Vaults.PutRoleAssignment(t.Context(), access, changed)
	wantReason(t, err, fault.RoleAssignmentExists)
	twice := grant
	twice.ID = vaulttest.ID(501)
	_, _, err = f.Vaults.PutRoleAssignment(t.Context(), access, twice)
	wantReason(t, err, fault.RoleAssignmentExists)

	for name, c := range map[string]struct {
		change func(*vault.Grant)
		want   fault.Reason
	}{
		"condition":    {func(g *vault.Grant) { g.Condition = "true" }, fault.NotSupported},
		"unknown role": {func(g *vault.Grant) { g.Role = "nonsense" }, fault.RoleDefinitionNotFound},
		"no uuid":      {func(g *vault.Grant) { g.ID = "x" }, fault.InvalidArgument},
		"no principal": {func(g *vault.Grant) { g.Principal = "" }, fault.InvalidArgument},
		"unknown vault": {func(g *vault.Grant) {
			g.Scope = vault.Vault{Subscription: vaulttest.Subscription, ResourceGroup: vaulttest.Group, Name: "nokv"}.Scope()
		}, fault.ResourceNotFound},
		"odd scope": {func(g *vault.Grant) { g.Scope = v.Scope() + "/secrets/s" }, fault.InvalidArgument},
		"dots":      {func(g *vault.Grant) { g.Scope = v.Scope() + "/../kv2" }, fault.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			g := grant
			g.ID = vaulttest.ID(502)
			c.change(&g)
			_, _, err := f.Vaults.PutRoleAssignment(t.Context(), f.Officer, g)
			wantReason(t, err, c.want)
		})
	}

	if all, err := f.Vaults.RoleAssignments(t.Context(), f.Officer, v.Scope(), true); err != nil || len(all) != 5 {
		t.Errorf("assignments at, above and below the vault: %d, %v", len(all), err)
	}
	_, err = f.Vaults.DeleteRoleAssignment(t.Context(), crypto, grant.Scope, grant.ID)
	wantReason(t, err, fault.Denied)
	_, err = f.Vaults.DeleteRoleAssignment(t.Context(), crypto, grant.Scope, vaulttest.ID(999))
	wantReason(t, err, fault.Denied) // and not that there is none
	if _, err := f.Vaults.DeleteRoleAssignment(t.Context(), access, grant.Scope, grant.ID); err != nil {
		t.Fatal(err)
	}
	_, err = f.Vaults.DeleteRoleAssignment(t.Context(), access, grant.Scope, grant.ID)
	wantReason(t, err, fault.RoleAssignmentNotFound)

	// Of a soft-deleted vault roles can be taken, so that it comes back without
	// them, and none given.
	last := f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))
	if _, err := f.Vaults.DeleteVault(t.Context(), f.Officer, vaulttest.Path("kv1")); err != nil {
		t.Fatal(err)
	}
	_, _, err = f.Vaults.PutRoleAssignment(t.Context(), f.Officer, twice)
	wantReason(t, err, fault.ResourceNotFound)
	f.Ungrant(t, last)
	err = f.Store.View(t.Context(), func(tx vault.Tx) error {
		_, err := tx.RoleAssignment(last.ID)
		return err
	})
	wantReason(t, err, fault.RoleAssignmentNotFound)
}
