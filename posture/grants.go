package posture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/rbac"
)

// Azure's roles on a storage account's data, which package rbac has no use for:
// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/storage
const (
	blobDataOwner       = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"
	blobDataContributor = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
	blobDataReader      = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
)

// moreRoles are the names of roles that package rbac does not define.
var moreRoles = map[string]string{
	blobDataOwner: "Storage Blob Data Owner", blobDataContributor: "Storage Blob Data Contributor", blobDataReader: "Storage Blob Data Reader",
	secretsUser: "Key Vault Secrets User", secretsOfficer: "Key Vault Secrets Officer",
}

// Roles by what they give over a key and over data.
var (
	custodianRoles = []string{string(rbac.KeyVaultAdministrator), string(rbac.KeyVaultCryptoOfficer)}
	keyUserRoles   = append([]string{string(rbac.KeyVaultCryptoUser), string(rbac.KeyVaultCryptoServiceRelease)}, custodianRoles...)
	dataRoles      = []string{string(rbac.Owner), string(rbac.Contributor), blobDataOwner, blobDataContributor, blobDataReader}
	grantingRoles  = []string{string(rbac.Owner), string(rbac.UserAccessAdministrator), string(rbac.RoleBasedAccessControlAdmin)}
	policyWriters  = []string{string(rbac.Owner), string(rbac.Contributor), string(rbac.KeyVaultContributor)}
)

// custodianRights are rights of access policies that manage keys.
var custodianRights = []string{"all", "create", "import", "delete", "purge", "rotate", "update", "setrotationpolicy", "restore"}

// covering calls f with each grant that holds at id: there, or at a scope above.
func (j *judge) covering(id string, f func(grant)) {
	id = strings.ToLower(id)
	for i := 1; i <= len(id); i++ {
		if i == len(id) || id[i] == '/' {
			for _, g := range j.grants[id[:i]] {
				f(g)
			}
		}
	}
}

// rights judges what r's identity may do with its key.
func (j *judge) rights(r *Resource, v *Vault, ref KeyRef, say func(string, string, Finding)) {
	var granted, more []string
	read := false // whether anything was read that could hold a grant
	principals := r.Identity.principals(r.CMK)
	if len(principals) == 0 || !v.knows(vaultRBAC) {
		return
	}
	if v.RBAC {
		j.covering(v.ID+"/keys/"+ref.Name, func(g grant) {
			read = true
			switch {
			case !containsFold(principals, g.principal):
			case g.role == string(rbac.KeyVaultCryptoServiceEncryption):
				granted = append(granted, g.role)
			case BeyondUse(g.role):
				more = append(more, roleName(g.role))
			}
		})
	} else {
		read = true
		for _, p := range v.Policies {
			if !containsFold(principals, p.principal) {
				continue
			}
			for _, right := range p.keys {
				switch right {
				case "get", "wrapkey", "unwrapkey":
					granted = append(granted, right)
				default:
					more = append(more, right)
				}
			}
		}
		if len(granted) < 3 {
			granted = nil
		}
	}
	switch {
	case len(more) > 0:
		slices.Sort(more)
		say("G14", "its identity also has "+strings.Join(slices.Compact(more), ", ")+" on the vault", Finding{Reversible: true})
	case read && granted == nil:
		say("G14", "its identity may not wrap and unwrap", Finding{Reversible: true})
	}
}

// grantsOf judges who may do what with a vault: who holds key and data both, and who
// can grant itself the keys.
func (j *judge) grantsOf(v *Vault) {
	if v.Deleted {
		return
	}
	if v.RBAC && len(j.grants) == 0 && !j.inv.WasListed(v.ID, "roleAssignments") || !v.knows(vaultRBAC) {
		for _, control := range []string{"G14", "G16", "G17"} {
			j.about(control, v.ID, v.Kind(), len(v.users), Finding{State: "unknown", Detail: "who is granted what on it was not read", Evidence: v.Evidence, Reversible: true, object: v})
		}
		return
	}
	custodians, escalating := map[string]string{}, map[string]string{}
	j.covering(v.ID, func(g grant) {
		if slices.Contains(custodianRoles, g.role) {
			custodians[g.principal] = roleName(g.role)
		}
		if v.RBAC && slices.Contains(grantingRoles, g.role) || !v.RBAC && slices.Contains(policyWriters, g.role) {
			escalating[g.principal] = roleName(g.role)
		}
	})
	if !v.RBAC {
		for _, p := range v.Policies {
			if i := slices.IndexFunc(p.keys, func(k string) bool { return slices.Contains(custodianRights, k) }); i >= 0 {
				custodians[p.principal] = "an access policy with " + p.keys[i]
			}
		}
	}
	owns := map[string]int{}
	for _, r := range v.users {
		seen := map[string]bool{}
		j.covering(r.ID, func(g grant) {
			if custodians[g.principal] != "" && slices.Contains(dataRoles, g.role) && !seen[g.principal] {
				seen[g.principal] = true
				owns[g.principal]++
			}
		})
	}
	say := func(control, principal, detail string) {
		j.about(control, v.ID+"#"+principal, v.Kind(), len(v.users), Finding{Detail: detail, Evidence: v.Evidence, Reversible: true, object: v})
	}
	for _, p := range ordered(owns) {
		say("G16", p, fmt.Sprintf("%s has %s on the vault, and the data of %d resources under its keys", p, custodians[p], owns[p]))
	}
	for _, p := range ordered(escalating) {
		say("G17", p, fmt.Sprintf("%s has %s on the vault", p, escalating[p]))
	}
}

// BeyondUse reports whether a role, by its definition's GUID, gives more over a vault's keys
// than a service needs that wraps and unwraps.
func BeyondUse(role string) bool {
	role = strings.ToLower(role)
	return slices.Contains(keyUserRoles, role) || slices.Contains(grantingRoles, role) || role == string(rbac.Contributor)
}

func ordered[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func containsFold(all []string, s string) bool {
	return slices.ContainsFunc(all, func(o string) bool { return strings.EqualFold(o, s) })
}

// roleName returns a built-in role's name, or its id.
func roleName(id string) string {
	if d, ok := rbac.VaultRoles.Lookup(rbac.RoleID(id)); ok {
		return d.Name
	}
	return cmp.Or(moreRoles[id], id)
}

// RoleName returns a built-in role's name by its definition's GUID, or that GUID.
func RoleName(id string) string { return roleName(id) }

// RoleNamed returns the id of a built-in role that posture knows by its name, or the
// name where it knows none.
func RoleNamed(name string) string {
	if d, ok := rbac.VaultRoles.Named(name); ok {
		return string(d.ID)
	}
	for id, n := range moreRoles {
		if strings.EqualFold(n, name) {
			return id
		}
	}
	return name
}
