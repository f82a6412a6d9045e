package lake

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/rbac"
)

// A Store keeps the namespace, in the platform's own database.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
}

// A NodeID is the id of a file or folder, and of the entry that names it: 32
// hexadecimal digits, random.
type NodeID string

// An ExtentID is the id of an extent, and of its object: 32 hexadecimal digits,
// random.
type ExtentID string

// A StagedID is the id of staged content: 32 hexadecimal digits, random.
type StagedID string

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// A Role tells a folder that no entry names.
type Role string

// The roles of folders.
const (
	Ordinary Role = ""        // an entry names it
	Root     Role = "root"    // of the item's tree
	Uploads  Role = "uploads" // its entries name paths that have uncommitted blocks
	Deleted  Role = "deleted" // cut off from the tree; what is below it is still to be removed
)

// A FolderRow is a folder as the holder of names.
type FolderRow struct {
	ID      NodeID
	Item    encryption.ItemID
	Role    Role
	Salt    [24]byte         // makes the folder's keys from the namespace key
	Key     encryption.KeyID // the namespace key of the entries
	NextKey encryption.KeyID // the one that they are being brought under, "" if none; it seals
	Seals   int64            // records sealed under the sealing key and this salt
	Names   int64            // names that the folder was ever given
}

// sealing returns the id of the key that seals the folder's records.
func (f FolderRow) sealing() encryption.KeyID {
	if f.NextKey != "" {
		return f.NextKey
	}
	return f.Key
}

// An EntryRow is a name in a folder.
type EntryRow struct {
	ID       NodeID // of what it names
	Folder   NodeID
	Kind     Kind
	Key      encryption.KeyID
	Lookup   [32]byte // MAC of the name
	Revision int64    // counts the records sealed for the entry
	Ordinal  int64    // which of the folder's names it is; 0 before it has one
	Record   []byte   // the sealed listing record
}

// A NodeRow is a file's or folder's properties and, for a file, what its content
// is made of.
type NodeRow struct {
	ID       NodeID
	Item     encryption.ItemID
	Kind     Kind
	Key      encryption.KeyID
	Size     int64
	Modified time.Time
	Manifest []byte // sealed
	Lease    Lease
}

// An ExtentState is where an extent is in its life.
type ExtentState uint8

// The states of an extent.
const (
	Staged ExtentState = iota // being written, or part of staged content
	Live                      // part of a file
	Doomed                    // part of nothing; its object is to be removed when it is due
)

// An ExtentRow is an extent. Its row is there before its object's first byte.
type ExtentRow struct {
	ID      ExtentID
	Item    encryption.ItemID
	Key     encryption.KeyID
	Owner   string // the node it is live in, or the staged content it belongs to
	State   ExtentState
	Size    int64  // sealed bytes; 0 while it is being written
	Inline  []byte // the sealed bytes, if they are in the row and not in an object
	Changed time.Time
	Due     time.Time // when a doomed extent goes
}

// A StagedRow is content that is not part of a file yet: an upload under way, a
// block, or an append.
type StagedRow struct {
	ID       StagedID
	Item     encryption.ItemID
	Owner    NodeID // the file appended to or the upload's entry; "" while bytes still arrive
	Key      encryption.KeyID
	Ordinal  int64 // order of arrival at the owner
	Position int64 // where an append begins
	Size     int64
	Record   []byte // sealed: block id, extents
	Changed  time.Time
}

// A Tx is one transaction of a [Store]. Rows are read whole and put whole: Put
// adds the row or replaces that with the same id.
type Tx interface {
	audit.Appender
	rbac.Tx
	encryption.KeyTx
	CheckTx
	ScrubTx

	// LakeFolder returns a folder. In an update it also locks it until the end.
	LakeFolder(NodeID) (FolderRow, bool, error)
	// LakeFolderAs returns the item's folder with the role [Root] or [Uploads].
	LakeFolderAs(encryption.ItemID, Role) (FolderRow, bool, error)
	// LakeFoldersUnder returns folders that name the namespace key, as theirs or
	// their next.
	LakeFoldersUnder(key encryption.KeyID, limit int) ([]FolderRow, error)
	// LakeFoldersDeleted returns folders with the role [Deleted], of one item or,
	// if that is "", of all.
	LakeFoldersDeleted(item encryption.ItemID, limit int) ([]FolderRow, error)
	PutLakeFolder(FolderRow) error
	DeleteLakeFolder(NodeID) error

	// LakeEntry returns the folder's entry with one of the look-up codes.
	LakeEntry(folder NodeID, lookups ...[32]byte) (EntryRow, bool, error)
	// LakeEntries calls each with the folder's entries, in no order, until it
	// returns an error, and returns that. each asks the transaction nothing.
	LakeEntries(folder NodeID, each func(EntryRow) error) error
	// LakeEntriesSince does so with those whose ordinal is above after.
	LakeEntriesSince(folder NodeID, after int64, each func(EntryRow) error) error
	// LakeEntriesAt returns those of the folder's entries that have one of the
	// ordinals, in no order.
	LakeEntriesAt(folder NodeID, ordinals []int64) ([]EntryRow, error)
	// LakeEntriesUnder returns entries of the folder that are under the key; all
	// of them if that is "".
	LakeEntriesUnder(folder NodeID, key encryption.KeyID, limit int) ([]EntryRow, error)
	// PutLakeEntry fails with [fault.Conflict] if the folder has another entry
	// with the look-up code.
	PutLakeEntry(EntryRow) error
	DeleteLakeEntry(NodeID) error

	LakeNode(NodeID) (NodeRow, bool, error)
	// LakeNodesUnder returns nodes whose manifest is under the key.
	LakeNodesUnder(key encryption.KeyID, limit int) ([]NodeRow, error)
	// LakeNodesLeased returns the item's nodes that have a lease, be it over.
	LakeNodesLeased(item encryption.ItemID) ([]NodeRow, error)
	PutLakeNode(NodeRow) error
	DeleteLakeNode(NodeID) error

	LakeExtent(ExtentID) (ExtentRow, bool, error)
	// LakeExtentsUnder returns extents of a state that are under the key, without
	// their inline bytes.
	LakeExtentsUnder(key encryption.KeyID, state ExtentState, limit int) ([]ExtentRow, error)
	// LakeExtentsDue returns doomed extents whose time has come, without inline
	// bytes.
	LakeExtentsDue(now time.Time, limit int) ([]ExtentRow, error)
	// LakeExtentsLost returns staged extents that belong to no staged content and
	// have not changed since.
	LakeExtentsLost(since time.Time, limit int) ([]ExtentRow, error)
	PutLakeExtent(ExtentRow) error
	// RekeyLakeExtent puts an extent that is in its row under another key, with its
	// bytes as that sealed them. It reports false, and does nothing, if the row is not
	// there or not under the first key any more.
	RekeyLakeExtent(id ExtentID, from, to encryption.KeyID, inline []byte) (bool, error)
	DeleteLakeExtent(ExtentID) error
	// DoomLakeExtents removes the owner's extents: those in rows at once, the
	// others when due.
	DoomLakeExtents(owner string, due time.Time) error

	LakeStaged(StagedID) (StagedRow, bool, error)
	// LakeStagedOf returns what is staged for the owner, by ordinal.
	LakeStagedOf(owner NodeID) ([]StagedRow, error)
	// LakeStagedNext returns the ordinal after the owner's last.
	LakeStagedNext(owner NodeID) (int64, error)
	// LakeStagedUnder returns staged content whose record is under the key.
	LakeStagedUnder(key encryption.KeyID, limit int) ([]StagedRow, error)
	// LakeStagedSince returns staged content, with or without an owner, that has
	// not changed since.
	LakeStagedSince(owned bool, since time.Time, limit int) ([]StagedRow, error)
	PutLakeStaged(StagedRow) error
	DeleteLakeStaged(StagedID) error

	// LakeTotals counts the item's files and their bytes, and those whose
	// manifest is under the key.
	LakeTotals(item encryption.ItemID, key encryption.KeyID) (all, under Totals, err error)
	// LakeShreddedItems returns items whose keys are shredded; that of a scope's own
	// names only while the lake has something of it.
	LakeShreddedItems(limit int) ([]encryption.ItemID, error)
	// DropLakeItem removes up to limit of the item's rows, whatever they are:
	// extents with objects become doomed. It reports whether none but those are
	// left.
	DropLakeItem(item encryption.ItemID, due time.Time, limit int) (done bool, err error)
}

// Totals counts files.
type Totals struct{ Files, Bytes int64 }
