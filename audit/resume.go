package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/failpoint"
)

// checkpointBegun: a new log's first checkpoint is outside the database only.
var checkpointBegun = failpoint.New("audit/checkpoint/begun")

// checkpointPlaced: the newest checkpoint is in some of the places outside.
var checkpointPlaced = failpoint.New("audit/checkpoint/placed")

// resume finds the newest checkpoint and believes the database only as far as
// signatures reach.
//
// The first checkpoint of a log, of the empty tree, is written outside before it
// is stored, and every later one is stored first. So a database with a
// checkpoint always has one outside that is not newer, whatever crashed when,
// and anything else has been tampered with or restored. The places outside are read
// before the database, to which other processes may be adding.
func (l *Log) resume(ctx context.Context) error {
	for n := 0; ; n++ {
		err := l.tryResume(ctx)
		if !errors.Is(err, fault.Conflict) || n == signAttempts {
			return err
		}
		// Another process has just begun the same log.
	}
}

func (l *Log) tryResume(ctx context.Context) error {
	outside := l.places()
	for i, p := range outside {
		if l.Restored {
			break
		}
		var err error
		if outside[i].note, err = p.Load(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
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
		l.published = true
		for _, p := range outside {
			current, err := l.compare(tx, p)
			if err != nil {
				return err
			}
			l.published = l.published && current
		}
		return nil
	})
}

// A place is where the newest checkpoint lies beside the database.
type place struct {
	Outside
	name string
	note []byte // as it was found at the start
}

func (l *Log) places() []place {
	var all []place
	if l.CheckpointPath != "" {
		all = append(all, place{Outside: file(l.CheckpointPath), name: "the checkpoint file"})
	}
	if l.Witness != nil {
		all = append(all, place{Outside: l.Witness, name: "the witness"})
	}
	return all
}

// publish puts the newest checkpoint into every place outside that does not have a
// newer one.
func (l *Log) publish(ctx context.Context) error {
	for _, p := range l.places() {
		if err := p.Store(ctx, l.note, l.replaces(p)); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := checkpointPlaced.Hit(); err != nil {
			return err
		}
	}
	l.published = true
	return nil
}

// replaces decides whether the newest checkpoint takes another one's place: that of an
// older one, or of one of before a declared restore.
func (l *Log) replaces(p place) func(old []byte) (bool, error) {
	return func(old []byte) (bool, error) {
		if len(old) == 0 || l.Restored {
			return true, nil
		}
		c, err := place{name: p.name, note: old}.open(l.Verifier)
		switch {
		case err != nil:
			return false, err
		case c.Serial == l.newest.Serial && c != l.newest:
			return false, damaged(nil, fmt.Sprintf("%s outside the audit log's database holds another checkpoint number %d than the database.", upper(p.name), c.Serial))
		}
		return c.Serial < l.newest.Serial, nil
	}
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// A file is the place that everybody may read and collect.
type file string

func (f file) Load(context.Context) ([]byte, error) {
	note, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return note, err
}

func (f file) Store(ctx context.Context, note []byte, replaces func([]byte) (bool, error)) error {
	unlock, err := durable.Lock(string(f) + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	old, err := f.Load(ctx)
	if err != nil {
		return err
	}
	if ok, err := replaces(old); err != nil || !ok {
		return err
	}
	return durable.WriteFile(string(f), note, 0o644)
}

// begin starts a log that has no checkpoint yet, or one that crashed while it
// was starting.
func (l *Log) begin(ctx context.Context, outside []place) error {
	l.tree = new(frontier)
	l.newest = Checkpoint{Origin: l.Signer.Name(), Root: l.tree.root()}
	for _, p := range outside {
		if len(p.note) == 0 {
			continue
		}
		c, err := p.open(l.Verifier)
		if err != nil {
			return err
		}
		if c != l.newest {
			return damaged(nil, fmt.Sprintf("The audit log has no checkpoint, and %s outside its database covers %d entries.", p.name, c.Size))
		}
	}
	var err error
	if l.note, err = l.newest.sign(l.Signer); err != nil {
		return err
	}
	if err := l.publish(ctx); err != nil {
		return err
	}
	if err := checkpointBegun.Hit(); err != nil {
		return err
	}
	return l.Store.Update(ctx, func(tx Tx) error { return store(tx, l.newest, l.note) })
}

// open returns the checkpoint that was found in the place.
func (p place) open(v note.Verifier) (Checkpoint, error) {
	c, err := OpenCheckpoint(p.note, v)
	if err != nil {
		err = damaged(err, fmt.Sprintf("What %s outside the audit log's database holds is not what this log's key signed.", p.name))
	}
	return c, err
}

// compare holds the checkpoint of a place against the database. It reports whether
// it is the newest.
func (l *Log) compare(tx Tx, p place) (current bool, err error) {
	if len(p.note) == 0 {
		return false, damaged(nil, fmt.Sprintf("The audit log has a checkpoint, and %s outside its database is gone.", p.name))
	}
	c, err := p.open(l.Verifier)
	if err != nil {
		return false, err
	}
	if c == l.newest {
		return true, nil
	}
	if c.Serial >= l.newest.Serial || c.Size >= l.newest.Size {
		return false, damaged(nil, fmt.Sprintf("The database is older than %s outside it: its audit log's newest checkpoint is number %d of %d entries, and outside there is number %d of %d entries.",
			p.name, l.newest.Serial, l.newest.Size, c.Serial, c.Size))
	}
	if _, err := signedTree(tx, c); err != nil {
		return false, damaged(err, fmt.Sprintf("The database is not the one that %s outside it has seen: the log's first %d entries are others.", p.name, c.Size))
	}
	return false, nil
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

// damaged says that the log is not what was signed, by what is wrong with it. A store that
// does not answer says nothing against its log: that error stays what it is.
func damaged(err error, detail string) error {
	if fault.ReasonOf(err) == fault.Unavailable {
		return err
	}
	return fault.Wrap(fault.Integrity, err, detail).WithMend("If the database was restored from a backup, declare the restore (kluis restore --declare); " +
		"otherwise keep the database and the checkpoint as they are, and verify the log offline.")
}
