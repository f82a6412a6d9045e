package sqlite

import "context"

// Upkeep implements [store.Committer]: it scrubs.
func (c committer) Upkeep() (owed bool) {
	if c.db.write.unclean {
		c.db.scrub()
	}
	return c.db.write.unclean
}

// scrub gets what a transaction has shredded off the disk: secure_delete has
// overwritten it in the database's pages, and moving those into the database and
// emptying the write-ahead log leaves no older copy of them. Readers of an older
// snapshot can delay it; then it is owed, and tried again. The disk itself may
// keep remapped copies, which no program reaches.
func (db *DB) scrub() {
	ctx := context.Background()
	// The writer must not stand still for a slow reader's sake.
	if db.write.exec(ctx, "PRAGMA busy_timeout = 20") != nil {
		return
	}
	defer db.write.exec(ctx, "PRAGMA busy_timeout = 5000")
	var busy, log, moved int
	err := db.write.sql.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &moved)
	db.write.unclean = err != nil || busy != 0
}
