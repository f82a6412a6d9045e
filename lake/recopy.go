package lake

import (
	"context"
	"errors"
	"io"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// copyAll seals extents anew under the current key. What goes into an object has
// a row before its first byte; a crash leaves it to the sweeper.
func (r *reencryption) copyAll(ctx context.Context, refs []extentRef, rows []ExtentRow, sw *swap) error {
	sw.by = map[ExtentID]copied{}
	for i, ref := range refs {
		if _, twice := sw.by[ref.id]; twice {
			continue
		}
		if err := r.job.Check(); err != nil {
			return err
		}
		row, err := r.copyExtent(ctx, ref, rows[i])
		if err != nil {
			return err
		}
		sw.by[ref.id] = copied{row, rows[i].Key}
		if err := r.job.Report(r.progress); err != nil {
			return err
		}
	}
	return nil
}

func (r *reencryption) copyExtent(ctx context.Context, ref extentRef, old ExtentRow) (ExtentRow, error) {
	row := ExtentRow{ID: ExtentID(newID()), Item: r.item.ID, Key: r.content.ID(), Changed: r.now()}
	e, err := r.openExtent(ctx, ref, old)
	if err != nil {
		return row, missingIsIntegrity(err, ref.id)
	}
	defer e.close()
	if old.Inline != nil {
		plain, err := readAll(e.r)
		if err != nil {
			return row, err
		}
		row.ID = old.ID // the context names the key
		row.Inline, err = r.content.Seal(plain, purposeExtent, string(row.ID))
		clear(plain)
		return row, err
	}
	r.lake.arrives.add(row.ID)
	defer r.lake.arrives.remove(row.ID)
	if err := r.update(ctx, func(tx Tx) error { return tx.PutLakeExtent(row) }); err != nil {
		return row, err
	}
	src := e.r.Range(0, e.r.Size())
	defer src.Close()
	row.Size, err = r.lake.writeObject(ctx, r.content, row.ID, &source{ctx: ctx, use: r.use, body: src})
	if err == nil && row.Size != old.Size {
		err = errStoredSize(ref.id)
	}
	return row, err
}

// missingIsIntegrity reports an object that is not there as what it is to a
// caller who has just seen its row.
func missingIsIntegrity(err error, id ExtentID) error {
	if errors.Is(err, fault.NotFound) {
		return fault.Wrap(fault.Integrity, err, "An extent is missing from the object store.").About(string(id))
	}
	return err
}

func readAll(r *envelope.ReaderAt) ([]byte, error) {
	b := make([]byte, r.Size())
	n, err := r.ReadAt(b, 0)
	if err == io.EOF || err == nil && n == len(b) {
		err = nil
	}
	return b[:n], err
}

// replaceExtents puts the new extents into a manifest that lists the old ones,
// and returns the old ones' rows. New ones whose old one is not listed any more
// are doomed.
func (r *reencryption) replaceExtents(tx Tx, m *manifest, sw swap, owner string, state ExtentState) (gone []ExtentRow, err error) {
	used := map[ExtentID]bool{}
	for i, ref := range m.extents {
		row, ok := sw.by[ref.id]
		if !ok {
			continue
		}
		m.extents[i].id = row.ID
		if used[ref.id] {
			continue
		}
		used[ref.id] = true
		if row.Inline != nil {
			if ok, err := tx.RekeyLakeExtent(row.ID, row.from, row.Key, row.Inline); err != nil || !ok {
				return nil, errors.Join(err, errMeanwhile())
			}
			continue
		}
		old, ok, err := tx.LakeExtent(ref.id)
		if err != nil {
			return nil, err
		}
		if ok {
			if err := doomExtent(tx, old.ID, r.now()); err != nil {
				return nil, err
			}
			gone = append(gone, old)
		}
		if _, ok, err := tx.LakeExtent(row.ID); err != nil || !ok {
			return nil, errors.Join(err, errMeanwhile())
		}
		row.Owner, row.State = owner, state
		if err := tx.PutLakeExtent(row.ExtentRow); err != nil {
			return nil, err
		}
	}
	for id, row := range sw.by {
		if !used[id] && row.Inline == nil {
			row.State, row.Due = Doomed, r.now()
			if err := tx.PutLakeExtent(row.ExtentRow); err != nil {
				return nil, err
			}
			gone = append(gone, row.ExtentRow)
		}
	}
	return gone, nil
}
