package vault

import (
	"context"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Grant is a role to be given at a scope.
type Grant struct {
	ID            string // UUID, chosen by the caller
	Scope         rbac.Scope
	Principal     identity.PrincipalID
	PrincipalType identity.PrincipalType
	Role          rbac.RoleID
	Condition     string // must be empty: a condition that is not checked would widen the grant
}

// RoleDefinitions returns the roles that can be given. They are the same for
// everybody.
func (v *Vaults) RoleDefinitions() []rbac.RoleDefinition { return v.roles.All() }

// PutRoleAssignment gives a role, which the caller may do only with the right to
// give that role there; created is false if the very same assignment existed.
func (v *Vaults) PutRoleAssignment(ctx context.Context, c identity.Caller, g Grant) (as rbac.Assignment, created bool, err error) {
	scope, err := rbac.ParseScope(string(g.Scope))
	if err != nil {
		return as, false, err
	}
	a := begin(c, "RoleAssignmentPut", scope)
	err = v.write(ctx, a, func(tx Tx) error {
		if err := v.governs(tx, a, rbac.RoleAssignmentsWrite, g.Role, scope); err != nil {
			return err
		}
		if err := scopeExists(tx, scope); err != nil {
			return err
		}
		as = rbac.Assignment{
			ID: strings.ToLower(g.ID), Tenant: c.Tenant, Principal: identity.PrincipalID(strings.ToLower(string(g.Principal))),
			PrincipalType: g.PrincipalType, Role: rbac.RoleID(strings.ToLower(string(g.Role))), Scope: scope,
			Created: v.clock(), CreatedBy: c.Principal,
		}
		if err := v.checkGrant(as, g.Condition); err != nil {
			return err
		}
		a.note("assigned", as.ID)
		a.note("principal", string(as.Principal))
		a.note("role", string(as.Role))
		old, err := tx.RoleAssignment(as.ID)
		switch {
		case err == nil && old.Tenant == as.Tenant && old.Principal == as.Principal && old.Role == as.Role && old.Scope.Key() == as.Scope.Key():
			as = old
			return nil
		case err == nil:
			return fault.New(fault.RoleAssignmentExists, "A role assignment cannot be changed: its id is taken by another.").WithMend("Delete that one, or use a new id.")
		case fault.ReasonOf(err) != fault.RoleAssignmentNotFound:
			return err
		}
		if err := v.checkDuties(tx, a, as); err != nil {
			return err
		}
		created = true
		if err := tx.PutRoleAssignment(as); err != nil {
			return err
		}
		return v.rightsChanged(tx, a, as, RoleAssigned)
	})
	return as, created, err
}

func (v *Vaults) checkGrant(as rbac.Assignment, condition string) error {
	switch {
	case !uuidPattern.MatchString(as.ID):
		return fault.New(fault.InvalidArgument, "The role assignment's name must be a UUID.")
	case !uuidPattern.MatchString(string(as.Principal)):
		return fault.New(fault.InvalidArgument, "principalId must be a UUID.")
	case condition != "":
		return fault.New(fault.NotSupported, "Conditions on role assignments are not supported.")
	case !slices.Contains([]identity.PrincipalType{"", identity.User, identity.Group, identity.ServicePrincipal}, as.PrincipalType):
		return fault.New(fault.NotSupported, "principalType must be User, Group or ServicePrincipal.")
	}
	if _, ok := v.roles.Lookup(as.Role); !ok {
		return fault.New(fault.RoleDefinitionNotFound, "The specified role definition does not exist.").About(string(as.Role))
	}
	return nil
}

// DeleteRoleAssignment takes a role away, which needs the right to do so where it
// was given. scope is where the caller looks for it.
func (v *Vaults) DeleteRoleAssignment(ctx context.Context, c identity.Caller, scope rbac.Scope, id string) (as rbac.Assignment, err error) {
	if scope, err = rbac.ParseScope(string(scope)); err != nil {
		return as, err
	}
	a := begin(c, "RoleAssignmentDelete", scope)
	err = v.write(ctx, a, func(tx Tx) error {
		if as, err = v.assignment(tx, a, rbac.RoleAssignmentsDelete, scope, id); err != nil {
			return err
		}
		a.note("principal", string(as.Principal))
		a.note("role", string(as.Role))
		if err := tx.DeleteRoleAssignment(as.ID); err != nil {
			return err
		}
		return v.rightsChanged(tx, a, as, RoleRemoved)
	})
	return as, err
}

// RoleAssignment returns one that was given at the scope or above it.
func (v *Vaults) RoleAssignment(ctx context.Context, c identity.Caller, scope rbac.Scope, id string) (as rbac.Assignment, err error) {
	if scope, err = rbac.ParseScope(string(scope)); err != nil {
		return as, err
	}
	a := begin(c, "RoleAssignmentGet", scope)
	err = v.read(ctx, a, func(tx Tx) error {
		as, err = v.assignment(tx, a, rbac.RoleAssignmentsRead, scope, id)
		return err
	})
	return as, err
}

// assignment returns one of the caller's tenant that reaches scope, and authorises
// where it was given. One that is not there is reported only to who may act at
// the scope asked for.
func (v *Vaults) assignment(tx Tx, a *act, action rbac.Action, scope rbac.Scope, id string) (rbac.Assignment, error) {
	as, err := tx.RoleAssignment(id)
	missing := fault.ReasonOf(err) == fault.RoleAssignmentNotFound ||
		err == nil && (as.Tenant != a.caller.Tenant || !as.Scope.Contains(scope) || !v.governed(as))
	if err != nil && !missing {
		return as, err
	}
	if missing {
		if err := v.governs(tx, a, action, "", scope); err != nil {
			return as, err
		}
		return as, fault.New(fault.RoleAssignmentNotFound, "There is no such role assignment at the scope.").About(id)
	}
	a.entry.Resource = string(as.Scope)
	a.note("assigned", as.ID)
	return as, v.governs(tx, a, action, as.Role, as.Scope)
}

// RoleAssignments lists what was given at a scope and above it, and below it too
// if below is set.
func (v *Vaults) RoleAssignments(ctx context.Context, c identity.Caller, scope rbac.Scope, below bool) (all []rbac.Assignment, err error) {
	if scope, err = rbac.ParseScope(string(scope)); err != nil {
		return nil, err
	}
	a := begin(c, "RoleAssignmentList", scope)
	err = v.read(ctx, a, func(tx Tx) error {
		if err := v.governs(tx, a, rbac.RoleAssignmentsRead, "", scope); err != nil {
			return err
		}
		all, err = tx.RoleAssignmentsAt(scope, below)
		all = slices.DeleteFunc(all, func(as rbac.Assignment) bool { return as.Tenant != c.Tenant || !v.governed(as) })
		return err
	})
	return all, err
}

// governs checks that the scope is one of the caller's tenant and that the caller
// may do action there: to the role, or to any if role is "". What the scope names
// need not exist any more: roles at a soft-deleted vault can still be taken away.
func (v *Vaults) governs(tx Tx, a *act, action rbac.Action, role rbac.RoleID, scope rbac.Scope) error {
	if scope != "/" {
		seg := strings.Split(scope.Key()[1:], "/")
		if len(seg) < 2 || seg[0] != "subscriptions" {
			return fault.New(fault.InvalidArgument, "The scope is not one of a subscription.")
		}
		if _, err := subscription(tx, a.caller, seg[1]); err != nil {
			return err
		}
	}
	held, err := rbac.Held(tx, a.caller, scope)
	if err != nil {
		return err
	}
	by, ok := rbac.Allowed(v.roles, held, action, false, scope)
	for _, d := range v.roles.All() {
		if !ok && (role == "" || strings.EqualFold(string(d.ID), string(role))) {
			by, ok = rbac.MayGrant(v.roles, held, action, d.ID, scope)
		}
	}
	if !ok || a.caller.Principal == "" {
		return denied(a.caller, a.caller.Tenant, action, scope)
	}
	a.note("assignment", by.ID)
	return nil
}

// scopeExists checks that a scope that governs has let pass names something. A key
// need not exist yet: roles may be given before it does.
func scopeExists(tx Tx, scope rbac.Scope) error {
	seg := strings.Split(scope.Key()[1:], "/")
	if len(seg) <= 2 { // everything, or a subscription
		return nil
	}
	if seg[2] != "resourcegroups" || len(seg) < 4 {
		return fault.New(fault.InvalidArgument, "The scope is not one of a resource group.")
	}
	if _, err := tx.VaultGroup(seg[1], seg[3]); err != nil || len(seg) == 4 {
		return err
	}
	isVault := len(seg) >= 8 && seg[4] == "providers" && seg[5] == "microsoft.keyvault" && (seg[6] == "vaults" || seg[6] == "managedhsms" && len(seg) == 8)
	isKey := isVault && len(seg) == 10 && seg[8] == "keys" && keyNamePattern.MatchString(seg[9])
	if !isVault || len(seg) > 8 && !isKey {
		return fault.New(fault.InvalidArgument, "The scope names no vault and no key in one.")
	}
	vault, err := liveVault(tx, Name(seg[7]))
	if err == nil && !vault.Scope().Contains(scope) || fault.ReasonOf(err) == fault.VaultNotFound {
		return fault.New(fault.ResourceNotFound, "The scope's vault was not found.")
	}
	return err
}

// rightsChanged tells every vault that an assignment reaches, or lies in, whose
// rights it changed.
func (v *Vaults) rightsChanged(tx Tx, a *act, as rbac.Assignment, kind Kind) error {
	all, err := tx.Vaults(as.Tenant)
	if err != nil {
		return err
	}
	for _, vault := range all {
		c := Change{Vault: vault.ID, Principal: as.Principal, Kind: kind}
		switch {
		case as.Scope.Contains(vault.Scope()):
		case vault.Scope().Contains(as.Scope):
			c.Key = KeyName(strings.TrimPrefix(as.Scope.Key(), vault.Scope().Key()+"/keys/"))
			if k, err := tx.VaultKey(vault.ID, c.Key); err == nil {
				c.Key = k.Name // as it is shown elsewhere
			}
		default:
			continue
		}
		if err := v.changed(tx, a, c); err != nil {
			return err
		}
	}
	return nil
}

// governed reports whether an assignment is one of Resource Manager's roles, and not
// a managed HSM's own.
func (v *Vaults) governed(as rbac.Assignment) bool {
	_, ok := v.roles.Lookup(as.Role)
	return ok
}
