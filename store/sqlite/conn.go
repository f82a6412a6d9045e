package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// A conn is one connection to the database with its prepared statements, a
// [store.Connection]. One goroutine uses it at a time.
type conn struct {
	sql   *sql.Conn
	stmts map[string]*sql.Stmt
	unfit bool // in a state that nobody knows; not to be used again
}

func connect(ctx context.Context, pool *sql.DB) (*conn, error) {
	c, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{sql: c, stmts: map[string]*sql.Stmt{}}, nil
}

// Prepare implements [store.Connection].
func (c *conn) Prepare(q string) (*sql.Stmt, error) {
	if s := c.stmts[q]; s != nil {
		return s, nil
	}
	s, err := c.sql.PrepareContext(context.Background(), q)
	if err == nil {
		c.stmts[q] = s
	}
	return s, err
}

// run runs a statement on which nobody waits.
func (c *conn) run(q string) error { return c.Explain(c.exec(context.Background(), q)) }

func (c *conn) exec(ctx context.Context, q string) error {
	s, err := c.Prepare(q)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
}

// rows runs a query and calls each once a row.
func (c *conn) rows(ctx context.Context, q string, each func(scan func(into ...any) error) error) error {
	rs, err := c.sql.QueryContext(ctx, q)
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

func (c *conn) close() error {
	var err error
	for _, s := range c.stmts {
		err = errors.Join(err, s.Close())
	}
	if c.unfit { // so that the pool does not hand it out again
		c.sql.Raw(func(any) error { return driver.ErrBadConn })
		return err
	}
	return errors.Join(err, c.sql.Close())
}
