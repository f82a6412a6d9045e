package rbac_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

const (
	vault = rbac.Scope("/subscriptions/S/resourceGroups/G/providers/Microsoft.KeyVault/vaults/V")
	key   = vault + "/keys/K"
)

func TestAllowed(t *testing.T) {
	const (
		unwrap     rbac.Action = "Microsoft.KeyVault/vaults/keys/unwrap/action"
		read       rbac.Action = "Microsoft.KeyVault/vaults/keys/read"
		create     rbac.Action = "Microsoft.KeyVault/vaults/keys/create/action"
		purge      rbac.Action = "Microsoft.KeyVault/vaults/keys/purge/action"
		policy     rbac.Action = "Microsoft.KeyVault/vaults/keyrotationpolicies/write"
		vaultWrite rbac.Action = "Microsoft.KeyVault/vaults/write"
		vaultRead  rbac.Action = "Microsoft.KeyVault/vaults/read"
		vaultPurge rbac.Action = "Microsoft.KeyVault/locations/deletedVaults/purge/action"
	)
	for _, c := range []struct {
		defs   rbac.Definitions
		role   rbac.RoleID
		at     rbac.Scope
		action rbac.Action
		data   bool
		scope  rbac.Scope
		want   bool
	}{
		{rbac.VaultRoles, rbac.KeyVaultCryptoServiceEncryption, key, unwrap, true, key, true},
		{rbac.VaultRoles, rbac.KeyVaultCryptoServiceEncryption, vault, unwrap, true, key, true},
		{rbac.VaultRoles, rbac.KeyVaultCryptoServiceEncryption, "/", unwrap, true, key, true},
		{rbac.VaultRoles, rbac.KeyVaultCryptoServiceEncryption, key, unwrap, true, vault, false},
		{rbac.VaultRoles, rbac.KeyVaultCryptoServiceEncryption, key, unwrap, true, key + "2", false},
		{rbac.VaultRoles, rbac.KeyVaultCryptoServiceEncryption, key, unwrap, false, key, false},
		{rbac.VaultRoles, rbac.KeyVaultCryptoServiceEncryption, key, read, true, key, true},
		{rbac.VaultRoles, rbac.KeyVaultCryptoServiceEncryption, key, create, true, key, false},
		{rbac.VaultRoles, rbac.KeyVaultCryptoUser, vault, create, true, key, false},
		{rbac.VaultRoles, rbac.KeyVaultCryptoUser, vault, unwrap, true, key, true},
		{rbac.VaultRoles, rbac.KeyVaultCryptoOfficer, vault, purge, true, key, true},
		{rbac.VaultRoles, rbac.KeyVaultCryptoOfficer, vault, policy, true, key, true},
		{rbac.VaultRoles, rbac.KeyVaultCryptoOfficer, vault, vaultWrite, false, vault, false},
		{rbac.VaultRoles, rbac.KeyVaultCryptoOfficer, vault, rbac.RoleAssignmentsWrite, false, vault, false},
		{rbac.VaultRoles, rbac.KeyVaultReader, vault, read, true, key, true},
		{rbac.VaultRoles, rbac.KeyVaultReader, vault, unwrap, true, key, false},
		{rbac.VaultRoles, rbac.KeyVaultAdministrator, vault, unwrap, true, key, true},
		{rbac.VaultRoles, rbac.KeyVaultAdministrator, vault, vaultWrite, false, vault, false},
		{rbac.VaultRoles, rbac.KeyVaultCryptoServiceRelease, vault, unwrap, true, key, false},
		{rbac.VaultRoles, rbac.KeyVaultContributor, vault, vaultWrite, false, vault, true},
		{rbac.VaultRoles, rbac.KeyVaultContributor, vault, unwrap, true, key, false},
		{rbac.VaultRoles, rbac.KeyVaultContributor, "/", vaultPurge, false, "/subscriptions/S", false},
		{rbac.VaultRoles, rbac.Owner, "/", rbac.RoleAssignmentsWrite, false, key, true},
		{rbac.VaultRoles, rbac.Owner, "/", unwrap, true, key, false},
		{rbac.VaultRoles, rbac.Contributor, "/", vaultWrite, false, vault, true},
		{rbac.VaultRoles, rbac.Contributor, "/", rbac.RoleAssignmentsWrite, false, key, false},
		{rbac.VaultRoles, rbac.Contributor, "/", "microsoft.authorization/ROLEASSIGNMENTS/delete", false, key, false},
		{rbac.VaultRoles, rbac.Contributor, "/", rbac.RoleAssignmentsRead, false, key, true},
		{rbac.VaultRoles, rbac.Reader, "/", vaultRead, false, vault, true},
		{rbac.VaultRoles, rbac.Reader, "/", read, true, key, false},
		{rbac.VaultRoles, rbac.UserAccessAdministrator, "/", rbac.RoleAssignmentsDelete, false, key, true},
		{rbac.VaultRoles, rbac.UserAccessAdministrator, "/", vaultWrite, false, vault, false},
		{rbac.VaultRoles, rbac.RoleBasedAccessControlAdmin, vault, rbac.RoleAssignmentsWrite, false, key, true},
		{rbac.VaultRoles, rbac.KeyVaultDataAccessAdministrator, vault, rbac.RoleAssignmentsWrite, false, key, false}, // MayGrant
		{rbac.VaultRoles, rbac.KeyVaultDataAccessAdministrator, vault, vaultRead, false, vault, true},
		{rbac.VaultRoles, rbac.WorkspaceAdmin, "/", vaultRead, false, vault, false}, // unknown here
		{rbac.VaultRoles, rbac.RoleID(strings.ToUpper(string(rbac.Owner))), "/", vaultWrite, false, vault, true},

		{rbac.PlatformRoles, rbac.WorkspaceAdmin, "/workspaces/W", rbac.EncryptionWrite, false, "/workspaces/W", true},
		{rbac.PlatformRoles, rbac.WorkspaceAdmin, "/workspaces/W", rbac.EncryptionWrite, false, "/workspaces/W2", false},
		{rbac.PlatformRoles, rbac.WorkspaceAdmin, "/workspaces/W", rbac.DataWrite, true, "/workspaces/W/items/I", true},
		{rbac.PlatformRoles, rbac.WorkspaceAdmin, "/workspaces/W", rbac.WorkspacesCreate, false, "/", false},
		{rbac.PlatformRoles, rbac.WorkspaceMember, "/workspaces/W", rbac.EncryptionWrite, false, "/workspaces/W", false},
		{rbac.PlatformRoles, rbac.WorkspaceMember, "/workspaces/W", rbac.WorkspacesDelete, false, "/workspaces/W", false},
		{rbac.PlatformRoles, rbac.WorkspaceContributor, "/workspaces/W", rbac.DataDelete, true, "/workspaces/W", true},
		{rbac.PlatformRoles, rbac.WorkspaceViewer, "/workspaces/W", rbac.EncryptionRead, false, "/workspaces/W", true},
		{rbac.PlatformRoles, rbac.WorkspaceViewer, "/workspaces/W", rbac.DataRead, true, "/workspaces/W", false},
		{rbac.PlatformRoles, rbac.WorkspaceCreator, "/", rbac.WorkspacesCreate, false, "/", true},
		{rbac.PlatformRoles, rbac.WorkspaceCreator, "/", rbac.WorkspacesWrite, false, "/workspaces/W", false},
		{rbac.PlatformRoles, rbac.TenantAdministrator, "/", rbac.WorkspacesRead, false, "/workspaces/W", true},
		{rbac.PlatformRoles, rbac.TenantAdministrator, "/", rbac.EncryptionWrite, false, "/workspaces/W", false},
		{rbac.PlatformRoles, rbac.TenantAdministrator, "/", rbac.TenantSettingsWrite, false, "/", true},
		{rbac.PlatformRoles, rbac.Auditor, "/", rbac.AuditRead, false, "/", true},
		{rbac.PlatformRoles, rbac.Auditor, "/", rbac.EncryptionRead, false, "/workspaces/W", true},
		{rbac.PlatformRoles, rbac.Auditor, "/", rbac.TenantSettingsWrite, false, "/", false},
		{rbac.PlatformRoles, rbac.Auditor, "/", rbac.DataRead, true, "/workspaces/W", false},
		{rbac.PlatformRoles, rbac.Auditor, "/", rbac.DataRead, false, "/workspaces/W", true}, // a data action is asked for as one
		{rbac.PlatformRoles, rbac.Owner, "/", rbac.WorkspacesRead, false, "/workspaces/W", false},
	} {
		a := rbac.Assignment{ID: "a", Role: c.role, Scope: c.at}
		got, ok := rbac.Allowed(c.defs, []rbac.Assignment{a}, c.action, c.data, c.scope)
		if ok != c.want || ok && got != a {
			t.Errorf("role %s at %s: %s (data %t) at %s: got %t, want %t", c.role, c.at, c.action, c.data, c.scope, ok, c.want)
		}
	}
}

func TestNoTenantRoleReachesData(t *testing.T) {
	for _, id := range []rbac.RoleID{rbac.TenantAdministrator, rbac.WorkspaceCreator, rbac.Auditor} {
		for _, a := range []rbac.Action{rbac.DataRead, rbac.DataWrite, rbac.DataDelete} {
			held := []rbac.Assignment{{Role: id, Scope: "/"}}
			if _, ok := rbac.Allowed(rbac.PlatformRoles, held, a, true, "/workspaces/W/items/I"); ok {
				t.Errorf("role %s allows %s", id, a)
			}
		}
	}
}

func TestMayGrant(t *testing.T) {
	for _, c := range []struct {
		defs   rbac.Definitions
		holds  rbac.RoleID
		action rbac.Action
		role   rbac.RoleID
		want   bool
	}{
		{rbac.VaultRoles, rbac.KeyVaultDataAccessAdministrator, rbac.RoleAssignmentsWrite, rbac.KeyVaultCryptoUser, true},
		{rbac.VaultRoles, rbac.KeyVaultDataAccessAdministrator, rbac.RoleAssignmentsDelete, rbac.KeyVaultCryptoUser, true},
		{rbac.VaultRoles, rbac.KeyVaultDataAccessAdministrator, rbac.RoleAssignmentsWrite, rbac.Owner, false},
		{rbac.VaultRoles, rbac.Owner, rbac.RoleAssignmentsWrite, rbac.Owner, true},
		{rbac.VaultRoles, rbac.Contributor, rbac.RoleAssignmentsWrite, rbac.Reader, false},
		{rbac.PlatformRoles, rbac.WorkspaceMember, rbac.WorkspaceRoleAssignmentsWrite, rbac.WorkspaceMember, true},
		{rbac.PlatformRoles, rbac.WorkspaceMember, rbac.WorkspaceRoleAssignmentsWrite, rbac.WorkspaceAdmin, false},
		{rbac.PlatformRoles, rbac.WorkspaceAdmin, rbac.WorkspaceRoleAssignmentsWrite, rbac.WorkspaceAdmin, true},
		{rbac.PlatformRoles, rbac.WorkspaceAdmin, rbac.WorkspaceRoleAssignmentsWrite, rbac.Auditor, false},
		{rbac.PlatformRoles, rbac.TenantAdministrator, rbac.TenantRoleAssignmentsWrite, rbac.WorkspaceCreator, true},
		{rbac.PlatformRoles, rbac.TenantAdministrator, rbac.TenantRoleAssignmentsWrite, rbac.WorkspaceAdmin, false},
		{rbac.PlatformRoles, rbac.TenantAdministrator, rbac.WorkspaceRoleAssignmentsWrite, rbac.WorkspaceViewer, false},
	} {
		held := []rbac.Assignment{{Role: c.holds, Scope: "/workspaces/W"}}
		if _, ok := rbac.MayGrant(c.defs, held, c.action, c.role, "/workspaces/W"); ok != c.want {
			t.Errorf("%s: %s of %s: got %t, want %t", c.holds, c.action, c.role, ok, c.want)
		}
		if d, _ := c.defs.Lookup(c.holds); d.Grants != nil {
			if _, ok := rbac.Allowed(c.defs, held, c.action, false, "/workspaces/W"); ok {
				t.Errorf("Allowed lets the bounded role %s grant", c.holds)
			}
		}
	}
}

func TestCovers(t *testing.T) {
	owner := rbac.Assignment{Role: rbac.Owner, Scope: "/a"}
	for _, c := range []struct {
		name         string
		held, others []rbac.Assignment
		want         bool
	}{
		{"nothing to cover", nil, nil, true},
		{"nothing held", nil, []rbac.Assignment{owner}, false},
		{"the same", []rbac.Assignment{owner}, []rbac.Assignment{owner}, true},
		{"below", []rbac.Assignment{owner}, []rbac.Assignment{{Role: rbac.Owner, Scope: "/A/b"}}, true},
		{"above", []rbac.Assignment{owner}, []rbac.Assignment{{Role: rbac.Owner, Scope: "/"}}, false},
		{"another role", []rbac.Assignment{owner}, []rbac.Assignment{{Role: rbac.Reader, Scope: "/a"}}, false},
		{"one of two", []rbac.Assignment{owner}, []rbac.Assignment{owner, {Role: rbac.Owner, Scope: "/c"}}, false},
	} {
		if got := rbac.Covers(c.held, c.others); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
}

// The model reads patterns as regular expressions and scopes as lists of
// segments: nothing of it is shared with the evaluator.
func modelAllows(defs []rbac.RoleDefinition, assignments []rbac.Assignment, action string, data bool, scope string) bool {
	segments := func(s string) []string {
		return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r == '/' })
	}
	matches := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			re := "(?is)^" + strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*") + "$"
			return regexp.MustCompile(re).MatchString(action)
		})
	}
	for _, a := range assignments {
		at, of := segments(string(a.Scope)), segments(scope)
		if len(at) > len(of) || !slices.Equal(at, of[:len(at)]) {
			continue
		}
		for _, d := range defs {
			if !strings.EqualFold(string(d.ID), string(a.Role)) {
				continue
			}
			if data && matches(d.DataActions) && !matches(d.NotDataActions) || !data && matches(d.Actions) && !matches(d.NotActions) {
				return true
			}
		}
	}
	return false
}

func TestAllowedIsTheModel(t *testing.T) {
	word := rapid.StringMatching(`[aAbB]{1,2}`)
	path := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(word, 1, 4).Draw(t, "words"), "/") })
	pattern := rapid.StringMatching(`[aAbB/*]{1,6}`)
	patterns := rapid.SliceOfN(pattern, 0, 3)
	scope := rapid.Custom(func(t *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(word, 0, 3).Draw(t, "segments"), "/")
	})
	allowed := 0
	rapid.Check(t, func(t *rapid.T) {
		var defs []rbac.RoleDefinition
		for _, id := range []rbac.RoleID{"r1", "R2", "r3"} {
			defs = append(defs, rbac.RoleDefinition{
				ID: id, Actions: patterns.Draw(t, "actions"), NotActions: patterns.Draw(t, "not"),
				DataActions: patterns.Draw(t, "data"), NotDataActions: patterns.Draw(t, "notdata"),
			})
		}
		var held []rbac.Assignment
		for range rapid.IntRange(0, 4).Draw(t, "n") {
			held = append(held, rbac.Assignment{
				Role:  rapid.SampledFrom([]rbac.RoleID{"r1", "r2", "R3", "r4"}).Draw(t, "role"),
				Scope: rbac.Scope(scope.Draw(t, "at")),
			})
		}
		action, data, at := path.Draw(t, "action"), rapid.Bool().Draw(t, "isdata"), scope.Draw(t, "scope")
		_, got := rbac.Allowed(rbac.Define(defs...), held, rbac.Action(action), data, rbac.Scope(at))
		if want := modelAllows(defs, held, action, data, at); got != want {
			t.Fatalf("got %t, want %t", got, want)
		}
		if got {
			allowed++
		}
	})
	if allowed == 0 {
		t.Error("the property was never tried on something allowed")
	}
}

type fixedRoles struct {
	rbac.Tx
	all []rbac.Assignment
}

func (f fixedRoles) RoleAssignments([]identity.PrincipalID, rbac.Scope) ([]rbac.Assignment, error) {
	return slices.Clone(f.all), nil
}

func TestCheckIgnoresOtherTenants(t *testing.T) {
	tx := fixedRoles{all: []rbac.Assignment{{Tenant: "t1", Principal: "p", Role: rbac.Owner, Scope: "/"}}}
	for tenant, want := range map[identity.TenantID]bool{"t1": true, "t2": false} {
		_, ok, err := rbac.Check(tx, rbac.VaultRoles, identity.Caller{Tenant: tenant, Principal: "p"}, "a/b", false, "/x")
		if err != nil || ok != want {
			t.Errorf("caller of tenant %s: %t, %v; want %t", tenant, ok, err, want)
		}
	}
}
