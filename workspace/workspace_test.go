package workspace_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/workspace"
)

func TestWorkspaces(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		ws := w.create("Sales")
		got, err := w.ws.Get(ctx, creator, ws.ID)
		w.must(err)
		if d := cmp.Diff(ws, got); d != "" {
			w.Fatalf("the workspace reads back otherwise (-created +got):\n%s", d)
		}
		_, err = w.ws.Create(ctx, creator, workspace.NewWorkspace{DisplayName: "sALES", Description: "x"})
		w.want(err, fault.WorkspaceNameTaken)
		for _, name := range []string{"", " a", "a/b", "..", "$web", string(ws.ID), "a\x01b", strings.Repeat("x", 257), "a\xff"} {
			_, err = w.ws.Create(ctx, creator, workspace.NewWorkspace{DisplayName: name})
			w.want(err, fault.InvalidArgument)
		}
		_, err = w.ws.Create(ctx, creator, workspace.NewWorkspace{DisplayName: "b", Capacity: "none"})
		w.want(err, fault.CapacityNotFound)

		for name, c := range map[string]identity.Caller{"SALES": creator, string(ws.ID): member, strings.ToUpper(string(ws.ID)): member} {
			found, err := w.ws.FindWorkspace(ctx, c.Tenant, name)
			w.must(err)
			if found.ID != ws.ID {
				w.Errorf("%q finds %v", name, found)
			}
			_, err = w.ws.FindWorkspace(ctx, stranger.Tenant, name)
			w.want(err, fault.WorkspaceNotFound)
		}

		name, description := "Sales 2", "other"
		got, err = w.ws.Update(ctx, creator, ws.ID, workspace.Change{DisplayName: &name, Description: &description})
		w.must(err)
		if got.DisplayName != name || got.Description != description {
			w.Errorf("updated to %v", got)
		}
		other := w.create("Other")
		_, err = w.ws.Update(ctx, creator, other.ID, workspace.Change{DisplayName: &name})
		w.want(err, fault.WorkspaceNameTaken)
		none := ""
		got, err = w.ws.Update(ctx, creator, other.ID, workspace.Change{Description: &none})
		w.must(err)
		if got.Description != "" || got.Unreadable != "" {
			w.Errorf("a description taken away reads %v", got)
		}
	})
}

func TestAuthorisation(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		ws := w.create("Sales")
		item := w.item(ws.ID, "Orders", workspace.Lakehouse)
		text := "x"
		acts := []struct {
			name    string
			act     func(c identity.Caller) error
			allowed []identity.Caller
		}{
			{"create", func(c identity.Caller) error {
				_, err := w.ws.Create(ctx, c, workspace.NewWorkspace{DisplayName: "W " + string(c.Principal)})
				return err
			}, []identity.Caller{creator}},
			{"get", func(c identity.Caller) error { _, err := w.ws.Get(ctx, c, ws.ID); return err },
				[]identity.Caller{creator, admin, auditor, member, viewer}},
			{"update", func(c identity.Caller) error {
				_, err := w.ws.Update(ctx, c, ws.ID, workspace.Change{Description: &text})
				return err
			}, []identity.Caller{creator}},
			{"create item", func(c identity.Caller) error {
				_, err := w.ws.CreateItem(ctx, c, ws.ID, workspace.NewItem{DisplayName: "I " + string(c.Principal), Type: workspace.Notebook})
				return err
			}, []identity.Caller{creator, member}},
			{"items", func(c identity.Caller) error {
				_, _, err := w.ws.Items(ctx, c, ws.ID, workspace.ItemFilter{}, "", 9)
				return err
			},
				[]identity.Caller{creator, auditor, member, viewer}},
			{"item", func(c identity.Caller) error { _, err := w.ws.Item(ctx, c, ws.ID, item.ID); return err },
				[]identity.Caller{creator, auditor, member, viewer}},
			{"update item", func(c identity.Caller) error {
				_, err := w.ws.UpdateItem(ctx, c, ws.ID, item.ID, workspace.Change{Description: &text})
				return err
			}, []identity.Caller{creator, member}},
			{"definition", func(c identity.Caller) error { _, err := w.ws.Definition(ctx, c, ws.ID, item.ID); return err },
				[]identity.Caller{creator, member}},
			{"update definition", func(c identity.Caller) error {
				return w.ws.UpdateDefinition(ctx, c, ws.ID, item.ID, definition)
			}, []identity.Caller{creator, member}},
			{"roles", func(c identity.Caller) error { _, err := w.ws.RoleAssignments(ctx, c, ws.ID); return err },
				[]identity.Caller{creator, admin, auditor, member, viewer}},
			{"settings", func(c identity.Caller) error { _, err := w.ws.Settings(ctx, c); return err },
				[]identity.Caller{admin, auditor}},
			{"update setting", func(c identity.Caller) error {
				_, err := w.ws.UpdateSetting(ctx, c, workspace.ApplyCustomerManagedKeys, false, 0)
				return err
			}, []identity.Caller{admin}},
			{"admin list", func(c identity.Caller) error { _, _, err := w.ws.AdminList(ctx, c, "", 9); return err },
				[]identity.Caller{admin, auditor}},
			{"hard delete", func(c identity.Caller) error { return w.ws.DeleteItem(ctx, c, ws.ID, item.ID, "", true) },
				[]identity.Caller{creator}},
			{"delete", func(c identity.Caller) error { return w.ws.Delete(ctx, c, ws.ID) }, []identity.Caller{creator}},
		}
		people := []identity.Caller{stranger, nobody, viewer, auditor, admin, member, creator} // who may most comes last
		for _, a := range acts {
			for _, p := range people {
				before := len(w.entries())
				err := a.act(p)
				allowed := slices.ContainsFunc(a.allowed, func(c identity.Caller) bool { return c.Tenant == p.Tenant && c.Principal == p.Principal })
				switch r := fault.ReasonOf(err); {
				case allowed && err != nil:
					w.Errorf("%s by %s: %v", a.name, p.Principal, err)
				case !allowed && p.Tenant != tenant && r != fault.WorkspaceNotFound && r != fault.Denied:
					w.Errorf("%s by a stranger: %v", a.name, err)
				case !allowed && p.Tenant == tenant && r != fault.Denied:
					w.Errorf("%s by %s: %v", a.name, p.Principal, err)
				}
				log := w.entries()
				if len(log) == before {
					w.Errorf("%s by %s left no audit entry", a.name, p.Principal)
					continue
				}
				var e audit.Entry
				w.must(json.Unmarshal(log[len(log)-1].Body, &e))
				if (e.Outcome == audit.Allowed) != (err == nil) || e.Reason != fault.ReasonOf(err) {
					w.Errorf("%s by %s: audited as %+v, and it was %v", a.name, p.Principal, e, err)
				}
			}
		}
		for _, e := range w.entries() {
			if bytes.Contains(e.Body, []byte("Sales")) || bytes.Contains(e.Body, []byte("Orders")) {
				w.Errorf("the audit log tells names: %s", e.Body)
			}
		}
	})
}

func TestAuditFailureFailsTheAct(t *testing.T) {
	run(t, func(w *world) {
		ws := w.create("Sales")
		w.recorder.fail = true
		_, err := w.ws.Get(w.Context(), creator, ws.ID)
		w.want(err, fault.AuditFailed)
		_, err = w.ws.Get(w.Context(), nobody, ws.ID)
		w.want(err, fault.AuditFailed)
	})
}

func TestListing(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		var ids []encryption.ScopeID
		for i := range 7 {
			ws, err := w.ws.Create(ctx, creator, workspace.NewWorkspace{DisplayName: fmt.Sprint("W", i)})
			w.must(err)
			ids = append(ids, ws.ID)
		}
		slices.Sort(ids)
		// The viewer sees one by his own role, and another also by his group's.
		group := person(tenant, 8)
		inGroup := viewer
		inGroup.Groups = []identity.PrincipalID{group.Principal}
		for i, p := range map[int]identity.Caller{1: viewer, 5: group} {
			_, err := w.ws.AddRoleAssignment(ctx, creator, ids[i], p.Principal, identity.User, workspace.Viewer)
			w.must(err)
		}
		for _, tt := range []struct {
			name  string
			who   identity.Caller
			roles []workspace.Role
			want  []encryption.ScopeID
		}{
			{"creator", creator, nil, ids},
			{"tenant administrator", admin, nil, ids},
			{"tenant administrator by role", admin, []workspace.Role{workspace.Admin}, nil},
			{"viewer", viewer, nil, ids[1:2]},
			{"viewer in a group", inGroup, nil, []encryption.ScopeID{ids[1], ids[5]}},
			{"viewer as admin", inGroup, []workspace.Role{workspace.Admin, workspace.Member}, nil},
			{"creator as admin", creator, []workspace.Role{workspace.Admin}, ids},
			{"nobody", nobody, nil, nil},
			{"stranger", stranger, nil, nil},
		} {
			for _, limit := range []int{1, 2, 3, 7, 100} {
				var got []encryption.ScopeID
				after, more := encryption.ScopeID(""), true
				for more {
					var page []workspace.Workspace
					var err error
					page, more, err = w.ws.List(ctx, tt.who, tt.roles, after, limit)
					w.must(err)
					if len(page) > limit || more && len(page) != limit {
						w.Fatalf("%s: a page of %d with limit %d", tt.name, len(page), limit)
					}
					for _, ws := range page {
						got = append(got, ws.ID)
						after = ws.ID
					}
				}
				if !slices.Equal(got, tt.want) {
					w.Errorf("%s, by %d: %v, want %v", tt.name, limit, got, tt.want)
				}
			}
		}
	})
}

func TestSettings(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		on := func(tenant identity.TenantID) (on bool) {
			w.view(func(tx workspace.Tx) (err error) {
				on, err = tx.TenantSettingEnabled(string(tenant), workspace.ApplyCustomerManagedKeys)
				return err
			})
			return on
		}
		if !on(tenant) {
			w.Error("the switch is off by default")
		}
		_, err := w.ws.UpdateSetting(ctx, admin, workspace.ApplyCustomerManagedKeys, false, 0)
		w.must(err)
		if on(tenant) || !on(stranger.Tenant) {
			w.Error("the switch is not the tenant's own")
		}
		all, err := w.ws.Settings(ctx, admin)
		w.must(err)
		if len(all) != 3 || all[0].Enabled || all[1].Enabled {
			w.Errorf("settings: %v", all)
		}
		_, err = w.ws.UpdateSetting(ctx, admin, "Nonsense", true, 0)
		w.want(err, fault.NotFound)

		ws := w.create("Sales")
		err = w.scopes.Assign(ctx, creator, ws.ID, w.vault.Create("k").String())
		w.want(err, fault.TenantSwitchDisabled)
	})
}

func TestRoleAssignments(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		ws := w.create("Sales").ID
		add := func(by identity.Caller, p identity.Caller, r workspace.Role) (workspace.RoleAssignment, error) {
			return w.ws.AddRoleAssignment(ctx, by, ws, p.Principal, p.Type, r)
		}
		_, err := add(member, nobody, workspace.Admin)
		w.want(err, fault.Denied)
		_, err = add(viewer, nobody, workspace.Viewer)
		w.want(err, fault.Denied)
		_, err = add(member, nobody, "Owner")
		w.want(err, fault.InvalidArgument)
		given, err := add(member, nobody, workspace.Contributor)
		w.must(err)
		_, err = add(creator, nobody, workspace.Viewer)
		w.want(err, fault.RoleAssignmentExists)
		_, err = w.ws.UpdateRoleAssignment(ctx, member, ws, given.ID, workspace.Admin)
		w.want(err, fault.Denied)
		got, err := w.ws.UpdateRoleAssignment(ctx, member, ws, given.ID, workspace.Viewer)
		w.must(err)
		if got.Role != workspace.Viewer || got.ID != given.ID {
			w.Errorf("updated to %v", got)
		}

		all, err := w.ws.RoleAssignments(ctx, viewer, ws)
		w.must(err)
		if len(all) != 4 {
			w.Fatalf("%d assignments", len(all))
		}
		own := all[slices.IndexFunc(all, func(a workspace.RoleAssignment) bool { return a.Role == workspace.Admin })]
		err = w.ws.DeleteRoleAssignment(ctx, creator, ws, own.ID)
		w.want(err, fault.Conflict)
		_, err = w.ws.UpdateRoleAssignment(ctx, creator, ws, own.ID, workspace.Member)
		w.want(err, fault.Conflict)
		err = w.ws.DeleteRoleAssignment(ctx, member, ws, own.ID)
		w.want(err, fault.Denied)
		_, err = w.ws.UpdateRoleAssignment(ctx, creator, ws, given.ID, workspace.Admin)
		w.must(err)
		w.must(w.ws.DeleteRoleAssignment(ctx, creator, ws, own.ID))
		_, err = w.ws.Get(ctx, creator, ws)
		w.want(err, fault.Denied)

		other := w.create("Other").ID
		_, err = w.ws.RoleAssignment(ctx, creator, other, given.ID)
		w.want(err, fault.RoleAssignmentNotFound)
	})
}

// All that a tenant calls his own, but the workspace's name, is sealed.
func TestNothingAtRest(t *testing.T) {
	run(t, func(w *world) {
		ws := w.create("Sales")
		w.item(ws.ID, "SecretOrders", workspace.Lakehouse)
		disk, err := w.db.Contents(w.Context())
		w.must(err)
		if !bytes.Contains(disk, []byte("Sales")) {
			w.Fatal("the database does not hold what it should")
		}
		for _, s := range []string{"SecretOrders", "about Secret", "what Sales is", "notebook-content", "hello"} {
			if bytes.Contains(disk, []byte(s)) {
				w.Errorf("%q lies in the clear", s)
			}
		}
	})
}

func TestDeleteWorkspace(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		ws := w.create("Sales")
		var items []workspace.Item
		for i := range 5 {
			items = append(items, w.item(ws.ID, fmt.Sprint("I", i), workspace.Notebook))
		}
		w.assign(ws.ID, "k")
		w.settle(ws.ID, encryption.Active)
		w.vault.Grant(false)
		time.Sleep(time.Minute)
		_, _, err := w.ws.Items(ctx, creator, ws.ID, workspace.ItemFilter{}, "", 9)
		w.want(err, fault.KEKRefused)

		w.must(w.ws.Delete(ctx, creator, ws.ID))
		_, err = w.ws.Get(ctx, creator, ws.ID)
		w.want(err, fault.WorkspaceNotFound)
		_, err = w.ws.FindWorkspace(ctx, tenant, "Sales")
		w.want(err, fault.WorkspaceNotFound)
		w.view(func(tx workspace.Tx) error {
			for _, i := range append(items, workspace.Item{ID: encryption.ScopeItem(ws.ID)}) {
				keys, err := tx.ItemKeys(i.ID)
				w.must(err)
				for _, k := range keys {
					if k.State != encryption.Shredded || k.Sealed != nil {
						w.Errorf("a key of %s is left", i.ID)
					}
				}
			}
			return nil
		})
		// The row stays until what lies under the items' keys is gone.
		w.must(w.ws.Sweep(ctx))
		gone := func() bool {
			var left []encryption.ScopeID
			w.view(func(tx workspace.Tx) (err error) { left, err = tx.WorkspacesDeleted(); return err })
			return len(left) == 0
		}
		if gone() {
			w.Error("the workspace's row went before its items' keys")
		}
		w.update(func(tx workspace.Tx) error {
			for _, i := range items {
				if err := tx.DeleteItemKeys(i.ID); err != nil {
					return err
				}
			}
			return nil
		})
		w.must(w.ws.Sweep(ctx))
		if !gone() {
			w.Error("the workspace's row is left")
		}
		w.create("Sales")
	})
}
