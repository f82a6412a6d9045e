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
	CreateVault, ChangeVault, DeleteVault bool
	Give, Take                            bool
	Read                                  bool // keys
	Create, Update, Rotate, Delete        bool
	Recover, Purge, Policy                bool
}

// rightsAt reckons the user's rights at a scope, and in a vault of the older model by its
// access policies. What cannot be read gives none.
func rightsAt(c *portal.Call, scope string, v *client.Vault) rights {
	var given []client.RoleAssignment
	var roles []client.Role
	var all sync.WaitGroup
	all.Go(func() { given, _ = c.Parties.RoleAssignments(c.Context(), scope) })
	all.Go(func() { roles, _ = c.Parties.Roles(c.Context(), scope) })
	all.Wait()
	var held []client.Role
	for _, a := range given {
		if a.Properties.Principal != c.User.ID || !above(a.Properties.Scope, scope) {
			continue
		}
		for _, r := range roles {
			if r.ID == a.RoleID() {
				held = append(held, r)
			}
		}
	}
	may := func(action string) bool {
		return slices.ContainsFunc(held, func(r client.Role) bool { return allows(r, action, false) })
	}
	key := func(action, permission string) bool {
		if v != nil && !v.Properties.RBAC {
			return slices.ContainsFunc(v.Properties.Policies, func(p client.AccessPolicy) bool {
				return p.ObjectID == c.User.ID && slices.ContainsFunc(p.Permissions.Keys, func(s string) bool { return strings.EqualFold(s, permission) })
			})
		}
		return slices.ContainsFunc(held, func(r client.Role) bool { return allows(r, "Microsoft.KeyVault/vaults/"+action, true) })
	}
	return rights{
		CreateVault: may("Microsoft.KeyVault/vaults/write"), ChangeVault: may("Microsoft.KeyVault/vaults/write"), DeleteVault: may("Microsoft.KeyVault/vaults/delete"),
		Give: may("Microsoft.Authorization/roleAssignments/write"), Take: may("Microsoft.Authorization/roleAssignments/delete"),
		Read: key("keys/read", "list"), Create: key("keys/create/action", "create"), Update: key("keys/update/action", "update"),
		Rotate: key("keys/rotate/action", "rotate"), Delete: key("keys/delete", "delete"), Recover: key("keys/recover/action", "recover"),
		Purge: key("keys/purge/action", "purge"), Policy: key("keyrotationpolicies/write", "setrotationpolicy"),
	}
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
