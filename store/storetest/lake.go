package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// Lake checks a store of package lake.
func Lake(t *testing.T, open func(t *testing.T) lake.Store) {
	for name, test := range map[string]func(*testing.T, lakeStore){
		"Folders": lakeFolders, "Entries": lakeEntries, "Nodes": lakeNodes, "Extents": lakeExtents, "Staged": lakeStaged,
		"KeysAreHeld": lakeKeysAreHeld, "DropItem": lakeDropItem, "RollsBack": lakeRollsBack,
	} {
		t.Run(name, func(t *testing.T) {
			s := lakeStore{open(t)}
			s.seed(t)
			test(t, s)
		})
	}
}

type lakeStore struct{ lake.Store }

const (
	lakeScope  encryption.ScopeID = "10000000-0000-4000-8000-000000000000"
	lakeItem   encryption.ItemID  = "20000000-0000-4000-8000-000000000000"
	lakeOther  encryption.ItemID  = "30000000-0000-4000-8000-000000000000"
	lakeOldKey encryption.KeyID   = "a0000000000000000000000000000000"
	lakeNewKey encryption.KeyID   = "b0000000000000000000000000000000"
)

var lakeTime = time.Date(2026, 3, 4, 5, 6, 7, 891000, time.UTC)

func lakeID[T ~string](n int) T { return T(fmt.Sprintf("%032x", n)) }

func lakeMAC(b byte) (m [32]byte) { m[0] = b; return m }

// seed adds a scope, two items and two keys of the first.
func (s lakeStore) seed(t *testing.T) {
	t.Helper()
	update(t, s, func(tx lake.Tx) error {
		if err := tx.InsertScope(encryption.Scope{ID: lakeScope, Tenant: "t", Sealing: 1, Epoch: 1}); err != nil {
			return err
		}
		for _, i := range []encryption.ItemID{lakeItem, lakeOther} {
			if err := tx.InsertItem(encryption.Item{ID: i, Scope: lakeScope, Type: "Lakehouse", Generation: 1}); err != nil {
				return err
			}
		}
		for id, p := range map[encryption.KeyID]encryption.Purpose{lakeOldKey: encryption.NamesKey, lakeNewKey: encryption.ContentKey} {
			row := encryption.KeyRow{
				ID: id, Scope: lakeScope, Item: lakeItem, Purpose: p, Generation: 1, State: encryption.Current,
				Sealed: []byte("sealed"), Created: lakeTime,
			}
			if err := tx.InsertKey(row); err != nil {
				return err
			}
		}
		return nil
	})
}

// wantLakeRow compares what a look-up gave.
func wantLakeRow[T any](t *testing.T, got T, ok bool, err error, expected T) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		t.Fatalf("%T is missing", expected)
	}
	if d := cmp.Diff(expected, got); d != "" {
		t.Errorf("stored (-) and read (+): %s", d)
	}
}

// wantLakeRows compares how many rows a query gave.
func wantLakeRows[T any](t *testing.T, what string, n int) func([]T, error) {
	t.Helper()
	return func(rows []T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != n {
			t.Errorf("%s: %d rows, want %d", what, len(rows), n)
		}
	}
}

func lakeFolderRow(n int, role lake.Role) lake.FolderRow {
	return lake.FolderRow{ID: lakeID[lake.NodeID](n), Item: lakeItem, Role: role, Salt: [24]byte{1, 2, 23: 3}, Key: lakeOldKey}
}

func lakeFolders(t *testing.T, s lakeStore) {
	root, plain := lakeFolderRow(1, lake.Root), lakeFolderRow(2, lake.Ordinary)
	update(t, s, func(tx lake.Tx) error {
		return errors.Join(tx.PutLakeFolder(root), tx.PutLakeFolder(plain), tx.PutLakeFolder(lakeFolderRow(3, lake.Ordinary)))
	})
	err := s.Update(t.Context(), func(tx lake.Tx) error { return tx.PutLakeFolder(lakeFolderRow(4, lake.Root)) })
	if !errors.Is(err, fault.Conflict) {
		t.Errorf("a second root: %v", err)
	}
	plain.Role, plain.NextKey, plain.Seals = lake.Deleted, lakeNewKey, 1<<40
	update(t, s, func(tx lake.Tx) error { return tx.PutLakeFolder(plain) })
	view(t, s, func(tx lake.Tx) error {
		got, ok, err := tx.LakeFolder(plain.ID)
		wantLakeRow(t, got, ok, err, plain)
		got, ok, err = tx.LakeFolderAs(lakeItem, lake.Root)
		wantLakeRow(t, got, ok, err, root)
		if _, ok, err := tx.LakeFolderAs(lakeItem, lake.Uploads); ok || err != nil {
			t.Errorf("a folder that is not there: %v, %v", ok, err)
		}
		wantLakeRows[lake.FolderRow](t, "under the key", 3)(tx.LakeFoldersUnder(lakeOldKey, 10))
		wantLakeRows[lake.FolderRow](t, "under the key, limited", 2)(tx.LakeFoldersUnder(lakeOldKey, 2))
		wantLakeRows[lake.FolderRow](t, "under the next key", 1)(tx.LakeFoldersUnder(lakeNewKey, 10))
		wantLakeRows[lake.FolderRow](t, "deleted", 1)(tx.LakeFoldersDeleted(lakeItem, 10))
		wantLakeRows[lake.FolderRow](t, "deleted of all", 1)(tx.LakeFoldersDeleted("", 10))
		wantLakeRows[lake.FolderRow](t, "deleted of another", 0)(tx.LakeFoldersDeleted(lakeOther, 10))
		return nil
	})
}

func lakeEntryRow(n, in int, lookup byte) lake.EntryRow {
	return lake.EntryRow{
		ID: lakeID[lake.NodeID](n), Folder: lakeID[lake.NodeID](in), Kind: lake.File, Key: lakeOldKey, Lookup: lakeMAC(lookup),
		Revision: 3, Record: []byte{0, 1, 2},
	}
}

func lakeEntries(t *testing.T, s lakeStore) {
	update(t, s, func(tx lake.Tx) error {
		return errors.Join(tx.PutLakeFolder(lakeFolderRow(1, lake.Root)), tx.PutLakeFolder(lakeFolderRow(2, lake.Ordinary)),
			tx.PutLakeEntry(lakeEntryRow(10, 1, 10)), tx.PutLakeEntry(lakeEntryRow(11, 1, 11)), tx.PutLakeEntry(lakeEntryRow(12, 2, 10)))
	})
	for what, e := range map[string]lake.EntryRow{"a name twice in a folder": lakeEntryRow(13, 1, 10), "a folder that is not there": lakeEntryRow(14, 9, 1)} {
		err := s.Update(t.Context(), func(tx lake.Tx) error { return tx.PutLakeEntry(e) })
		if !errors.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	moved := lakeEntryRow(11, 2, 20)
	moved.Key, moved.Revision = lakeNewKey, 4
	update(t, s, func(tx lake.Tx) error { return tx.PutLakeEntry(moved) })
	view(t, s, func(tx lake.Tx) error {
		got, ok, err := tx.LakeEntry(moved.Folder, lakeMAC(99), lakeMAC(20))
		wantLakeRow(t, got, ok, err, moved)
		if _, ok, _ := tx.LakeEntry(lakeID[lake.NodeID](1), lakeMAC(11)); ok {
			t.Error("a moved entry is still where it was")
		}
		wantLakeRows[lake.EntryRow](t, "in the folder", 2)(tx.LakeEntriesUnder(moved.Folder, "", -1))
		wantLakeRows[lake.EntryRow](t, "under the key", 1)(tx.LakeEntriesUnder(moved.Folder, lakeNewKey, 10))
		n, stop := 0, errors.New("stop")
		if err := tx.LakeEntries(moved.Folder, func(lake.EntryRow) error { n++; return nil }); n != 2 || err != nil {
			t.Errorf("%d entries, %v", n, err)
		}
		if err := tx.LakeEntries(moved.Folder, func(lake.EntryRow) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("an error in between becomes %v", err)
		}
		return nil
	})
	const ordered = 300 // more than one statement asks for
	update(t, s, func(tx lake.Tx) (err error) {
		for i := range ordered {
			e := lakeEntryRow(1000+i, 2, 0)
			e.Ordinal, e.Lookup = int64(i+1), sha256.Sum256([]byte{byte(i), byte(i >> 8)})
			err = errors.Join(err, tx.PutLakeEntry(e))
		}
		return err
	})
	view(t, s, func(tx lake.Tx) error {
		ordinals := []int64{5000, -1}
		for n := int64(ordered); n > 0; n-- {
			ordinals = append(ordinals, n)
		}
		wantLakeRows[lake.EntryRow](t, "at the ordinals", ordered)(tx.LakeEntriesAt(moved.Folder, ordinals))
		wantLakeRows[lake.EntryRow](t, "at one ordinal", 1)(tx.LakeEntriesAt(moved.Folder, []int64{7}))
		wantLakeRows[lake.EntryRow](t, "at one in another folder", 0)(tx.LakeEntriesAt(lakeID[lake.NodeID](1), []int64{7}))
		n := 0
		if err := tx.LakeEntriesSince(moved.Folder, ordered-5, func(lake.EntryRow) error { n++; return nil }); n != 5 || err != nil {
			t.Errorf("%d entries since, %v", n, err)
		}
		return nil
	})
	err := s.Update(t.Context(), func(tx lake.Tx) error { return tx.DeleteLakeFolder(moved.Folder) })
	if !errors.Is(err, fault.Conflict) {
		t.Errorf("deleting a folder with entries: %v", err)
	}
}

func lakeNodeRow(n int, kind lake.Kind, key encryption.KeyID, size int64) lake.NodeRow {
	return lake.NodeRow{
		ID: lakeID[lake.NodeID](n), Item: lakeItem, Kind: kind, Key: key, Size: size, Modified: lakeTime, Manifest: []byte{9},
	}
}

func lakeNodes(t *testing.T, s lakeStore) {
	update(t, s, func(tx lake.Tx) error {
		return errors.Join(tx.PutLakeNode(lakeNodeRow(1, lake.File, lakeOldKey, 10)), tx.PutLakeNode(lakeNodeRow(2, lake.File, lakeOldKey, 1<<40)),
			tx.PutLakeNode(lakeNodeRow(3, lake.Folder, lakeOldKey, 0)))
	})
	changed := lakeNodeRow(2, lake.File, lakeNewKey, 1<<41)
	update(t, s, func(tx lake.Tx) error { return tx.PutLakeNode(changed) })
	view(t, s, func(tx lake.Tx) error {
		got, ok, err := tx.LakeNode(changed.ID)
		wantLakeRow(t, got, ok, err, changed)
		wantLakeRows[lake.NodeRow](t, "under the key", 2)(tx.LakeNodesUnder(lakeOldKey, 10))
		all, under, err := tx.LakeTotals(lakeItem, lakeNewKey)
		if err != nil || all != (lake.Totals{Files: 2, Bytes: 1<<41 + 10}) || under != (lake.Totals{Files: 1, Bytes: 1 << 41}) {
			t.Errorf("totals %v, %v, %v", all, under, err)
		}
		return nil
	})
	changed.Lease = lake.Lease{ID: "lease", Length: time.Minute, Ends: lakeTime, Breaks: lakeTime.Add(time.Second)}
	update(t, s, func(tx lake.Tx) error { return tx.PutLakeNode(changed) })
	view(t, s, func(tx lake.Tx) error {
		got, ok, err := tx.LakeNode(changed.ID)
		wantLakeRow(t, got, ok, err, changed)
		wantLakeRows[lake.NodeRow](t, "leased", 1)(tx.LakeNodesLeased(lakeItem))
		wantLakeRows[lake.NodeRow](t, "leased elsewhere", 0)(tx.LakeNodesLeased(lakeOther))
		return nil
	})
	update(t, s, func(tx lake.Tx) error { return tx.DeleteLakeNode(changed.ID) })
	view(t, s, func(tx lake.Tx) error {
		if _, ok, err := tx.LakeNode(changed.ID); ok || err != nil {
			t.Errorf("a deleted node: %v, %v", ok, err)
		}
		return nil
	})
}

func lakeExtentRow(n int, owner string, state lake.ExtentState, inline []byte) lake.ExtentRow {
	return lake.ExtentRow{
		ID: lakeID[lake.ExtentID](n), Item: lakeItem, Key: lakeNewKey, Owner: owner, State: state, Size: int64(n), Inline: inline,
		Changed: lakeTime,
	}
}

func lakeExtents(t *testing.T, s lakeStore) {
	inline := lakeExtentRow(1, "file", lake.Live, bytes.Repeat([]byte{7}, 16<<10))
	object := lakeExtentRow(2, "file", lake.Live, nil)
	update(t, s, func(tx lake.Tx) error {
		return errors.Join(tx.PutLakeExtent(inline), tx.PutLakeExtent(object), tx.PutLakeExtent(lakeExtentRow(3, "lost", lake.Staged, nil)),
			tx.PutLakeExtent(lakeExtentRow(4, string(lakeID[lake.StagedID](1)), lake.Staged, nil)),
			tx.PutLakeStaged(lake.StagedRow{ID: lakeID[lake.StagedID](1), Item: lakeItem, Key: lakeNewKey, Record: []byte{1}, Changed: lakeTime}))
	})
	view(t, s, func(tx lake.Tx) error {
		got, ok, err := tx.LakeExtent(inline.ID)
		wantLakeRow(t, got, ok, err, inline)
		got, ok, err = tx.LakeExtent(object.ID)
		wantLakeRow(t, got, ok, err, object)
		if got.Inline != nil {
			t.Error("an extent with an object has inline bytes")
		}
		wantLakeRows[lake.ExtentRow](t, "live under the key", 2)(tx.LakeExtentsUnder(lakeNewKey, lake.Live, 10))
		wantLakeRows[lake.ExtentRow](t, "under another key", 0)(tx.LakeExtentsUnder(lakeOldKey, lake.Live, 10))
		wantLakeRows[lake.ExtentRow](t, "lost", 1)(tx.LakeExtentsLost(lakeTime, 10))
		wantLakeRows[lake.ExtentRow](t, "lost a moment earlier", 0)(tx.LakeExtentsLost(lakeTime.Add(-time.Microsecond), 10))
		wantLakeRows[lake.ExtentRow](t, "due", 0)(tx.LakeExtentsDue(lakeTime.Add(1000*time.Hour), 10))
		return nil
	})
	update(t, s, func(tx lake.Tx) error {
		for id, want := range map[lake.ExtentID]bool{inline.ID: true, object.ID: false, "none": false} {
			if did, err := tx.RekeyLakeExtent(id, lakeNewKey, lakeOldKey, []byte{9}); err != nil || did != want {
				t.Errorf("putting %s under another key: %v, %v", id, did, err)
			}
		}
		if did, err := tx.RekeyLakeExtent(inline.ID, lakeNewKey, lakeOldKey, []byte{8}); err != nil || did {
			t.Errorf("and again: %v, %v", did, err)
		}
		inline.Key, inline.Inline = lakeOldKey, []byte{9}
		got, ok, err := tx.LakeExtent(inline.ID)
		wantLakeRow(t, got, ok, err, inline)
		return nil
	})
	due := lakeTime.Add(time.Hour)
	update(t, s, func(tx lake.Tx) error { return tx.DoomLakeExtents("file", due) })
	update(t, s, func(tx lake.Tx) error { return tx.DoomLakeExtents("file", due.Add(time.Hour)) }) // the first counts
	view(t, s, func(tx lake.Tx) error {
		if _, ok, _ := tx.LakeExtent(inline.ID); ok {
			t.Error("an inline extent is kept after its file")
		}
		wantLakeRows[lake.ExtentRow](t, "due", 1)(tx.LakeExtentsDue(due, 10))
		wantLakeRows[lake.ExtentRow](t, "due a moment earlier", 0)(tx.LakeExtentsDue(due.Add(-time.Microsecond), 10))
		return nil
	})
	update(t, s, func(tx lake.Tx) error { return tx.DeleteLakeExtent(object.ID) })
}

func lakeStaged(t *testing.T, s lakeStore) {
	row := func(n int, owner lake.NodeID, ordinal int64) lake.StagedRow {
		return lake.StagedRow{
			ID: lakeID[lake.StagedID](n), Item: lakeItem, Owner: owner, Key: lakeNewKey, Ordinal: ordinal, Position: 1 << 40, Size: 5,
			Record: []byte{1}, Changed: lakeTime,
		}
	}
	update(t, s, func(tx lake.Tx) error {
		next, err := tx.LakeStagedNext("o")
		if err != nil || next != 1 {
			t.Errorf("the first ordinal is %d, %v", next, err)
		}
		return errors.Join(tx.PutLakeStaged(row(1, "o", 2)), tx.PutLakeStaged(row(2, "o", 1)), tx.PutLakeStaged(row(3, "", 0)))
	})
	view(t, s, func(tx lake.Tx) error {
		got, ok, err := tx.LakeStaged(lakeID[lake.StagedID](1))
		wantLakeRow(t, got, ok, err, row(1, "o", 2))
		of, err := tx.LakeStagedOf("o")
		if err != nil || len(of) != 2 || of[0].Ordinal != 1 {
			t.Errorf("staged of an owner: %v, %v", of, err)
		}
		next, err := tx.LakeStagedNext("o")
		if err != nil || next != 3 {
			t.Errorf("the next ordinal is %d, %v", next, err)
		}
		wantLakeRows[lake.StagedRow](t, "under the key", 3)(tx.LakeStagedUnder(lakeNewKey, 10))
		wantLakeRows[lake.StagedRow](t, "with an owner", 2)(tx.LakeStagedSince(true, lakeTime, 10))
		wantLakeRows[lake.StagedRow](t, "without", 1)(tx.LakeStagedSince(false, lakeTime, 10))
		wantLakeRows[lake.StagedRow](t, "earlier", 0)(tx.LakeStagedSince(false, lakeTime.Add(-time.Microsecond), 10))
		return nil
	})
	update(t, s, func(tx lake.Tx) error { return tx.DeleteLakeStaged(lakeID[lake.StagedID](1)) })
}

// A key cannot go while anything names it.
func lakeKeysAreHeld(t *testing.T, s lakeStore) {
	next := lakeFolderRow(1, lake.Root)
	next.NextKey = lakeNewKey
	for what, put := range map[string]func(lake.Tx) error{
		"folder": func(tx lake.Tx) error { return tx.PutLakeFolder(next) },
		"entry": func(tx lake.Tx) error {
			e := lakeEntryRow(5, 1, 1)
			e.Key = lakeNewKey
			return errors.Join(tx.PutLakeFolder(lakeFolderRow(1, lake.Root)), tx.PutLakeEntry(e))
		},
		"node":   func(tx lake.Tx) error { return tx.PutLakeNode(lakeNodeRow(1, lake.File, lakeNewKey, 1)) },
		"extent": func(tx lake.Tx) error { return tx.PutLakeExtent(lakeExtentRow(1, "x", lake.Doomed, nil)) },
		"staged": func(tx lake.Tx) error {
			return tx.PutLakeStaged(lake.StagedRow{ID: lakeID[lake.StagedID](1), Key: lakeNewKey, Record: []byte{1}})
		},
	} {
		undo := errors.New("undo")
		err := s.Update(t.Context(), func(tx lake.Tx) error {
			if err := put(tx); err != nil {
				return err
			}
			if err := tx.DeleteItemKeys(lakeItem); !errors.Is(err, fault.Conflict) {
				t.Errorf("%s: its key could be deleted: %v", what, err)
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Errorf("%s: %v", what, err)
		}
	}
	err := s.Update(t.Context(), func(tx lake.Tx) error {
		return tx.PutLakeNode(lakeNodeRow(1, lake.File, "c0000000000000000000000000000000", 1))
	})
	if !errors.Is(err, fault.Conflict) {
		t.Errorf("a node under a key that is not there: %v", err)
	}
}

func lakeDropItem(t *testing.T, s lakeStore) {
	update(t, s, func(tx lake.Tx) error {
		err := errors.Join(tx.PutLakeFolder(lakeFolderRow(1, lake.Root)), tx.PutLakeExtent(lakeExtentRow(900, "x", lake.Live, nil)),
			tx.PutLakeStaged(lake.StagedRow{ID: lakeID[lake.StagedID](1), Item: lakeItem, Key: lakeNewKey, Record: []byte{1}}))
		for i := range 25 {
			err = errors.Join(err, tx.PutLakeEntry(lakeEntryRow(100+i, 1, byte(i))), tx.PutLakeNode(lakeNodeRow(100+i, lake.File, lakeNewKey, 1)),
				tx.PutLakeExtent(lakeExtentRow(100+i, "x", lake.Live, []byte{1})))
		}
		return errors.Join(err, tx.ShredItem(lakeItem))
	})
	view(t, s, func(tx lake.Tx) error {
		items, err := tx.LakeShreddedItems(10)
		if err != nil || len(items) != 1 || items[0] != lakeItem {
			t.Errorf("shredded items: %v, %v", items, err)
		}
		return nil
	})
	rounds := 0
	for done := false; !done; rounds++ {
		if rounds > 20 {
			t.Fatal("dropping an item has no end")
		}
		update(t, s, func(tx lake.Tx) (err error) {
			done, err = tx.DropLakeItem(lakeItem, lakeTime, 10)
			return err
		})
	}
	if rounds < 3 {
		t.Errorf("25 entries were dropped in %d rounds of 10", rounds)
	}
	if err := s.Update(t.Context(), func(tx lake.Tx) error { return tx.DeleteItemKeys(lakeItem) }); !errors.Is(err, fault.Conflict) {
		t.Errorf("the keys went before the last extent: %v", err)
	}
	update(t, s, func(tx lake.Tx) error {
		wantLakeRows[lake.ExtentRow](t, "due", 1)(tx.LakeExtentsDue(lakeTime, 10))
		return tx.DeleteLakeExtent(lakeID[lake.ExtentID](900))
	})
	update(t, s, func(tx lake.Tx) error { return tx.DeleteItemKeys(lakeItem) })
}

func lakeRollsBack(t *testing.T, s lakeStore) {
	undo := errors.New("undo")
	err := s.Update(t.Context(), func(tx lake.Tx) error {
		return errors.Join(tx.PutLakeNode(lakeNodeRow(1, lake.File, lakeNewKey, 1)), undo)
	})
	if !errors.Is(err, undo) {
		t.Fatal(err)
	}
	view(t, s, func(tx lake.Tx) error {
		if _, ok, err := tx.LakeNode(lakeID[lake.NodeID](1)); ok || err != nil {
			t.Errorf("what a failed transaction wrote is there: %v", err)
		}
		return nil
	})
}
