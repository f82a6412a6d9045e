package store

import (
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/lake"
)

// The names under which the lake's rows are remembered, and what they take.

func folderKey(id lake.NodeID) rowKey { return rowKey{kind: folderByID, id: string(id)} }

func roleKey(item encryption.ItemID, role lake.Role) rowKey {
	return rowKey{folderByRole, string(item), string(role)}
}

func aboutFolder(f lake.FolderRow) (int, rowKey) { return 200, folderKey(f.ID) }

func entryKey(folder lake.NodeID, lookup [32]byte) rowKey {
	return rowKey{entryByName, string(folder), string(lookup[:])}
}

func entryIDKey(id lake.NodeID) rowKey { return rowKey{kind: entryByID, id: string(id)} }

func aboutEntry(e lake.EntryRow) (int, rowKey) { return 200 + len(e.Record), entryIDKey(e.ID) }

func nodeKey(id lake.NodeID) rowKey { return rowKey{kind: nodeByID, id: string(id)} }

func aboutNode(n lake.NodeRow) (int, rowKey) { return 250 + len(n.Manifest), rowKey{} }

func extentKey(id lake.ExtentID) rowKey { return rowKey{kind: extentByID, id: string(id)} }

func ownerKey(owner string) rowKey { return rowKey{kind: extentByOwner, id: owner} }

func aboutExtent(e lake.ExtentRow) (int, rowKey) { return 200 + len(e.Inline), ownerKey(e.Owner) }
