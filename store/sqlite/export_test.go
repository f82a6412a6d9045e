package sqlite

import (
	"context"

	"github.com/kluis-io/kluis/store"
)

// A Tx gives tests of the core the transaction itself.
type Tx struct{ c store.Connection }

// Exec runs a statement.
func (t Tx) Exec(q string, args ...any) error {
	s, err := t.c.Prepare(q)
	if err == nil {
		_, err = s.Exec(args...)
	}
	return t.c.Explain(err)
}

// Row runs a query for one row.
func (t Tx) Row(q string, args []any, into ...any) error {
	s, err := t.c.Prepare(q)
	if err == nil {
		err = s.QueryRow(args...).Scan(into...)
	}
	return t.c.Explain(err)
}

// View runs a read transaction.
func (db *DB) View(ctx context.Context, fn func(Tx) error) error {
	return db.view(ctx, func(t *store.Tx) error { return fn(Tx{t.Connection()}) })
}

// Update runs a write transaction.
func (db *DB) Update(ctx context.Context, fn func(Tx) error) error {
	return db.writer.Update(ctx, func(t *store.Tx) error { return fn(Tx{t.Connection()}) })
}

// Commits returns how many commits there have been.
func (db *DB) Commits() int64 { return db.commits.Load() }

// Break makes the database what it is after a commit of unknown outcome.
func (db *DB) Break(err error) { db.broken.Store(&err) }
