package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// RBAC checks an implementation of [rbac.Tx]. open returns a new, empty one.
func RBAC(t *testing.T, open func(t *testing.T) rbac.Store) {
	created := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	give := func(id string, p identity.PrincipalID, role rbac.RoleID, scope rbac.Scope) rbac.Assignment {
		return rbac.Assignment{
			ID: id, Tenant: "tenant", Principal: p, PrincipalType: identity.ServicePrincipal, Role: role, Scope: scope,
			Created: created, CreatedBy: "maker",
		}
	}
	all := []rbac.Assignment{
		give("a1", "p1", rbac.Reader, "/"),
		give("a2", "p1", rbac.KeyVaultCryptoUser, "/Subscriptions/S"),
		give("a3", "p2", rbac.Owner, "/subscriptions/s/vaults/V"),
		give("a4", "p2", rbac.Owner, "/subscriptions/s0"), // sorts just after what lies below /subscriptions/s
		give("a5", "p1", rbac.Owner, "/subscriptions/s/vaults/v_"),
		give("a6", "p3", rbac.Owner, "/subscriptions/s-"), // sorts just before
	}
	all[5].Expires = created.Add(time.Hour)
	fill := func(t *testing.T) rbac.Store {
		s := open(t)
		update(t, s, func(tx rbac.Tx) error {
			for _, a := range all {
				if err := tx.PutRoleAssignment(a); err != nil {
					return err
				}
			}
			return nil
		})
		return s
	}
	expect := func(t *testing.T, what string, got []rbac.Assignment, err error, ids ...string) {
		t.Helper()
		var want []rbac.Assignment
		for _, a := range all {
			if slices.Contains(ids, a.ID) {
				want = append(want, a)
			}
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		slices.SortFunc(got, func(a, b rbac.Assignment) int { return strings.Compare(a.ID, b.ID) })
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}

	t.Run("by principal", func(t *testing.T) {
		view(t, fill(t), func(tx rbac.Tx) error {
			got, err := tx.RoleAssignments([]identity.PrincipalID{"p1"}, "/subscriptions/S/vaults/V")
			expect(t, "p1 at a vault", got, err, "a1", "a2")
			got, err = tx.RoleAssignments([]identity.PrincipalID{"p1", "p2"}, "/subscriptions/s/VAULTS/v/keys/k")
			expect(t, "p1 and p2 at a key", got, err, "a1", "a2", "a3")
			got, err = tx.RoleAssignments([]identity.PrincipalID{"p2"}, "/")
			expect(t, "p2 at the root", got, err)
			got, err = tx.RoleAssignments(nil, "/")
			expect(t, "nobody", got, err)
			if _, err := tx.RoleAssignments([]identity.PrincipalID{"p1"}, "/a/../b"); fault.ReasonOf(err) != fault.InvalidArgument {
				t.Errorf("a malformed scope: %v", err)
			}
			return nil
		})
	})
	t.Run("by scope", func(t *testing.T) {
		view(t, fill(t), func(tx rbac.Tx) error {
			got, err := tx.RoleAssignmentsAt("/subscriptions/s", false)
			expect(t, "at and above", got, err, "a1", "a2")
			got, err = tx.RoleAssignmentsAt("/subscriptions/S", true)
			expect(t, "at, above and below", got, err, "a1", "a2", "a3", "a5")
			got, err = tx.RoleAssignmentsAt("/", true)
			expect(t, "everything", got, err, "a1", "a2", "a3", "a4", "a5", "a6")
			return nil
		})
	})
	t.Run("one", func(t *testing.T) {
		s := fill(t)
		view(t, s, func(tx rbac.Tx) error {
			got, err := tx.RoleAssignment("A3")
			expect(t, "a3", []rbac.Assignment{got}, err, "a3")
			if _, err := tx.RoleAssignment("a9"); fault.ReasonOf(err) != fault.RoleAssignmentNotFound {
				t.Errorf("a missing one: %v", err)
			}
			return nil
		})
		update(t, s, func(tx rbac.Tx) error { return tx.DeleteRoleAssignment("a3") })
		err := s.Update(t.Context(), func(tx rbac.Tx) error { return tx.DeleteRoleAssignment("a3") })
		if fault.ReasonOf(err) != fault.RoleAssignmentNotFound {
			t.Errorf("deleted twice: %v", err)
		}
	})
	t.Run("taken", func(t *testing.T) {
		s := fill(t)
		for what, a := range map[string]rbac.Assignment{
			"the id":                        give("a1", "p9", rbac.Reader, "/"),
			"the principal, role and scope": give("a9", "p2", rbac.Owner, "/subscriptions/S/vaults/v/"),
		} {
			if err := s.Update(t.Context(), func(tx rbac.Tx) error { return tx.PutRoleAssignment(a) }); fault.ReasonOf(err) != fault.RoleAssignmentExists {
				t.Errorf("%s: %v", what, err)
			}
		}
		bad := give("a9", "p9", rbac.Owner, "/a//b")
		if err := s.Update(t.Context(), func(tx rbac.Tx) error { return tx.PutRoleAssignment(bad) }); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("a malformed scope: %v", err)
		}
	})
	t.Run("delete below", func(t *testing.T) {
		s := fill(t)
		update(t, s, func(tx rbac.Tx) error { return tx.DeleteRoleAssignmentsBelow("/subscriptions/s") })
		view(t, s, func(tx rbac.Tx) error {
			got, err := tx.RoleAssignmentsAt("/", true)
			expect(t, "what is left", got, err, "a1", "a4", "a6")
			return nil
		})
	})
	t.Run("covers", func(t *testing.T) {
		s := fill(t)
		for _, c := range []struct {
			caller, of identity.PrincipalID
			tenant     identity.TenantID
			want       bool
		}{
			{"p1", "p1", "tenant", true}, {"p2", "p2", "tenant", true}, {"p1", "p2", "tenant", false},
			{"p2", "p1", "tenant", false}, {"nobody", "p1", "tenant", false}, {"nobody", "newcomer", "tenant", true},
		} {
			got, err := rbac.Parties{s}.Covers(t.Context(), identity.Caller{Tenant: c.tenant, Principal: c.caller}, c.of)
			if err != nil || got != c.want {
				t.Errorf("%s covers %s: %t, %v", c.caller, c.of, got, err)
			}
		}
	})
}
