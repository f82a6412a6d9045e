package lake

import (
	"context"
	"slices"
	"time"
)

// swapStaged brings staged content under the current key.
func (r *reencryption) swapStaged(ctx context.Context, row StagedRow) error {
	var sw swap
	var refs []extentRef
	var rows []ExtentRow
	err := r.view(ctx, func(tx Tx) (err error) {
		refs, rows, err = r.behind(tx, func() (manifest, bool, error) {
			now, ok, err := tx.LakeStaged(row.ID)
			if err != nil || !ok {
				return manifest{}, false, err
			}
			m, err := r.openStagedAnew(now)
			return m, true, err
		})
		return err
	})
	if err != nil {
		return err
	}
	if err := r.copyAll(ctx, refs, rows, &sw); err != nil {
		return err
	}
	if err := resealed.Hit(); err != nil {
		return err
	}
	var old []ExtentRow
	err = r.update(ctx, func(tx Tx) error {
		old = nil
		now, ok, err := tx.LakeStaged(row.ID)
		if err != nil {
			return err
		}
		if !ok {
			old, err = r.replaceExtents(tx, &manifest{}, sw, "", Doomed)
			return err
		}
		m, err := r.openStagedAnew(now)
		if err != nil {
			return err
		}
		if old, err = r.replaceExtents(tx, &m, sw, string(row.ID), Staged); err != nil {
			return err
		}
		sealed, err := r.content.Seal(m.encode(), purposeStaged, string(row.ID))
		if err != nil {
			return err
		}
		now.Key, now.Record = r.content.ID(), sealed
		return tx.PutLakeStaged(now)
	})
	if err != nil {
		return err
	}
	if err := swapped.Hit(); err != nil {
		return err
	}
	return r.lake.destroy(ctx, old)
}

// openStagedAnew opens a record whose manifest will be changed.
func (r *reencryption) openStagedAnew(row StagedRow) (manifest, error) {
	m, err := r.openStaged(row)
	m.extents = slices.Clone(m.extents)
	return m, err
}

// await deals with extents that are being written under a retiring key, or were
// when somebody crashed. This process's own get some time, and so do young ones that
// another process may be writing; then the row goes, and the upload learns that it has
// to be sent again.
func (r *reencryption) await(ctx context.Context, flying []ExtentRow) error {
	var gone []ExtentRow
	for _, e := range flying {
		if !r.lake.arrives.has(e.ID) && !(r.lake.shared && r.now().Sub(e.Changed) < inFlightGrace) {
			gone = append(gone, e)
		}
	}
	if len(gone) == 0 {
		if r.waited.IsZero() {
			r.waited = time.Now()
		}
		if time.Since(r.waited) < inFlightGrace {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(200 * time.Millisecond):
				return nil
			}
		}
		gone = flying
	}
	r.waited = time.Time{}
	err := r.update(ctx, func(tx Tx) error {
		for _, e := range gone {
			row, ok, err := tx.LakeExtent(e.ID)
			if err != nil {
				return err
			}
			if !ok || row.State != Staged || row.Size != e.Size {
				continue
			}
			row.State, row.Due = Doomed, r.now()
			if err := tx.PutLakeExtent(row); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}
