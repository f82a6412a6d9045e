// Package sqlite is the engine that keeps each party's metadata in one SQLite
// database: the embedded default.
//
// # What it promises
//
// A committed transaction survives a power cut: WAL with synchronous=FULL.
// Deleted content is overwritten: secure_delete. Readers see one snapshot and
// never wait for the writer. There is one writer; transactions that arrive
// together share one commit and therefore one fsync, each in a savepoint of its
// own, so that one that fails takes nothing of the others with it.
//
// What the tables hold is package store's.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/store"
)

var (
	beforeCommit = failpoint.New("store/sqlite/before-commit")
	afterCommit  = failpoint.New("store/sqlite/after-commit")
)

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	store.Domains

	path string
	pool *sql.DB // of the one connection that writes

	memory  store.Memory // nobody else writes: the data directory is locked
	readers *store.Readers
	writer  *store.Writer
	write   struct { // only the writing goroutine touches it
		*store.Conn
		unclean bool      // a shredded row may still be in the write-ahead log
		retired time.Time // since when a retired one may be; zero if none is
	}
	broken  atomic.Pointer[error] // a commit's outcome is unknown; nothing is written after that
	commits atomic.Int64
}

// Open opens the database at path, makes it if it is missing, and brings its
// tables up to date. It refuses a database that a newer release has written.
func Open(ctx context.Context, path string, schema store.Schema) (*DB, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	return open(ctx, path, schema, (*DB).migrate)
}

// OpenAsIs opens the database at path, which is there, and changes no table. It refuses
// one whose tables another release has made.
func OpenAsIs(ctx context.Context, path string, schema store.Schema) (*DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err // or SQLite would make it
	}
	return open(ctx, path, schema, (*DB).current)
}

func open(ctx context.Context, path string, schema store.Schema, prepare func(*DB, context.Context, store.Schema) error) (_ *DB, err error) {
	db := &DB{path: path}
	if db.pool, err = sql.Open("sqlite", dsn(path, "immediate")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			db.pool.Close()
		}
	}()
	db.pool.SetMaxOpenConns(1)
	if err := prepare(db, ctx, schema); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if db.write.Conn, err = store.Connect(ctx, db.pool, explain); err != nil {
		return nil, err
	}
	readers, err := sql.Open("sqlite", dsn(path, "deferred")+"&_pragma=query_only(1)")
	if err != nil {
		db.write.Close()
		return nil, err
	}
	db.readers = store.NewReaders(readers, "BEGIN", explain)
	db.writer = store.NewWriter(committer{db})
	db.writer.Remembers(&db.memory)
	db.Domains = store.OverBoth(runner{db}, recalling{runner{db}})
	return db, nil
}

func dsn(path, lock string) string {
	q := url.Values{}
	q.Set("_txlock", lock)
	for _, p := range []string{
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "secure_delete(1)",
		"temp_store(MEMORY)", "cache_size(-16000)", "trusted_schema(0)",
	} {
		q.Add("_pragma", p)
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func (db *DB) migrate(ctx context.Context, schema store.Schema) error {
	have, err := db.versions(ctx, schema)
	if err != nil {
		return err
	}
	if _, err := db.pool.ExecContext(ctx, store.MakeOldest+" STRICT"); err != nil {
		return err
	}
	alone := func() error { return nil } // one process has the file
	return store.Forward(ctx, db.pool, schema, have, alone, func(set string, dir fs.FS) error {
		p, err := goose.NewProvider(goose.DialectSQLite3, db.pool, dir,
			goose.WithTableName("schema_"+set), goose.WithDisableGlobalRegistry(true))
		if err == nil {
			_, err = p.Up(ctx)
		}
		return err
	})
}

func (db *DB) current(ctx context.Context, schema store.Schema) error {
	have, err := db.versions(ctx, schema)
	if err != nil {
		return err
	}
	return store.Current(schema, have)
}

// versions returns how far the sets of tables have come.
func (db *DB) versions(ctx context.Context, schema store.Schema) (map[string]int64, error) {
	have := map[string]int64{}
	for _, set := range schema {
		table, version := "schema_"+set, int64(0)
		err := db.pool.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", table).Scan(&version)
		if err == nil && version > 0 {
			err = db.pool.QueryRowContext(ctx, "SELECT max(version_id) FROM "+table).Scan(&version)
		}
		if err != nil {
			return nil, err
		}
		have[set] = version
	}
	return have, nil
}

// Answers makes sure that the database can be asked.
func (db *DB) Answers(ctx context.Context) error { return db.readers.Answers(ctx) }

// Close waits for the transactions that have begun, and closes the database.
func (db *DB) Close() error {
	if !db.writer.Close() {
		return nil
	}
	return errors.Join(db.readers.Close(), db.write.Close(), db.pool.Close())
}

// Path returns where the database lies.
func (db *DB) Path() string { return db.path }

// Err returns why the database takes no more writes: a commit failed in such a
// way that only a restart finds out what became of it. Nil means that it does.
func (db *DB) Err() error {
	if err := db.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// Backup writes a consistent copy of the database to a new file at path, mode
// 0600, on the disk when it returns.
func (db *DB) Backup(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	err = db.readers.Lend(ctx, func(c *store.Conn) error {
		c.Unfit() // VACUUM counts as writing, so this connection is a reader's no more
		if err := c.Exec("PRAGMA query_only = 0"); err != nil {
			return err
		}
		return c.Once(ctx, "VACUUM INTO ?", []any{path}, nil)
	})
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// A runner is the database as package store sees it.
type runner struct{ db *DB }

func (r runner) View(ctx context.Context, fn func(*store.Tx) error) error {
	return r.db.readers.View(ctx, fn)
}

func (r runner) Update(ctx context.Context, fn func(*store.Tx) error) error {
	return r.db.writer.Update(ctx, fn)
}

// A recalling is the database as package store sees it with what it remembers.
type recalling struct{ runner }

func (r recalling) View(ctx context.Context, fn func(*store.Tx) error) error {
	return r.db.readers.Recall(ctx, &r.db.memory, fn)
}

// A committer is the database as its writer sees it.
type committer struct{ db *DB }

// Begin implements [store.Committer].
func (c committer) Begin() (*store.Conn, error) {
	if err := c.db.Err(); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The database does not take writes.")
	}
	return c.db.write.Conn, c.db.write.Exec("BEGIN IMMEDIATE")
}

// Commit implements [store.Committer].
func (c committer) Commit(shreds store.Shreds) error {
	err := beforeCommit.Hit()
	if err == nil {
		err = c.db.write.Exec("COMMIT")
	}
	if err == nil {
		err = afterCommit.Hit()
	}
	if err == nil {
		c.db.commits.Add(1)
		c.db.owe(shreds)
		return nil
	}
	if rb := c.Rollback(); rb != nil && !full(err) {
		// The commit may or may not have happened, and the page cache may no
		// longer say what the disk does. Only a restart finds out.
		c.db.broken.Store(&err)
	}
	return err
}

// Rollback implements [store.Committer].
func (c committer) Rollback() error { return c.db.write.Exec("ROLLBACK") }

// full reports whether err says that the disk has no room: nothing was written,
// and writing can go on when there is room again.
func full(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL
}

// explain gives an error of the database its meaning.
func explain(err error) error {
	var known *fault.Error
	var e *sqlite.Error
	if errors.As(err, &known) || !errors.As(err, &e) || errors.Is(err, store.ErrConstraint) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fault.Wrap(fault.Unavailable, err, "The disk is full.")
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fault.Wrap(fault.Unavailable, err, "The database is busy.")
	case sqlite3.SQLITE_CONSTRAINT:
		return fmt.Errorf("%w: %w", store.ErrConstraint, err)
	}
	return err
}

// Version returns the version of the SQLite library in use.
func Version() string { return sqlite3.SQLITE_VERSION }
