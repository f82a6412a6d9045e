package sqlite

import (
	"context"
	"database/sql"

	"github.com/kluis-io/kluis/fault"
)

// A tx is one transaction: every domain's. Its methods are in the files of the
// domains.
type tx struct {
	ctx     context.Context // of the caller, who may have gone; see running
	group   *group          // that it commits with; nil of one that only reads
	shreds  bool            // what the transaction overwrites must leave the disk soon
	prepare func(query string) (*sql.Stmt, error)
}

// running returns the context of one statement, which is never ended by ctx: to be
// able to, the driver and database/sql start a goroutine each for every
// statement, and that costs as much as what most of ours do. Whoever has gone is
// noticed before the next statement or row instead.
func (t *tx) running() (context.Context, error) {
	return context.WithoutCancel(t.ctx), t.gone()
}

func (t *tx) gone() error {
	if err := t.ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err, "The request ended before the database was read.")
	}
	return nil
}

// exec runs a statement and returns how many rows it touched.
func (t *tx) exec(query string, args ...any) (int64, error) {
	ctx, err := t.running()
	if err != nil {
		return 0, err
	}
	if t.group != nil {
		if err := t.group.begin(); err != nil {
			return 0, err
		}
	}
	s, err := t.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// row runs a query for one row and scans it; it returns [sql.ErrNoRows] if there
// is none.
func (t *tx) row(query string, args []any, into ...any) error {
	ctx, err := t.running()
	if err != nil {
		return err
	}
	s, err := t.prepare(query)
	if err != nil {
		return err
	}
	return s.QueryRowContext(ctx, args...).Scan(into...)
}

// rows runs a query and calls each once a row; scan reads the row's columns.
func (t *tx) rows(query string, args []any, each func(scan func(into ...any) error) error) error {
	ctx, err := t.running()
	if err != nil {
		return err
	}
	s, err := t.prepare(query)
	if err != nil {
		return err
	}
	rs, err := s.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rs.Close()
	for rs.Next() {
		if err := t.gone(); err != nil {
			return err
		}
		if err := each(rs.Scan); err != nil {
			return err
		}
	}
	return rs.Err()
}
