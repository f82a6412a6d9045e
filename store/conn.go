package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// A Conn is one connection to a database with its prepared statements. One
// goroutine uses it at a time.
type Conn struct {
	sql     *sql.Conn
	stmts   map[string]*sql.Stmt
	explain func(error) error
	clock   string // see Clock
	tells   string // see Tells
	rested  bool   // nobody has used it for a while
	unfit   bool
}

// Connect takes a connection out of a pool. The engine's explain gives an error of
// the database its meaning: a uniqueness or foreign key constraint that is violated
// is [ErrConstraint], a lack of room, of time or of an answer a [fault.Error]. An
// error that has a meaning keeps it.
func Connect(ctx context.Context, pool *sql.DB, explain func(error) error) (*Conn, error) {
	c, err := pool.Conn(ctx)
	if err != nil {
		return nil, explain(err)
	}
	return &Conn{sql: c, stmts: map[string]*sql.Stmt{}, explain: explain}, nil
}

// Clock says by which query the database tells its time, in Unix microseconds. One that
// no other process uses needs none: it goes by the process's own.
func (c *Conn) Clock(query string) { c.clock = query }

// Tells says by which statement a transaction has other processes told, once it is
// committed, that something has changed: its arguments are a kind of thing, and an id. A
// database that no other process uses needs none.
func (c *Conn) Tells(statement string) { c.tells = statement }

// prepare returns the statement for a query, which it keeps: queries are
// constants of this package and its engines, so there are as many as those have.
func (c *Conn) prepare(query string) (*sql.Stmt, error) {
	if s := c.stmts[query]; s != nil {
		return s, nil
	}
	s, err := c.sql.PrepareContext(context.Background(), query)
	if err == nil {
		c.stmts[query] = s
	}
	return s, c.explain(err)
}

// Exec runs a statement, to its end.
func (c *Conn) Exec(query string, args ...any) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(context.Background(), args...)
	return c.explain(err)
}

// Row runs a query for one row, and scans it; it returns [sql.ErrNoRows] if there
// is none.
func (c *Conn) Row(query string, args []any, into ...any) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	return c.explain(s.QueryRowContext(context.Background(), args...).Scan(into...))
}

// Once runs a statement that is not to be kept, until ctx ends, and calls each for
// every row that it returns.
func (c *Conn) Once(ctx context.Context, query string, args []any, each func(scan func(into ...any) error) error) error {
	rs, err := c.sql.QueryContext(ctx, query, args...)
	if err != nil {
		return c.explain(err)
	}
	defer rs.Close()
	for rs.Next() {
		if err := each(rs.Scan); err != nil {
			return err
		}
	}
	return c.explain(rs.Err())
}

// Raw lends fn the driver's connection.
func (c *Conn) Raw(fn func(driver any) error) error { return c.sql.Raw(fn) }

// Unfit says that the connection is in a state that nobody knows: it is not used
// again.
func (c *Conn) Unfit() { c.unfit = true }

// Close gives the connection back.
func (c *Conn) Close() error {
	if c.unfit { // so that the pool does not hand it out again
		c.sql.Raw(func(any) error { return driver.ErrBadConn })
		return nil
	}
	var err error
	for _, s := range c.stmts {
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, c.sql.Close())
}
