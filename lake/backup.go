package lake

import (
	"context"
	"slices"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/internal/check"
)

// ObjectsNeeded calls each with every extent whose bytes lie in an object, and its size,
// without which what a store holds cannot be read: for a backup. Extents of deleted files
// and of shredded items are not among them.
func ObjectsNeeded(ctx context.Context, store Store, each func(id ExtentID, size int64) error) error {
	shredded := map[encryption.ItemID]bool{}
	return check.Pages(func(after ExtentID, limit int) (rows []ExtentRow, err error) {
		err = store.View(ctx, func(tx Tx) error {
			if rows, err = tx.LakeExtentsAfter(after, limit); err != nil {
				return err
			}
			for _, e := range rows {
				if _, known := shredded[e.Item]; known {
					continue
				}
				keys, err := tx.ItemKeys(e.Item)
				if err != nil {
					return err
				}
				shredded[e.Item] = !slices.ContainsFunc(keys, func(k encryption.KeyRow) bool { return k.State != encryption.Shredded })
			}
			return nil
		})
		return rows, err
	}, func(e ExtentRow) ExtentID { return e.ID }, func(e ExtentRow) error {
		if e.Inline != nil || e.State == Doomed || e.Size == 0 || shredded[e.Item] {
			return nil
		}
		return each(e.ID, e.Size)
	})
}
