// Package sqlite keeps each party's metadata in one SQLite database: the
// embedded default.
//
// It implements the Store interfaces that the domain packages declare; one
// type, tx, is every domain's transaction, and the files of this package are
// named after the domain whose part they hold. The conformance suite for all
// implementations is package storetest.
//
// # What it promises
//
// A committed transaction survives a power cut: WAL with synchronous=FULL.
// Deleted content is overwritten: secure_delete. Readers see one snapshot and
// never wait for the writer. There is one writer; transactions that arrive
// together share one commit and therefore one fsync, each in a savepoint of its
// own, so that one that fails takes nothing of the others with it.
//
// It leaves to the domains what a row means, and to them to seal what must not
// be readable: this package knows no key.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
)

//go:embed migrations
var migrations embed.FS

var (
	beforeCommit = failpoint.New("store/sqlite/before-commit")
	afterCommit  = failpoint.New("store/sqlite/after-commit")
)

// A Schema names the sets of tables that a database holds. Each set is a folder
// below migrations and moves forward by itself.
type Schema []string

// The databases of the embedded default.
var (
	DirectorySchema = Schema{"audit", "identity"}
	VaultSchema     = Schema{"audit", "rbac", "vault"}
	PlatformSchema  = Schema{"audit", "rbac", "encryption", "workspace", "lake"}
)

// groupLimit bounds how many transactions share one commit.
const groupLimit = 256

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	path    string
	readers *sql.DB
	stmts   stmtCache // of readers

	writer *sql.DB
	wconn  *sql.Conn
	wstmts map[string]*sql.Stmt // of wconn; only the writing goroutine touches it

	queue chan *job
	done  chan struct{}

	mu     sync.Mutex
	closed bool
	broken error // set once a commit's outcome is unknown; nothing is written after that
}

type job struct {
	ctx    context.Context
	fn     func(*tx) error
	err    error
	finish chan struct{}
}

// Open opens the database at path, makes it if it is missing, and brings its
// tables up to date. It refuses a database that a newer release has written.
func Open(ctx context.Context, path string, schema Schema) (*DB, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	db := &DB{
		path:   path,
		wstmts: map[string]*sql.Stmt{},
		queue:  make(chan *job, groupLimit),
		done:   make(chan struct{}),
	}
	if db.writer, err = sql.Open("sqlite", dsn(path, "immediate")); err != nil {
		return nil, err
	}
	db.writer.SetMaxOpenConns(1)
	if err := db.migrate(ctx, schema); err != nil {
		db.writer.Close()
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if db.readers, err = sql.Open("sqlite", dsn(path, "deferred")+"&_pragma=query_only(1)"); err != nil {
		db.writer.Close()
		return nil, err
	}
	db.readers.SetMaxOpenConns(16)
	db.readers.SetMaxIdleConns(16)
	db.stmts.db = db.readers
	if db.wconn, err = db.writer.Conn(ctx); err != nil {
		db.readers.Close()
		db.writer.Close()
		return nil, err
	}
	go db.write()
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

func (db *DB) migrate(ctx context.Context, schema Schema) error {
	for _, set := range schema {
		dir, err := fs.Sub(migrations, "migrations/"+set)
		if err != nil {
			return err
		}
		p, err := goose.NewProvider(goose.DialectSQLite3, db.writer, dir,
			goose.WithTableName("schema_"+set), goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return err
		}
		current, target, err := p.GetVersions(ctx)
		if err != nil {
			return err
		}
		if current > target {
			return fmt.Errorf("the %s tables are at version %d and this release knows %d: use the newer release", set, current, target)
		}
		if _, err := p.Up(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close waits for the transactions that have begun, and closes the database.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	close(db.queue)
	db.mu.Unlock()
	<-db.done
	db.stmts.close()
	for _, s := range db.wstmts {
		s.Close()
	}
	return errors.Join(db.readers.Close(), db.wconn.Close(), db.writer.Close())
}

// Path returns where the database lies.
func (db *DB) Path() string { return db.path }

// Backup writes a consistent copy of the database to a new file at path.
func (db *DB) Backup(ctx context.Context, path string) error {
	_, err := db.readers.ExecContext(ctx, "VACUUM INTO ?", path)
	return err
}

// view runs fn in one read transaction: fn sees one snapshot and writes nothing.
func (db *DB) view(ctx context.Context, fn func(*tx) error) error {
	sqltx, err := db.readers.BeginTx(ctx, nil)
	if err != nil {
		return storeError(err)
	}
	defer sqltx.Rollback()
	return fn(&tx{ctx: ctx, prepare: func(q string) (*sql.Stmt, error) {
		s, err := db.stmts.get(q)
		if err != nil {
			return nil, err
		}
		return sqltx.StmtContext(ctx, s), nil
	}})
}

// update runs fn in one write transaction and returns once it is durable. It
// does not give up on a transaction that has begun when ctx ends: the caller is
// always told what became of it. fn must not call view or update.
func (db *DB) update(ctx context.Context, fn func(*tx) error) error {
	j := &job{ctx: ctx, fn: fn, finish: make(chan struct{})}
	db.mu.Lock()
	if db.closed || db.broken != nil {
		err := db.broken
		db.mu.Unlock()
		return fault.Wrap(fault.Unavailable, err, "The database does not take writes.")
	}
	db.mu.Unlock()
	if !db.enqueue(j) {
		return fault.New(fault.Unavailable, "The database is closed.")
	}
	<-j.finish
	return j.err
}

func (db *DB) enqueue(j *job) (ok bool) {
	defer func() {
		if recover() != nil { // closed meanwhile
			ok = false
		}
	}()
	db.queue <- j
	return true
}

// write is the one writer. It takes what waits, commits it together, and tells
// each caller.
func (db *DB) write() {
	defer close(db.done)
	for first := range db.queue {
		group := []*job{first}
	gather:
		for len(group) < groupLimit {
			select {
			case j, ok := <-db.queue:
				if !ok {
					break gather
				}
				group = append(group, j)
			default:
				break gather
			}
		}
		db.commit(group)
		for _, j := range group {
			close(j.finish)
		}
	}
}

// commit runs the group in one transaction. Every job learns its own error; a
// failure to begin or commit is every job's.
func (db *DB) commit(group []*job) {
	ctx := context.Background()
	fail := func(err error) {
		for _, j := range group {
			if j.err == nil {
				j.err = storeError(err)
			}
		}
	}
	db.mu.Lock()
	broken := db.broken
	db.mu.Unlock()
	if broken != nil {
		fail(fault.Wrap(fault.Unavailable, broken, "The database does not take writes."))
		return
	}
	if err := db.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		fail(err)
		return
	}
	wrote := false
	for _, j := range group {
		if j.err = j.ctx.Err(); j.err != nil {
			continue
		}
		if err := db.exec(ctx, "SAVEPOINT one"); err != nil {
			db.exec(ctx, "ROLLBACK")
			fail(err)
			return
		}
		j.err = db.run(j)
		if j.err != nil {
			if err := db.exec(ctx, "ROLLBACK TO one"); err != nil {
				db.exec(ctx, "ROLLBACK")
				fail(err)
				return
			}
		} else {
			wrote = true
		}
		if err := db.exec(ctx, "RELEASE one"); err != nil {
			db.exec(ctx, "ROLLBACK")
			fail(err)
			return
		}
	}
	if !wrote {
		if err := db.exec(ctx, "ROLLBACK"); err != nil {
			fail(err)
		}
		return
	}
	err := beforeCommit.Hit()
	if err == nil {
		err = db.exec(ctx, "COMMIT")
	}
	if err == nil {
		err = afterCommit.Hit()
	}
	if err == nil {
		return
	}
	if rb := db.exec(ctx, "ROLLBACK"); rb != nil && !full(err) {
		// The commit may or may not have happened, and the page cache may no
		// longer say what the disk does. Only a restart finds out.
		db.mu.Lock()
		db.broken = err
		db.mu.Unlock()
	}
	fail(err)
}

func (db *DB) run(j *job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v", p)
		}
	}()
	return j.fn(&tx{ctx: context.WithoutCancel(j.ctx), writable: true, prepare: db.wprepare})
}

func (db *DB) exec(ctx context.Context, q string) error {
	s, err := db.wprepare(q)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
}

func (db *DB) wprepare(q string) (*sql.Stmt, error) {
	if s := db.wstmts[q]; s != nil {
		return s, nil
	}
	s, err := db.wconn.PrepareContext(context.Background(), q)
	if err == nil {
		db.wstmts[q] = s
	}
	return s, err
}

// full reports whether err says that the disk has no room: nothing was written,
// and writing can go on when there is room again.
func full(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL
}

// storeError gives a database error its reason. An error that has one keeps it.
func storeError(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_FULL:
			return fault.Wrap(fault.Unavailable, err, "The disk is full.")
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return fault.Wrap(fault.Unavailable, err, "The database is busy.")
		}
	}
	return err
}

// isConstraint reports whether err is a violation of a uniqueness or foreign
// key constraint.
func isConstraint(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT
}

// Version returns the version of the SQLite library in use.
func Version() string { return strings.TrimSpace(sqlite3.SQLITE_VERSION) }
