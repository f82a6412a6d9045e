package store

import (
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Roles returns the part of the database that keeps role assignments.
func (d Domains) Roles() rbac.Store {
	return domain[rbac.Tx]{d.runner, func(t *Tx) rbac.Tx { return t }}
}

const assignmentColumns = "SELECT id, tenant, principal, principal_type, role_definition, scope, created, created_by, expires FROM role_assignment"

func scanAssignment(scan func(into ...any) error) (rbac.Assignment, error) {
	var a rbac.Assignment
	var created, expires int64
	err := scan(&a.ID, &a.Tenant, &a.Principal, &a.PrincipalType, &a.Role, &a.Scope, &created, &a.CreatedBy, &expires)
	a.Created, a.Expires = time.UnixMicro(created).UTC(), fromMicros(expires)
	return a, err
}

func (t *Tx) assignments(where string, args ...any) ([]rbac.Assignment, error) {
	var all []rbac.Assignment
	err := t.rows(assignmentColumns+" "+where, args, func(scan func(into ...any) error) error {
		a, err := scanAssignment(scan)
		all = append(all, a)
		return err
	})
	return all, err
}

// inScopes returns the end of a query for one of n scope keys, the first of which
// is the query's argument with that number. A scope has a bounded depth, so there
// are few such queries to prepare.
func inScopes(first, n int) string {
	in := make([]string, n)
	for i := range in {
		in[i] = nth(first + i)
	}
	return "scope_key IN (" + strings.Join(in, ", ") + ")"
}

// below returns the bounds between which the keys of all scopes below scope lie.
// The byte after "/" is "0".
func below(scope rbac.Scope) (from, to string) {
	prefix := strings.TrimSuffix(scope.Key(), "/")
	return prefix + "/", prefix + "0"
}

// RoleAssignments implements [rbac.Tx].
func (t *Tx) RoleAssignments(principals []identity.PrincipalID, scope rbac.Scope) ([]rbac.Assignment, error) {
	scope, err := rbac.ParseScope(string(scope))
	if err != nil {
		return nil, err
	}
	ancestors := scope.Ancestors()
	where := "WHERE principal = $1 AND " + inScopes(2, len(ancestors)) + " ORDER BY id"
	args := make([]any, 1+len(ancestors))
	for i, s := range ancestors {
		args[i+1] = s
	}
	var all []rbac.Assignment
	for _, p := range principals {
		args[0] = string(p)
		about := func(of []rbac.Assignment) (int, rowKey) { return 400 * len(of), rowKey{} }
		of, _, err := recallOne(t, rowKey{rolesHeld, string(p), ancestors[0]}, about, func() ([]rbac.Assignment, bool, error) {
			of, err := t.assignments(where, args...)
			return of, true, err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

// RoleAssignmentsAt implements [rbac.Tx].
func (t *Tx) RoleAssignmentsAt(scope rbac.Scope, alsoBelow bool) ([]rbac.Assignment, error) {
	scope, err := rbac.ParseScope(string(scope))
	if err != nil {
		return nil, err
	}
	var args []any
	for _, s := range scope.Ancestors() {
		args = append(args, s)
	}
	where := "WHERE " + inScopes(1, len(args))
	if alsoBelow {
		from, to := below(scope)
		args = append(args, from, to)
		where += " OR (scope_key > " + nth(len(args)-1) + " AND scope_key < " + nth(len(args)) + ")"
	}
	return t.assignments(where+" ORDER BY id", args...)
}

// RoleAssignment implements [rbac.Tx].
func (t *Tx) RoleAssignment(id string) (rbac.Assignment, error) {
	a, err := scanAssignment(func(into ...any) error {
		return t.row(assignmentColumns+" WHERE id = $1", []any{strings.ToLower(id)}, into...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return rbac.Assignment{}, assignmentNotFound(id)
	}
	return a, err
}

// PutRoleAssignment implements [rbac.Tx].
func (t *Tx) PutRoleAssignment(a rbac.Assignment) error {
	scope, err := rbac.ParseScope(string(a.Scope))
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO role_assignment
		(id, tenant, principal, principal_type, role_definition, scope, scope_key, created, created_by, expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		strings.ToLower(a.ID), string(a.Tenant), string(a.Principal), string(a.PrincipalType), strings.ToLower(string(a.Role)),
		string(scope), scope.Key(), a.Created.UnixMicro(), string(a.CreatedBy), micros(a.Expires))
	if isConstraint(err) {
		return fault.New(fault.RoleAssignmentExists, "The role assignment exists already.").About(a.ID)
	}
	return err
}

// DeleteRoleAssignment implements [rbac.Tx].
func (t *Tx) DeleteRoleAssignment(id string) error {
	n, err := t.exec("DELETE FROM role_assignment WHERE id = $1", strings.ToLower(id))
	if err == nil && n == 0 {
		return assignmentNotFound(id)
	}
	return err
}

// DeleteRoleAssignmentsBelow implements [rbac.Tx].
func (t *Tx) DeleteRoleAssignmentsBelow(scope rbac.Scope) error {
	scope, err := rbac.ParseScope(string(scope))
	if err != nil {
		return err
	}
	from, to := below(scope)
	_, err = t.exec("DELETE FROM role_assignment WHERE scope_key = $1 OR (scope_key > $2 AND scope_key < $3)", scope.Key(), from, to)
	return err
}

// RoleAssignmentsExpired implements [workspace.Tx].
func (t *Tx) RoleAssignmentsExpired(now time.Time) ([]rbac.Assignment, error) {
	return t.assignments("WHERE expires > 0 AND expires <= $1 ORDER BY id", micros(now))
}

func assignmentNotFound(id string) error {
	return fault.New(fault.RoleAssignmentNotFound, "There is no such role assignment.").About(id)
}
