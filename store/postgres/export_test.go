package postgres

import "errors"

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

// ErrLost stands for a commit whose answer was lost.
var ErrLost = errors.New("the answer was lost")

// Outcome asks what became of a transaction.
func (db *DB) Outcome(ran Transaction) error { return committer{db}.outcome(ran, ErrLost) }

// Dialer is what connects to servers.
var Dialer = dialer
