package sqlite

import (
	"context"

	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/store"
)

// View runs a read transaction.
func (db *DB) View(ctx context.Context, fn func(*store.Tx) error) error {
	return db.readers.View(ctx, fn)
}

// Update runs a write transaction.
func (db *DB) Update(ctx context.Context, fn func(*store.Tx) error) error {
	return db.writer.Update(ctx, fn)
}

// Commits returns how many commits there have been.
func (db *DB) Commits() int64 { return db.commits.Load() }

// Break makes the database what it is after a commit of unknown outcome.
func (db *DB) Break(err error) { db.broken.Store(&err) }

// LakeUnremembered is the lake's store without what the database remembers.
func (db *DB) LakeUnremembered() lake.Store { return store.Over(runner{db}).Lake() }

// Remembered returns how many rows are remembered, and their bytes.
func (db *DB) Remembered() (rows, bytes int) { return db.memory.Size() }
