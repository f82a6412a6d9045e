package store

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"

	"github.com/pressly/goose/v3"
)

// Releases that differ by one serve the same database while replicas are replaced, so a
// release goes on with tables that a newer one has moved forward, unless that one says
// that it cannot. A migration says so by a line of its own:
//
//	-- kluis:oldest 7
//
// Nobody who knows this set of tables only up to less than version 7 may use them from
// then on. docs/upgrade.md has the rules that migrations without the line follow.
var oldestLine = regexp.MustCompile(`(?m)^-- kluis:oldest (\d+)$`)

// Known returns up to which version this release knows a set of tables, and which a
// release must know to use them then.
func Known(set string) (known, oldest int64, err error) {
	dir, err := Migrations(set)
	if err != nil {
		return 0, 0, err
	}
	files, err := fs.ReadDir(dir, ".")
	for _, f := range files {
		v, err := goose.NumericComponent(f.Name())
		if err != nil {
			return 0, 0, err
		}
		text, err := fs.ReadFile(dir, f.Name())
		if err != nil {
			return 0, 0, err
		}
		known = max(known, v)
		if said := oldestLine.FindSubmatch(text); said != nil {
			v, err := strconv.ParseInt(string(said[1]), 10, 64)
			if err != nil {
				return 0, 0, err
			}
			oldest = max(oldest, v)
		}
	}
	return known, oldest, err
}

// OldestTable holds, for each set of tables, which version a release must know to use them.
const OldestTable = "kluis_oldest"

// MakeOldest makes the table: SQLite's takes STRICT behind it.
const MakeOldest = "CREATE TABLE IF NOT EXISTS " + OldestTable + " (tables TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL)"

// TooOld fails if a set of tables needs a release that knows more of it than this one.
// have is their version, oldest what the database says of them, which is nothing, and
// told false, if they were never moved by a release that says such things.
func TooOld(set string, have, oldest int64, told bool) error {
	known, _, err := Known(set)
	if err != nil || have <= known || told && oldest <= known {
		return err
	}
	return fmt.Errorf("the %s tables are at version %d and this release knows %d: use the newer release", set, have, known)
}

// Forward brings the tables of a schema up to date, which are at the versions that have
// says, and leaves those that a newer release has moved in a way that this one can live
// with. It has alone make sure that nobody else uses them if an older release could not;
// up runs a set's migrations.
func Forward(ctx context.Context, pool *sql.DB, schema Schema, have map[string]int64, alone func() error, up func(set string, dir fs.FS) error) error {
	told, err := Oldest(ctx, pool.QueryContext)
	if err != nil {
		return err
	}
	for _, set := range schema {
		known, oldest, err := Known(set)
		if err != nil {
			return err
		}
		was, ok := told[set]
		if err := TooOld(set, have[set], was, ok); err != nil {
			return err
		}
		if have[set] >= known && ok {
			continue
		}
		if have[set] > 0 && oldest > have[set] {
			if err := alone(); err != nil {
				return err
			}
		}
		// What is said first holds if the migrations are broken off.
		_, err = pool.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s (tables, version) VALUES ('%s', %d) ON CONFLICT (tables) DO UPDATE SET version = excluded.version WHERE %[1]s.version < excluded.version",
			OldestTable, set, oldest))
		if err != nil {
			return err
		}
		dir, err := Migrations(set)
		if err == nil {
			err = up(set, dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Oldest returns what the database says of each set of tables.
func Oldest(ctx context.Context, query func(ctx context.Context, query string, args ...any) (*sql.Rows, error)) (map[string]int64, error) {
	rows, err := query(ctx, "SELECT tables, version FROM "+OldestTable)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	told := map[string]int64{}
	for rows.Next() {
		var set string
		var version int64
		if err := rows.Scan(&set, &version); err != nil {
			return nil, err
		}
		told[set] = version
	}
	return told, rows.Err()
}
