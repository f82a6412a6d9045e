package tiles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
)

var (
	// tileWritten: some tiles and bundles lie beyond what is published.
	tileWritten = failpoint.New("audit/tiles/tile-written")
	// tilesWritten: all do that the next checkpoint covers.
	tilesWritten = failpoint.New("audit/tiles/all-written")
	// published: the checkpoint is, and unfinished tiles are not yet removed.
	checkpointPublished = failpoint.New("audit/tiles/checkpoint-published")
)

// A Source is the log that is published: of an [audit.Store], what reads it.
type Source interface {
	View(ctx context.Context, fn func(audit.Tx) error) error
}

// A Publisher publishes a log, and goes on from what is there. Several may publish the
// same log at the same time.
type Publisher struct {
	Name     string // for logs
	Log      Source
	Verifier note.Verifier // of the log's key
	Store    Store
	Interval time.Duration // between two publications; 0 means a minute
}

// DefaultInterval is the time between two publications.
const DefaultInterval = time.Minute

// Run publishes at each interval until ctx ends. What fails is tried again then.
func (p *Publisher) Run(ctx context.Context) {
	interval := p.Interval
	if interval == 0 {
		interval = DefaultInterval
	}
	failing := false
	for {
		_, err := p.Publish(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			slog.ErrorContext(ctx, "the audit log could not be published", "log", p.Name, "again", interval.String(), "error", err)
			failing = true
		case failing:
			slog.InfoContext(ctx, "the audit log is published again", "log", p.Name)
			failing = false
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

// Publish publishes what the newest checkpoint in the database covers, and returns the
// newest that is published. It fails with [fault.Integrity], and publishes nothing, if the
// entries are not those that were signed, or if what is published is not the beginning of
// this log.
func (p *Publisher) Publish(ctx context.Context) (audit.Checkpoint, error) {
	there, signed, err := p.checkpoint(ctx)
	if err != nil {
		return there, err
	}
	var last audit.StoredCheckpoint
	if err := p.Log.View(ctx, func(tx audit.Tx) (err error) {
		last, _, err = tx.NewestAuditCheckpoint()
		return err
	}); err != nil || last.Note == nil {
		return there, err
	}
	next, err := audit.OpenCheckpoint(last.Note, p.Verifier)
	switch {
	case err != nil:
		return there, damaged(err, "The audit log's newest checkpoint is not one that the log's key signed.")
	case signed && next == there:
		return there, nil
	case signed && (next.Serial <= there.Serial || next.Size <= there.Size):
		return there, damaged(nil, fmt.Sprintf("The published audit log has checkpoint number %d of %d entries, and the database number %d of %d.",
			there.Serial, there.Size, next.Serial, next.Size))
	}
	// Once to see that the entries are those that were signed, and again to publish them.
	if err := p.grow(ctx, there, next, func(tlog.Tile, []byte) error { return nil }); err != nil {
		return there, err
	}
	if err := p.grow(ctx, there, next, func(t tlog.Tile, record []byte) error {
		if err := p.Store.Create(ctx, name(t), record); err != nil {
			if errors.Is(err, fault.Conflict) {
				return damaged(err, "The published audit log has another "+name(t)+" than the database.")
			}
			return err
		}
		return tileWritten.Hit()
	}); err != nil {
		return there, err
	}
	if err := tilesWritten.Hit(); err != nil {
		return there, err
	}
	if err := p.Store.Replace(ctx, CheckpointName, func(old []byte) ([]byte, error) {
		if old == nil {
			return last.Note, nil
		}
		c, err := p.open(old)
		if err != nil || c.Serial >= next.Serial { // another process was quicker
			return nil, err
		}
		return last.Note, nil
	}); err != nil {
		return there, err
	}
	if err := checkpointPublished.Hit(); err != nil {
		return next, err
	}
	p.prune(ctx, there.Size, next.Size)
	return next, nil
}

// checkpoint returns the newest that is published, and false if there is none.
func (p *Publisher) checkpoint(ctx context.Context) (audit.Checkpoint, bool, error) {
	text, err := p.Store.Read(ctx, CheckpointName)
	if err != nil || text == nil {
		return audit.Checkpoint{}, false, err
	}
	c, err := p.open(text)
	return c, true, err
}

func (p *Publisher) open(text []byte) (audit.Checkpoint, error) {
	c, err := audit.OpenCheckpoint(text, p.Verifier)
	if err != nil {
		return c, damaged(err, "The published checkpoint is not one that this log's key signed.")
	}
	return c, nil
}

// grow hashes the entries from what is published up to the next checkpoint, and calls
// write with each bundle and tile that is new. It fails if one of the two roots is not
// what comes of it: before it calls write with the last ones.
func (p *Publisher) grow(ctx context.Context, from, to audit.Checkpoint, write func(tlog.Tile, []byte) error) error {
	begin := from.Size - from.Size%width // where a bundle begins
	e, err := readEdge(ctx, p.Store, begin)
	if err != nil {
		return err
	}
	full := func(t tlog.Tile, hashes []tlog.Hash) error { return write(t, data(hashes)) }
	for e.size < to.Size {
		n := e.size / width
		bodies, err := p.read(ctx, e.size, min(to.Size, e.size+width))
		if err != nil {
			return err
		}
		var bundle []byte
		for _, body := range bodies {
			if bundle, err = appendEntry(bundle, body); err != nil {
				return err
			}
		}
		writeBundle := func() error { return write(tile(entries, n, min(to.Size, (n+1)*width)), bundle) }
		if len(bodies) == width {
			if err := writeBundle(); err != nil {
				return err
			}
		}
		for _, body := range bodies {
			if e.size == from.Size && from.Size > 0 && e.root() != from.Root {
				return damaged(nil, fmt.Sprintf("The published audit log's first %d entries are others than the database's.", from.Size))
			}
			if err := e.append(tlog.RecordHash(body), full); err != nil {
				return err
			}
		}
		if e.size == to.Size {
			if e.root() != to.Root {
				return damaged(nil, fmt.Sprintf("The audit log's first %d entries are not those that its checkpoint number %d signed.", to.Size, to.Serial))
			}
			if len(bodies) < width {
				if err := writeBundle(); err != nil {
					return err
				}
			}
		}
	}
	return e.unfinished(func(t tlog.Tile, hashes []tlog.Hash) error {
		if t == tile(t.L, t.N, from.Size) {
			return nil // it is there
		}
		return full(t, hashes)
	})
}

// read returns the bodies of the entries from one up to another.
func (p *Publisher) read(ctx context.Context, from, to int64) (bodies [][]byte, err error) {
	err = p.Log.View(ctx, func(tx audit.Tx) error {
		records, err := tx.AuditRecords(from, int(to-from))
		if err != nil {
			return err
		}
		bodies = bodies[:0]
		for _, r := range records {
			if r.Sequence != from+int64(len(bodies)) {
				break
			}
			bodies = append(bodies, r.Body)
		}
		if int64(len(bodies)) != to-from {
			return damaged(nil, fmt.Sprintf("Entry %d of the audit log is missing.", from+int64(len(bodies))))
		}
		return nil
	})
	return bodies, err
}

// prune removes the unfinished bundle and tiles of the tree before that are full by now. It
// may leave some, which harms nobody.
func (p *Publisher) prune(ctx context.Context, before, now int64) {
	for level := entries; level < 64/height; level++ {
		at := max(level, 0)
		t := tile(level, before>>(height*(at+1)), before)
		if t.W == 0 || tile(level, t.N, now).W < width {
			continue
		}
		var names []string
		err := p.Store.List(ctx, partials(t), func(name string) error {
			names = append(names, name)
			return nil
		})
		for _, name := range names {
			err = errors.Join(err, p.Store.Delete(ctx, name))
		}
		if err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "unfinished tiles of the published audit log stay", "log", p.Name, "error", err)
		}
	}
}

func damaged(err error, detail string) error {
	return fault.Wrap(fault.Integrity, err, detail).WithMend("Keep the database and what is published as they are, and verify both offline. " +
		"If an older database was restored on purpose, declare it (kluis restore --declare): the log is published in a place of its own from then on.")
}
