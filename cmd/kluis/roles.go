package main

import (
	"context"
	"slices"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/workspace"
)

// partyRoles tells the directory what its principals hold at the parties served
// beside it: nobody may create or reset a principal that holds a role he lacks.
type partyRoles struct{ s *server }

// Covers reports whether the caller holds, at each party, every role that the
// principal holds there.
func (p partyRoles) Covers(ctx context.Context, caller identity.Caller, principal identity.PrincipalID) (bool, error) {
	covers := func(tx rbac.Tx) (bool, error) {
		all, err := tx.RoleAssignmentsAt("/", true)
		held := slices.DeleteFunc(slices.Clone(all), func(a rbac.Assignment) bool {
			return a.Tenant != caller.Tenant || !slices.Contains(caller.Subjects(), a.Principal)
		})
		others := slices.DeleteFunc(all, func(a rbac.Assignment) bool { return a.Principal != principal })
		return rbac.Covers(held, others), err
	}
	covered := true
	if p.s.custodian != nil {
		err := p.s.custodian.db.Vault().View(ctx, func(tx vault.Tx) (err error) {
			covered, err = covers(tx)
			return err
		})
		if err != nil || !covered {
			return false, err
		}
	}
	if p.s.operator != nil {
		err := p.s.operator.db.Workspace().View(ctx, func(tx workspace.Tx) (err error) {
			covered, err = covers(tx)
			return err
		})
		if err != nil {
			return false, err
		}
	}
	return covered, nil
}

// separated says why the vault's and the platform's sides are not separated in
// this process, "" if they are.
func (s *server) separated() string {
	if s.custodian != nil && s.operator != nil {
		return "one process, one data directory and one issuer hold both: run them apart, with roots and users of their own, for the promise to hold against either's owner"
	}
	return ""
}
