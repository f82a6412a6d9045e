package sqlite

import "context"

// A Tx gives tests of the core the transaction itself.
type Tx struct{ t *tx }

// Exec runs a statement.
func (t Tx) Exec(q string, args ...any) error { _, err := t.t.exec(q, args...); return err }

// Row runs a query for one row.
func (t Tx) Row(q string, args []any, into ...any) error { return t.t.row(q, args, into...) }

// View runs a read transaction.
func (db *DB) View(ctx context.Context, fn func(Tx) error) error {
	return db.view(ctx, func(t *tx) error { return fn(Tx{t}) })
}

// Update runs a write transaction.
func (db *DB) Update(ctx context.Context, fn func(Tx) error) error {
	return db.update(ctx, func(t *tx) error { return fn(Tx{t}) })
}

// Commits returns how many commits there have been.
func (db *DB) Commits() int64 { return db.commits.Load() }

// Break makes the database what it is after a commit of unknown outcome.
func (db *DB) Break(err error) { db.broken.Store(&err) }
