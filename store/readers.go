package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/kluis-io/kluis/fault"
)

// readerLimit bounds how many read transactions run at once; more wait.
const readerLimit = 16

// Readers are the connections of a process that read a database, each in one
// transaction at a time.
type Readers struct {
	pool    *sql.DB
	begin   string
	explain func(error) error
	idle    chan *Conn    // connections that nobody uses
	free    chan struct{} // a token for each that runs
	closed  chan struct{}
}

// NewReaders returns readers that take their connections out of pool, and begin a
// read transaction, which sees one snapshot, with a statement.
func NewReaders(pool *sql.DB, begin string, explain func(error) error) *Readers {
	return &Readers{
		pool: pool, begin: begin, explain: explain,
		idle: make(chan *Conn, readerLimit), free: make(chan struct{}, readerLimit), closed: make(chan struct{}),
	}
}

// View runs fn in one read transaction, as [Runner] says.
func (r *Readers) View(ctx context.Context, fn func(*Tx) error) error {
	return r.Lend(ctx, func(c *Conn) error {
		if err := c.Exec(r.begin); err != nil {
			c.Unfit()
			return err
		}
		defer func() {
			if c.Exec("ROLLBACK") != nil {
				c.Unfit()
			}
		}()
		return fn(&Tx{ctx: ctx, conn: c})
	})
}

// Lend lends fn a connection, on which no transaction runs.
func (r *Readers) Lend(ctx context.Context, fn func(*Conn) error) error {
	select {
	case r.free <- struct{}{}:
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err(), "The request ended before the database was read.")
	}
	defer func() { <-r.free }()
	select {
	case <-r.closed:
		return ErrClosed
	default:
	}
	var c *Conn
	select {
	case c = <-r.idle:
	default:
		var err error
		if c, err = Connect(ctx, r.pool, r.explain); err != nil {
			return err
		}
	}
	defer func() {
		if c.unfit {
			c.Close()
			return
		}
		r.idle <- c // has room: there is a token for each
	}()
	return fn(c)
}

// Close waits for those who read, and closes the pool. It is called once.
func (r *Readers) Close() error {
	close(r.closed)
	for range readerLimit {
		r.free <- struct{}{} // until nobody reads
	}
	close(r.idle)
	var err error
	for c := range r.idle {
		err = errors.Join(err, c.Close())
	}
	for range readerLimit {
		<-r.free // whoever waits for one learns that the database is closed
	}
	return errors.Join(err, r.pool.Close())
}
