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
// own if it writes, so that one that fails takes nothing of the others with it.
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
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/durable"
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
	VaultSchema     = Schema{"audit", "rbac", "vault", "event"}
	PlatformSchema  = Schema{"audit", "rbac", "encryption", "workspace", "lake", "account"}

	GovernanceSchema = Schema{"audit", "rbac", "posture"}
)

// groupLimit bounds how many transactions share one commit.
const groupLimit = 256

// readerLimit bounds how many read transactions run at once; more wait.
const readerLimit = 16

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	path string
	pool struct{ writer, readers *sql.DB }

	idle chan *conn    // read connections that nobody uses
	free chan struct{} // a token for each that runs

	writer *conn // only the writing goroutine touches it
	queue  chan *job
	done   chan struct{}

	mu      sync.RWMutex // held for reading while sending to queue, so that Close may close it
	closed  bool
	broken  atomic.Pointer[error] // a commit's outcome is unknown; nothing is written after that
	commits atomic.Int64
	unclean bool // a shredded row may still be in the write-ahead log; only the writing goroutine touches it
}

type job struct {
	ctx    context.Context
	fn     func(*tx) error
	err    error
	finish chan struct{}
}

// Open opens the database at path, makes it if it is missing, and brings its
// tables up to date. It refuses a database that a newer release has written.
func Open(ctx context.Context, path string, schema Schema) (_ *DB, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	db := &DB{
		path:  path,
		idle:  make(chan *conn, readerLimit),
		free:  make(chan struct{}, readerLimit),
		queue: make(chan *job, groupLimit),
		done:  make(chan struct{}),
	}
	if db.pool.writer, err = sql.Open("sqlite", dsn(path, "immediate")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			db.pool.writer.Close()
		}
	}()
	db.pool.writer.SetMaxOpenConns(1)
	if err := db.migrate(ctx, schema); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if db.writer, err = connect(ctx, db.pool.writer); err != nil {
		return nil, err
	}
	if db.pool.readers, err = sql.Open("sqlite", dsn(path, "deferred")+"&_pragma=query_only(1)"); err != nil {
		db.writer.close()
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
		p, err := goose.NewProvider(goose.DialectSQLite3, db.pool.writer, dir,
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
	for range readerLimit {
		db.free <- struct{}{} // until nobody reads
	}
	close(db.idle)
	var err error
	for c := range db.idle {
		err = errors.Join(err, c.close())
	}
	for range readerLimit {
		<-db.free // whoever waits for one learns that the database is closed
	}
	return errors.Join(err, db.pool.readers.Close(), db.writer.close(), db.pool.writer.Close())
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
	err = db.reading(ctx, func(c *conn) error {
		c.unfit = true // VACUUM counts as writing, so this connection is a reader's no more
		if err := c.exec(ctx, "PRAGMA query_only = 0"); err != nil {
			return err
		}
		_, err := c.sql.ExecContext(ctx, "VACUUM INTO ?", path)
		return err
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

// view runs fn in one read transaction: fn sees one snapshot and writes nothing.
func (db *DB) view(ctx context.Context, fn func(*tx) error) error {
	return db.reading(ctx, func(c *conn) (err error) {
		if err := c.exec(context.WithoutCancel(ctx), "BEGIN"); err != nil {
			return storeError(err)
		}
		defer func() {
			if rb := c.exec(context.Background(), "ROLLBACK"); rb != nil {
				c.unfit = true
			}
		}()
		return storeError(fn(&tx{ctx: ctx, prepare: c.prepare}))
	})
}

// reading lends fn a read connection.
func (db *DB) reading(ctx context.Context, fn func(*conn) error) error {
	select {
	case db.free <- struct{}{}:
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err(), "The request ended before the database was read.")
	}
	defer func() { <-db.free }()
	db.mu.RLock()
	closed := db.closed
	db.mu.RUnlock()
	if closed {
		return errClosed
	}
	var c *conn
	select {
	case c = <-db.idle:
	default:
		var err error
		if c, err = connect(ctx, db.pool.readers); err != nil {
			return storeError(err)
		}
	}
	defer func() {
		if c.unfit {
			c.close()
			return
		}
		db.idle <- c // has room: there is a token for each
	}()
	return fn(c)
}

var errClosed = fault.New(fault.Unavailable, "The database is closed.")

// update runs fn in one write transaction and returns once it is durable. It
// does not give up on a transaction that has begun when ctx ends: the caller is
// always told what became of it. fn must not call view or update.
func (db *DB) update(ctx context.Context, fn func(*tx) error) error {
	j := &job{ctx: ctx, fn: fn, finish: make(chan struct{})}
	if err := db.enqueue(j); err != nil {
		return err
	}
	<-j.finish
	return j.err
}

func (db *DB) enqueue(j *job) error {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if db.closed {
		return errClosed
	}
	select {
	case db.queue <- j:
		return nil
	case <-j.ctx.Done():
		return notBegun(j.ctx)
	}
}

func notBegun(ctx context.Context) error {
	return fault.Wrap(fault.Unavailable, ctx.Err(), "The request ended before the database took it: nothing was written.")
}

// write is the one writer. It takes what waits, commits it together, and tells
// each caller.
func (db *DB) write() {
	defer close(db.done)
	for {
		first, ok := db.next()
		if !ok {
			return
		}
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
		if err := db.commit(group); err != nil {
			for _, j := range group {
				if j.err == nil { // it would have succeeded
					j.err = storeError(err)
				}
			}
		}
		db.scrub()
		for _, j := range group {
			close(j.finish)
		}
	}
}

// commit runs a group of jobs in one transaction. Every job learns its own error;
// the error returned is that of all the others.
func (db *DB) commit(jobs []*job) error {
	ctx := context.Background()
	if err := db.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err, "The database does not take writes.")
	}
	if err := db.writer.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	wrote, g := false, &group{writer: db.writer}
	for _, j := range jobs {
		if j.ctx.Err() != nil {
			j.err = notBegun(j.ctx)
			continue
		}
		if err := db.step(g, j); err != nil {
			// SQLite may have rolled back by itself: then this fails, and need not succeed.
			db.writer.exec(ctx, "ROLLBACK")
			return err
		}
		wrote = wrote || j.err == nil
	}
	if !wrote {
		return db.writer.exec(ctx, "ROLLBACK")
	}
	err := db.finish(g)
	if err == nil {
		err = beforeCommit.Hit()
	}
	if err == nil {
		err = db.writer.exec(ctx, "COMMIT")
	}
	if err == nil {
		err = afterCommit.Hit()
	}
	if err == nil {
		db.commits.Add(1)
		return nil
	}
	if rb := db.writer.exec(ctx, "ROLLBACK"); rb != nil && !full(err) {
		// The commit may or may not have happened, and the page cache may no
		// longer say what the disk does. Only a restart finds out.
		db.broken.Store(&err)
	}
	return err
}

func (db *DB) run(g *group, j *job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Wrap(fault.Internal, fmt.Errorf("panic in a transaction: %v\n%s", p, debug.Stack()), "")
		}
	}()
	t := &tx{ctx: context.WithoutCancel(j.ctx), group: g, prepare: db.writer.prepare}
	err = j.fn(t)
	db.unclean = db.unclean || t.shreds
	return err
}

// full reports whether err says that the disk has no room: nothing was written,
// and writing can go on when there is room again.
func full(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL
}

// storeError gives a database error its reason. An error that has one keeps it.
func storeError(err error) error {
	var known *fault.Error
	var e *sqlite.Error
	if !errors.As(err, &known) && errors.As(err, &e) {
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
func Version() string { return sqlite3.SQLITE_VERSION }
