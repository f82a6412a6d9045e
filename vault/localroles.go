package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// authoriseLocal authorises by a managed HSM's own roles. What Resource Manager's
// roles allow does not count: they are unknown to them.
func (v *Vaults) authoriseLocal(tx Tx, a *act, vault Vault, action rbac.Action, scope rbac.Scope) error {
	if !of(a.caller, vault.Tenant) {
		return denied(a.caller, vault.Tenant, action, scope)
	}
	by, ok, err := rbac.Check(tx, rbac.HSMRoles, a.caller, action, true, scope)
	switch {
	case err != nil:
		return err
	case !ok:
		return fault.New(fault.Denied, fmt.Sprintf(
			"User %s is not authorized to perform operation %s at scope %s of the managed HSM.", a.caller.Principal, action, vault.local(scope))).
			WithMend("Give it one of the managed HSM's own roles that holds the operation.")
	}
	a.note("assignment", by.ID)
	a.until = by.Expires
	return nil
}

// local returns a scope as the managed HSM's own API names it: "/", "/keys" or
// "/keys/NAME".
func (v Vault) local(scope rbac.Scope) string {
	if rest := string(scope)[min(len(v.Scope()), len(scope)):]; rest != "" {
		return rest
	}
	return "/"
}

// LocalScope returns the scope at which an assignment of one of the managed HSM's
// own roles was given, as its API names it.
func (v Vault) LocalScope(as rbac.Assignment) string { return v.local(as.Scope) }

// ParseLocalScope checks a scope within a managed HSM.
func ParseLocalScope(s string) (string, error) {
	s = "/" + strings.Trim(s, "/")
	name, isKey := strings.CutPrefix(strings.ToLower(s), "/keys/")
	switch {
	case s == "/":
	case strings.EqualFold(s, "/keys"):
		s = "/keys"
	case isKey && keyNamePattern.MatchString(name):
		s = "/keys/" + s[len(s)-len(name):]
	default:
		return "", fault.New(fault.InvalidArgument, "The scope must be /, /keys or /keys/NAME.")
	}
	return s, nil
}

// within is the reverse of local.
func (v Vault) within(local string) rbac.Scope {
	return v.Scope() + rbac.Scope(strings.TrimSuffix(local, "/"))
}

// enterLocal finds a live managed HSM and authorises an action on its roles.
func (v *Vaults) enterLocal(tx Tx, a *act, name Name, local string, action rbac.Action) (Vault, rbac.Scope, error) {
	vault, err := liveVault(tx, name)
	if err == nil && vault.Flavour != ManagedHSM {
		err = fault.New(fault.NotFound, "Only managed HSMs have roles of their own.").WithMend("Give role assignments through Resource Manager.")
	}
	if err != nil {
		return vault, "", err
	}
	scope := vault.within(local)
	a.entry.Resource = string(scope)
	a.note("vault", string(vault.ID))
	if of(a.caller, vault.Tenant) {
		if err := v.admits(vault, a.caller); err != nil {
			return vault, scope, err
		}
	}
	if err := v.authoriseLocal(tx, a, vault, action, scope); err != nil {
		return vault, scope, err
	}
	return vault, scope, vault.activated()
}

// LocalRoles returns the roles of a managed HSM's own.
func (v *Vaults) LocalRoles(ctx context.Context, c identity.Caller, name Name, local string) ([]rbac.RoleDefinition, error) {
	a := begin(c, "RoleDefinitionList", "")
	err := v.read(ctx, a, func(tx Tx) error {
		_, _, err := v.enterLocal(tx, a, name, local, rbac.HSMDefinitionsRead)
		return err
	})
	return rbac.HSMRoles.All(), err
}

// PutLocalRoleAssignment gives one of a managed HSM's own roles, at a scope within
// it. The very same assignment may be given again.
func (v *Vaults) PutLocalRoleAssignment(ctx context.Context, c identity.Caller, name Name, local string, g Grant) (vault Vault, as rbac.Assignment, err error) {
	a := begin(c, "RoleAssignmentPut", "")
	err = v.write(ctx, a, func(tx Tx) error {
		var scope rbac.Scope
		if vault, scope, err = v.enterLocal(tx, a, name, local, rbac.HSMAssignmentsWrite); err != nil {
			return err
		}
		g.Scope = scope
		as, err = v.giveLocal(tx, a, vault, g)
		return err
	})
	return vault, as, err
}

// giveLocal adds an assignment, once its giving is authorised.
func (v *Vaults) giveLocal(tx Tx, a *act, vault Vault, g Grant) (rbac.Assignment, error) {
	as := rbac.Assignment{
		ID: strings.ToLower(g.ID), Tenant: vault.Tenant, Principal: identity.PrincipalID(strings.ToLower(string(g.Principal))),
		PrincipalType: g.PrincipalType, Role: rbac.RoleID(strings.ToLower(string(g.Role))), Scope: g.Scope,
		Created: v.clock(), CreatedBy: a.caller.Principal,
	}
	switch _, known := rbac.HSMRoles.Lookup(as.Role); {
	case !uuidPattern.MatchString(as.ID):
		return as, fault.New(fault.InvalidArgument, "The role assignment's name must be a UUID.")
	case !uuidPattern.MatchString(string(as.Principal)):
		return as, fault.New(fault.InvalidArgument, "principalId must be a UUID.")
	case !known:
		return as, fault.New(fault.RoleDefinitionNotFound, "The managed HSM has no such role.").About(string(as.Role))
	}
	a.note("assigned", as.ID)
	a.note("principal", string(as.Principal))
	a.note("role", string(as.Role))
	old, err := tx.RoleAssignment(as.ID)
	switch {
	case err == nil && old.Tenant == as.Tenant && old.Principal == as.Principal && old.Role == as.Role && old.Scope.Key() == as.Scope.Key():
		return old, nil
	case err == nil:
		return as, fault.New(fault.RoleAssignmentExists, "A role assignment cannot be changed: its id is taken by another.").WithMend("Delete that one, or use a new id.")
	case fault.ReasonOf(err) != fault.RoleAssignmentNotFound:
		return as, err
	}
	if err := v.checkDuties(tx, a, as); err != nil {
		return as, err
	}
	if err := tx.PutRoleAssignment(as); err != nil {
		return as, err
	}
	return as, v.rightsChanged(tx, a, as, RoleAssigned)
}

// appoint gives a new managed HSM its first administrators.
func (v *Vaults) appoint(tx Tx, a *act, vault *Vault, admins *[]identity.PrincipalID) error {
	if v.hsm == nil {
		return fault.New(fault.NotSupported, "No HSM is configured, so there are no managed HSMs.")
	}
	if admins == nil || len(*admins) == 0 {
		return fault.New(fault.InvalidArgument, "A managed HSM needs initialAdminObjectIds.")
	}
	if v.activate {
		vault.Activated = vault.Created
	}
	vault.Admins = slices.Clone(*admins)
	for _, p := range vault.Admins {
		_, err := v.giveLocal(tx, a, *vault, Grant{ID: uuid.NewString(), Scope: vault.Scope(), Principal: p, Role: rbac.ManagedHSMAdministrator})
		if err != nil {
			return err
		}
	}
	return nil
}

// localAssignment returns one of a managed HSM's, given at the scope or above it.
func (v *Vaults) localAssignment(tx Tx, vault Vault, scope rbac.Scope, id string) (rbac.Assignment, error) {
	as, err := tx.RoleAssignment(strings.ToLower(id))
	_, own := rbac.HSMRoles.Lookup(as.Role)
	if fault.ReasonOf(err) == fault.RoleAssignmentNotFound || err == nil && (!own || !vault.Scope().Contains(as.Scope) || !as.Scope.Contains(scope)) {
		return as, fault.New(fault.RoleAssignmentNotFound, "There is no such role assignment at the scope.").About(id)
	}
	return as, err
}

// LocalRoleAssignment returns an assignment of one of a managed HSM's own roles.
func (v *Vaults) LocalRoleAssignment(ctx context.Context, c identity.Caller, name Name, local, id string) (vault Vault, as rbac.Assignment, err error) {
	a := begin(c, "RoleAssignmentGet", "")
	err = v.read(ctx, a, func(tx Tx) error {
		var scope rbac.Scope
		if vault, scope, err = v.enterLocal(tx, a, name, local, rbac.HSMAssignmentsRead); err != nil {
			return err
		}
		as, err = v.localAssignment(tx, vault, scope, id)
		return err
	})
	return vault, as, err
}

// DeleteLocalRoleAssignment takes it away.
func (v *Vaults) DeleteLocalRoleAssignment(ctx context.Context, c identity.Caller, name Name, local, id string) (vault Vault, as rbac.Assignment, err error) {
	a := begin(c, "RoleAssignmentDelete", "")
	err = v.write(ctx, a, func(tx Tx) error {
		var scope rbac.Scope
		if vault, scope, err = v.enterLocal(tx, a, name, local, rbac.HSMAssignmentsDelete); err != nil {
			return err
		}
		if as, err = v.localAssignment(tx, vault, scope, id); err != nil {
			return err
		}
		if as.Scope.Key() != scope.Key() { // the right must hold where it was given
			if err := v.authoriseLocal(tx, a, vault, rbac.HSMAssignmentsDelete, as.Scope); err != nil {
				return err
			}
		}
		a.note("assigned", as.ID)
		a.note("principal", string(as.Principal))
		a.note("role", string(as.Role))
		if err := tx.DeleteRoleAssignment(as.ID); err != nil {
			return err
		}
		return v.rightsChanged(tx, a, as, RoleRemoved)
	})
	return vault, as, err
}

// LocalRoleAssignments lists those at the scope, above it within the managed HSM,
// and below it.
func (v *Vaults) LocalRoleAssignments(ctx context.Context, c identity.Caller, name Name, local string) (vault Vault, all []rbac.Assignment, err error) {
	a := begin(c, "RoleAssignmentList", "")
	err = v.read(ctx, a, func(tx Tx) error {
		var scope rbac.Scope
		if vault, scope, err = v.enterLocal(tx, a, name, local, rbac.HSMAssignmentsRead); err != nil {
			return err
		}
		all, err = tx.RoleAssignmentsAt(scope, true)
		all = slices.DeleteFunc(all, func(as rbac.Assignment) bool {
			_, own := rbac.HSMRoles.Lookup(as.Role)
			return !own || !vault.Scope().Contains(as.Scope)
		})
		return err
	})
	return vault, all, err
}
