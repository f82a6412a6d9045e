package lake

import (
	"context"
	"errors"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
)

const (
	// stagedLife is how long uncommitted blocks and appends are kept (Azure: a
	// week, https://learn.microsoft.com/rest/api/storageservices/put-block).
	stagedLife = 7 * 24 * time.Hour
	// lostLife is how long what no upload can still be working on is kept.
	lostLife = 24 * time.Hour
	// objectsEvery is how often all objects are listed, which a store elsewhere charges
	// for.
	objectsEvery = time.Hour
	sweepRows    = 500
)

// Sweep removes what nothing needs any more: items whose keys are shredded, what
// lay in deleted folders, content that was never committed, extents whose time
// has come, objects that no row names, and folders' keys of scopes that do not
// serve. It needs no key, may be stopped at any point, and goes on past what it
// cannot do. One call runs at a time.
func (l *Lake) Sweep(ctx context.Context) error {
	l.folders.expire()
	l.orders.expire()
	var errs []error
	for _, sweep := range []func(context.Context) error{
		l.sweepItems, l.sweepFolders, l.sweepStaged, l.sweepLost, l.sweepDue, l.sweepObjects,
	} {
		if err := sweep(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sweepItems removes what is left of items that can never be opened again.
// Objects stay for the backup horizon, and the keys' rows as long as those.
func (l *Lake) sweepItems(ctx context.Context) error {
	var items []encryption.ItemID
	err := l.store.View(ctx, func(tx Tx) (err error) {
		items, err = tx.LakeShreddedItems(sweepRows)
		return err
	})
	for _, item := range items {
		for done := false; !done && err == nil; {
			err = l.store.Update(ctx, func(tx Tx) (err error) {
				done, err = tx.DropLakeItem(item, l.now().Add(l.horizon), sweepRows)
				return err
			})
		}
		if err != nil {
			return err
		}
		err = l.store.Update(ctx, func(tx Tx) error {
			if _, err := tx.Scope(encryption.ScopeID(item)); err == nil {
				return nil // the item of the scope's own names: its rows go with the scope
			}
			return tx.DeleteItemKeys(item)
		})
		if errors.Is(err, fault.Conflict) || errors.Is(err, fault.ItemNotFound) {
			err = nil // something else still names the keys, and goes later
		}
	}
	return err
}

func (l *Lake) sweepFolders(ctx context.Context) error {
	for {
		if done, err := l.purge(ctx, "", 1); err != nil || done {
			return err
		}
	}
}

// sweepStaged removes blocks and appends that nobody committed, and what an
// upload that broke off has left.
func (l *Lake) sweepStaged(ctx context.Context) error {
	for _, kind := range []struct {
		owned bool
		life  time.Duration
	}{{true, stagedLife}, {false, lostLife}} {
		for n := sweepRows; n == sweepRows; {
			err := l.store.Update(ctx, func(tx Tx) error {
				now := l.now()
				rows, err := tx.LakeStagedSince(kind.owned, now.Add(-kind.life), sweepRows)
				if err != nil {
					return err
				}
				n = len(rows)
				for _, row := range rows {
					if err := expire(tx, row, now); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// expire removes staged content, and the entry of its path if that has no more.
func expire(tx Tx, row StagedRow, now time.Time) error {
	if err := dropStaged(tx, row, now); err != nil || row.Owner == "" {
		return err
	}
	if _, file, err := tx.LakeNode(row.Owner); err != nil || file {
		return err
	}
	rest, err := tx.LakeStagedOf(row.Owner)
	if err != nil || len(rest) > 0 {
		return err
	}
	return tx.DeleteLakeEntry(row.Owner)
}

// sweepLost dooms extents that were never listed anywhere.
func (l *Lake) sweepLost(ctx context.Context) error {
	for n := sweepRows; n == sweepRows; {
		err := l.store.Update(ctx, func(tx Tx) error {
			now := l.now()
			rows, err := tx.LakeExtentsLost(now.Add(-lostLife), sweepRows)
			if err != nil {
				return err
			}
			n = len(rows)
			for _, row := range rows {
				if err := doomExtent(tx, row.ID, now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Lake) sweepDue(ctx context.Context) error {
	for {
		var due []ExtentRow
		err := l.store.View(ctx, func(tx Tx) (err error) {
			due, err = tx.LakeExtentsDue(l.now(), sweepRows)
			return err
		})
		if err != nil || len(due) == 0 {
			return err
		}
		if err := l.destroy(ctx, due); err != nil {
			return err
		}
	}
}

// sweepObjects removes old objects that no row names: what a crash has left
// between an object and its row, and what a restored database does not know.
func (l *Lake) sweepObjects(ctx context.Context) error {
	now := l.now()
	if now.Sub(l.objectsSwept) < objectsEvery {
		return nil
	}
	before := now.Add(-lostLife)
	var batch []string
	flush := func() error {
		var orphans []string
		err := l.store.View(ctx, func(tx Tx) error {
			orphans = nil
			for _, id := range batch {
				if _, ok, err := tx.LakeExtent(ExtentID(id)); err != nil {
					return err
				} else if !ok {
					orphans = append(orphans, id)
				}
			}
			return nil
		})
		batch = batch[:0]
		for _, id := range orphans {
			if err == nil {
				err = l.objects.Delete(ctx, id)
			}
		}
		return err
	}
	err := l.objects.List(ctx, func(id string, modified time.Time) error {
		if modified.After(before) {
			return nil
		}
		if batch = append(batch, id); len(batch) < sweepRows {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		l.objectsSwept = now
	}
	return err
}
