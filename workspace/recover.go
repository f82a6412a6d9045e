package workspace

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A DeletedItem is one that can be recovered until a time.
type DeletedItem struct {
	Item
	Until time.Time
}

// DeletedItems returns the workspace's items that can be recovered, by id: at most
// limit of those above after. more tells whether there are others.
func (w *Workspaces) DeletedItems(ctx context.Context, c identity.Caller, ws encryption.ScopeID, after encryption.ItemID, limit int) (page []DeletedItem, more bool, err error) {
	err = w.opening(ctx, c, "ListRecoverableItems", resourceOf(ws), rbac.ItemsWrite, ws, func(u *encryption.Use) error {
		var rows []Entry
		items, err := w.entries(ctx, u, func(tx Tx) (_ []Entry, err error) {
			rows, err = tx.ItemEntriesDeleted(ws, after, limit+1)
			more = len(rows) > limit
			rows = rows[:min(len(rows), limit)]
			return rows, err
		})
		for n, i := range items {
			page = append(page, DeletedItem{i, rows[n].Since.Add(w.retention)})
		}
		return err
	})
	return page, more, err
}

// RecoverItem brings a deleted item back, with all that lies below it, into the
// workspace itself if its folder is gone. It fails with [fault.ItemNameTaken] if
// another has its name meanwhile.
func (w *Workspaces) RecoverItem(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID) (Item, error) {
	return w.rewrite(ctx, c, rewriting{
		operation: "RecoverItem", workspace: ws, id: id,
		check: func() error { return nil },
		read: func(tx Tx, ws encryption.ScopeID, id encryption.ItemID) (Entry, error) {
			e, err := deletedEntry(tx, ws, id)
			if err != nil || e.Folder == "" {
				return e, err
			}
			if _, gone := liveFolder(tx, ws, e.Folder); gone != nil {
				e.Folder = ""
			}
			return e, nil
		},
		change: func(e *Entry, _ *record) { e.State, e.Since = Live, w.time() },
		admit: func(tx Tx, e Entry) error {
			row, err := tx.Workspace(ws)
			if err != nil {
				return err
			}
			managed, _, err := underCustomersKey(tx, ws)
			if err != nil || managed {
				return err
			}
			return mayBeUnmanaged(tx, row, e.Label)
		},
	})
}

// PurgeItem shreds a deleted item for good, without any key.
func (w *Workspaces) PurgeItem(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID) error {
	return w.write(ctx, c.Entry("DeleteRecoverableItem", itemResource(ws, id)), func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.WorkspacesDelete, ws); err != nil {
			return err
		}
		if _, err := deletedEntry(tx, ws, id); err != nil {
			return err
		}
		return shredNoted(tx, c, ws, id)
	})
}

func deletedEntry(tx Tx, ws encryption.ScopeID, id encryption.ItemID) (Entry, error) {
	e, err := tx.ItemEntry(id)
	if err == nil && (e.Workspace != ws || e.State != Deleted) {
		err = fault.New(fault.ItemNotFound, "There is no such deleted item in this workspace.").About(string(id))
	}
	return e, err
}
