package sqlite

import (
	"context"
	"strings"
)

// A group is the transactions that share one commit, as far as they have run. Only
// the writing goroutine touches it.
type group struct {
	writer  *conn
	open    bool         // the transaction that runs has written, in a savepoint of its own
	entries []auditEntry // of those that have succeeded, and of the one that runs
}

// begin opens the running transaction's savepoint, before its first write. Many
// write nothing but an audit entry, and need none.
func (g *group) begin() error {
	if g.open {
		return nil
	}
	err := g.writer.exec(context.Background(), "SAVEPOINT one")
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
		if err := g.writer.exec(context.Background(), "ROLLBACK TO one"); err != nil {
			return err
		}
	}
	return g.writer.exec(context.Background(), "RELEASE one")
}

// step runs one job. The error says that the whole group cannot go on.
func (db *DB) step(g *group, j *job) error {
	before := g.entries
	j.err = storeError(db.run(g, j))
	if j.err != nil {
		g.entries = before // what of it was written since lies in the savepoint
	}
	return g.end(j.err == nil)
}

// finish writes the group's audit entries, all at once.
func (db *DB) finish(g *group) error {
	last := &job{ctx: context.Background(), fn: (*tx).writeAudit}
	if err := db.step(g, last); err != nil {
		return err
	}
	return last.err
}

// maxInsert is the most rows that one statement inserts.
const maxInsert = 64

// insert inserts rows of a width, given as one list of their values, in few
// statements. Those take a power of two of rows, so that there are few to prepare.
func (t *tx) insert(into string, width int, values []any) error {
	row := "(?" + strings.Repeat(", ?", width-1) + ")"
	for n := maxInsert; len(values) > 0; {
		if len(values) < n*width {
			n /= 2
			continue
		}
		if _, err := t.exec(into+row+strings.Repeat(", "+row, n-1), values[:n*width]...); err != nil {
			return err
		}
		values = values[n*width:]
	}
	return nil
}
