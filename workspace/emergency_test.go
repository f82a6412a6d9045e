package workspace_test

import (
	"slices"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/workspace"
)

func TestEmergencyAccess(t *testing.T) {
	run(t, func(w *world) {
		ctx, ws := w.Context(), w.create("finance")
		second := person(tenant, 7)
		w.update(func(tx workspace.Tx) error {
			return tx.PutRoleAssignment(rbac.Assignment{ID: "second", Tenant: tenant, Principal: second.Principal, Role: rbac.EmergencyOperator, Scope: "/"})
		})
		item := w.item(ws.ID, "report", workspace.Notebook)
		sees := func() fault.Reason {
			_, err := w.ws.Item(ctx, admin, ws.ID, item.ID)
			return fault.ReasonOf(err)
		}
		if got := sees(); got != fault.Denied {
			t.Fatalf("before: %q", got)
		}

		_, err := w.ws.RequestEmergency(ctx, viewer, ws.ID, workspace.Admin)
		w.want(err, fault.Denied)
		_, err = w.ws.RequestEmergency(ctx, admin, ws.ID, workspace.Viewer)
		w.want(err, fault.InvalidArgument)
		_, err = w.ws.RequestEmergency(ctx, admin, "99999999-9999-4999-8999-999999999999", workspace.Admin)
		w.want(err, fault.WorkspaceNotFound)
		ea, err := w.ws.RequestEmergency(ctx, admin, ws.ID, workspace.Admin)
		w.must(err)
		same, err := w.ws.RequestEmergency(ctx, admin, ws.ID, workspace.Admin)
		w.must(err)
		if same.ID != ea.ID || ea.Role != workspace.Admin || ea.Workspace != ws.ID {
			t.Fatalf("%+v, then %+v", ea, same)
		}

		_, err = w.ws.DecideEmergency(ctx, admin, ea.ID, true, time.Hour)
		w.want(err, fault.Denied) // nobody approves a request of his own
		_, err = w.ws.DecideEmergency(ctx, member, ea.ID, true, time.Hour)
		w.want(err, fault.Denied)
		_, err = w.ws.DecideEmergency(ctx, second, ea.ID, true, workspace.MaxEmergency+time.Minute)
		w.want(err, fault.InvalidArgument)
		if got := sees(); got != fault.Denied {
			t.Fatalf("while it waits: %q", got)
		}
		given, err := w.ws.DecideEmergency(ctx, second, ea.ID, true, time.Hour)
		w.must(err)
		if got := sees(); got != "" || given.Until.Sub(w.now()) != time.Hour {
			t.Fatalf("granted until %s: %q", given.Until, got)
		}
		_, err = w.ws.DecideEmergency(ctx, second, ea.ID, true, time.Hour)
		w.want(err, fault.Conflict) // once

		// It gives no roles on, which would not end, and it is nobody's last Admin.
		_, err = w.ws.AddRoleAssignment(ctx, admin, ws.ID, nobody.Principal, nobody.Type, workspace.Viewer)
		w.want(err, fault.Denied)
		roles, err := w.ws.RoleAssignments(ctx, creator, ws.ID)
		w.must(err)
		for _, r := range roles {
			if r.Principal == creator.Principal {
				w.want(w.ws.DeleteRoleAssignment(ctx, creator, ws.ID, r.ID), fault.Conflict)
			}
		}

		all, err := w.ws.Emergencies(ctx, second)
		w.must(err)
		if len(all) != 1 || all[0].State != rbac.ApprovalExecuted || all[0].Until.IsZero() {
			t.Errorf("listed: %+v", all)
		}

		// It ends by itself, at once, and the sweep says so.
		time.Sleep(time.Hour)
		if got := sees(); got != fault.Denied {
			t.Errorf("after an hour: %q", got)
		}
		if list, _, err := w.ws.List(ctx, admin, []workspace.Role{workspace.Admin}, "", 10); err != nil || len(list) != 0 {
			t.Errorf("after an hour it is listed: %v, %v", list, err)
		}
		w.must(w.ws.Sweep(ctx))
		var told []string
		for _, r := range w.entries() {
			e, err := audit.Parse(r.Body)
			w.must(err)
			if e.Outcome == audit.Allowed {
				told = append(told, e.Operation)
			}
		}
		for _, op := range []string{"RequestEmergencyAccess", "GrantEmergencyAccess", "EndEmergencyAccess"} {
			if !slices.Contains(told, op) {
				t.Errorf("the audit log has no %s", op)
			}
		}

		// It can be asked for again, and withdrawn.
		again, err := w.ws.RequestEmergency(ctx, admin, ws.ID, workspace.Contributor)
		w.must(err)
		_, err = w.ws.DecideEmergency(ctx, admin, again.ID, false, 0)
		w.must(err)
		_, err = w.ws.DecideEmergency(ctx, second, again.ID, true, time.Hour)
		w.want(err, fault.Conflict)
	})
}
