package store

import (
	"database/sql"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

// Audit returns the party's audit log in this database.
func (d Domains) Audit() audit.Store {
	return domain[audit.Tx]{d.runner, func(t *Tx) audit.Tx { return t }}
}

// AppendAudit implements [audit.Appender].
func (t *Tx) AppendAudit(e audit.Entry) error {
	if err := t.appendAudit(e); err != nil {
		return fault.Wrap(fault.AuditFailed, err, "The audit entry could not be written, so nothing was done.")
	}
	return nil
}

func (t *Tx) appendAudit(e audit.Entry) error {
	if t.group == nil {
		return errors.New("audit entry in a read transaction")
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	body, err := audit.Encode(e)
	if err == nil {
		t.group.entries = append(t.group.entries, auditEntry{e.Time.UnixMicro(), body})
	}
	return err
}

// An auditEntry is one that was appended, and is not written yet: those of all
// transactions of a group are written together.
type auditEntry struct {
	time int64
	body []byte
}

// writeAudit writes the entries that the group has appended so far: at its end, and
// before anything of the log is read.
func (t *Tx) writeAudit() error {
	if t.group == nil || len(t.group.entries) == 0 {
		return nil
	}
	entries := t.group.entries
	t.group.entries = nil
	if err := t.writeEntries(entries); err != nil {
		return fault.Wrap(fault.AuditFailed, err, "The audit entry could not be written, so nothing was done.")
	}
	return nil
}

func (t *Tx) writeEntries(entries []auditEntry) error {
	// One writer at a time, among all processes, makes the size and the hashes read here
	// stay true until commit.
	size, err := t.AuditSize()
	if err != nil {
		return err
	}
	fresh := map[int64]tlog.Hash{}
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			h, ok := fresh[index]
			if !ok {
				var err error
				if h, err = t.auditNode(index); err != nil {
					return nil, err
				}
			}
			out[i] = h
		}
		return out, nil
	})
	rows, nodes := make([]any, 0, 3*len(entries)), make([]any, 0, 4*len(entries)+128)
	for i, e := range entries {
		n := size + int64(i)
		hashes, err := tlog.StoredHashes(n, e.body, reader)
		if err != nil {
			return err
		}
		rows = append(rows, n, e.time, e.body)
		at := tlog.StoredHashIndex(0, n)
		for j, h := range hashes {
			fresh[at+int64(j)] = h
			nodes = append(nodes, at+int64(j), h[:])
		}
	}
	if err := t.insert("INSERT INTO audit_entry (seq, time, body) VALUES ", 3, rows); err != nil {
		return err
	}
	return t.insert("INSERT INTO audit_hash (idx, hash) VALUES ", 2, nodes)
}

func (t *Tx) auditNode(index int64) (tlog.Hash, error) {
	var h []byte
	if err := t.row("SELECT hash FROM audit_hash WHERE idx = $1", []any{index}, &h); err != nil {
		return tlog.Hash{}, err
	}
	if len(h) != tlog.HashSize {
		return tlog.Hash{}, errors.New("a stored audit hash has another length")
	}
	return tlog.Hash(h), nil
}

func (t *Tx) AuditSize() (n int64, err error) {
	if err := t.writeAudit(); err != nil {
		return 0, err
	}
	err = t.row("SELECT COALESCE(MAX(seq) + 1, 0) FROM audit_entry", nil, &n)
	return n, err
}

func (t *Tx) AuditRecords(from int64, limit int) (out []audit.Record, err error) {
	if err := t.writeAudit(); err != nil {
		return nil, err
	}
	err = t.rows("SELECT seq, time, body FROM audit_entry WHERE seq >= $1 ORDER BY seq LIMIT $2", []any{from, limit},
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

func (t *Tx) AuditSpan(from, until time.Time) (first, last int64, ok bool, err error) {
	if err := t.writeAudit(); err != nil {
		return 0, 0, false, err
	}
	var lo, hi sql.NullInt64
	err = t.row("SELECT MIN(seq), MAX(seq) FROM audit_entry WHERE time >= $1 AND time < $2",
		[]any{from.UnixMicro(), until.UnixMicro()}, &lo, &hi)
	return lo.Int64, hi.Int64, lo.Valid, err
}

func (t *Tx) AuditHashes(from int64, limit int) (out []audit.StoredHash, err error) {
	if err := t.writeAudit(); err != nil {
		return nil, err
	}
	err = t.rows("SELECT idx, hash FROM audit_hash WHERE idx >= $1 ORDER BY idx LIMIT $2", []any{from, limit},
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

func (t *Tx) AuditCheckpoints() (out []audit.StoredCheckpoint, err error) {
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

func (t *Tx) NewestAuditCheckpoint() (c audit.StoredCheckpoint, ok bool, err error) {
	err = t.row("SELECT serial, note FROM audit_checkpoint ORDER BY serial DESC LIMIT 1", nil, &c.Serial, &c.Note)
	if errors.Is(err, sql.ErrNoRows) {
		return c, false, nil
	}
	return c, err == nil, err
}

func (t *Tx) PutAuditCheckpoint(c audit.StoredCheckpoint) error {
	_, err := t.exec("INSERT INTO audit_checkpoint (serial, note) VALUES ($1, $2)", c.Serial, c.Note)
	if isConstraint(err) {
		return fault.Wrap(fault.Conflict, err, "The audit log has a checkpoint of that serial number.")
	}
	return err
}

func (t *Tx) DeleteAuditCheckpoint(serial int64) error {
	_, err := t.exec("DELETE FROM audit_checkpoint WHERE serial = $1", serial)
	return err
}
