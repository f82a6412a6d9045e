package rbac

import (
	"context"
	"slices"

	"github.com/kluis-io/kluis/identity"
)

// Parties are the databases of the parties whose role assignments a directory
// must respect. It implements [identity.Roles].
type Parties []Store

// Covers reports whether the caller holds, at every party, every role that the
// principal holds there.
func (p Parties) Covers(ctx context.Context, caller identity.Caller, principal identity.PrincipalID) (bool, error) {
	for _, party := range p {
		var all []Assignment
		err := party.View(ctx, func(tx Tx) (err error) {
			all, err = tx.RoleAssignmentsAt("/", true)
			return err
		})
		if err != nil {
			return false, err
		}
		var held, others []Assignment
		subjects := caller.Subjects()
		for _, a := range all {
			if a.Tenant != caller.Tenant {
				continue
			}
			if a.Principal == principal {
				others = append(others, a)
			}
			if slices.Contains(subjects, a.Principal) {
				held = append(held, a)
			}
		}
		if !Covers(held, others) {
			return false, nil
		}
	}
	return true, nil
}

// Covers reports whether every assignment in others is matched by one in held: the
// same role, at the same scope or above it. Who does not cover a
// principal may not act on its credentials.
func Covers(held, others []Assignment) bool {
	for _, o := range others {
		if !slices.ContainsFunc(held, func(h Assignment) bool {
			return fold(string(h.Role)) == fold(string(o.Role)) && h.Scope.Contains(o.Scope)
		}) {
			return false
		}
	}
	return true
}
