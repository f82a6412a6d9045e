package postgres

import (
	"context"
	"errors"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/store"
)

// usersLock is the advisory lock that each session which writes holds together with the
// others, and whoever must be alone holds for itself: "kluit" in ASCII.
const usersLock = 0x6b6c756974

// leftTable says, by being there, that what the database held is kept elsewhere now. It
// keeps a process that has not heard of that from going on with the old.
const leftTable = "kluis_left"

const isLeft = `SELECT to_regclass('` + leftTable + `') IS NOT NULL`

// ErrLeft is how [Open] refuses a database that [DB.Leave] has marked.
var ErrLeft = fault.New(fault.Unavailable, "What this database held was moved elsewhere.").
	WithMend("Have the file database in the party's folder name where it is now, or remove the file if it is embedded again.")

var (
	errNotAlone    = fault.New(fault.Conflict, "Another process uses the database.").WithMend("Stop every server that uses it.")
	errOlderServes = fault.New(fault.Conflict, "This release changes tables in a way that the release before cannot live with, and another process uses them.").
			WithMend("Stop every server of the older release first.")
	errTaken = fault.New(fault.Unavailable, "A process has the database for itself, to move it.").WithMend("Wait until it has ended.")
)

// enter joins those who write, in the session of the writer.
func (db *DB) enter() error {
	var joined, left, told bool
	err := db.write.Row("SELECT pg_try_advisory_lock_shared($1), to_regclass($2) IS NOT NULL, to_regclass($3) IS NOT NULL",
		[]any{int64(usersLock), leftTable, store.OldestTable}, &joined, &left, &told)
	switch {
	case err != nil:
		return err
	case !joined:
		return errTaken
	case left:
		return ErrLeft
	case told:
		if err := db.still(); err != nil {
			return err
		}
	}
	db.write.life, err = life(db.write.Conn)
	return err
}

// still makes sure that no newer release has moved the tables in a way that this one
// cannot live with.
func (db *DB) still() error {
	return db.write.Once(context.Background(), "SELECT tables, version FROM "+store.OldestTable, nil, func(scan func(...any) error) error {
		var set string
		var oldest int64
		if err := scan(&set, &oldest); err != nil {
			return err
		}
		if known, ours := db.known[set]; ours && known < oldest {
			return fault.New(fault.Unavailable, "A newer release has changed the tables in a way that this one cannot live with.").WithMend("Serve with the newer release.")
		}
		return nil
	})
}

// Alone makes sure that nobody else writes to the database until it is closed, and fails
// with [fault.Conflict] if somebody has it open to write.
func (db *DB) Alone(ctx context.Context) error {
	return runner{db}.Update(ctx, func(t *store.Tx) error {
		var alone bool
		err := t.Row("SELECT pg_try_advisory_lock($1)", []any{int64(usersLock)}, &alone)
		if err == nil && !alone {
			err = errNotAlone
		}
		return err
	})
}

// Leave marks the database: nobody opens it any more.
func (db *DB) Leave(ctx context.Context) error {
	return runner{db}.Update(ctx, func(t *store.Tx) error { return t.Exec("CREATE TABLE " + leftTable + " (at TIMESTAMPTZ)") })
}

// Reclaim takes back what Leave has said of the database at url: something is moved there.
func Reclaim(ctx context.Context, url string) (err error) {
	pool, err := connections(url, new(lineage), session{still: slow, statement: slow})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	_, err = pool.ExecContext(ctx, "DROP TABLE IF EXISTS "+leftTable)
	return explain(err)
}
