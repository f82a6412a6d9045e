package audit

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A Store keeps one party's log in that party's database.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is the part of a store's transaction that keeps the log. What it returns
// is as it lies in the database, believed by nobody: [Verify] judges it.
type Tx interface {
	// AppendAudit adds an entry at the end, with its hashes, and gives it the
	// present time if it has none. It fails with [fault.AuditFailed].
	Appender
	// AuditSize returns one more than the highest sequence number.
	AuditSize() (int64, error)
	// AuditRecords returns at most limit records from a sequence number on, in
	// order.
	AuditRecords(from int64, limit int) ([]Record, error)
	// AuditSpan returns the sequence numbers of the first and the last record
	// with a time of at least from and less than until, and false if there is
	// none.
	AuditSpan(from, until time.Time) (first, last int64, ok bool, err error)
	// AuditHashes returns at most limit stored hashes from an index on, in order.
	AuditHashes(from int64, limit int) ([]StoredHash, error)
	// AuditCheckpoints returns the stored checkpoints by rising serial number.
	AuditCheckpoints() ([]StoredCheckpoint, error)
	// NewestAuditCheckpoint returns the last of them, or false if there is none.
	NewestAuditCheckpoint() (StoredCheckpoint, bool, error)
	// PutAuditCheckpoint adds one; its serial number must be free.
	PutAuditCheckpoint(StoredCheckpoint) error
	// DeleteAuditCheckpoint removes one.
	DeleteAuditCheckpoint(serial int64) error
}

// A Record is an entry as it is stored.
type Record struct {
	Sequence int64     // its position in the log, from 0
	Time     time.Time // the time by which it is looked up; the body has its own
	Body     []byte    // the entry's canonical bytes
}

// A StoredHash is one node of the Merkle tree.
type StoredHash struct {
	Index int64 // as tlog.StoredHashIndex counts
	Hash  []byte
}

// A StoredCheckpoint is a checkpoint as it is stored.
type StoredCheckpoint struct {
	Serial int64
	Note   []byte // the signed note
}

// storedHashes reads single nodes of the tree.
func storedHashes(tx Tx) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			rows, err := tx.AuditHashes(index, 1)
			if err != nil {
				return nil, err
			}
			if len(rows) != 1 || rows[0].Index != index || len(rows[0].Hash) != tlog.HashSize {
				return nil, fmt.Errorf("audit: stored hash %d is missing or malformed", index)
			}
			out[i] = tlog.Hash(rows[0].Hash)
		}
		return out, nil
	})
}
