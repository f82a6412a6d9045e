package account

import (
	"context"
	"errors"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// shredBatch is how many items one transaction shreds.
const shredBatch = 128

// Delete deletes an account for good, without any key: it is gone at once for
// everybody, and its data is shredded when Delete returns. If that is interrupted,
// [Accounts.Sweep] goes on with it.
func (a *Accounts) Delete(ctx context.Context, c identity.Caller, p Path) error {
	e := c.Entry("DeleteStorageAccount", "/subscriptions")
	if err := a.checkPath(c, &p); err != nil {
		return a.record(ctx, e, err)
	}
	e.Resource = string(p.Scope())
	var id encryption.ScopeID
	err := a.write(ctx, &e, func(tx Tx) error {
		row, err := live(tx, c, rbac.AccountsDelete, p)
		if err != nil {
			return err
		}
		id, row.Deleted, row.Updated = row.ID, true, a.time()
		if err := tx.PutAccount(row); err != nil {
			return err
		}
		return tx.DeleteRoleAssignmentsBelow(row.Path.Scope())
	})
	if err != nil {
		return err
	}
	if err := deleted.Hit(); err != nil {
		return err
	}
	// The deletion is durable; it is finished here even if the client is gone.
	return a.shred(context.WithoutCancel(ctx), id)
}

// shred destroys the keys of all that lay in a deleted account, its names included.
func (a *Accounts) shred(ctx context.Context, id encryption.ScopeID) error {
	for after := encryption.ItemID(""); ; {
		n := 0
		err := a.store.Update(ctx, func(tx Tx) error {
			items, err := tx.ItemsAfter(id, after, shredBatch)
			n = len(items)
			for _, i := range items {
				if err := tx.ShredItem(i.ID); err != nil {
					return err
				}
				after = i.ID
			}
			return err
		})
		if err != nil || n < shredBatch {
			return err
		}
	}
}

// Sweep goes on with deletions. It takes no keys and does nothing twice; call it
// every few minutes.
func (a *Accounts) Sweep(ctx context.Context) error {
	var rows []Row
	err := a.store.View(ctx, func(tx Tx) (err error) {
		rows, err = tx.AccountsDeleted()
		return err
	})
	for _, row := range rows {
		if ctx.Err() != nil {
			break
		}
		if e := a.shred(ctx, row.ID); e != nil {
			err = errors.Join(err, e)
			continue
		}
		e := a.store.Update(ctx, func(tx Tx) error {
			if err := tx.DeleteAccount(row.ID); err != nil {
				return err
			}
			if err := tx.DeleteItemKeys(encryption.ScopeItem(row.ID)); err != nil && !errors.Is(err, fault.ItemNotFound) {
				return err
			}
			return tx.DeleteScope(row.ID)
		})
		// What lies under the items' keys goes first, in its own time.
		if e != nil && fault.ReasonOf(e) != fault.Conflict {
			err = errors.Join(err, e)
		}
	}
	return err
}
