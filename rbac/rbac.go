// Package rbac says who may do what: role definitions, role assignments, scopes
// and the one evaluator of them, in the shape of Azure's role-based access
// control.
//
// A role definition lists actions (management) and data actions (use), with
// exceptions. An assignment gives a principal a role at a scope; it reaches that
// scope and everything below it. Nothing is allowed unless an assignment allows
// it. Each party keeps its own assignments in its own database.
//
// The package authorises nobody by itself: domain methods ask [Allowed] with the
// assignments that their own transaction read.
package rbac

import (
	"context"
	"strings"
	"time"

	"github.com/kluis-io/kluis/identity"
)

// A Scope is a path of Azure's or kluis's making under which rights are given:
// "/" is everything, "/subscriptions/S/resourceGroups/G/providers/Microsoft.KeyVault/vaults/V/keys/K"
// one key, "/workspaces/W" one workspace. Case does not matter.
type Scope string

// Key returns the canonical form, for comparing and for looking up: lower case,
// one leading slash, none trailing. Only ASCII letters change, so that no other
// character (the Kelvin sign, say) turns into one.
func (s Scope) Key() string {
	return "/" + fold(strings.Trim(string(s), "/"))
}

// Contains reports whether other is s or lies below it. A malformed scope
// contains nothing and lies nowhere.
func (s Scope) Contains(other Scope) bool {
	if !s.valid() || !other.valid() {
		return false
	}
	a, b := s.Key(), other.Key()
	return a == "/" || a == b || strings.HasPrefix(b, a+"/")
}

// Ancestors returns the canonical forms of the scope and of all scopes above it,
// "/" last.
func (s Scope) Ancestors() []string {
	k := s.Key()
	var out []string
	for k != "/" && k != "" {
		out = append(out, k)
		k = k[:strings.LastIndexByte(k, '/')]
	}
	return append(out, "/")
}

// A RoleID is the UUID of a role definition.
type RoleID string

// An Action names an operation, such as
// "Microsoft.KeyVault/vaults/keys/unwrap/action". Case does not matter.
type Action string

// A RoleDefinition says what a role allows. Patterns may hold "*", which stands
// for any run of characters.
type RoleDefinition struct {
	ID             RoleID
	Name           string
	Description    string
	Actions        []string
	NotActions     []string
	DataActions    []string
	NotDataActions []string

	// Grants, if not nil, lists the only roles that the definition's actions on role
	// assignments may give and take: Azure's condition on roleDefinitionId. To give
	// or take a role, such a definition counts in [MayGrant] and not in [Allowed].
	Grants []RoleID
}

// An Assignment gives a principal a role at a scope.
type Assignment struct {
	ID            string // UUID
	Tenant        identity.TenantID
	Principal     identity.PrincipalID
	PrincipalType identity.PrincipalType
	Role          RoleID
	Scope         Scope
	Created       time.Time
	CreatedBy     identity.PrincipalID
	Expires       time.Time // from then on it counts for nothing; zero for never
}

// Expired reports whether the assignment has ended.
func (a Assignment) Expired(now time.Time) bool { return !a.Expires.IsZero() && !now.Before(a.Expires) }

// A Store keeps a party's role assignments, for those who need nothing else of
// that party's database.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is the part of a store's transaction that keeps role assignments.
type Tx interface {
	// RoleAssignments returns the assignments of any of the principals whose
	// scope is scope or lies above it.
	RoleAssignments(principals []identity.PrincipalID, scope Scope) ([]Assignment, error)
	// RoleAssignmentsAt returns all assignments whose scope is scope, lies above
	// it, or, if below is set, lies below it.
	RoleAssignmentsAt(scope Scope, below bool) ([]Assignment, error)
	// RoleAssignment returns one, or [fault.RoleAssignmentNotFound].
	RoleAssignment(id string) (Assignment, error)
	// PutRoleAssignment adds one, or fails with [fault.RoleAssignmentExists] if
	// the id, or the same principal, role and scope, is taken.
	PutRoleAssignment(Assignment) error
	// DeleteRoleAssignment removes one, or fails with
	// [fault.RoleAssignmentNotFound].
	DeleteRoleAssignment(id string) error
	// DeleteRoleAssignmentsBelow removes those at scope and below it.
	DeleteRoleAssignmentsBelow(scope Scope) error
}
