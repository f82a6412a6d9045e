package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kluis-io/kluis/store"
)

// A lineage is the newest timeline of the database server that this process has seen. A
// standby that is promoted begins a new one, so a server on an older one is a primary
// that was replaced: whoever goes on with it reads what was, and his writes are lost.
type lineage struct{ newest atomic.Uint64 }

// timeline is the query for it, empty on a standby. A server that writes no log of its own knows none.
const timeline = "SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END"

// follow returns what makes sure of a new connection that its server was not replaced,
// after what the connection string asks. With several hosts, the next is tried.
func (l *lineage) follow(asked pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, c *pgconn.PgConn) error {
		if asked != nil {
			if err := asked(ctx, c); err != nil {
				return err
			}
		}
		results, err := c.Exec(ctx, timeline).ReadAll()
		var said *pgconn.PgError
		if errors.As(err, &said) && (said.Code[:2] == "42" || said.Code[:2] == "0A") {
			return nil // it does not know the question
		}
		if err != nil {
			return err
		}
		text := string(results[0].Rows[0][0])
		if text == "" {
			return nil
		}
		here, err := strconv.ParseUint(text, 16, 32)
		if err != nil {
			return fmt.Errorf("the server's timeline is %q", text)
		}
		for {
			newest := l.newest.Load()
			switch {
			case here < newest:
				return fmt.Errorf("the server is on timeline %d, and %d was seen: another was promoted in its place", here, newest)
			case here == newest || l.newest.CompareAndSwap(newest, here):
				return nil
			}
		}
	}
}

// lifeTable says, by its one row, since when the server has lost nothing from memory: it
// is not logged, so a crash empties it, and a standby that is promoted begins without.
// A transaction's id means the same for one life only: later another may be given it.
const lifeTable = "kluis_life"

const makeLife = "CREATE UNLOGGED TABLE IF NOT EXISTS " + lifeTable + " (one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one), id TEXT NOT NULL)"

// begin makes the table, and the one that tells which releases may use the others, once.
func begin(ctx context.Context, pool *sql.DB) error {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(writerLock)); err != nil { // two that make it at once would fail
		return explain(err)
	}
	for _, statement := range []string{makeLife, store.MakeOldest} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return explain(err)
		}
	}
	return explain(tx.Commit())
}

// life returns the server's life, which it begins if there is none: one that nobody knows
// of again where an older release has made the tables.
func life(c *store.Conn) (id string, err error) {
	var told bool
	if err := c.Row("SELECT to_regclass('"+lifeTable+"') IS NOT NULL", nil, &told); err != nil || !told {
		return rand.Text(), err
	}
	err = c.Row("SELECT id FROM "+lifeTable, nil, &id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	if err := c.Exec("INSERT INTO "+lifeTable+" (id) VALUES ($1) ON CONFLICT DO NOTHING", rand.Text()); err != nil {
		return "", err
	}
	return id, c.Row("SELECT id FROM "+lifeTable, nil, &id)
}
