package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Roles returns the part of the database that keeps role assignments.
func (db *DB) Roles() rbac.Store { return roleStore{db} }

type roleStore struct{ db *DB }

func (s roleStore) View(ctx context.Context, fn func(rbac.Tx) error) error {
	return s.db.view(ctx, func(t *tx) error { return fn(t) })
}

func (s roleStore) Update(ctx context.Context, fn func(rbac.Tx) error) error {
	return s.db.update(ctx, func(t *tx) error { return fn(t) })
}

const assignmentColumns = "SELECT id, tenant, principal, principal_type, role_definition, scope, created, created_by, expires FROM role_assignment"

func scanAssignment(scan func(into ...any) error) (rbac.Assignment, error) {
	var a rbac.Assignment
	var created, expires int64
	err := scan(&a.ID, &a.Tenant, &a.Principal, &a.PrincipalType, &a.Role, &a.Scope, &created, &a.CreatedBy, &expires)
	a.Created, a.Expires = time.UnixMicro(created).UTC(), fromMicros(expires)
	return a, err
}

func (t *tx) assignments(where string, args ...any) ([]rbac.Assignment, error) {
	var all []rbac.Assignment
	err := t.rows(assignmentColumns+" "+where, args, func(scan func(into ...any) error) error {
		a, err := scanAssignment(scan)
		all = append(all, a)
		return err
	})
	return all, err
}

// inScopes returns the end of a query for one of n scope keys. A scope has a
// bounded depth, so there are few such queries to prepare.
func inScopes(n int) string {
	return "scope_key IN (?" + strings.Repeat(", ?", n-1) + ")"
}

// below returns the bounds between which the keys of all scopes below scope lie.
// The byte after "/" is "0".
func below(scope rbac.Scope) (from, to string) {
	prefix := strings.TrimSuffix(scope.Key(), "/")
	return prefix + "/", prefix + "0"
}

// RoleAssignments implements [rbac.Tx].
func (t *tx) RoleAssignments(principals []identity.PrincipalID, scope rbac.Scope) ([]rbac.Assignment, error) {
	scope, err := rbac.ParseScope(string(scope))
	if err != nil {
		return nil, err
	}
	ancestors := scope.Ancestors()
	where := "WHERE principal = ? AND " + inScopes(len(ancestors)) + " ORDER BY id"
	args := make([]any, 1+len(ancestors))
	for i, s := range ancestors {
		args[i+1] = s
	}
	var all []rbac.Assignment
	for _, p := range principals {
		args[0] = string(p)
		of, err := t.assignments(where, args...)
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

// RoleAssignmentsAt implements [rbac.Tx].
func (t *tx) RoleAssignmentsAt(scope rbac.Scope, alsoBelow bool) ([]rbac.Assignment, error) {
	scope, err := rbac.ParseScope(string(scope))
	if err != nil {
		return nil, err
	}
	var args []any
	for _, s := range scope.Ancestors() {
		args = append(args, s)
	}
	where := "WHERE " + inScopes(len(args))
	if alsoBelow {
		from, to := below(scope)
		where += " OR (scope_key > ? AND scope_key < ?)"
		args = append(args, from, to)
	}
	return t.assignments(where+" ORDER BY id", args...)
}

// RoleAssignment implements [rbac.Tx].
func (t *tx) RoleAssignment(id string) (rbac.Assignment, error) {
	a, err := scanAssignment(func(into ...any) error {
		return t.row(assignmentColumns+" WHERE id = ?", []any{strings.ToLower(id)}, into...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return rbac.Assignment{}, assignmentNotFound(id)
	}
	return a, err
}

// PutRoleAssignment implements [rbac.Tx].
func (t *tx) PutRoleAssignment(a rbac.Assignment) error {
	scope, err := rbac.ParseScope(string(a.Scope))
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO role_assignment
		(id, tenant, principal, principal_type, role_definition, scope, scope_key, created, created_by, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		strings.ToLower(a.ID), string(a.Tenant), string(a.Principal), string(a.PrincipalType), strings.ToLower(string(a.Role)),
		string(scope), scope.Key(), a.Created.UnixMicro(), string(a.CreatedBy), micros(a.Expires))
	if isConstraint(err) {
		return fault.New(fault.RoleAssignmentExists, "The role assignment exists already.").About(a.ID)
	}
	return err
}

// DeleteRoleAssignment implements [rbac.Tx].
func (t *tx) DeleteRoleAssignment(id string) error {
	n, err := t.exec("DELETE FROM role_assignment WHERE id = ?", strings.ToLower(id))
	if err == nil && n == 0 {
		return assignmentNotFound(id)
	}
	return err
}

// DeleteRoleAssignmentsBelow implements [rbac.Tx].
func (t *tx) DeleteRoleAssignmentsBelow(scope rbac.Scope) error {
	scope, err := rbac.ParseScope(string(scope))
	if err != nil {
		return err
	}
	from, to := below(scope)
	_, err = t.exec("DELETE FROM role_assignment WHERE scope_key = ? OR (scope_key > ? AND scope_key < ?)", scope.Key(), from, to)
	return err
}

// RoleAssignmentsExpired implements [workspace.Tx].
func (t *tx) RoleAssignmentsExpired(now time.Time) ([]rbac.Assignment, error) {
	return t.assignments("WHERE expires > 0 AND expires <= ? ORDER BY id", micros(now))
}

func assignmentNotFound(id string) error {
	return fault.New(fault.RoleAssignmentNotFound, "There is no such role assignment.").About(id)
}
