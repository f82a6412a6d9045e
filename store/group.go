package store

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/kluis-io/kluis/fault"
)

// A group is write transactions that share one commit, as far as they have run:
// each stands or falls by itself.
type group struct {
	conn    *Conn
	open    bool         // the transaction that runs has written, in a savepoint of its own
	entries []auditEntry // of those that have succeeded, and of the one that runs
	shreds  Shreds       // what they overwrite must leave the disk

	memory  *Memory  // nil if nothing is remembered
	changes changes  // what of it the group changes
	touched []rowKey // by the transaction that runs
}

// run runs one transaction. The first error is its own, and it has left nothing
// behind; the second says that the whole group cannot go on.
func (g *group) run(ctx context.Context, fn func(*Tx) error) (failed, broken error) {
	before := g.entries
	g.touched = g.touched[:0]
	t := &Tx{ctx: context.WithoutCancel(ctx), conn: g.conn, group: g}
	failed = protected(t, fn)
	g.shreds = max(g.shreds, t.shreds)
	if failed != nil {
		g.failed()
		g.entries = before // what of it was written since lies in the savepoint
	}
	return failed, g.end(failed == nil)
}

func protected(t *Tx, fn func(*Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Wrap(fault.Internal, fmt.Errorf("panic in a transaction: %v\n%s", p, debug.Stack()), "")
		}
	}()
	return fn(t)
}

// finish writes the group's audit entries, all at once.
func (g *group) finish() error {
	failed, broken := g.run(context.Background(), (*Tx).writeAudit)
	if broken != nil {
		return broken
	}
	return failed
}

// begin opens the running transaction's savepoint, before its first write. Many
// write nothing but an audit entry, and need none.
func (g *group) begin() error {
	if g.open {
		return nil
	}
	err := g.conn.Exec("SAVEPOINT one")
	g.open = err == nil
	return err
}

// end ends it, and undoes what it has written unless keep is set.
func (g *group) end(keep bool) error {
	if !g.open {
		return nil
	}
	g.open = false
	if !keep {
		if err := g.conn.Exec("ROLLBACK TO one"); err != nil {
			return err
		}
	}
	return g.conn.Exec("RELEASE one")
}
