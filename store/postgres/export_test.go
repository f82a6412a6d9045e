package postgres

import (
	"errors"
	"time"
)

// A Transaction is one of those of all servers that a database has had.
type Transaction = transaction

// Write runs a transaction of the writer and returns which; it commits or rolls back,
// and nothing else may write meanwhile.
func (db *DB) Write(commit bool) (ran Transaction, err error) {
	c := committer{db}
	if _, err := c.Begin(); err != nil {
		return ran, err
	}
	ran = db.write.transaction
	if commit {
		return ran, c.Commit(0)
	}
	return ran, c.Rollback()
}

// CommitAfter runs a statement in a transaction of the writer, and commits it after then;
// nothing else may write meanwhile.
func (db *DB) CommitAfter(statement string, then func() error) error {
	c := committer{db}
	conn, err := c.Begin()
	if err != nil {
		return err
	}
	if err := errors.Join(conn.Exec(statement), then()); err != nil {
		c.Rollback()
		return err
	}
	return c.Commit(0)
}

// ErrLost stands for a commit whose answer was lost.
var ErrLost = errors.New("the answer was lost")

// Outcome asks what became of a transaction.
func (db *DB) Outcome(ran Transaction) error { return committer{db}.outcome(ran, ErrLost) }

// Impatient has everything wait for a server no longer than d until restore is called.
func Impatient(d time.Duration) (restore func()) {
	was := bounds
	bounds.connect, bounds.answer = d, d
	return func() { bounds = was }
}

// Dialer is what connects to servers.
var Dialer = dialer
