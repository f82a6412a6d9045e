package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// A conn is one connection to the database with its prepared statements. One
// goroutine uses it at a time.
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

// prepare returns the statement for a query, which it keeps: queries are
// constants of this package, so there are as many as the package has.
func (c *conn) prepare(q string) (*sql.Stmt, error) {
	if s := c.stmts[q]; s != nil {
		return s, nil
	}
	s, err := c.sql.PrepareContext(context.Background(), q)
	if err == nil {
		c.stmts[q] = s
	}
	return s, err
}

func (c *conn) exec(ctx context.Context, q string) error {
	s, err := c.prepare(q)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
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
