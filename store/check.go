package store

import (
	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/workspace"
)

// ScopesAfter implements [encryption.CheckTx].
func (t *Tx) ScopesAfter(after encryption.ScopeID, limit int) ([]encryption.Scope, error) {
	return many(t, scanScope, scopesSelect+` WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// ItemsAfter implements [encryption.CheckTx] and [workspace.CheckTx].
func (t *Tx) ItemsAfter(s encryption.ScopeID, after encryption.ItemID, limit int) ([]encryption.Item, error) {
	return many(t, scanItem, `SELECT `+itemColumns+` FROM item_state WHERE scope = $1 AND item > $2 ORDER BY item LIMIT $3`,
		string(s), string(after), limit)
}

// WorkspacesAfter implements [workspace.CheckTx].
func (t *Tx) WorkspacesAfter(after encryption.ScopeID, limit int) ([]workspace.WorkspaceRow, error) {
	return many(t, scanWorkspace, `SELECT `+workspaceColumns+` FROM workspace WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// AccountsAfter implements [account.CheckTx].
func (t *Tx) AccountsAfter(after encryption.ScopeID, limit int) ([]account.Row, error) {
	return many(t, scanAccount, `SELECT `+accountColumns+` FROM account WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeFoldersAfter implements [lake.CheckTx].
func (t *Tx) LakeFoldersAfter(after lake.NodeID, limit int) ([]lake.FolderRow, error) {
	return many(t, scanFolder, `SELECT `+folderColumns+` FROM lake_folder WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeEntriesAfter implements [lake.CheckTx].
func (t *Tx) LakeEntriesAfter(after lake.NodeID, limit int) ([]lake.EntryRow, error) {
	return many(t, scanEntry, `SELECT `+entryColumns+` FROM lake_entry WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeNodesAfter implements [lake.CheckTx].
func (t *Tx) LakeNodesAfter(after lake.NodeID, limit int) ([]lake.NodeRow, error) {
	return many(t, scanNode, `SELECT `+nodeColumns+` FROM lake_node WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeStagedAfter implements [lake.CheckTx].
func (t *Tx) LakeStagedAfter(after lake.StagedID, limit int) ([]lake.StagedRow, error) {
	return many(t, scanStaged, `SELECT `+stagedColumns+` FROM lake_staged WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeExtentsAfter implements [lake.CheckTx].
func (t *Tx) LakeExtentsAfter(after lake.ExtentID, limit int) ([]lake.ExtentRow, error) {
	return many(t, scanExtent, `SELECT `+extentColumns+` FROM lake_extent WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeEntryByID implements [lake.CheckTx].
func (t *Tx) LakeEntryByID(id lake.NodeID) (lake.EntryRow, bool, error) {
	return one(t, scanEntry, `SELECT `+entryColumns+` FROM lake_entry WHERE id = $1`, string(id))
}

// LakeExtentsOf implements [lake.CheckTx].
func (t *Tx) LakeExtentsOf(owner string) ([]lake.ExtentRow, error) {
	return many(t, scanExtent, `SELECT `+extentHead+` FROM lake_extent WHERE owner = $1`, owner)
}
