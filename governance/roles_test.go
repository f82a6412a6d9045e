package governance_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// TestRoles checks who may give and take which role, and that the log has each try.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	give := func(by identity.Caller, to identity.PrincipalID, role rbac.RoleID) error {
		_, err := w.GiveRole(t.Context(), by, governance.Grant{Principal: to, PrincipalType: identity.User, Role: role})
		return err
	}
	group := identity.PrincipalID("66666666-6666-6666-6666-666666666666")
	member := officer
	member.Groups = []identity.PrincipalID{group}
	for _, test := range []struct {
		by     identity.Caller
		to     identity.PrincipalID
		role   rbac.RoleID
		reason fault.Reason
	}{
		{officer, stranger.Principal, rbac.GovernanceReader, ""},
		{officer, stranger.Principal, rbac.GovernanceReader, fault.RoleAssignmentExists},
		{officer, officer.Principal, rbac.GovernanceReader, fault.Denied}, // to himself
		{member, group, rbac.GovernanceOfficer, fault.Denied},             // or to a group of his
		{reader, reader.Principal, rbac.GovernanceOfficer, fault.Denied},
		{reader, stranger.Principal, rbac.GovernanceReader, fault.Denied},
		{stranger, reader.Principal, rbac.GovernanceOfficer, fault.Denied}, // a reader by now
		{foreign, stranger.Principal, rbac.GovernanceOfficer, fault.Denied},
		{officer, stranger.Principal, rbac.KeyVaultAdministrator, fault.InvalidArgument},
		{officer, "ann", rbac.GovernanceReader, fault.InvalidArgument},
	} {
		if err := give(test.by, test.to, test.role); fault.ReasonOf(err) != test.reason {
			t.Errorf("%s gives %s to %s: %v", test.by.Principal, test.role, test.to, err)
		}
	}
	if _, err := w.GiveRole(t.Context(), officer, governance.Grant{Principal: stranger.Principal, Role: rbac.GovernanceReader}); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("a principal of no type: %v", err)
	}
	if _, err := w.Findings(t.Context(), stranger, governance.Filter{Limit: 1}); err != nil {
		t.Error(err)
	}

	all, err := w.Roles(t.Context(), officer)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d roles, %v", len(all), err)
	}
	if _, err := w.Roles(t.Context(), foreign); fault.ReasonOf(err) != fault.Denied {
		t.Error(err)
	}
	of := func(c identity.Caller) string {
		for _, a := range all {
			if a.Principal == c.Principal {
				return a.ID
			}
		}
		return ""
	}
	for _, test := range []struct {
		by     identity.Caller
		id     string
		reason fault.Reason
	}{
		{reader, of(stranger), fault.Denied},
		{officer, of(officer), fault.Conflict}, // the last one
		{officer, "77777777-7777-7777-7777-777777777777", fault.RoleAssignmentNotFound},
		{officer, of(stranger), ""},
	} {
		if _, err := w.TakeRole(t.Context(), test.by, test.id); fault.ReasonOf(err) != test.reason {
			t.Errorf("%s takes %s: %v", test.by.Principal, test.id, err)
		}
	}
	if _, err := w.Findings(t.Context(), stranger, governance.Filter{Limit: 1}); fault.ReasonOf(err) != fault.Denied {
		t.Errorf("reads without a role: %v", err)
	}
	if err := give(officer, stranger.Principal, rbac.GovernanceOfficer); err != nil {
		t.Error(err)
	}
	if _, err := w.TakeRole(t.Context(), officer, of(officer)); err != nil { // his own, when he is not the last
		t.Error(err)
	}
	want := []string{"denied Denied " + string(reader.Principal), "failed Conflict " + string(officer.Principal), "failed RoleAssignmentNotFound " + string(officer.Principal), "allowed  " + string(officer.Principal), "allowed  " + string(officer.Principal)}
	if d := cmp.Diff(want, w.entries(t, "RemoveRoleAssignment")); d != "" {
		t.Error(d)
	}
	if n := len(w.entries(t, "AddRoleAssignment")); n != 2+10+1+1 {
		t.Errorf("%d entries of what was given", n)
	}
}
