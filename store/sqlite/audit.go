package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

// Audit returns the party's audit log in this database.
func (db *DB) Audit() audit.Store { return auditStore{db} }

type auditStore struct{ db *DB }

func (s auditStore) View(ctx context.Context, fn func(audit.Tx) error) error {
	return s.db.view(ctx, func(t *tx) error { return fn(t) })
}

func (s auditStore) Update(ctx context.Context, fn func(audit.Tx) error) error {
	return s.db.update(ctx, func(t *tx) error { return fn(t) })
}

// AppendAudit implements [audit.Appender].
func (t *tx) AppendAudit(e audit.Entry) error {
	if err := t.appendAudit(e); err != nil {
		return fault.Wrap(fault.AuditFailed, err, "The audit entry could not be written, so nothing was done.")
	}
	return nil
}

func (t *tx) appendAudit(e audit.Entry) error {
	if !t.writable {
		return errors.New("audit entry in a read transaction")
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	body, err := audit.Encode(e)
	if err != nil {
		return err
	}
	n, err := t.AuditSize()
	if err != nil {
		return err
	}
	// The one writer makes n and the hashes read here stay true until commit.
	hashes, err := tlog.StoredHashes(n, body, tlog.HashReaderFunc(t.auditNodes))
	if err != nil {
		return err
	}
	if _, err := t.exec("INSERT INTO audit_entry (seq, time, body) VALUES (?, ?, ?)", n, e.Time.UnixMicro(), body); err != nil {
		return err
	}
	at := tlog.StoredHashIndex(0, n)
	for i, h := range hashes {
		if _, err := t.exec("INSERT INTO audit_hash (idx, hash) VALUES (?, ?)", at+int64(i), h[:]); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) auditNodes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		var h []byte
		if err := t.row("SELECT hash FROM audit_hash WHERE idx = ?", []any{index}, &h); err != nil {
			return nil, err
		}
		if copy(out[i][:], h) != tlog.HashSize {
			return nil, errors.New("a stored audit hash is too short")
		}
	}
	return out, nil
}

func (t *tx) AuditSize() (n int64, err error) {
	err = t.row("SELECT COALESCE(MAX(seq) + 1, 0) FROM audit_entry", nil, &n)
	return n, err
}

func (t *tx) AuditRecords(from int64, limit int) (out []audit.Record, err error) {
	err = t.rows("SELECT seq, time, body FROM audit_entry WHERE seq >= ? ORDER BY seq LIMIT ?", []any{from, limit},
		func(scan func(...any) error) error {
			var r audit.Record
			var at int64
			if err := scan(&r.Sequence, &at, &r.Body); err != nil {
				return err
			}
			r.Time = time.UnixMicro(at).UTC()
			out = append(out, r)
			return nil
		})
	return out, err
}

func (t *tx) AuditSpan(from, until time.Time) (first, last int64, ok bool, err error) {
	var lo, hi sql.NullInt64
	err = t.row("SELECT MIN(seq), MAX(seq) FROM audit_entry WHERE time >= ? AND time < ?",
		[]any{from.UnixMicro(), until.UnixMicro()}, &lo, &hi)
	return lo.Int64, hi.Int64, lo.Valid, err
}

func (t *tx) AuditHashes(from int64, limit int) (out []audit.StoredHash, err error) {
	err = t.rows("SELECT idx, hash FROM audit_hash WHERE idx >= ? ORDER BY idx LIMIT ?", []any{from, limit},
		func(scan func(...any) error) error {
			var h audit.StoredHash
			if err := scan(&h.Index, &h.Hash); err != nil {
				return err
			}
			out = append(out, h)
			return nil
		})
	return out, err
}

func (t *tx) AuditCheckpoints() (out []audit.StoredCheckpoint, err error) {
	err = t.rows("SELECT serial, note FROM audit_checkpoint ORDER BY serial", nil,
		func(scan func(...any) error) error {
			var c audit.StoredCheckpoint
			if err := scan(&c.Serial, &c.Note); err != nil {
				return err
			}
			out = append(out, c)
			return nil
		})
	return out, err
}

func (t *tx) PutAuditCheckpoint(c audit.StoredCheckpoint) error {
	_, err := t.exec("INSERT INTO audit_checkpoint (serial, note) VALUES (?, ?)", c.Serial, c.Note)
	if isConstraint(err) {
		return fault.Wrap(fault.Conflict, err, "The audit log has a checkpoint of that serial number.")
	}
	return err
}

func (t *tx) DeleteAuditCheckpoint(serial int64) error {
	_, err := t.exec("DELETE FROM audit_checkpoint WHERE serial = ?", serial)
	return err
}
