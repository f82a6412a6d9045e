package vaults

import (
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// rights are what the user may do at a scope, as far as his own roles tell. They only
// say what a page offers.
type rights struct {
	ChangeVault, DeleteVault       bool
	Give, Take                     bool
	Read                           bool // keys
	Create, Update, Rotate, Delete bool
	Recover, Purge, Policy         bool
}

// rightsAt reckons the user's rights at a scope: by his roles there, in a vault of the
// older model by its access policies, and in a managed HSM by its own roles. What cannot
// be read gives none.
func rightsAt(c *portal.Call, p pane) rights {
	var managing, local []client.Role
	var all sync.WaitGroup
	resource, kind, data := p.Scope, "Microsoft.KeyVault/vaults/", "Microsoft.KeyVault/vaults/"
	if p.Place.HSM {
		resource, kind, data = p.Resource, "Microsoft.KeyVault/managedHSMs/", "Microsoft.KeyVault/managedHsm/"
		all.Go(func() { local = held(c, p.Place, p.Scope) })
	}
	all.Go(func() { managing = held(c, client.Place{}, resource) })
	all.Wait()
	if !p.Place.HSM {
		local = managing
	}
	may := func(action string) bool { return manages(managing, action) }
	key := func(action, hsms, permission string) bool {
		switch {
		case p.Vault.ID != "" && !p.Vault.Roles():
			return slices.ContainsFunc(p.Vault.Properties.Policies, func(p client.AccessPolicy) bool {
				return p.ObjectID == c.User.ID && slices.ContainsFunc(p.Permissions.Keys, func(s string) bool { return strings.EqualFold(s, permission) })
			})
		case p.Place.HSM:
			action = hsms
		}
		return slices.ContainsFunc(local, func(r client.Role) bool { return allows(r, data+action, true) })
	}
	r := rights{
		ChangeVault: may(kind + "write"), DeleteVault: may(kind + "delete"),
		Read:   key("keys/read", "keys/read/action", "list"),
		Create: key("keys/create/action", "keys/create", "create"),
		Update: key("keys/update/action", "keys/write/action", "update"),
		Rotate: key("keys/rotate/action", "keys/rotate/action", "rotate"),
		Delete: key("keys/delete", "keys/delete", "delete"), Recover: key("keys/recover/action", "keys/deletedKeys/recover/action", "recover"),
		Purge: key("keys/purge/action", "keys/deletedKeys/delete", "purge"), Policy: key("keyrotationpolicies/write", "keys/write/action", "setrotationpolicy"),
	}
	if p.Place.HSM {
		r.Give, r.Take = key("", "roleAssignments/write/action", ""), key("", "roleAssignments/delete/action", "")
	} else {
		r.Give, r.Take = may("Microsoft.Authorization/roleAssignments/write"), may("Microsoft.Authorization/roleAssignments/delete")
	}
	return r
}

// held returns the roles that the user holds at a scope.
func held(c *portal.Call, p client.Place, scope string) (out []client.Role) {
	var given []client.RoleAssignment
	var roles []client.Role
	var all sync.WaitGroup
	all.Go(func() { given, _ = c.Parties.RoleAssignments(c.Context(), p, scope) })
	all.Go(func() { roles, _ = c.Parties.Roles(c.Context(), p, scope) })
	all.Wait()
	for _, a := range given {
		if a.Properties.Principal != c.User.ID || !above(a.Properties.Scope, scope) {
			continue
		}
		for _, r := range roles {
			if r.ID == a.RoleID() {
				out = append(out, r)
			}
		}
	}
	return out
}

// manages reports whether one of the roles lets its holder do an action of Resource Manager's.
func manages(roles []client.Role, action string) bool {
	return slices.ContainsFunc(roles, func(r client.Role) bool { return allows(r, action, false) })
}

// above reports whether a scope is the other or contains it.
func above(scope, other string) bool {
	scope, other = strings.TrimSuffix(strings.ToLower(scope), "/")+"/", strings.ToLower(other)+"/"
	return strings.HasPrefix(other, scope)
}

// allows reports whether a role's definition lists an action, or a data action.
func allows(r client.Role, action string, data bool) bool {
	for _, p := range r.Properties.Permissions {
		yes, no := p.Actions, p.NotActions
		if data {
			yes, no = p.DataActions, p.NotDataActions
		}
		if slices.ContainsFunc(yes, func(s string) bool { return like(s, action) }) && !slices.ContainsFunc(no, func(s string) bool { return like(s, action) }) {
			return true
		}
	}
	return false
}

// like reports whether an action matches a pattern, in which * stands for any characters.
func like(pattern, action string) bool {
	// path.Match ends a star at a slash, which actions have for a separator.
	flat := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "/", "\x01") }
	ok, err := path.Match(flat(pattern), flat(action))
	return ok && err == nil
}
