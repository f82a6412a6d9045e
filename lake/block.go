package lake

import (
	"context"
	"io"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// maxBlocks is how many blocks a file may be committed of
// (https://learn.microsoft.com/rest/api/storageservices/put-block-list).
const maxBlocks = 50_000

// Blocks that are not committed belong to a path and not to a file: each item has
// a folder, outside its tree, whose entries name the paths that have some. They
// expire a week after the last was staged.

// StageBlock stores a block for a later [Lake.CommitBlocks] to the path, and
// returns its CRC-64/NVME. Of blocks with one id the last staged counts.
func (l *Lake) StageBlock(ctx context.Context, caller identity.Caller, p Path, blockID string, body io.Reader, size int64, o StageOptions) (crc64 uint64, err error) {
	err = l.do(ctx, caller, opStage, rbac.DataWrite, p, func(s *session) error {
		if blockID == "" || len(blockID) > 128 {
			return fault.New(fault.InvalidBlockID, "A block id has between 1 and 64 bytes.")
		}
		if err := s.prepare(ctx, p, Conditions{Lease: o.Lease}, -1); err != nil {
			return err
		}
		u, err := s.receive(ctx, body, size, o.Hashes)
		if err != nil {
			return err
		}
		crc64 = u.crc64
		err = s.update(ctx, func(tx Tx) error {
			if _, old, err := s.target(tx, p, Conditions{Lease: o.Lease}); err != nil {
				return err
			} else if old != nil && old.appends {
				return errAppendBlob()
			}
			owner, err := s.blocksOf(tx, p, true)
			if err != nil {
				return err
			}
			if err := u.keep(tx, owner, 0, blockID); err != nil {
				return err
			}
			return s.record(tx, owner, u.size)
		})
		if err != nil {
			u.abandon(ctx)
		}
		return err
	})
	return crc64, err
}

// blocksOf returns the entry of the path's uncommitted blocks, "" if there is
// none and make is not set.
func (s *session) blocksOf(tx Tx, p Path, make bool) (NodeID, error) {
	f, ok, err := s.special(tx, Uploads, make)
	if err != nil || !ok {
		return "", err
	}
	name := Path{Segments: p.inner()}.String()
	e, ok, err := s.find(tx, f, name)
	if err != nil || ok || !make {
		return e.ID, err
	}
	e.ID = NodeID(newID())
	now := s.now()
	return e.ID, s.put(tx, &f, e, record{name, attributes{kind: File, created: now, modified: now}})
}

// dropBlocks removes the path's uncommitted blocks.
func (s *session) dropBlocks(tx Tx, p Path) error {
	owner, err := s.blocksOf(tx, p, false)
	if err != nil || owner == "" {
		return err
	}
	if err := s.dropStagedOf(tx, owner); err != nil {
		return err
	}
	return tx.DeleteLakeEntry(owner)
}

// dropStagedOf removes what is staged for a file or upload.
func (s *session) dropStagedOf(tx Tx, owner NodeID) error {
	rows, err := tx.LakeStagedOf(owner)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := dropStaged(tx, row, s.now()); err != nil {
			return err
		}
	}
	return nil
}

// dropStaged removes staged content; its objects go when due. It is in no
// backup that anybody would read, so that is at once.
func dropStaged(tx Tx, row StagedRow, due time.Time) error {
	if err := tx.DeleteLakeStaged(row.ID); err != nil {
		return err
	}
	return tx.DoomLakeExtents(string(row.ID), due)
}

// A choice is one block of a list, found.
type choice struct {
	block   blockRef
	extents []extentRef
	size    int64
	staged  *StagedRow // nil if it was committed before
}

// choose finds the blocks of a list among the committed and the staged ones.
func (s *session) choose(list []BlockRef, old *manifest, staged []StagedRow) ([]choice, error) {
	uncommitted := map[string]choice{}
	for i, row := range staged {
		m, err := s.openStaged(row)
		if err != nil {
			return nil, err
		}
		if len(m.blocks) != 1 {
			return nil, errRecord()
		}
		uncommitted[m.blocks[0].id] = choice{m.blocks[0], m.extents, row.Size, &staged[i]}
	}
	committed := map[string]choice{}
	if old != nil {
		for _, c := range old.committed() {
			committed[c.block.id] = c
		}
	}
	var chosen []choice
	for _, b := range list {
		c, ok := uncommitted[b.ID]
		if b.Source == Committed || !ok && b.Source == Latest {
			c, ok = committed[b.ID]
		}
		if !ok {
			return nil, fault.New(fault.InvalidBlockList, "The list names a block that is not there.").About(b.ID)
		}
		chosen = append(chosen, c)
	}
	return chosen, nil
}

// committed returns the manifest's blocks.
func (m manifest) committed() []choice {
	var all []choice
	rest := m.extents
	for _, b := range m.blocks {
		if b.extents > len(rest) {
			break
		}
		c := choice{block: b, extents: rest[:b.extents]}
		for _, e := range c.extents {
			c.size += e.plain
		}
		rest = rest[b.extents:]
		all = append(all, c)
	}
	return all
}

// CommitBlocks makes or replaces a file from blocks, without touching their
// bytes. Staged blocks that the list does not name are dropped.
func (l *Lake) CommitBlocks(ctx context.Context, caller identity.Caller, p Path, blocks []BlockRef, o PutOptions) (props Properties, err error) {
	err = l.do(ctx, caller, opWrite, rbac.DataWrite, p, func(s *session) error {
		if len(blocks) > maxBlocks {
			return fault.New(fault.InvalidBlockList, "A file has at most 50,000 blocks.")
		}
		if len(p.Segments) == 0 {
			return errManaged()
		}
		if err := writable(p, s.item); err != nil {
			return err
		}
		// Once outside the writer, to open the staged records there.
		if err := s.view(ctx, func(tx Tx) error {
			_, _, _, err := s.chosen(tx, p, blocks, o.Conditions)
			return err
		}); err != nil {
			return err
		}
		err := s.update(ctx, func(tx Tx) error {
			pl, old, chosen, err := s.chosen(tx, p, blocks, o.Conditions)
			if err != nil {
				return err
			}
			id, m, err := s.begun(tx, &pl, old, o)
			if err != nil {
				return err
			}
			if err := s.assemble(tx, p, id, &m, old, chosen); err != nil {
				return err
			}
			props, err = s.finish(tx, p, pl, id, m)
			return err
		})
		if err == nil {
			err = published.Hit()
		}
		return err
	})
	return props, err
}

func (s *session) chosen(tx Tx, p Path, blocks []BlockRef, c Conditions) (place, *manifest, []choice, error) {
	pl, old, err := s.target(tx, p, c)
	if err == nil && old != nil && old.appends {
		err = errAppendBlob()
	}
	if err != nil {
		return pl, nil, nil, err
	}
	var staged []StagedRow
	owner, err := s.blocksOf(tx, p, false)
	if err == nil && owner != "" {
		staged, err = tx.LakeStagedOf(owner)
	}
	if err != nil {
		return pl, nil, nil, err
	}
	chosen, err := s.choose(blocks, old, staged)
	return pl, old, chosen, err
}

// assemble makes the chosen blocks the content of a file, and removes all other
// content of it.
func (s *session) assemble(tx Tx, p Path, id NodeID, m *manifest, old *manifest, chosen []choice) error {
	kept := map[ExtentID]bool{}
	for _, c := range chosen {
		for _, ref := range c.extents {
			kept[ref.id] = true
		}
		m.extents = append(m.extents, c.extents...)
		m.blocks = append(m.blocks, c.block)
		m.size += c.size
		if c.staged != nil {
			if err := s.adopt(tx, id, c.extents); err != nil {
				return err
			}
			if err := tx.DeleteLakeStaged(c.staged.ID); err != nil {
				return err
			}
		}
	}
	if len(m.extents) <= 1024 { // it is not worth the writer's time for more
		var crc uint64
		for _, ref := range m.extents {
			crc = combineCRC64(crc, ref.crc64, ref.plain)
		}
		m.crc64 = &crc
	}
	if old != nil {
		for _, ref := range old.extents {
			if kept[ref.id] {
				continue
			}
			if err := doomExtent(tx, ref.id, s.due()); err != nil {
				return err
			}
		}
		if err := s.dropStagedOf(tx, id); err != nil {
			return err
		}
	}
	return s.dropBlocks(tx, p)
}

// doomExtent removes one extent: at once if it is in its row, else when due.
func doomExtent(tx Tx, id ExtentID, due time.Time) error {
	row, ok, err := tx.LakeExtent(id)
	if err != nil || !ok {
		return err
	}
	if row.Inline != nil {
		return tx.DeleteLakeExtent(id)
	}
	row.State, row.Due = Doomed, due
	return tx.PutLakeExtent(row)
}

// Blocks lists the blocks of a path, committed and not.
func (l *Lake) Blocks(ctx context.Context, caller identity.Caller, p Path) (list BlockList, err error) {
	err = l.do(ctx, caller, opStat, rbac.DataRead, p, func(s *session) error {
		if p.isManaged() {
			return errNotFound()
		}
		var node NodeID
		err := s.view(ctx, func(tx Tx) error {
			list = BlockList{}
			pl, old, err := s.target(tx, p, Conditions{})
			if err != nil {
				return err
			}
			if old != nil && old.appends {
				return errAppendBlob()
			}
			if old != nil {
				node = pl.entry.ID
				list.Properties = s.properties(p.String(), s.content.ID(), *old)
				for _, c := range old.committed() {
					list.Committed = append(list.Committed, Block{c.block.id, c.size})
				}
			}
			owner, err := s.blocksOf(tx, p, false)
			if err != nil {
				return err
			}
			if owner == "" {
				if old == nil {
					return errNotFound()
				}
				return nil
			}
			staged, err := tx.LakeStagedOf(owner)
			if err != nil {
				return err
			}
			at := map[string]int{}
			for _, row := range staged {
				m, err := s.openStaged(row)
				if err != nil {
					return err
				}
				b := Block{m.blocks[0].id, row.Size}
				if i, ok := at[b.ID]; ok {
					list.Uncommitted[i] = b
					continue
				}
				at[b.ID] = len(list.Uncommitted)
				list.Uncommitted = append(list.Uncommitted, b)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return s.recordRead(ctx, node, 0)
	})
	return list, err
}
