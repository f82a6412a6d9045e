package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
)

// checkpointStored: in the database, not yet outside.
var checkpointStored = failpoint.New("audit/checkpoint/stored")

// recordBatch is how many records are read at a time.
const recordBatch = 1024

// A Config is what a log is made of.
type Config struct {
	Store    Store
	Signer   note.Signer   // the log's key, whose name is the log's
	Verifier note.Verifier // of the same key

	// CheckpointPath is the file outside the database that holds the newest
	// checkpoint: best on another disk, or where another user collects it. Where
	// several processes share the database it is empty, or names one file for all.
	CheckpointPath string

	// Witness is a further such place, which whoever puts an older database back does
	// not reach; nil if there is none.
	Witness Outside

	// Failed is told when the open database turns out not to be the one that was
	// signed: somebody has put an older one in its place. It may be nil.
	Failed func(error)

	// Interval is the longest time for which an entry stays uncovered by a
	// checkpoint. Zero means a second; below zero there is no ticker.
	Interval time.Duration

	// Restored declares that the database was restored from a backup, so that
	// it may be older than the checkpoint outside. The log records that.
	Restored bool
	Declared map[string]string // what the record says of it: who, and why
}

// An Outside is a place outside the database that holds the log's newest checkpoint.
// Other processes that have the same database open store theirs there too.
type Outside interface {
	// Load returns the signed note that was stored last, or nil if none was.
	Load(ctx context.Context) ([]byte, error)
	// Store replaces the one that is there if replaces says so, which is given nil if
	// there is none, and returns once that is durable. Nobody else's Store comes
	// between the two. An error of replaces is returned, and nothing is stored.
	Store(ctx context.Context, note []byte, replaces func(old []byte) (bool, error)) error
}

// A Log is a party's open audit log. It is safe for concurrent use. Several
// processes may have the same log open: whichever comes first signs the next
// checkpoint, and each believes the others' only on top of its own.
type Log struct {
	Config

	mu        sync.Mutex // one checkpoint at a time
	tree      *frontier  // of the newest checkpoint: what has been signed, hashed from the entries themselves
	newest    Checkpoint
	note      []byte // newest, signed
	published bool   // newest is in every place outside, too

	stop context.CancelFunc
	done chan struct{}
}

// Open opens the log. It compares the database with the checkpoint outside it
// and fails with [fault.Integrity] if the database lacks what was signed: it was
// rolled back, cut or edited. Then it covers what the last run left uncovered,
// and goes on doing so at each interval until Close.
func Open(ctx context.Context, c Config) (*Log, error) {
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	l := &Log{Config: c, done: make(chan struct{})}
	if err := l.resume(ctx); err != nil {
		return nil, err
	}
	if c.Restored {
		e := Entry{Operation: "audit/restore", Outcome: Allowed, Resource: "/audit", Detail: map[string]string{
			"size":   strconv.FormatInt(l.newest.Size, 10),
			"serial": strconv.FormatInt(l.newest.Serial, 10),
		}}
		maps.Copy(e.Detail, c.Declared)
		if err := l.Record(ctx, e); err != nil {
			return nil, err
		}
	}
	if _, err := l.Checkpoint(ctx); err != nil {
		return nil, err
	}
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	go l.tick(ctx)
	return l, nil
}

func (l *Log) tick(ctx context.Context) {
	defer close(l.done)
	if l.Interval < 0 {
		return
	}
	t := time.NewTicker(l.Interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if _, err := l.cover(ctx, true); err != nil && ctx.Err() == nil {
				slog.ErrorContext(ctx, "audit checkpoint failed", "log", l.Signer.Name(), "error", err)
				if l.Failed != nil && fault.ReasonOf(err) == fault.Integrity {
					l.Failed(err)
				}
			}
		}
	}
}

// Close stops the ticker and signs a last checkpoint. The store stays open.
func (l *Log) Close() error {
	l.stop()
	<-l.done
	_, err := l.Checkpoint(context.Background())
	return err
}

// Record implements [Recorder]. Entries that arrive together share one commit.
// It does not give up when ctx ends: a client that hangs up leaves a trace too.
func (l *Log) Record(ctx context.Context, e Entry) error {
	err := l.Store.Update(context.WithoutCancel(ctx), func(tx Tx) error { return tx.AppendAudit(e) })
	if err != nil && fault.ReasonOf(err) != fault.AuditFailed {
		err = fault.Wrap(fault.AuditFailed, err, "The audit entry could not be made durable, so nothing was done.")
	}
	return err
}

// Checkpoint signs the tree as it is, stores the note in the database and then
// outside it, and returns it. Nothing is signed if nothing was added. What it
// signs is computed from the entries themselves on top of what it signed last,
// or found signed by another process of the same log, never from hashes in the
// database.
func (l *Log) Checkpoint(ctx context.Context) (Checkpoint, error) { return l.cover(ctx, false) }

// signAttempts bounds how often others' checkpoints may come before ours.
const signAttempts = 16

// cover is Checkpoint. With lazily set it signs nothing if another process has just
// done so: what came since is covered at the next tick of one of them.
func (l *Log) cover(ctx context.Context, lazily bool) (Checkpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := 0; ; n++ {
		followed, next, err := l.follow(ctx)
		if err == nil && next.size > l.newest.Size && !(followed && lazily) {
			err = l.sign(ctx, next)
		}
		if errors.Is(err, fault.Conflict) && n < signAttempts {
			continue // another process was quicker
		}
		if err != nil {
			return l.newest, err
		}
		break
	}
	if !l.published {
		if err := checkpointStored.Hit(); err != nil {
			return l.newest, err
		}
		if err := l.publish(ctx); err != nil {
			return l.newest, err
		}
	}
	return l.newest, nil
}

// follow reads the log as it is. A checkpoint that another process has signed since
// is taken over if the entries give its root on top of the tree that was signed
// before; the tree returned goes on to the last entry.
func (l *Log) follow(ctx context.Context) (followed bool, next *frontier, err error) {
	tree := *l.tree
	next = &tree
	err = l.Store.View(ctx, func(tx Tx) error {
		tree, followed = *l.tree, false
		size, err := tx.AuditSize()
		if err != nil {
			return err
		}
		if size < tree.size {
			return damaged(nil, fmt.Sprintf("The audit log has %d entries, and had %d a moment ago.", size, tree.size))
		}
		last, ok, err := tx.NewestAuditCheckpoint()
		if err != nil {
			return err
		}
		if !ok || last.Serial < l.newest.Serial {
			return damaged(nil, fmt.Sprintf("The audit log's checkpoint number %d is no longer there.", l.newest.Serial))
		}
		if last.Serial > l.newest.Serial || !bytes.Equal(last.Note, l.note) {
			c, err := l.believe(tx, &tree, last)
			if err != nil {
				return err
			}
			signed := tree
			l.tree, l.newest, l.note, l.published, followed = &signed, c, last.Note, false, true
		}
		return grow(&tree, tx, math.MaxInt64)
	})
	return followed, next, err
}

// believe grows the tree to another process's checkpoint, and holds the two against
// each other.
func (l *Log) believe(tx Tx, tree *frontier, last StoredCheckpoint) (Checkpoint, error) {
	c, err := openStored(last.Note, l.Verifier)
	if err == nil && (c.Serial != last.Serial || c.Serial <= l.newest.Serial || c.Size < tree.size) {
		err = errors.New("audit: it does not follow on what was signed before")
	}
	if err == nil {
		err = grow(tree, tx, c.Size)
	}
	if err == nil && (tree.size != c.Size || tree.root() != c.Root) {
		err = errors.New("audit: another root")
	}
	if err != nil {
		return c, damaged(err, fmt.Sprintf("Checkpoint number %d of the audit log is not one of the entries that this process has read.", last.Serial))
	}
	return c, nil
}

// sign signs the tree, and stores the checkpoint in the database. It fails with
// [fault.Conflict] if there is a newer one than was known.
func (l *Log) sign(ctx context.Context, tree *frontier) error {
	c := Checkpoint{Origin: l.Signer.Name(), Size: tree.size, Root: tree.root(), Serial: l.newest.Serial + 1}
	signed, err := c.sign(l.Signer)
	if err != nil {
		return err
	}
	if err := l.Store.Update(ctx, func(tx Tx) error { return store(tx, c, signed) }); err != nil {
		return err
	}
	l.tree, l.newest, l.note, l.published = tree, c, signed, false
	return nil
}

// grow adds the records from the tree's size on, up to a size.
func grow(f *frontier, tx Tx, upto int64) error {
	for f.size < upto {
		limit := int(min(recordBatch, upto-f.size))
		records, err := tx.AuditRecords(f.size, limit)
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.Sequence != f.size {
				return damaged(nil, fmt.Sprintf("Entry %d of the audit log is missing.", f.size))
			}
			f.append(tlog.RecordHash(r.Body))
		}
		if len(records) < limit {
			return nil
		}
	}
	return nil
}

// store adds a checkpoint and drops those that need not be kept beside it.
func store(tx Tx, c Checkpoint, signed []byte) error {
	last, ok, err := tx.NewestAuditCheckpoint()
	if err != nil {
		return err
	}
	if ok && last.Serial >= c.Serial {
		return fault.New(fault.Conflict, "The audit log has a checkpoint of that serial number.")
	}
	if err := tx.PutAuditCheckpoint(StoredCheckpoint{Serial: c.Serial, Note: signed}); err != nil {
		return err
	}
	all, err := tx.AuditCheckpoints()
	if err != nil {
		return err
	}
	for _, old := range all {
		// Only what the rule drops now: an odd one stays for Verify to find.
		if retained(old.Serial, c.Serial-1) && !retained(old.Serial, c.Serial) {
			if err := tx.DeleteAuditCheckpoint(old.Serial); err != nil {
				return err
			}
		}
	}
	return nil
}
