package postgres

import "errors"

// Write runs statements in the writer's transaction and returns its id; it commits or
// rolls back, and nothing else may write meanwhile.
func (db *DB) Write(commit bool) (id string, err error) {
	c := committer{db}
	if _, err := c.Begin(); err != nil {
		return "", err
	}
	id = db.write.id
	if commit {
		return id, c.Commit(0)
	}
	return id, c.Rollback()
}

// ErrLost stands for a commit whose answer was lost.
var ErrLost = errors.New("the answer was lost")

// Outcome asks what became of a transaction.
func (db *DB) Outcome(id string) error { return committer{db}.outcome(id, ErrLost) }
