package workspace

import (
	"context"
	"errors"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/rbac"
)

var (
	deleteMarked = failpoint.New("workspace/delete/marked")
	deleteBatch  = failpoint.New("workspace/delete/batch")
)

// shredBatch is how many items one transaction shreds.
const shredBatch = 128

// creationTime is how long an item may take to be created, before it counts as
// left behind by a crash.
const creationTime = 15 * time.Minute

// Delete deletes a workspace for good, without any key: it is gone at once for
// everybody, and all its items are shredded when Delete returns. If that is
// interrupted, [Workspaces.Sweep] goes on with it.
func (w *Workspaces) Delete(ctx context.Context, c identity.Caller, id encryption.ScopeID) error {
	err := w.write(ctx, c.Entry("DeleteWorkspace", resourceOf(id)), func(tx Tx) error {
		row, err := w.permit(tx, c, rbac.WorkspacesDelete, id)
		if err != nil {
			return err
		}
		row.Deleted, row.DescriptionKey, row.Description = true, "", nil
		if err := tx.UpdateWorkspace(row); err != nil {
			return err
		}
		if err := tx.DeleteRoleAssignmentsBelow(scopeOf(id)); err != nil {
			return err
		}
		return tx.ShredItem(encryption.ScopeItem(id))
	})
	if err != nil {
		return err
	}
	w.lists.Delete(id)
	if err := deleteMarked.Hit(); err != nil {
		return err
	}
	// The deletion is durable; it is finished here even if the client is gone.
	return w.shredWorkspace(context.WithoutCancel(ctx), c, id)
}

// shredWorkspace shreds all items of a deleted workspace and removes what is here
// of it.
func (w *Workspaces) shredWorkspace(ctx context.Context, c identity.Caller, id encryption.ScopeID) error {
	for {
		more := false
		err := w.store.Update(ctx, func(tx Tx) error {
			rows, err := tx.ItemEntriesIn(id, "", time.Time{}, shredBatch)
			if err != nil {
				return err
			}
			more = len(rows) == shredBatch
			for _, e := range rows {
				if err := shredNoted(tx, c, id, e.ID); err != nil {
					return err
				}
			}
			if more {
				return nil
			}
			switch _, err := tx.ItemList(id); {
			case fault.ReasonOf(err) == fault.WorkspaceNotFound:
				return nil // done before
			case err != nil:
				return err
			}
			if err := noteShredding(tx, c, shredWorkspace, resourceOf(id), encryption.ScopeItem(id)); err != nil {
				return err
			}
			return tx.DeleteItemList(id)
		})
		if err != nil || !more {
			return err
		}
		if err := deleteBatch.Hit(); err != nil {
			return err
		}
	}
}

// Sweep shreds the items whose retention is over, removes what crashes have left
// half created, and goes on with deletions of workspaces. It takes no keys and
// does nothing twice; call it every few minutes.
func (w *Workspaces) Sweep(ctx context.Context) error {
	return errors.Join(
		w.sweepItems(ctx, Deleted, w.time().Add(-w.retention)),
		w.sweepItems(ctx, Creating, w.time().Add(-creationTime)),
		w.sweepWorkspaces(ctx),
		w.sweepEmergencies(ctx),
		w.store.Update(ctx, func(tx Tx) error { return tx.DeleteOperations(w.time().Add(-operationLife)) }),
	)
}

func (w *Workspaces) sweepItems(ctx context.Context, state EntryState, before time.Time) error {
	for ctx.Err() == nil {
		more := false
		err := w.store.Update(ctx, func(tx Tx) error {
			rows, err := tx.ItemEntriesIn("", state, before, shredBatch)
			if err != nil {
				return err
			}
			more = len(rows) == shredBatch
			for _, e := range rows {
				ws, err := tx.Workspace(e.Workspace)
				if err != nil {
					return err
				}
				// Nobody asked for this one: the platform is the one who acts.
				if err := shredNoted(tx, identity.Caller{Tenant: ws.Tenant}, e.Workspace, e.ID); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || !more {
			return err
		}
	}
	return ctx.Err()
}

func (w *Workspaces) sweepWorkspaces(ctx context.Context) error {
	var ids []encryption.ScopeID
	err := w.store.View(ctx, func(tx Tx) (err error) {
		ids, err = tx.WorkspacesDeleted()
		return err
	})
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		var row WorkspaceRow
		e := w.store.View(ctx, func(tx Tx) (err error) {
			row, err = tx.Workspace(id)
			return err
		})
		if e == nil {
			e = w.shredWorkspace(ctx, identity.Caller{Tenant: row.Tenant}, id)
		}
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		e = w.store.Update(ctx, func(tx Tx) error {
			if err := tx.DeleteWorkspace(id); err != nil {
				return err
			}
			if err := tx.DeleteItemKeys(encryption.ScopeItem(id)); err != nil {
				return err
			}
			return tx.DeleteScope(id)
		})
		// What lies under the items' keys goes first, in its own time.
		if e != nil && fault.ReasonOf(e) != fault.Conflict {
			err = errors.Join(err, e)
		}
	}
	return err
}
