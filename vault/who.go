package vault

import (
	"context"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Holder is one way by which a principal, or a group's members, may do something
// with keys: a role assignment, or an access policy if Assignment is "".
type Holder struct {
	Principal   identity.PrincipalID
	Type        identity.PrincipalType
	Application string // of an access policy that holds only through one
	Assignment  string
	Role        rbac.RoleID
	Scope       rbac.Scope
}

// action returns the data action that a permission of the access policy model
// stands for.
func (p KeyPermission) action() rbac.Action {
	const prefix = "Microsoft.KeyVault/vaults/"
	switch p {
	case "get", "list":
		return actionKeyRead
	case "wrapKey":
		return prefix + "keys/wrap/action"
	case "unwrapKey":
		return prefix + "keys/unwrap/action"
	case "delete":
		return actionKeyDelete
	case "getrotationpolicy":
		return prefix + "keyrotationpolicies/read"
	case "setrotationpolicy":
		return prefix + "keyrotationpolicies/write"
	}
	return rbac.Action(prefix + "keys/" + strings.ToLower(string(p)) + "/action")
}

// WhoCan lists who holds a permission on a key, or on a live vault's keys if the key
// is "": by the model that the vault has, a managed HSM's own roles among them, and
// whatever its network lets in. It takes the right to read role assignments there.
func (v *Vaults) WhoCan(ctx context.Context, c identity.Caller, name Name, key KeyName, permission string) (all []Holder, err error) {
	a := begin(c, "AccessList", "")
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err := liveVault(tx, name)
		if err != nil {
			return err
		}
		scope := vault.Scope()
		if key != "" {
			scope = vault.KeyScope(key)
		}
		a.entry.Resource = string(scope)
		a.note("vault", string(vault.ID))
		if of(c, vault.Tenant) {
			if err := v.admits(vault, c); err != nil {
				return err
			}
		}
		if vault.Flavour == ManagedHSM {
			err = v.authoriseLocal(tx, a, vault, rbac.HSMAssignmentsRead, scope)
		} else {
			err = v.authorise(tx, a, vault.Tenant, rbac.RoleAssignmentsRead, false, scope)
		}
		if err != nil {
			return err
		}
		p, ok := parsePermission(permission)
		if !ok {
			return fault.New(fault.InvalidArgument, "There is no such permission on keys.").WithMend("Ask for one such as unwrapKey.")
		}
		all, err = v.holders(tx, vault, scope, p)
		return err
	})
	return all, err
}

func (v *Vaults) holders(tx Tx, vault Vault, scope rbac.Scope, p KeyPermission) (all []Holder, err error) {
	if vault.byPolicy() {
		for _, ap := range vault.AccessPolicies {
			for _, k := range ap.Keys {
				if k == string(p) {
					all = append(all, Holder{Principal: identity.PrincipalID(ap.Object), Application: ap.Application, Scope: vault.Scope()})
				}
			}
		}
		return all, nil
	}
	roles, action := v.roles, p.action()
	if vault.Flavour == ManagedHSM {
		roles, action = rbac.HSMRoles, localAction(action)
	}
	held, err := tx.RoleAssignmentsAt(scope, false)
	if err != nil {
		return nil, err
	}
	for _, as := range held {
		if as.Tenant != vault.Tenant {
			continue
		}
		if _, ok := rbac.Allowed(roles, []rbac.Assignment{as}, action, true, scope); ok {
			all = append(all, Holder{Principal: as.Principal, Type: as.PrincipalType, Assignment: as.ID, Role: as.Role, Scope: as.Scope})
		}
	}
	return all, nil
}

// KeyPermissions returns all permissions on keys that there are.
func KeyPermissions() []KeyPermission { return slices.Clone(keyPermissions) }
