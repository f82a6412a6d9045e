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
	clock   string
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

// Clock sets [Conn.Clock] for all of their connections. It is for setting up.
func (r *Readers) Clock(query string) { r.clock = query }

// View runs fn in one read transaction, as [Runner] says.
func (r *Readers) View(ctx context.Context, fn func(*Tx) error) error {
	if r.over() {
		return ErrClosed
	}
	t := &Tx{ctx: ctx, readers: r}
	defer t.endReading()
	return fn(t)
}

// beginReading gives a read transaction its connection, before its first query. A
// connection that lay idle may have been cut; then the next is taken.
func (t *Tx) beginReading() error {
	for {
		c, err := t.readers.borrow(t.ctx)
		if err != nil {
			return err
		}
		if err = c.Exec(t.readers.begin); err == nil {
			t.conn = c
			return nil
		}
		fresh := !c.rested
		c.Unfit()
		t.readers.giveBack(c)
		if fresh {
			return err
		}
	}
}

func (t *Tx) endReading() {
	if t.conn == nil {
		return
	}
	if t.conn.Exec("ROLLBACK") != nil {
		t.conn.Unfit()
	}
	t.readers.giveBack(t.conn)
}

// Lend lends fn a connection, on which no transaction runs.
func (r *Readers) Lend(ctx context.Context, fn func(*Conn) error) error {
	c, err := r.borrow(ctx)
	if err != nil {
		return err
	}
	defer r.giveBack(c)
	return fn(c)
}

// Answers makes sure that the database answers. ctx bounds how long a connection is waited
// for, and not its answer, for which the engine has its own.
func (r *Readers) Answers(ctx context.Context) error {
	for {
		rested := false
		err := r.Lend(ctx, func(c *Conn) error {
			var one int64
			rested = c.rested
			err := c.Row("SELECT 1", nil, &one)
			if err != nil {
				c.Unfit()
			}
			return err
		})
		if err == nil || !rested { // one that lay idle may have been cut
			return err
		}
	}
}

func (r *Readers) over() bool {
	select {
	case <-r.closed:
		return true
	default:
		return false
	}
}

func (r *Readers) borrow(ctx context.Context) (*Conn, error) {
	select {
	case r.free <- struct{}{}:
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "The request ended before the database was read.")
	}
	if r.over() {
		<-r.free
		return nil, ErrClosed
	}
	select {
	case c := <-r.idle:
		return c, nil
	default:
	}
	c, err := Connect(ctx, r.pool, r.explain)
	if err != nil {
		<-r.free
		return nil, err
	}
	c.Clock(r.clock)
	return c, nil
}

func (r *Readers) giveBack(c *Conn) {
	if c.unfit {
		c.Close()
	} else {
		c.rested = true
		r.idle <- c // has room: there is a token for each
	}
	<-r.free
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
