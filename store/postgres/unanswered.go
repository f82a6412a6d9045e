package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// bounds are how long is waited for a server. Tests make them shorter.
var bounds = struct {
	connect time.Duration // for its taking a connection
	answer  time.Duration // for its answer to what it was asked: longer than it gives itself for a statement
}{answer, slow + answer}

// errUnanswered is the failure of a connection on which an answer did not come. Its bytes
// may have been taken: a machine whose disk, or whose process, stands still acknowledges
// what it receives, and says nothing.
var errUnanswered = errors.New("the database server has not answered in time")

// impatient has connections fail on which what was asked stays unanswered.
func impatient(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &questioned{Conn: c}, nil
	}
}

// A questioned connection bounds how long its server may take from a question, which is what
// is written, to the end of the answer. A deadline that its user sets goes before.
type questioned struct {
	net.Conn

	mu     sync.Mutex
	theirs bool // the deadline that holds is its user's
}

// Write implements [net.Conn].
func (c *questioned) Write(b []byte) (int, error) {
	c.mu.Lock()
	if !c.theirs {
		c.Conn.SetDeadline(time.Now().Add(bounds.answer)) // before the bytes: a server that takes none is as silent
	}
	c.mu.Unlock()
	n, err := c.Conn.Write(b)
	return n, c.explain(err)
}

// Read implements [net.Conn].
func (c *questioned) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, c.explain(err)
}

// explain makes a deadline of ours an end of the connection: one of the user's is none.
func (c *questioned) explain(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.theirs {
		return err
	}
	c.Conn.Close()
	return errUnanswered
}

// SetDeadline implements [net.Conn].
func (c *questioned) SetDeadline(t time.Time) error { return c.set(c.Conn.SetDeadline, t) }

// SetReadDeadline implements [net.Conn].
func (c *questioned) SetReadDeadline(t time.Time) error { return c.set(c.Conn.SetReadDeadline, t) }

// SetWriteDeadline implements [net.Conn].
func (c *questioned) SetWriteDeadline(t time.Time) error { return c.set(c.Conn.SetWriteDeadline, t) }

func (c *questioned) set(deadline func(time.Time) error, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.theirs = !t.IsZero()
	return deadline(t)
}
