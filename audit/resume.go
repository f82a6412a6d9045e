package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/failpoint"
)

// checkpointBegun: a new log's first checkpoint is outside the database only.
var checkpointBegun = failpoint.New("audit/checkpoint/begun")

// resume finds the newest checkpoint and believes the database only as far as
// signatures reach.
//
// The first checkpoint of a log, of the empty tree, is written outside before it
// is stored, and every later one is stored first. So a database with a
// checkpoint always has one outside that is not newer, whatever crashed when,
// and anything else has been tampered with or restored.
func (l *Log) resume(ctx context.Context) error {
	outside, err := os.ReadFile(l.CheckpointPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("audit checkpoint outside the database: %w", err)
	}
	if l.Restored {
		outside = nil
	}
	var inside []StoredCheckpoint
	if err := l.Store.View(ctx, func(tx Tx) (err error) {
		inside, err = tx.AuditCheckpoints()
		return err
	}); err != nil {
		return err
	}
	if len(inside) == 0 {
		return l.begin(ctx, outside)
	}
	last := inside[len(inside)-1]
	newest, err := openStored(last.Note, l.Verifier)
	if err != nil || newest.Serial != last.Serial {
		return damaged(err, "The newest checkpoint in the audit log's database is not one that this log's key signed.")
	}
	return l.Store.View(ctx, func(tx Tx) error {
		if l.tree, err = signedTree(tx, newest); err != nil {
			return err
		}
		l.newest, l.note = newest, last.Note
		if l.Restored {
			return nil
		}
		l.published, err = l.compare(tx, outside)
		return err
	})
}

// begin starts a log that has no checkpoint yet, or one that crashed while it
// was starting.
func (l *Log) begin(ctx context.Context, outside []byte) error {
	l.tree = new(frontier)
	l.newest = Checkpoint{Origin: l.Signer.Name(), Root: l.tree.root()}
	if len(outside) > 0 {
		c, err := OpenCheckpoint(outside, l.Verifier)
		if err != nil {
			return damaged(err, "The checkpoint outside the audit log's database is not one that this log's key signed.")
		}
		if c != l.newest {
			return damaged(nil, fmt.Sprintf("The audit log has no checkpoint, and the one outside its database covers %d entries.", c.Size))
		}
	}
	var err error
	if l.note, err = l.newest.sign(l.Signer); err != nil {
		return err
	}
	if err := durable.WriteFile(l.CheckpointPath, l.note, 0o644); err != nil {
		return fmt.Errorf("audit checkpoint outside the database: %w", err)
	}
	if err := checkpointBegun.Hit(); err != nil {
		return err
	}
	l.published = true
	return l.Store.Update(ctx, func(tx Tx) error { return store(tx, l.newest, l.note) })
}

// compare holds the checkpoint outside against the database. It reports whether
// it is the newest.
func (l *Log) compare(tx Tx, outside []byte) (current bool, err error) {
	if len(outside) == 0 {
		return false, damaged(nil, "The checkpoint outside the audit log's database is gone.")
	}
	c, err := OpenCheckpoint(outside, l.Verifier)
	if err != nil {
		return false, damaged(err, "The checkpoint outside the audit log's database is not one that this log's key signed.")
	}
	if c == l.newest {
		return true, nil
	}
	if c.Serial >= l.newest.Serial || c.Size >= l.newest.Size {
		return false, damaged(nil, fmt.Sprintf("The audit log's newest checkpoint is number %d and covers %d entries; outside its database there is number %d of %d entries.",
			l.newest.Serial, l.newest.Size, c.Serial, c.Size))
	}
	_, err = signedTree(tx, c)
	return false, err
}

// signedTree returns the right edge of the tree that a checkpoint signed, or an
// error if the database does not hold that tree.
func signedTree(tx Tx, c Checkpoint) (*frontier, error) {
	size, err := tx.AuditSize()
	if err != nil {
		return nil, err
	}
	if size < c.Size {
		return nil, damaged(nil, fmt.Sprintf("The audit log has %d entries and a signed checkpoint of %d.", size, c.Size))
	}
	f, err := readFrontier(c.Size, storedHashes(tx))
	if err == nil && f.root() != c.Root {
		err = errors.New("audit: another root")
	}
	if err != nil {
		return nil, damaged(err, fmt.Sprintf("The audit log's first %d entries are not those of the signed checkpoint number %d.", c.Size, c.Serial))
	}
	return f, nil
}

func damaged(err error, detail string) error {
	return fault.Wrap(fault.Integrity, err, detail).WithMend("If the database was restored from a backup, declare the restore; " +
		"otherwise keep the database and the checkpoint as they are, and verify the log offline.")
}
