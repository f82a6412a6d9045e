package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/workspace"
)

// Workspace checks an implementation of [workspace.Tx]. open returns a new, empty
// one.
func Workspace(t *testing.T, open func(t *testing.T) workspace.Store) {
	c := controlled(open)
	now, row, filled, entry, ids := c.now, c.row, c.filled, c.entry, c.ids
	scope := c.scope

	t.Run("settings", func(t *testing.T) {
		s := open(t)
		set := workspace.SettingRow{Tenant: "t", Name: workspace.ApplyCustomerManagedKeys, Changed: now, ChangedBy: "p"}
		update(t, s, func(tx workspace.Tx) error {
			on, err := tx.TenantSettingEnabled("t", set.Name)
			same(t, "by default", on, true)
			if err != nil {
				return err
			}
			return tx.PutTenantSetting(set)
		})
		view(t, s, func(tx workspace.Tx) error {
			on, err := tx.TenantSettingEnabled("t", set.Name)
			same(t, "switched off", on, false)
			reason(t, "reading", err, "")
			on, err = tx.TenantSettingEnabled("u", set.Name)
			same(t, "another tenant's", on, true)
			reason(t, "reading", err, "")
			on, err = tx.TenantSettingEnabled("t", "unknown")
			same(t, "an unknown one", on, false)
			reason(t, "reading", err, "")
			all, err := tx.TenantSettings("t")
			same(t, "settings", all, []workspace.SettingRow{set})
			return err
		})
		set.Enabled = true
		bound := workspace.SettingRow{Tenant: "t", Name: workspace.KillSwitchBound, Enabled: true, Value: 20, Changed: now, ChangedBy: "p"}
		update(t, s, func(tx workspace.Tx) error { return errors.Join(tx.PutTenantSetting(set), tx.PutTenantSetting(bound)) })
		view(t, s, func(tx workspace.Tx) error {
			all, err := tx.TenantSettings("t")
			same(t, "settings", all, []workspace.SettingRow{set, bound})
			return err
		})
		for tenant, want := range map[identity.TenantID]time.Duration{"t": 20 * time.Second, "u": 0} {
			id := encryption.ScopeID("of " + tenant)
			update(t, s, func(tx workspace.Tx) error {
				return tx.InsertScope(encryption.Scope{ID: id, Tenant: tenant, Sealing: 1})
			})
			view(t, s, func(tx workspace.Tx) error {
				sc, err := tx.Scope(id)
				same(t, "its tenant's bound", sc.TenantBound, want)
				return err
			})
		}
	})

	t.Run("workspaces", func(t *testing.T) {
		s := filled(t)
		view(t, s, func(tx workspace.Tx) error {
			got, err := tx.Workspace("w2")
			same(t, "by id", got, row("w2", "B"))
			reason(t, "by id", err, "")
			got, err = tx.WorkspaceNamed("t", workspace.Canonical("c"))
			same(t, "by name", got, row("w3", "C"))
			_, none := tx.WorkspaceNamed("u", workspace.Canonical("C"))
			reason(t, "another tenant's name", none, fault.WorkspaceNotFound)
			_, none = tx.Workspace("w9")
			reason(t, "no such id", none, fault.WorkspaceNotFound)
			_, none = tx.ItemList("w9")
			reason(t, "no such list", none, fault.WorkspaceNotFound)
			return err
		})
		clash := row("w2", "a")
		reason(t, "renamed to a taken name", s.Update(t.Context(), func(tx workspace.Tx) error { return tx.UpdateWorkspace(clash) }), fault.WorkspaceNameTaken)
		reason(t, "created under a taken name", s.Update(t.Context(), func(tx workspace.Tx) error {
			if err := scope(tx, "w4"); err != nil {
				return err
			}
			return tx.InsertWorkspace(row("w4", "a"))
		}), fault.WorkspaceNameTaken)
		gone := row("w1", "A")
		gone.Deleted, gone.DescriptionKey, gone.Description = true, "", nil
		update(t, s, func(tx workspace.Tx) error {
			if err := tx.UpdateWorkspace(gone); err != nil {
				return err
			}
			return tx.UpdateWorkspace(clash) // a deleted one's name is free
		})
		view(t, s, func(tx workspace.Tx) error {
			got, err := tx.Workspace("w1")
			same(t, "deleted", got, gone)
			reason(t, "deleted", err, "")
			left, err := tx.WorkspacesDeleted()
			same(t, "deleted", left, []encryption.ScopeID{"w1"})
			return err
		})
	})

	t.Run("lists of workspaces", func(t *testing.T) {
		s := filled(t)
		update(t, s, func(tx workspace.Tx) error {
			for i, a := range []rbac.Assignment{
				{Principal: "p", Scope: "/workspaces/W1"}, {Principal: "q", Scope: "/workspaces/w1"}, {Principal: "q", Scope: "/workspaces/w3"},
				{Principal: "p", Scope: "/"}, {Principal: "q", Scope: "/workspaces/w2/items/i"}, {Principal: "r", Scope: "/workspaces/w2", Tenant: "u"},
			} {
				a.ID, a.Role = fmt.Sprint("a", i), rbac.WorkspaceViewer
				if a.Tenant == "" {
					a.Tenant = "t"
				}
				if err := tx.PutRoleAssignment(a); err != nil {
					return err
				}
			}
			return nil
		})
		for _, tt := range []struct {
			who   []identity.PrincipalID
			after encryption.ScopeID
			limit int
			want  []encryption.ScopeID
		}{
			{nil, "", 0, []encryption.ScopeID{"w1", "w2", "w3"}},
			{nil, "w1", 1, []encryption.ScopeID{"w2"}},
			{nil, "w3", 1, nil},
			{[]identity.PrincipalID{"p"}, "", 9, []encryption.ScopeID{"w1"}},
			{[]identity.PrincipalID{"p", "q"}, "", 9, []encryption.ScopeID{"w1", "w3"}},
			{[]identity.PrincipalID{"q", "p"}, "", 1, []encryption.ScopeID{"w1"}},
			{[]identity.PrincipalID{"q", "p"}, "w1", 1, []encryption.ScopeID{"w3"}},
			{[]identity.PrincipalID{"r"}, "", 9, nil},
		} {
			view(t, s, func(tx workspace.Tx) error {
				rows, err := tx.WorkspacesAssigned("t", tt.who, tt.after, tt.limit)
				if tt.who == nil {
					rows, err = tx.TenantWorkspaces("t", tt.after, tt.limit)
				}
				var got []encryption.ScopeID
				for _, r := range rows {
					got = append(got, r.ID)
				}
				same(t, fmt.Sprintf("%v after %q", tt.who, tt.after), got, tt.want)
				return err
			})
		}
	})

	t.Run("list of items", func(t *testing.T) {
		s := filled(t)
		l := workspace.List{Workspace: "w1", Key: "key w1", Salt: [24]byte{7}, NextKey: "key w2", NextSalt: [24]byte{8}, Seals: 5}
		update(t, s, func(tx workspace.Tx) error {
			if err := tx.PutItemList(l); err != nil {
				return err
			}
			return tx.CountItemListSeal("w1")
		})
		l.Seals++
		view(t, s, func(tx workspace.Tx) error {
			got, err := tx.ItemList("w1")
			same(t, "list", got, l)
			return err
		})
		reason(t, "deleting a key that a list names", s.Update(t.Context(), func(tx workspace.Tx) error {
			return tx.DeleteItemKeys("w2")
		}), fault.Conflict)
	})

	t.Run("entries", func(t *testing.T) {
		s := filled(t)
		gone := entry("i3", 3)
		gone.State, gone.Since = workspace.Deleted, now.Add(-time.Hour)
		update(t, s, func(tx workspace.Tx) error {
			for _, e := range []workspace.Entry{entry("i1", 1), entry("i2", 2), gone} {
				if err := item(tx, "w1", e.ID); err != nil {
					return err
				}
				if err := tx.InsertItemEntry(e); err != nil {
					return err
				}
			}
			return tx.PutItemDefinition(workspace.DefinitionRow{Item: "i1", Key: "key i1", Sealed: []byte{4}})
		})
		clash := entry("i2", 1)
		clash.Revision = 2
		back := gone
		back.State, back.Lookup = workspace.Live, [32]byte{1}
		for what, e := range map[string]workspace.Entry{"renamed": clash, "recovered": back} {
			reason(t, what+" to a taken name", s.Update(t.Context(), func(tx workspace.Tx) error {
				return tx.UpdateItemEntry(e, 1)
			}), fault.ItemNameTaken)
		}
		reason(t, "another revision", s.Update(t.Context(), func(tx workspace.Tx) error {
			return tx.UpdateItemEntry(entry("i1", 1), 2)
		}), fault.EncryptionChanged)
		view(t, s, func(tx workspace.Tx) error {
			got, err := tx.ItemEntry("i3")
			same(t, "by id", got, gone)
			reason(t, "by id", err, "")
			got, err = tx.ItemEntryByLookup("w1", [32]byte{9}, [32]byte{2})
			same(t, "by code", got, entry("i2", 2))
			reason(t, "by code", err, "")
			_, err = tx.ItemEntryByLookup("w1", [32]byte{3})
			reason(t, "a deleted one's code", err, fault.ItemNotFound)
			_, err = tx.ItemEntryByLookup("w2", [32]byte{1})
			reason(t, "another workspace's code", err, fault.ItemNotFound)
			for _, q := range []struct {
				what string
				rows func() ([]workspace.Entry, error)
				want []string
			}{
				{"live", func() ([]workspace.Entry, error) { return tx.ItemEntries("w1", "", "", 0) }, []string{"i1", "i2"}},
				{"after one", func() ([]workspace.Entry, error) { return tx.ItemEntries("w1", workspace.Notebook, "i1", 9) }, []string{"i2"}},
				{"of another type", func() ([]workspace.Entry, error) { return tx.ItemEntries("w1", workspace.Lakehouse, "", 9) }, nil},
				{"under the key", func() ([]workspace.Entry, error) { return tx.ItemEntriesUnder("w1", "key w1", 9) }, []string{"i1", "i2", "i3"}},
				{"under another", func() ([]workspace.Entry, error) { return tx.ItemEntriesUnder("w1", "key w2", 9) }, nil},
				{"deleted before", func() ([]workspace.Entry, error) { return tx.ItemEntriesIn("", workspace.Deleted, now, 9) }, []string{"i3"}},
				{"deleted long before", func() ([]workspace.Entry, error) {
					return tx.ItemEntriesIn("", workspace.Deleted, now.Add(-time.Hour), 9)
				}, nil},
				{"any of one", func() ([]workspace.Entry, error) { return tx.ItemEntriesIn("w1", "", time.Time{}, 2) }, []string{"i1", "i2"}},
			} {
				rows, err := q.rows()
				reason(t, q.what, err, "")
				same(t, q.what, ids(rows), q.want)
			}
			return nil
		})
		reason(t, "deleting a key that a definition names", s.Update(t.Context(), func(tx workspace.Tx) error {
			return tx.DeleteItemKeys("i1")
		}), fault.Conflict)
		d := workspace.DefinitionRow{Item: "i1", Key: "key i2", Sealed: []byte{5}}
		update(t, s, func(tx workspace.Tx) error { return tx.PutItemDefinition(d) })
		view(t, s, func(tx workspace.Tx) error {
			got, ok, err := tx.ItemDefinition("i1")
			same(t, "definition", got, d)
			same(t, "there is one", ok, true)
			reason(t, "definition", err, "")
			_, ok, err = tx.ItemDefinition("i2")
			same(t, "there is none", ok, false)
			return err
		})
		update(t, s, func(tx workspace.Tx) error { return tx.DeleteItemEntry("i1") })
		view(t, s, func(tx workspace.Tx) error {
			_, err := tx.ItemEntry("i1")
			reason(t, "deleted", err, fault.ItemNotFound)
			_, ok, err := tx.ItemDefinition("i1")
			same(t, "its definition is there", ok, false)
			return err
		})
	})
}

// keyOf returns the id of the key that item makes.
func keyOf(id encryption.ItemID) encryption.KeyID { return encryption.KeyID("key " + string(id)) }

// item adds an item's row and one key.
func item(tx encryption.KeyTx, scope encryption.ScopeID, id encryption.ItemID) error {
	if err := tx.InsertItem(encryption.Item{ID: id, Scope: scope, Generation: 1}); err != nil {
		return err
	}
	return tx.InsertKey(encryption.KeyRow{
		ID: keyOf(id), Scope: scope, Item: id, Purpose: encryption.ContentKey, Generation: 1, State: encryption.Current, Sealed: []byte{1},
	})
}
