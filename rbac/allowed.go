package rbac

import (
	"slices"
	"time"

	"github.com/kluis-io/kluis/identity"
)

// Allowed reports whether one of the assignments allows the action at the scope,
// and which. data says whether the action is a data action.
//
// An assignment counts if its scope is scope or lies above it and its role lists
// the action and does not except it. An exception takes away from its own role
// only: another assignment may still allow. An assignment of an unknown role, or
// anything at a malformed scope, allows nothing.
//
// The caller gives only assignments that are the asking principal's own, as
// [Check] does.
func Allowed(defs Definitions, assignments []Assignment, action Action, data bool, scope Scope) (Assignment, bool) {
	return find(defs, assignments, action, data, scope, func(d RoleDefinition) bool {
		return d.Grants == nil || !grants(action)
	})
}

// MayGrant is [Allowed] for giving or taking one role at a scope: action is
// [RoleAssignmentsWrite], [RoleAssignmentsDelete] or the platform's siblings of
// them. A role that ends by itself gives none on: it would not end.
func MayGrant(defs Definitions, assignments []Assignment, action Action, role RoleID, scope Scope) (Assignment, bool) {
	lasting := slices.DeleteFunc(slices.Clone(assignments), func(a Assignment) bool { return !a.Expires.IsZero() })
	return find(defs, lasting, action, false, scope, func(d RoleDefinition) bool {
		return d.Grants == nil || slices.ContainsFunc(d.Grants, func(id RoleID) bool { return fold(string(id)) == fold(string(role)) })
	})
}

// Check reads the caller's assignments in its own tenant and asks [Allowed].
func Check(tx Tx, defs Definitions, caller identity.Caller, action Action, data bool, scope Scope) (Assignment, bool, error) {
	held, err := Held(tx, caller, scope)
	if err != nil {
		return Assignment{}, false, err
	}
	a, ok := Allowed(defs, held, action, data, scope)
	return a, ok, nil
}

// Held reads the assignments that the caller holds at the scope or above it: its
// own and its groups', in its own tenant, that have not expired. The tenant matters because an object
// id is only as unique as the issuer that states it is honest. A storage account's
// key speaks for nobody, and is Storage Blob Data Owner of that account.
func Held(tx Tx, caller identity.Caller, scope Scope) ([]Assignment, error) {
	if caller.Account != "" {
		return []Assignment{{Tenant: caller.Tenant, Role: StorageBlobDataOwner, Scope: Scope(caller.Account)}}, nil
	}
	all, err := tx.RoleAssignments(caller.Subjects(), scope)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return slices.DeleteFunc(all, func(a Assignment) bool { return a.Tenant != caller.Tenant || a.Expired(now) }), nil
}

func find(defs Definitions, assignments []Assignment, action Action, data bool, scope Scope, counts func(RoleDefinition) bool) (Assignment, bool) {
	if action == "" {
		return Assignment{}, false
	}
	for _, a := range assignments {
		if !a.Scope.Contains(scope) {
			continue
		}
		d, ok := defs.Lookup(a.Role)
		if ok && counts(d) && d.Lists(action, data) {
			return a, true
		}
	}
	return Assignment{}, false
}

// Lists reports whether the role lists the action and does not except it.
func (d RoleDefinition) Lists(action Action, data bool) bool {
	in, out := d.Actions, d.NotActions
	if data {
		in, out = d.DataActions, d.NotDataActions
	}
	matches := func(pattern string) bool { return match(pattern, string(action)) }
	return slices.ContainsFunc(in, matches) && !slices.ContainsFunc(out, matches)
}

// match reports whether the pattern, in which "*" stands for any run of
// characters, matches the whole of s. Case of ASCII letters does not matter. It
// takes at most len(pattern)·len(s) steps.
func match(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0 // the last "*" passed, and where its run began
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && lower(pattern[p]) == lower(s[i]):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
