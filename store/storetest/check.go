package storetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/workspace"
)

// A Platform is the stores of the platform's domains over one database.
type Platform struct {
	Encryption encryption.Store
	Workspace  workspace.Store
	Lake       lake.Store
}

// Check checks what only the checks of stored data read: [encryption.CheckTx],
// [workspace.CheckTx] and [lake.CheckTx]. open returns a new, empty platform.
func Check(t *testing.T, open func(t *testing.T) Platform) {
	p := open(t)
	// Three of everything, whose ids are in order; the last item is shredded.
	scopes := []encryption.ScopeID{"s1", "s2", "s3"}
	items := []encryption.ItemID{"i1", "i2", "s1"}
	keys := map[encryption.ItemID]encryption.KeyID{}
	update(t, p.Lake, func(tx lake.Tx) error {
		for _, s := range scopes {
			if err := tx.InsertScope(encryption.Scope{ID: s, Tenant: "t", Sealing: 1, Epoch: 1}); err != nil {
				return err
			}
		}
		for _, i := range items {
			if err := item(tx, "s1", i); err != nil {
				return err
			}
			keys[i] = keyOf(i)
		}
		return tx.ShredItem("i2")
	})
	update(t, p.Workspace, func(tx workspace.Tx) error {
		for _, s := range scopes {
			w := workspace.WorkspaceRow{ID: s, Tenant: "t", Name: string(s), Canonical: string(s), Deleted: s == "s2", Created: lakeTime}
			if err := tx.InsertWorkspace(w); err != nil {
				return err
			}
		}
		return nil
	})
	var want struct {
		folders []lake.FolderRow
		entries []lake.EntryRow
		nodes   []lake.NodeRow
		staged  []lake.StagedRow
		extents []lake.ExtentRow
	}
	update(t, p.Lake, func(tx lake.Tx) error {
		for n := range 3 {
			key := keys["i1"]
			want.folders = append(want.folders, lake.FolderRow{ID: lakeID[lake.NodeID](n), Item: "i1", Key: key})
			want.entries = append(want.entries, lake.EntryRow{
				ID: lakeID[lake.NodeID](10 + n), Folder: lakeID[lake.NodeID](n), Kind: lake.File, Key: key, Lookup: lakeMAC(byte(n)), Revision: 1, Record: []byte{1},
			})
			want.nodes = append(want.nodes, lake.NodeRow{
				ID: lakeID[lake.NodeID](10 + n), Item: "i1", Kind: lake.File, Key: key, Modified: lakeTime, Manifest: []byte{1},
			})
			want.staged = append(want.staged, lake.StagedRow{
				ID: lakeID[lake.StagedID](20 + n), Item: "i1", Owner: lakeID[lake.NodeID](10), Key: key, Ordinal: int64(n), Record: []byte{1}, Changed: lakeTime,
			})
			want.extents = append(want.extents, lake.ExtentRow{
				ID: lakeID[lake.ExtentID](30 + n), Item: "i1", Key: key, Owner: []string{"a", "b", "a"}[n], State: lake.Live, Size: 1, Inline: []byte{7}, Changed: lakeTime,
			})
			if err := tx.PutLakeFolder(want.folders[n]); err != nil {
				return err
			}
			if err := tx.PutLakeEntry(want.entries[n]); err != nil {
				return err
			}
			if err := tx.PutLakeNode(want.nodes[n]); err != nil {
				return err
			}
			if err := tx.PutLakeStaged(want.staged[n]); err != nil {
				return err
			}
			if err := tx.PutLakeExtent(want.extents[n]); err != nil {
				return err
			}
		}
		return nil
	})

	view(t, p.Encryption, func(tx encryption.Tx) error {
		inPages(t, "ScopesAfter", scopes, tx.ScopesAfter, func(s encryption.Scope) encryption.ScopeID { return s.ID })
		of := func(after encryption.ItemID, limit int) ([]encryption.Item, error) {
			return tx.ItemsAfter("s1", after, limit)
		}
		inPages(t, "ItemsAfter", items, of, func(i encryption.Item) encryption.ItemID { return i.ID })
		return nil
	})
	view(t, p.Workspace, func(tx workspace.Tx) error {
		inPages(t, "WorkspacesAfter", scopes, tx.WorkspacesAfter, func(w workspace.WorkspaceRow) encryption.ScopeID { return w.ID })
		return nil
	})
	view(t, p.Lake, func(tx lake.Tx) error {
		wholePages(t, "LakeFoldersAfter", want.folders, tx.LakeFoldersAfter, func(f lake.FolderRow) lake.NodeID { return f.ID })
		wholePages(t, "LakeEntriesAfter", want.entries, tx.LakeEntriesAfter, func(e lake.EntryRow) lake.NodeID { return e.ID })
		wholePages(t, "LakeNodesAfter", want.nodes, tx.LakeNodesAfter, func(n lake.NodeRow) lake.NodeID { return n.ID })
		wholePages(t, "LakeStagedAfter", want.staged, tx.LakeStagedAfter, func(s lake.StagedRow) lake.StagedID { return s.ID })
		wholePages(t, "LakeExtentsAfter", want.extents, tx.LakeExtentsAfter, func(e lake.ExtentRow) lake.ExtentID { return e.ID })
		e, ok, err := tx.LakeEntryByID(want.entries[1].ID)
		if d := cmp.Diff(want.entries[1], e); err != nil || !ok || d != "" {
			t.Errorf("LakeEntryByID: %t %v %s", ok, err, d)
		}
		if _, ok, err := tx.LakeEntryByID("none"); err != nil || ok {
			t.Errorf("LakeEntryByID of none: %t %v", ok, err)
		}
		of, err := tx.LakeExtentsOf("a")
		bare := []lake.ExtentRow{want.extents[0], want.extents[2]}
		bare[0].Inline, bare[1].Inline = nil, nil
		if d := cmp.Diff(bare, of); err != nil || d != "" {
			t.Errorf("LakeExtentsOf: %v %s", err, d)
		}
		return nil
	})
}

// inPages reads rows two at a time and compares their ids.
func inPages[Row any, ID ~string](t *testing.T, what string, want []ID, read func(ID, int) ([]Row, error), id func(Row) ID) {
	t.Helper()
	var got []ID
	for after := ID(""); ; {
		page, err := read(after, 2)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(page) == 0 {
			break
		}
		for _, row := range page {
			got = append(got, id(row))
		}
		after = got[len(got)-1]
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// wholePages does the same, and compares the rows.
func wholePages[Row any, ID ~string](t *testing.T, what string, want []Row, read func(ID, int) ([]Row, error), id func(Row) ID) {
	t.Helper()
	var ids []ID
	for _, row := range want {
		ids = append(ids, id(row))
	}
	inPages(t, what, ids, read, id)
	all, err := read("", len(want)+1)
	if d := cmp.Diff(want, all); err != nil || d != "" {
		t.Errorf("%s: %v (-want +got):\n%s", what, err, d)
	}
}
