package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/kluis-io/kluis/store"
)

// prepare makes sure that the database is one that can be used, and has its tables seen to.
func prepare(ctx context.Context, url string, seen *lineage, schema store.Schema, tables func(context.Context, *sql.DB, store.Schema) error) (err error) {
	pool, err := connections(url, seen, session{still: slow})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	if err := fit(ctx, pool); err != nil {
		return err
	}
	if err := ours(ctx, pool, schema); err != nil {
		return err
	}
	var left bool
	if err := pool.QueryRowContext(ctx, isLeft).Scan(&left); err != nil {
		return explain(err)
	}
	if left {
		return ErrLeft
	}
	return tables(ctx, pool, schema)
}

// current makes sure that the tables are this release's.
func current(ctx context.Context, pool *sql.DB, schema store.Schema) error {
	have, err := versions(ctx, pool, schema)
	if err != nil {
		return err
	}
	return store.Current(schema, have)
}

// versions returns how far the sets of tables have come.
func versions(ctx context.Context, pool *sql.DB, schema store.Schema) (map[string]int64, error) {
	have := map[string]int64{}
	for _, set := range schema {
		table, version := "schema_"+set, int64(0)
		err := pool.QueryRowContext(ctx, "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1", table).Scan(&version)
		if err == nil && version > 0 {
			err = pool.QueryRowContext(ctx, "SELECT max(version_id) FROM "+table).Scan(&version)
		}
		if err != nil {
			return nil, explain(err)
		}
		have[set] = version
	}
	return have, nil
}

// migrate brings a schema's tables up to date, beside processes of the release before,
// which may use them meanwhile. Replicas that start together take turns, by a lock of
// their session.
func migrate(ctx context.Context, pool *sql.DB, schema store.Schema) error {
	have, err := versions(ctx, pool, schema)
	if err != nil {
		return err
	}
	if err := begin(ctx, pool); err != nil {
		return err
	}
	var users *sql.Conn // that holds the lock, until it is closed
	defer func() {
		if users != nil {
			users.Raw(func(any) error { return driver.ErrBadConn })
			users.Close()
		}
	}()
	alone := func() (err error) {
		if users == nil {
			if users, err = pool.Conn(ctx); err != nil {
				return err
			}
		}
		var alone bool
		err = users.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(usersLock)).Scan(&alone)
		if err == nil && !alone {
			err = errOlderServes
		}
		return err
	}
	return explain(store.Forward(ctx, pool, schema, have, alone, func(set string, dir fs.FS) error {
		turns, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return err
		}
		p, err := goose.NewProvider(goose.DialectPostgres, pool, dialect{dir},
			goose.WithTableName("schema_"+set), goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(turns))
		if err == nil {
			_, err = p.Up(ctx)
		}
		return err
	}))
}

// ours makes sure that the database holds no other party's tables: two parties in one
// would share the audit log, and each other's rows.
func ours(ctx context.Context, pool *sql.DB, schema store.Schema) error {
	rows, err := pool.QueryContext(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE 'schema\_%'`)
	if err != nil {
		return explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			return explain(err)
		}
		set := strings.TrimPrefix(table, "schema_")
		if _, _, err := store.Known(set); errors.Is(err, fs.ErrNotExist) {
			continue // a newer release has added it
		}
		if !slices.Contains(schema, set) {
			return fmt.Errorf("the database holds the %s tables, which are another party's: each party has a database of its own", set)
		}
	}
	return explain(rows.Err())
}

// A dialect is the migrations of package store in PostgreSQL's words. Text is
// ordered by its bytes, as SQLite does and the domains' paging expects.
type dialect struct{ fs.FS }

var words = regexp.MustCompile(`\b(INTEGER|BLOB|TEXT)\b|\) STRICT;|body ->>`)

var translation = map[string]string{
	"INTEGER":   "BIGINT",
	"BLOB":      "BYTEA",
	"TEXT":      `TEXT COLLATE "C"`,
	") STRICT;": ");",
	"body ->>":  "body::json ->>",
}

func (d dialect) Open(name string) (fs.File, error) {
	f, err := d.FS.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return f, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	b = words.ReplaceAllFunc(b, func(w []byte) []byte { return []byte(translation[string(w)]) })
	return &translated{bytes.NewReader(b), info}, nil
}

// ReadDir implements [fs.ReadDirFS].
func (d dialect) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(d.FS, name) }

// A translated is a file of a dialect.
type translated struct {
	*bytes.Reader
	info fs.FileInfo
}

func (t *translated) Stat() (fs.FileInfo, error) { return t.info, nil }
func (t *translated) Close() error               { return nil }
