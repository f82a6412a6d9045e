package sqlite

import (
	"context"
	"database/sql"
)

// A tx is one transaction: every domain's. Its methods are in the files of the
// domains.
type tx struct {
	ctx      context.Context
	writable bool
	shreds   bool // what the transaction overwrites must leave the disk soon
	prepare  func(query string) (*sql.Stmt, error)
}

// exec runs a statement and returns how many rows it touched.
func (t *tx) exec(query string, args ...any) (int64, error) {
	s, err := t.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// row runs a query for one row and scans it; it returns [sql.ErrNoRows] if there
// is none.
func (t *tx) row(query string, args []any, into ...any) error {
	s, err := t.prepare(query)
	if err != nil {
		return err
	}
	return s.QueryRowContext(t.ctx, args...).Scan(into...)
}

// rows runs a query and calls each once a row; scan reads the row's columns.
func (t *tx) rows(query string, args []any, each func(scan func(into ...any) error) error) error {
	s, err := t.prepare(query)
	if err != nil {
		return err
	}
	rs, err := s.QueryContext(t.ctx, args...)
	if err != nil {
		return err
	}
	defer rs.Close()
	for rs.Next() {
		if err := each(rs.Scan); err != nil {
			return err
		}
	}
	return rs.Err()
}
