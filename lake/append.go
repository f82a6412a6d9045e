package lake

import (
	"context"
	"io"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Append stores bytes at a position of an existing file; [Lake.Flush] shows them.
// Appends may come in any order. It returns their CRC-64/NVME.
func (l *Lake) Append(ctx context.Context, caller identity.Caller, p Path, position int64, body io.Reader, size int64, o StageOptions) (crc64 uint64, err error) {
	err = l.do(ctx, caller, opStage, rbac.DataWrite, p, func(s *session) error {
		check := func(tx Tx) (NodeID, error) {
			pl, m, err := s.existing(tx, p)
			switch {
			case err != nil:
				return "", err
			case m.kind != File:
				return "", fault.New(fault.PathConflict, "There is a folder with this name.")
			case m.appends:
				return "", errAppendBlob()
			}
			if err := m.lease.allowsWrite(o.Lease); err != nil {
				return "", err
			}
			if position < m.size {
				return "", fault.New(fault.InvalidPosition, "The position is within what the file already has.")
			}
			return pl.entry.ID, nil
		}
		if p.isManaged() {
			return errManaged()
		}
		if err := s.view(ctx, func(tx Tx) error { _, err := check(tx); return err }); err != nil {
			return err
		}
		u, err := s.receive(ctx, body, size, o.Hashes)
		if err != nil {
			return err
		}
		crc64 = u.crc64
		err = s.update(ctx, func(tx Tx) error {
			owner, err := check(tx)
			if err != nil {
				return err
			}
			if u.size > 0 {
				if err := u.keep(tx, owner, position, ""); err != nil {
					return err
				}
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

// Flush makes what was appended up to position part of the file. It fails with
// [fault.InvalidPosition] unless the appends fill the file up to there exactly.
func (l *Lake) Flush(ctx context.Context, caller identity.Caller, p Path, position int64, o FlushOptions) (props Properties, err error) {
	err = l.do(ctx, caller, opWrite, rbac.DataWrite, p, func(s *session) error {
		if p.isManaged() {
			return errManaged()
		}
		flush := func(tx Tx, act bool) error {
			pl, m, err := s.existing(tx, p)
			if err != nil {
				return err
			}
			if m.kind != File {
				return fault.New(fault.PathConflict, "There is a folder with this name.")
			}
			if m.appends {
				return errAppendBlob()
			}
			if err := o.Conditions.allow(&m); err != nil {
				return err
			}
			staged, err := tx.LakeStagedOf(pl.entry.ID)
			if err != nil {
				return err
			}
			used, err := s.fill(&m, staged, position)
			if err != nil || !act {
				return err
			}
			for _, row := range staged {
				switch {
				case used[row.ID] != nil:
					if err := s.adopt(tx, pl.entry.ID, used[row.ID]); err != nil {
						return err
					}
					err = tx.DeleteLakeStaged(row.ID)
				case !o.KeepUncommitted || row.Position < position:
					err = dropStaged(tx, row, s.now())
				}
				if err != nil {
					return err
				}
			}
			if o.Headers != nil {
				m.headers = *o.Headers
			} else if len(used) > 0 {
				m.headers.MD5 = nil // it was of less
			}
			m.etag, m.modified, m.lease = newETag(), s.now(), m.lease.kept()
			props, err = s.finish(tx, p, pl, pl.entry.ID, m)
			return err
		}
		if err := s.view(ctx, func(tx Tx) error { return flush(tx, false) }); err != nil {
			return err
		}
		err := s.update(ctx, func(tx Tx) error { return flush(tx, true) })
		if err == nil {
			err = published.Hit()
		}
		return err
	})
	return props, err
}

// fill adds staged appends to a manifest until it is position long, and returns
// the extents of those that it took.
func (s *session) fill(m *manifest, staged []StagedRow, position int64) (map[StagedID][]extentRef, error) {
	if position < m.size {
		return nil, fault.New(fault.InvalidPosition, "The position is before the file's end.")
	}
	at := map[int64]StagedRow{}
	for _, row := range staged {
		at[row.Position] = row // of two the later counts
	}
	used := map[StagedID][]extentRef{}
	for m.size < position {
		row, ok := at[m.size]
		if !ok || row.Size > position-m.size {
			return nil, fault.New(fault.InvalidPosition, "What was appended does not end at this position.")
		}
		part, err := s.openStaged(row)
		if err != nil {
			return nil, err
		}
		if m.crc64 != nil && part.crc64 != nil {
			crc := combineCRC64(*m.crc64, *part.crc64, row.Size)
			m.crc64 = &crc
		}
		m.extents = append(m.extents, part.extents...)
		m.blocks = nil
		m.size += row.Size
		used[row.ID] = part.extents
	}
	return used, nil
}

func errAppendBlob() error {
	return refuse(fault.Conflict, WrongContentType, "The file is an append blob, which grows by appended blocks only.")
}

// AppendOptions go with [Lake.AppendBlock].
type AppendOptions struct {
	Position   *int64 // where the block must begin; nil: wherever the end is
	MaxSize    *int64 // how long the file may be with it; nil: as long as it gets
	Conditions Conditions
	Hashes     Hashes
}

// Appended says what [Lake.AppendBlock] did.
type Appended struct {
	Properties Properties
	Offset     int64 // where the block begins
	CRC64      uint64
}

// AppendBlock adds a block at the end of an append blob, where it can be read at
// once. Appends are atomic, and each has its own place.
func (l *Lake) AppendBlock(ctx context.Context, caller identity.Caller, p Path, body io.Reader, size int64, o AppendOptions) (a Appended, err error) {
	err = l.do(ctx, caller, opWrite, rbac.DataWrite, p, func(s *session) error {
		if p.isManaged() {
			return errManaged()
		}
		check := func(tx Tx, size int64) (place, manifest, error) {
			pl, m, err := s.existing(tx, p)
			if err == nil {
				err = o.allow(m, size)
			}
			return pl, m, err
		}
		if err := s.view(ctx, func(tx Tx) error { _, _, err := check(tx, max(size, 0)); return err }); err != nil {
			return err
		}
		u, err := s.receive(ctx, body, size, o.Hashes)
		if err != nil {
			return err
		}
		err = s.update(ctx, func(tx Tx) error {
			pl, m, err := check(tx, u.size)
			if err != nil {
				return err
			}
			a = Appended{Offset: m.size, CRC64: u.crc64}
			if m.crc64 != nil {
				crc := combineCRC64(*m.crc64, u.crc64, u.size)
				m.crc64 = &crc
			}
			if u.size > 0 {
				extents, err := u.adopt(tx, pl.entry.ID)
				if err != nil {
					return err
				}
				if len(m.blocks) == 0 && len(m.extents) > 0 { // it came as a copy
					m.blocks = []blockRef{{extents: len(m.extents)}}
				}
				m.extents = append(m.extents, extents...)
				m.blocks = append(m.blocks, blockRef{extents: len(extents)})
				m.size += u.size
				m.headers.MD5 = nil // it was of less
			}
			m.etag, m.modified, m.lease = newETag(), s.now(), m.lease.kept()
			a.Properties, err = s.finish(tx, p, pl, pl.entry.ID, m)
			return err
		})
		if err != nil {
			u.abandon(ctx)
			return err
		}
		return published.Hit()
	})
	return a, err
}

func (o AppendOptions) allow(m manifest, size int64) error {
	switch {
	case m.kind != File:
		return fault.New(fault.PathConflict, "There is a folder with this name.")
	case !m.appends:
		return refuse(fault.Conflict, WrongContentType, "The file is no append blob.")
	}
	if err := o.Conditions.allow(&m); err != nil {
		return err
	}
	switch {
	case o.Position != nil && *o.Position != m.size:
		return refuse(fault.PreconditionFailed, AppendPosition, "The file does not end at the position that the request says.")
	case o.MaxSize != nil && m.size+size > *o.MaxSize:
		return refuse(fault.PreconditionFailed, AppendTooLarge, "The file would be longer than the request allows.")
	case len(m.blocks) >= maxBlocks:
		return refuse(fault.Conflict, TooManyBlocks, "An append blob has at most 50,000 blocks.")
	}
	return nil
}
