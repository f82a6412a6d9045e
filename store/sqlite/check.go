package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/workspace"
)

// Check reads the whole database file and calls found with what is wrong with it:
// pages and indexes that do not hold together, values that no column may have, and
// rows that name a row which does not exist.
func (db *DB) Check(ctx context.Context, found func(text string)) error {
	return db.view(ctx, func(t *tx) error {
		err := t.rows(`PRAGMA integrity_check`, nil, func(scan func(...any) error) error {
			var text string
			err := scan(&text)
			if err == nil && text != "ok" {
				found(text)
			}
			return err
		})
		if err != nil {
			return err
		}
		return t.rows(`PRAGMA foreign_key_check`, nil, func(scan func(...any) error) error {
			var table, parent string
			var row, key sql.NullInt64
			err := scan(&table, &row, &parent, &key)
			if err == nil {
				found(fmt.Sprintf("Row %d of table %s names a row of table %s that does not exist.", row.Int64, table, parent))
			}
			return err
		})
	})
}

// ScopesAfter implements [encryption.CheckTx].
func (t *tx) ScopesAfter(after encryption.ScopeID, limit int) ([]encryption.Scope, error) {
	return many(t, scanScope, `SELECT `+scopeColumns+` FROM scope WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// ItemsAfter implements [encryption.CheckTx] and [workspace.CheckTx].
func (t *tx) ItemsAfter(s encryption.ScopeID, after encryption.ItemID, limit int) ([]encryption.Item, error) {
	return many(t, scanItem, `SELECT `+itemColumns+` FROM item_state WHERE scope = $1 AND item > $2 ORDER BY item LIMIT $3`,
		string(s), string(after), limit)
}

// WorkspacesAfter implements [workspace.CheckTx].
func (t *tx) WorkspacesAfter(after encryption.ScopeID, limit int) ([]workspace.WorkspaceRow, error) {
	return many(t, scanWorkspace, `SELECT `+workspaceColumns+` FROM workspace WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeFoldersAfter implements [lake.CheckTx].
func (t *tx) LakeFoldersAfter(after lake.NodeID, limit int) ([]lake.FolderRow, error) {
	return many(t, scanFolder, `SELECT `+folderColumns+` FROM lake_folder WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeEntriesAfter implements [lake.CheckTx].
func (t *tx) LakeEntriesAfter(after lake.NodeID, limit int) ([]lake.EntryRow, error) {
	return many(t, scanEntry, `SELECT `+entryColumns+` FROM lake_entry WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeNodesAfter implements [lake.CheckTx].
func (t *tx) LakeNodesAfter(after lake.NodeID, limit int) ([]lake.NodeRow, error) {
	return many(t, scanNode, `SELECT `+nodeColumns+` FROM lake_node WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeStagedAfter implements [lake.CheckTx].
func (t *tx) LakeStagedAfter(after lake.StagedID, limit int) ([]lake.StagedRow, error) {
	return many(t, scanStaged, `SELECT `+stagedColumns+` FROM lake_staged WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeExtentsAfter implements [lake.CheckTx].
func (t *tx) LakeExtentsAfter(after lake.ExtentID, limit int) ([]lake.ExtentRow, error) {
	return many(t, scanExtent, `SELECT `+extentColumns+` FROM lake_extent WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// LakeEntryByID implements [lake.CheckTx].
func (t *tx) LakeEntryByID(id lake.NodeID) (lake.EntryRow, bool, error) {
	return one(t, scanEntry, `SELECT `+entryColumns+` FROM lake_entry WHERE id = $1`, string(id))
}

// LakeExtentsOf implements [lake.CheckTx].
func (t *tx) LakeExtentsOf(owner string) ([]lake.ExtentRow, error) {
	return many(t, scanExtent, `SELECT `+extentHead+` FROM lake_extent WHERE owner = $1`, owner)
}
