package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

// workspaces are the rows that the checks of a workspace.Store begin with.
type workspaces struct {
	now    time.Time
	scope  func(tx workspace.Tx, id encryption.ScopeID) error
	row    func(id encryption.ScopeID, name string) workspace.WorkspaceRow
	filled func(t *testing.T) workspace.Store // with the workspaces w1 to w3, named A to C
	entry  func(id encryption.ItemID, lookup byte) workspace.Entry
	ids    func([]workspace.Entry) []string
}

func reason(t *testing.T, what string, err error, want fault.Reason) {
	t.Helper()
	if got := fault.ReasonOf(err); got != want {
		t.Errorf("%s: %q (%v), want %q", what, got, err, want)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func controlled(open func(t *testing.T) workspace.Store) workspaces {
	now := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	scope := func(tx workspace.Tx, id encryption.ScopeID) error {
		if err := tx.InsertScope(encryption.Scope{ID: id, Tenant: "t", Sealing: 1, Epoch: 1}); err != nil {
			return err
		}
		return item(tx, id, encryption.ScopeItem(id))
	}
	row := func(id encryption.ScopeID, name string) workspace.WorkspaceRow {
		return workspace.WorkspaceRow{
			ID: id, Tenant: "t", Name: name, Canonical: workspace.Canonical(name), Capacity: "c", Created: now,
			DescriptionKey: keyOf(encryption.ScopeItem(id)), Description: []byte{1, 2},
		}
	}
	// filled returns a store with the workspaces w1 to w3, named A to C.
	filled := func(t *testing.T) workspace.Store {
		s := open(t)
		update(t, s, func(tx workspace.Tx) error {
			for i, name := range []string{"A", "B", "C"} {
				id := encryption.ScopeID(fmt.Sprint("w", i+1))
				if err := scope(tx, id); err != nil {
					return err
				}
				if err := tx.InsertWorkspace(row(id, name)); err != nil {
					return err
				}
				if err := tx.PutItemList(workspace.List{Workspace: id, Key: keyOf(encryption.ScopeItem(id)), Salt: [24]byte{byte(i)}}); err != nil {
					return err
				}
			}
			return nil
		})
		return s
	}
	entry := func(id encryption.ItemID, lookup byte) workspace.Entry {
		return workspace.Entry{
			ID: id, Workspace: "w1", Type: workspace.Notebook, State: workspace.Live, Since: now, Key: "key w1",
			Lookup: [32]byte{lookup}, Revision: 1, Record: []byte{9}, Created: now, Changed: now.Add(time.Second),
		}
	}
	ids := func(es []workspace.Entry) (out []string) {
		for _, e := range es {
			out = append(out, string(e.ID))
		}
		return out
	}
	return workspaces{now, scope, row, filled, entry, ids}
}

// Control checks what of an implementation of [workspace.Tx] is about folders,
// labels, domains, operations and jobs. open returns a new, empty one.
func Control(t *testing.T, open func(t *testing.T) workspace.Store) {
	c := controlled(open)
	now, filled, entry, ids := c.now, c.filled, c.entry, c.ids

	t.Run("folders and deleted items", func(t *testing.T) {
		s := filled(t)
		update(t, s, func(tx workspace.Tx) error {
			for n, e := range []workspace.Entry{
				{ID: "f1", Type: workspace.FolderType}, {ID: "i1", Type: workspace.Notebook, Folder: "f1", Label: "l"},
				{ID: "i2", Type: workspace.Notebook, State: workspace.Deleted, Folder: "f1"}, {ID: "i3", Type: workspace.Notebook},
			} {
				full := entry(e.ID, byte(n+1))
				full.Type, full.Folder, full.Label = e.Type, e.Folder, e.Label
				if e.State != "" {
					full.State = e.State
				}
				if err := tx.InsertItemEntry(full); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, s, func(tx workspace.Tx) error {
			all, err := tx.ItemEntries("w1", "", "", 0)
			same(t, "items", ids(all), []string{"i1", "i3"})
			reason(t, "items", err, "")
			all, err = tx.ItemEntries("w1", workspace.FolderType, "", 0)
			same(t, "folders", ids(all), []string{"f1"})
			reason(t, "folders", err, "")
			all, err = tx.ItemEntriesInFolder("f1", 0)
			same(t, "in the folder", ids(all), []string{"i1"})
			reason(t, "in the folder", err, "")
			all, err = tx.ItemEntriesDeleted("w1", "", 1)
			same(t, "deleted", ids(all), []string{"i2"})
			reason(t, "deleted", err, "")
			labels, err := tx.ItemLabels("w1")
			same(t, "labels", labels, []workspace.LabelID{"l"})
			return err
		})
		update(t, s, func(tx workspace.Tx) error {
			e, err := tx.ItemEntry("i1")
			if err != nil {
				return err
			}
			e.Folder, e.Label = "", "m"
			return tx.UpdateItemEntry(e, e.Revision)
		})
		view(t, s, func(tx workspace.Tx) error {
			e, err := tx.ItemEntry("i1")
			same(t, "moved", []string{string(e.Folder), string(e.Label)}, []string{"", "m"})
			return err
		})
	})

	t.Run("labels and domains", func(t *testing.T) {
		s := filled(t)
		l := workspace.Label{ID: "l1", Tenant: "t", Name: "Secret", RequiresCMK: true, Created: now}
		d := workspace.Domain{ID: "d1", Tenant: "t", Name: "Sales", Description: "x", Label: "l1", Created: now}
		update(t, s, func(tx workspace.Tx) error {
			used, err := tx.LabelUsed("l1")
			same(t, "before it is used", used, false)
			reason(t, "used", err, "")
			if err := tx.PutLabel(l); err != nil {
				return err
			}
			if err := tx.PutDomain(d); err != nil {
				return err
			}
			row, err := tx.Workspace("w1")
			if err != nil {
				return err
			}
			row.Domain, row.Label = "d1", "l1"
			return tx.UpdateWorkspace(row)
		})
		err := s.Update(t.Context(), func(tx workspace.Tx) error {
			return tx.PutLabel(workspace.Label{ID: "l2", Tenant: "t", Name: "SECRET"})
		})
		reason(t, "a label's name", err, fault.Conflict)
		err = s.Update(t.Context(), func(tx workspace.Tx) error {
			return tx.PutDomain(workspace.Domain{ID: "d2", Tenant: "t", Name: "SALES"})
		})
		reason(t, "a domain's name", err, fault.Conflict)
		view(t, s, func(tx workspace.Tx) error {
			got, err := tx.Label("l1")
			same(t, "label", got, l)
			reason(t, "label", err, "")
			_, err = tx.Label("l9")
			reason(t, "no label", err, fault.NotFound)
			all, err := tx.TenantLabels("t")
			same(t, "labels", all, []workspace.Label{l})
			reason(t, "labels", err, "")
			used, err := tx.LabelUsed("l1")
			same(t, "used", used, true)
			reason(t, "used", err, "")
			one, err := tx.Domain("d1")
			same(t, "domain", one, d)
			reason(t, "domain", err, "")
			_, err = tx.Domain("d9")
			reason(t, "no domain", err, fault.NotFound)
			others, err := tx.TenantDomains("u")
			same(t, "another tenant's", len(others), 0)
			reason(t, "domains", err, "")
			in, err := tx.DomainWorkspaces("d1")
			same(t, "workspaces in it", len(in) == 1 && in[0].ID == "w1" && in[0].Label == "l1", true)
			return err
		})
		update(t, s, func(tx workspace.Tx) error {
			if err := tx.DeleteDomain("d1"); err != nil {
				return err
			}
			return tx.DeleteLabel("l1")
		})
		view(t, s, func(tx workspace.Tx) error {
			_, err := tx.Label("l1")
			reason(t, "deleted", err, fault.NotFound)
			return nil
		})
	})

	t.Run("operations", func(t *testing.T) {
		s := open(t)
		o := workspace.Operation{
			ID: "o1", Tenant: "t", Principal: "p", Kind: workspace.CreatingItem, Workspace: "w", Item: "i", Generation: 3, Created: now,
		}
		update(t, s, func(tx workspace.Tx) error { return tx.PutOperation(o) })
		o.Ended, o.Failure = now.Add(time.Minute), fault.Internal
		update(t, s, func(tx workspace.Tx) error { return tx.PutOperation(o) })
		view(t, s, func(tx workspace.Tx) error {
			got, err := tx.Operation("o1")
			same(t, "operation", got, o)
			return err
		})
		update(t, s, func(tx workspace.Tx) error { return tx.DeleteOperations(now.Add(time.Second)) })
		view(t, s, func(tx workspace.Tx) error {
			_, err := tx.Operation("o1")
			reason(t, "forgotten", err, fault.OperationNotFound)
			return nil
		})
	})

	t.Run("jobs", func(t *testing.T) {
		s := filled(t)
		j := workspace.Job{ID: "j1", Item: "i1", Type: "Run", Invoked: "Manual", Status: workspace.JobInProgress, Started: now}
		piece := func(n int64, key encryption.KeyID) workspace.LogRow {
			return workspace.LogRow{Job: "j1", Number: n, Item: "i1", Key: key, Sealed: []byte{byte(n), 1}}
		}
		update(t, s, func(tx workspace.Tx) error {
			if err := item(tx, "w1", "i1"); err != nil {
				return err
			}
			if err := tx.InsertItemEntry(entry("i1", 1)); err != nil {
				return err
			}
			if err := tx.PutItemJob(j); err != nil {
				return err
			}
			for n := range int64(3) {
				if err := tx.PutJobLog(piece(n, keyOf("i1"))); err != nil {
					return err
				}
			}
			return nil
		})
		j.Status, j.Ended = workspace.JobFailed, now.Add(time.Minute)
		update(t, s, func(tx workspace.Tx) error {
			if err := tx.PutItemJob(j); err != nil {
				return err
			}
			return tx.PutJobLog(piece(1, keyOf(encryption.ScopeItem("w1"))))
		})
		view(t, s, func(tx workspace.Tx) error {
			got, err := tx.ItemJob("j1")
			same(t, "job", got, j)
			reason(t, "job", err, "")
			_, err = tx.ItemJob("j9")
			reason(t, "no job", err, fault.NotFound)
			all, err := tx.ItemJobs("i1", "j0", 1)
			same(t, "jobs", all, []workspace.Job{j})
			reason(t, "jobs", err, "")
			log, err := tx.JobLog("j1", 1, 1)
			same(t, "log", log, []workspace.LogRow{piece(1, keyOf(encryption.ScopeItem("w1")))})
			reason(t, "log", err, "")
			n, sealed, err := tx.JobLogSize("j1")
			same(t, "log's size", []int64{n, sealed}, []int64{3, 6})
			reason(t, "log's size", err, "")
			under, err := tx.JobLogsUnder("i1", keyOf("i1"), 9)
			same(t, "under another key", under, []workspace.LogRow{piece(1, keyOf(encryption.ScopeItem("w1")))})
			return err
		})
		update(t, s, func(tx workspace.Tx) error { return tx.DeleteItemEntry("i1") })
		view(t, s, func(tx workspace.Tx) error {
			n, _, err := tx.JobLogSize("j1")
			same(t, "after the item", n, int64(0))
			return err
		})
	})
}
