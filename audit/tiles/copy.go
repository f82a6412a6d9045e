package tiles

import (
	"context"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/audit"
)

// A Copy is a published log, to be read and verified as one in a database is. What is
// missing or malformed in it is not there; who verifies finds that.
type Copy struct {
	store Store
	size  int64
	note  []byte
}

// OpenCopy returns what the published checkpoint covers, or an error if there is none. It
// believes the checkpoint for nothing but how much there is to read, and that only if the
// key signed it.
func OpenCopy(ctx context.Context, s Store, v note.Verifier) (*Copy, error) {
	text, err := s.Read(ctx, CheckpointName)
	if err != nil {
		return nil, err
	}
	if text == nil {
		return nil, errors.New("no audit log is published there: it has no checkpoint")
	}
	c := &Copy{store: s, note: text}
	if signed, err := audit.OpenCheckpoint(text, v); err == nil {
		c.size = signed.Size
	}
	return c, nil
}

// Checkpoint returns the published checkpoint's note.
func (c *Copy) Checkpoint() []byte { return c.note }

// View implements [audit.Store].
func (c *Copy) View(ctx context.Context, fn func(audit.Tx) error) error {
	return fn(&copyTx{Copy: c, ctx: ctx, tiles: map[int]heldTile{}})
}

// Update implements [audit.Store], and fails.
func (c *Copy) Update(context.Context, func(audit.Tx) error) error { return errReadOnly }

var errReadOnly = errors.New("a published audit log is only read")

type copyTx struct {
	*Copy
	ctx   context.Context
	tiles map[int]heldTile // the last one of each level that was read
}

type heldTile struct {
	tile   tlog.Tile
	record []byte // nil if it is missing or of another length
}

func (t *copyTx) AuditSize() (int64, error) { return t.size, nil }

func (t *copyTx) AuditRecords(from int64, limit int) (out []audit.Record, err error) {
	from = max(from, 0)
	for n := from / width; n*width < t.size && len(out) < limit; n++ {
		at := tile(entries, n, t.size)
		bundle, err := t.store.Read(t.ctx, name(at))
		if err != nil {
			return nil, err
		}
		bodies, err := parseBundle(bundle, at.W)
		if err != nil {
			continue
		}
		for i, body := range bodies {
			r := audit.Record{Sequence: n*width + int64(i), Body: body}
			if r.Sequence < from || len(out) == limit {
				continue
			}
			if e, err := audit.Parse(body); err == nil {
				r.Time = e.Time
			}
			out = append(out, r)
		}
	}
	return out, nil
}

func (t *copyTx) AuditHashes(from int64, limit int) (out []audit.StoredHash, err error) {
	for index := max(from, 0); index < tlog.StoredHashCount(t.size) && len(out) < limit; index++ {
		least := tlog.TileForIndex(height, index)
		at := tile(least.L, least.N, t.size)
		held, ok := t.tiles[at.L]
		if !ok || held.tile != at {
			held = heldTile{tile: at}
			if held.record, err = t.store.Read(t.ctx, name(at)); err != nil {
				return nil, err
			}
			if len(held.record) != at.W*tlog.HashSize {
				held.record = nil
			}
			t.tiles[at.L] = held
		}
		if held.record == nil {
			continue
		}
		h, err := tlog.HashFromTile(at, held.record, index)
		if err != nil {
			return nil, err
		}
		out = append(out, audit.StoredHash{Index: index, Hash: h[:]})
	}
	return out, nil
}

func (t *copyTx) AuditCheckpoints() ([]audit.StoredCheckpoint, error) {
	c, _, err := t.NewestAuditCheckpoint()
	return []audit.StoredCheckpoint{c}, err
}

func (t *copyTx) NewestAuditCheckpoint() (audit.StoredCheckpoint, bool, error) {
	return audit.StoredCheckpoint{Note: t.note}, true, nil
}

func (t *copyTx) AuditSpan(_, _ time.Time) (first, last int64, ok bool, err error) {
	return 0, 0, false, errors.New("a published audit log has no index of times")
}

func (t *copyTx) AppendAudit(audit.Entry) error                   { return errReadOnly }
func (t *copyTx) PutAuditCheckpoint(audit.StoredCheckpoint) error { return errReadOnly }
func (t *copyTx) DeleteAuditCheckpoint(int64) error               { return errReadOnly }
