package vault_test

import (
	"testing"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

func TestSeparationOfDuties(t *testing.T) {
	f := vaulttest.New(t)
	strict := f.Vault(t, "kv1", func(s *vault.Spec) { s.SeparateDuties = new(true) })
	loose := f.Vault(t, "kv2")
	n := 0
	give := func(to identity.Caller, role rbac.RoleID, at rbac.Scope) error {
		n++
		_, _, err := f.Vaults.PutRoleAssignment(t.Context(), f.Officer, vault.Grant{
			ID: vaulttest.ID(5000 + n), Scope: at, Principal: to.Principal, PrincipalType: to.Type, Role: role,
		})
		return err
	}
	sub := vault.Subscription{ID: vaulttest.Subscription}.Scope()
	a, b, c, d := vaulttest.Caller(2), vaulttest.Caller(3), vaulttest.Caller(4), vaulttest.Caller(5)
	for _, s := range []struct {
		name string
		to   identity.Caller
		role rbac.RoleID
		at   rbac.Scope
		want fault.Reason
	}{
		{"use of a key", a, rbac.KeyVaultCryptoServiceEncryption, strict.KeyScope("k"), ""},
		{"management above it", a, rbac.KeyVaultCryptoOfficer, strict.Scope(), fault.DutiesConflict},
		{"management of all", a, rbac.KeyVaultAdministrator, sub, fault.DutiesConflict},
		{"management of another key", a, rbac.KeyVaultCryptoOfficer, strict.KeyScope("l"), ""},
		{"management elsewhere", a, rbac.KeyVaultCryptoOfficer, loose.Scope(), ""},
		{"granting", b, rbac.RoleBasedAccessControlAdmin, strict.Scope(), ""},
		{"granting and use", b, rbac.KeyVaultCryptoUser, strict.Scope(), fault.DutiesConflict},
		{"both, where nobody minds", c, rbac.KeyVaultCryptoOfficer, loose.Scope(), ""},
		{"both, where nobody minds", c, rbac.KeyVaultCryptoServiceEncryption, loose.Scope(), ""},
		{"management above both", d, rbac.KeyVaultCryptoOfficer, sub, ""},
		{"use where nobody minds", d, rbac.KeyVaultCryptoServiceEncryption, loose.Scope(), ""},
		{"use where somebody minds", d, rbac.KeyVaultCryptoServiceEncryption, strict.Scope(), fault.DutiesConflict},
	} {
		if err := give(s.to, s.role, s.at); fault.ReasonOf(err) != s.want {
			t.Errorf("%s: %v, want %q", s.name, err, s.want)
		}
	}
	// Where nobody minds, the log has a note.
	noted := 0
	for _, e := range f.Entries(t, "RoleAssignmentPut") {
		if e.Outcome == "allowed" && e.Detail["duties"] == "manage-and-use" {
			noted++
		}
	}
	if noted != 2 {
		t.Errorf("%d grants are noted, want 2", noted)
	}
	_, err := f.Vaults.PatchVault(t.Context(), f.Officer, vaulttest.Path("kv2"), vault.Spec{SeparateDuties: new(true)})
	wantReason(t, err, fault.DutiesConflict)

	// Access policies count as well.
	_, err = f.Vaults.PatchVault(t.Context(), f.Officer, vaulttest.Path("kv1"), vault.Spec{AccessPolicies: &[]vault.AccessPolicy{policy(c, "all")}})
	wantReason(t, err, fault.DutiesConflict)
	patch(t, f, vault.Spec{AccessPolicies: &[]vault.AccessPolicy{policy(c, "get", "wrapKey", "unwrapKey"), policy(d, "get", "create", "rotate")}})
}

// A managed HSM keeps its own roles apart, when they are given and when it begins to.
func TestManagedHSMDuties(t *testing.T) {
	f := vaulttest.New(t)
	strict := newHSM(t, f, "hsm1", func(s *vault.Spec) { s.SeparateDuties = new(true) })
	newHSM(t, f, "hsm2")
	n := 0
	give := func(name vault.Name, scope string, to identity.Caller, role rbac.RoleID, want fault.Reason) {
		t.Helper()
		n++
		_, _, err := f.Vaults.PutLocalRoleAssignment(t.Context(), f.Officer, name, scope, vault.Grant{ID: vaulttest.ID(6000 + n), Principal: to.Principal, Role: role})
		if fault.ReasonOf(err) != want {
			t.Errorf("%s at %s of %s: %v, want %q", role, scope, name, err, want)
		}
	}
	admin, user, other := f.Officer, vaulttest.Caller(2), vaulttest.Caller(3)
	give("hsm1", "/", admin, rbac.ManagedHSMCryptoUser, fault.DutiesConflict)
	give("hsm1", "/keys/k", admin, rbac.ManagedHSMCryptoServiceEncryption, fault.DutiesConflict)
	give("hsm1", "/", admin, rbac.ManagedHSMBackup, fault.DutiesConflict)
	give("hsm1", "/", admin, rbac.ManagedHSMCryptoAuditor, "")
	give("hsm1", "/keys/k", user, rbac.ManagedHSMCryptoUser, "")
	give("hsm1", "/", user, rbac.ManagedHSMPolicyAdministrator, fault.DutiesConflict)
	give("hsm1", "/keys/l", user, rbac.ManagedHSMCryptoOfficer, "")
	give("hsm1", "/", other, rbac.ManagedHSMBackup, "")
	give("hsm2", "/", admin, rbac.ManagedHSMCryptoUser, "")
	p := vaulttest.Path("hsm2")
	p.Flavour = vault.ManagedHSM
	_, err := f.Vaults.PatchVault(t.Context(), f.Officer, p, vault.Spec{SeparateDuties: new(true)})
	wantReason(t, err, fault.DutiesConflict)
	if !strict.SeparateDuties {
		t.Error("it was made without")
	}
}

func TestWhoCan(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	service, auditor := vaulttest.Caller(2), vaulttest.Caller(3)
	as := f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))
	f.Grant(t, auditor, rbac.KeyVaultReader, v.Scope())
	ask := func(key vault.KeyName, permission string) []string {
		t.Helper()
		all, err := f.Vaults.WhoCan(t.Context(), auditor, "kv1", key, permission)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, h := range all {
			out = append(out, string(h.Principal)+" "+string(h.Role))
		}
		return out
	}
	want := func(got []string, want ...string) {
		t.Helper()
		if len(got) != len(want) {
			t.Errorf("got %q, want %q", got, want)
			return
		}
		for _, w := range want {
			found := false
			for _, g := range got {
				found = found || g == w
			}
			if !found {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	officer := string(f.Officer.Principal) + " " + string(rbac.KeyVaultCryptoOfficer)
	user := string(service.Principal) + " " + string(rbac.KeyVaultCryptoServiceEncryption)
	reader := string(auditor.Principal) + " " + string(rbac.KeyVaultReader)
	want(ask("k", "unwrapKey"), officer, user)
	want(ask("l", "UNWRAPKEY"), officer)
	want(ask("", "get"), officer, reader)
	want(ask("k", "purge"), officer)
	for _, p := range vault.KeyPermissions() { // each is an action that somebody's role lists
		if got := ask("k", string(p)); len(got) == 0 {
			t.Errorf("nobody can %s", p)
		}
	}
	f.Ungrant(t, as)
	want(ask("k", "unwrapKey"), officer)
	_, err := f.Vaults.WhoCan(t.Context(), service, "kv1", "k", "unwrapKey")
	wantReason(t, err, fault.Denied)
	_, err = f.Vaults.WhoCan(t.Context(), auditor, "kv1", "k", "everything")
	wantReason(t, err, fault.InvalidArgument)
	patch(t, f, vault.Spec{RBAC: new(false), AccessPolicies: &[]vault.AccessPolicy{policy(service, "unwrapKey")}})
	want(ask("k", "unwrapKey"), string(service.Principal)+" ")
	want(ask("k", "get"))
}
