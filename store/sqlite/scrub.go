package sqlite

import (
	"time"

	"github.com/kluis-io/kluis/store"
)

// retireScrub is how long a retired row's bytes may stay in the write-ahead log.
const retireScrub = time.Second

// owe notes what a commit leaves to be scrubbed.
func (db *DB) owe(shreds store.Shreds) {
	switch shreds {
	case store.Shredded:
		db.write.unclean = true
	case store.Retired:
		if db.write.retired.IsZero() {
			db.write.retired = time.Now()
		}
	}
}

// Upkeep implements [store.Committer]: it scrubs.
func (c committer) Upkeep() (owed bool) {
	w := &c.db.write
	if w.unclean || !w.retired.IsZero() && time.Since(w.retired) >= retireScrub {
		c.db.scrub()
	}
	return w.unclean || !w.retired.IsZero()
}

// scrub gets what a transaction has shredded off the disk: secure_delete has
// overwritten it in the database's pages, and moving those into the database and
// emptying the write-ahead log leaves no older copy of them. Readers of an older
// snapshot can delay it; then it is owed, and tried again. The disk itself may
// keep remapped copies, which no program reaches.
func (db *DB) scrub() {
	// The writer must not stand still for a slow reader's sake.
	if db.write.Exec("PRAGMA busy_timeout = 20") != nil {
		return
	}
	defer db.write.Exec("PRAGMA busy_timeout = 5000")
	var busy, log, moved int
	err := db.write.Row("PRAGMA wal_checkpoint(TRUNCATE)", nil, &busy, &log, &moved)
	if db.write.unclean = err != nil || busy != 0; !db.write.unclean {
		db.write.retired = time.Time{}
	}
}
