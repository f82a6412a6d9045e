package audit_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/store/storetest"
)

// A memory is a log in memory: one that a test can damage in any way, and that
// fails when told to.
type memory struct {
	mu sync.Mutex
	rows
	fail error // of the next updates
}

type rows struct {
	records     []audit.Record
	hashes      []audit.StoredHash
	checkpoints []audit.StoredCheckpoint
}

func (r rows) clone() rows {
	return rows{slices.Clone(r.records), slices.Clone(r.hashes), slices.Clone(r.checkpoints)}
}

func (m *memory) View(ctx context.Context, fn func(audit.Tx) error) error {
	m.mu.Lock()
	r := m.rows
	m.mu.Unlock()
	return fn(&memoryTx{rows: r})
}

func (m *memory) Update(ctx context.Context, fn func(audit.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	tx := &memoryTx{rows: m.clone(), writable: true}
	if err := fn(tx); err != nil {
		return err
	}
	if m.fail != nil {
		return m.fail
	}
	m.rows = tx.rows
	return nil
}

type memoryTx struct {
	rows
	writable bool
}

func (t *memoryTx) AppendAudit(e audit.Entry) error {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	n, _ := t.AuditSize()
	body, err := audit.Encode(e)
	if err != nil || !t.writable {
		return fault.Wrap(fault.AuditFailed, err, "")
	}
	hashes, err := tlog.StoredHashes(n, body, tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, tlog.Hash(t.hashes[i].Hash))
		}
		return out, nil
	}))
	if err != nil {
		return fault.Wrap(fault.AuditFailed, err, "")
	}
	t.records = append(t.records, audit.Record{Sequence: n, Time: time.UnixMicro(e.Time.UnixMicro()).UTC(), Body: body})
	for i, h := range hashes {
		t.hashes = append(t.hashes, audit.StoredHash{Index: tlog.StoredHashIndex(0, n) + int64(i), Hash: h[:]})
	}
	return nil
}

func (t *memoryTx) AuditSize() (int64, error) {
	if len(t.records) == 0 {
		return 0, nil
	}
	return t.records[len(t.records)-1].Sequence + 1, nil
}

func page[T any](all []T, from int64, limit int, key func(T) int64) []T {
	i, _ := slices.BinarySearchFunc(all, from, func(row T, from int64) int { return int(max(-1, min(1, key(row)-from))) })
	for i > 0 && key(all[i-1]) >= from { // key(row)-from may overflow
		i--
	}
	return slices.Clone(all[i:min(len(all), i+limit)])
}

func (t *memoryTx) AuditRecords(from int64, limit int) ([]audit.Record, error) {
	return page(t.records, max(from, -1<<40), limit, func(r audit.Record) int64 { return r.Sequence }), nil
}

func (t *memoryTx) AuditHashes(from int64, limit int) ([]audit.StoredHash, error) {
	return page(t.hashes, max(from, -1<<40), limit, func(h audit.StoredHash) int64 { return h.Index }), nil
}

func (t *memoryTx) AuditSpan(from, until time.Time) (first, last int64, ok bool, err error) {
	for _, r := range t.records {
		if !r.Time.Before(from) && r.Time.Before(until) {
			if !ok {
				first = r.Sequence
			}
			last, ok = r.Sequence, true
		}
	}
	return first, last, ok, nil
}

func (t *memoryTx) AuditCheckpoints() ([]audit.StoredCheckpoint, error) { return t.checkpoints, nil }

func (t *memoryTx) NewestAuditCheckpoint() (audit.StoredCheckpoint, bool, error) {
	if len(t.checkpoints) == 0 {
		return audit.StoredCheckpoint{}, false, nil
	}
	return t.checkpoints[len(t.checkpoints)-1], true, nil
}

func (t *memoryTx) PutAuditCheckpoint(c audit.StoredCheckpoint) error {
	for _, old := range t.checkpoints {
		if old.Serial == c.Serial {
			return fault.New(fault.Conflict, "")
		}
	}
	t.checkpoints = append(t.checkpoints, c)
	slices.SortFunc(t.checkpoints, func(a, b audit.StoredCheckpoint) int { return int(a.Serial - b.Serial) })
	return nil
}

func (t *memoryTx) DeleteAuditCheckpoint(serial int64) error {
	t.checkpoints = slices.DeleteFunc(slices.Clone(t.checkpoints), func(c audit.StoredCheckpoint) bool { return c.Serial == serial })
	return nil
}

func TestMemory(t *testing.T) {
	storetest.Audit(t, func(*testing.T) audit.Store { return &memory{} })
}

var errDisk = errors.New("the disk is gone")
