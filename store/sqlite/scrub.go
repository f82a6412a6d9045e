package sqlite

import (
	"context"
	"time"
)

// scrubRetry is how soon a log that readers still need is tried again.
const scrubRetry = 100 * time.Millisecond

// next waits for a job, and meanwhile scrubs if that is owed.
func (db *DB) next() (*job, bool) {
	for db.unclean {
		select {
		case j, ok := <-db.queue:
			return j, ok
		case <-time.After(scrubRetry):
			db.scrub()
		}
	}
	j, ok := <-db.queue
	return j, ok
}

// scrub gets what a transaction has shredded off the disk: secure_delete has
// overwritten it in the database's pages, and moving those into the database and
// emptying the write-ahead log leaves no older copy of them. Readers of an older
// snapshot can delay it; then it is owed, and tried again. The disk itself may
// keep remapped copies, which no program reaches.
func (db *DB) scrub() {
	if !db.unclean {
		return
	}
	ctx := context.Background()
	// The writer must not stand still for a slow reader's sake.
	if db.writer.exec(ctx, "PRAGMA busy_timeout = 20") != nil {
		return
	}
	defer db.writer.exec(ctx, "PRAGMA busy_timeout = 5000")
	var busy, log, moved int
	err := db.writer.sql.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &moved)
	db.unclean = err != nil || busy != 0
}
