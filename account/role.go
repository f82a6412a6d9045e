package account

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Grant is a role to be given at an account.
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
func (a *Accounts) RoleDefinitions() []rbac.RoleDefinition { return rbac.AccountRoles.All() }

// governs checks that the scope is one of the caller's subscriptions, or lies below
// it, and that the caller may do action to the role there, or to any if role is "".
func (a *Accounts) governs(tx Tx, c identity.Caller, action rbac.Action, role rbac.RoleID, scope rbac.Scope) error {
	seg := strings.Split(strings.Trim(string(scope), "/"), "/")
	if len(seg) < 2 || !strings.EqualFold(seg[0], "subscriptions") {
		return fault.New(fault.InvalidArgument, "The scope is not one of a subscription.")
	}
	if _, err := a.subscription(c, seg[1]); err != nil {
		return err
	}
	held, err := rbac.Held(tx, c, scope)
	if err != nil {
		return err
	}
	ok := false
	if role != "" {
		_, ok = rbac.MayGrant(rbac.AccountRoles, held, action, role, scope)
	} else {
		_, ok = rbac.Allowed(rbac.AccountRoles, held, action, false, scope)
	}
	if !ok {
		return denied(action, scope)
	}
	return nil
}

// begin checks a scope and starts the entry of an act on its role assignments.
func (a *Accounts) begin(c identity.Caller, operation string, s rbac.Scope) (rbac.Scope, audit.Entry, error) {
	scope, err := rbac.ParseScope(string(s))
	e := c.Entry(operation, string(scope))
	e.Detail = map[string]string{}
	return scope, e, err
}

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// PutRoleAssignment gives a role, which the caller may do only with the right to give
// that role there; created is false if the very same assignment existed.
func (a *Accounts) PutRoleAssignment(ctx context.Context, c identity.Caller, g Grant) (as rbac.Assignment, created bool, err error) {
	scope, e, err := a.begin(c, "PutRoleAssignment", g.Scope)
	if err != nil {
		return as, false, a.record(ctx, e, err)
	}
	as = rbac.Assignment{
		ID: strings.ToLower(g.ID), Tenant: c.Tenant, Principal: identity.PrincipalID(strings.ToLower(string(g.Principal))),
		PrincipalType: g.PrincipalType, Role: rbac.RoleID(strings.ToLower(string(g.Role))), Scope: scope,
		Created: a.time(), CreatedBy: c.Principal,
	}
	err = a.write(ctx, &e, func(tx Tx) error {
		if err := a.governs(tx, c, rbac.RoleAssignmentsWrite, as.Role, scope); err != nil {
			return err
		}
		if err := checkGrant(as, g.Condition); err != nil {
			return err
		}
		e.Detail["assigned"], e.Detail["principal"], e.Detail["role"] = as.ID, string(as.Principal), string(as.Role)
		old, err := tx.RoleAssignment(as.ID)
		switch {
		case err == nil && old.Tenant == as.Tenant && old.Principal == as.Principal && old.Role == as.Role && old.Scope.Key() == scope.Key():
			as, created = old, false
			return nil
		case err == nil:
			return fault.New(fault.RoleAssignmentExists, "A role assignment cannot be changed: its id is taken by another.").WithMend("Delete that one, or use a new id.")
		case !errors.Is(err, fault.RoleAssignmentNotFound):
			return err
		}
		created = true
		return tx.PutRoleAssignment(as)
	})
	return as, created, err
}

func checkGrant(as rbac.Assignment, condition string) error {
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
	if _, ok := rbac.AccountRoles.Lookup(as.Role); !ok {
		return fault.New(fault.RoleDefinitionNotFound, "The specified role definition does not exist.").About(string(as.Role))
	}
	return nil
}

// assignment returns one of the caller's tenant that reaches scope, and authorises
// where it was given.
func (a *Accounts) assignment(tx Tx, c identity.Caller, e *audit.Entry, action rbac.Action, scope rbac.Scope, id string) (rbac.Assignment, error) {
	as, err := tx.RoleAssignment(strings.ToLower(id))
	missing := errors.Is(err, fault.RoleAssignmentNotFound) || err == nil && (as.Tenant != c.Tenant || !as.Scope.Contains(scope))
	switch {
	case missing:
		if err := a.governs(tx, c, action, "", scope); err != nil {
			return as, err
		}
		return as, fault.New(fault.RoleAssignmentNotFound, "There is no such role assignment at the scope.").About(id)
	case err != nil:
		return as, err
	}
	e.Resource = string(as.Scope)
	e.Detail["assigned"], e.Detail["principal"], e.Detail["role"] = as.ID, string(as.Principal), string(as.Role)
	return as, a.governs(tx, c, action, as.Role, as.Scope)
}

// DeleteRoleAssignment takes a role away, which needs the right to do so where it was
// given. scope is where the caller looks for it.
func (a *Accounts) DeleteRoleAssignment(ctx context.Context, c identity.Caller, s rbac.Scope, id string) (as rbac.Assignment, err error) {
	scope, e, err := a.begin(c, "DeleteRoleAssignment", s)
	if err != nil {
		return as, a.record(ctx, e, err)
	}
	err = a.write(ctx, &e, func(tx Tx) error {
		if as, err = a.assignment(tx, c, &e, rbac.RoleAssignmentsDelete, scope, id); err != nil {
			return err
		}
		return tx.DeleteRoleAssignment(as.ID)
	})
	return as, err
}

// RoleAssignment returns one that was given at the scope or above it.
func (a *Accounts) RoleAssignment(ctx context.Context, c identity.Caller, s rbac.Scope, id string) (as rbac.Assignment, err error) {
	scope, e, err := a.begin(c, "GetRoleAssignment", s)
	if err != nil {
		return as, a.record(ctx, e, err)
	}
	err = a.store.View(ctx, func(tx Tx) error {
		as, err = a.assignment(tx, c, &e, rbac.RoleAssignmentsRead, scope, id)
		return err
	})
	return as, a.record(ctx, e, err)
}

// RoleAssignments lists what was given at a scope and above it, and below it too if
// below is set.
func (a *Accounts) RoleAssignments(ctx context.Context, c identity.Caller, s rbac.Scope, below bool) (all []rbac.Assignment, err error) {
	scope, e, err := a.begin(c, "ListRoleAssignments", s)
	if err != nil {
		return nil, a.record(ctx, e, err)
	}
	err = a.read(ctx, e, func(tx Tx) error {
		if err := a.governs(tx, c, rbac.RoleAssignmentsRead, "", scope); err != nil {
			return err
		}
		all, err = tx.RoleAssignmentsAt(scope, below)
		all = slices.DeleteFunc(all, func(as rbac.Assignment) bool {
			_, ours := rbac.AccountRoles.Lookup(as.Role)
			return as.Tenant != c.Tenant || !ours
		})
		return err
	})
	return all, err
}

// Provision gives a tenant's first roles at its subscriptions, as configuration says
// and nobody's token. It may be repeated; a role that was since taken away is given
// again, so a server calls it when it makes its data directory and not at each start.
func (a *Accounts) Provision(ctx context.Context, tenant identity.TenantID, first ...rbac.Assignment) error {
	e := identity.Caller{Tenant: tenant}.Entry("ProvisionSubscription", "/tenants/"+string(tenant))
	return a.write(ctx, &e, func(tx Tx) error {
		for _, as := range first {
			as.ID, as.Tenant, as.Created = uuid.NewString(), tenant, a.time()
			if err := tx.PutRoleAssignment(as); err != nil && !errors.Is(err, fault.RoleAssignmentExists) {
				return err
			}
			e := e
			e.Operation, e.Resource = "PutRoleAssignment", string(as.Scope)
			e.Detail = map[string]string{"assigned": as.ID, "principal": string(as.Principal), "role": string(as.Role)}
			if err := tx.AppendAudit(e); err != nil {
				return err
			}
		}
		return nil
	})
}
