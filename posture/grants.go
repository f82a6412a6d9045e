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
	custodians, escalating := map[string]duty{}, map[string]string{}
	j.covering(v.ID, func(g grant) {
		if slices.Contains(custodianRoles, g.role) {
			custodians[g.principal] = custodians[g.principal].with(roleName(g.role), g.via)
		}
		if g.via == "" && (v.RBAC && slices.Contains(grantingRoles, g.role) || !v.RBAC && slices.Contains(policyWriters, g.role)) {
			escalating[g.principal] = roleName(g.role)
		}
	})
	if !v.RBAC {
		for _, p := range v.Policies {
			if i := slices.IndexFunc(p.keys, func(k string) bool { return slices.Contains(custodianRights, k) }); i >= 0 {
				for who, via := range j.inv.holders(strings.ToLower(p.principal)) {
					custodians[who] = custodians[who].with("an access policy with "+p.keys[i], via)
				}
			}
		}
	}
	owns, data := map[string]int{}, map[string]duty{}
	for _, r := range v.users {
		seen := map[string]bool{}
		j.covering(r.ID, func(g grant) {
			if custodians[g.principal].what == "" || !slices.Contains(dataRoles, g.role) {
				return
			}
			data[g.principal] = data[g.principal].with(roleName(g.role), g.via)
			if !seen[g.principal] {
				seen[g.principal] = true
				owns[g.principal]++
			}
		})
	}
	say := func(control, principal string, f Finding) {
		f.Evidence, f.Reversible, f.object = v.Evidence, true, v
		j.about(control, v.ID+"#"+principal, v.Kind(), len(v.users), f)
	}
	for _, p := range ordered(owns) {
		if group := custodians[p].only(); group != "" && group == data[p].only() {
			continue // the group's own finding says so
		}
		say("G16", p, Finding{Detail: fmt.Sprintf("%s has %s on the vault%s, and the data of %d resources under its keys%s", p, custodians[p].what, custodians[p].through(), owns[p], data[p].through())})
	}
	for _, p := range ordered(escalating) {
		detail := fmt.Sprintf("%s has %s on the vault", p, escalating[p])
		if members, read := j.inv.membersOf(p); read {
			detail += fmt.Sprintf("; it is a group of %d", len(members))
		}
		say("G17", p, Finding{Detail: detail})
	}
	j.unreadGroups(v, say)
}

// A duty is what one principal holds, and through which groups: "" for itself.
type duty struct {
	what string
	vias []string
}

func (d duty) with(what, via string) duty {
	if !slices.Contains(d.vias, via) {
		d.vias = append(d.vias, via)
	}
	d.what = what
	return d
}

// only returns the one group through which all of it is held, "" if there is none.
func (d duty) only() string {
	if len(d.vias) != 1 {
		return ""
	}
	return d.vias[0]
}

func (d duty) through() string {
	groups := slices.DeleteFunc(slices.Clone(d.vias), func(s string) bool { return s == "" })
	if len(groups) == 0 || len(groups) < len(d.vias) {
		return ""
	}
	slices.Sort(groups)
	return " through group " + strings.Join(groups, " and ")
}

// unreadGroups says of which groups it cannot be told who is in them, where one of them is
// custodian of the vault or reaches the data under its keys.
func (j *judge) unreadGroups(v *Vault, say func(string, string, Finding)) {
	if len(v.users) == 0 {
		return
	}
	unread := map[string]bool{}
	look := func(roles []string) func(grant) {
		return func(g grant) {
			if _, read := j.inv.membersOf(g.principal); !read && strings.EqualFold(g.kind, "Group") && slices.Contains(roles, g.role) {
				unread[g.principal] = true
			}
		}
	}
	j.covering(v.ID, look(custodianRoles))
	for _, r := range v.users {
		j.covering(r.ID, look(dataRoles))
	}
	for _, g := range ordered(unread) {
		if _, said := j.found[findingID("G16", v.ID+"#"+g)]; !said {
			say("G16", g, Finding{State: "unknown", Detail: "who is in group " + g + " was not read"})
		}
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
