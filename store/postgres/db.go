// Package postgres is the engine that keeps each party's metadata in a database
// of a PostgreSQL server, version 15 or later, which any number of processes share.
//
// # What it promises
//
// A committed transaction is as durable as the server makes one; each session has
// synchronous_commit on, whatever the server's default. Readers see one snapshot. Write
// transactions run one after the other, over all processes: each group of them
// takes the database's one advisory lock first, so that whatever holds with one
// writer on SQLite holds here. A commit whose answer is lost is looked up by its
// transaction id.
//
// It does not promise that shredded rows leave the disk: dead tuples, the write-
// ahead log and backups keep them until the server's own upkeep has passed. They are
// sealed, and [github.com/kluis-io/kluis/store] knows no key.
//
// What the tables hold is package store's.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/store"
)

var (
	beforeCommit = failpoint.New("store/postgres/before-commit")
	afterCommit  = failpoint.New("store/postgres/after-commit")
)

// writerLock is the advisory lock that whoever writes to a database holds: "kluis"
// in ASCII. Advisory locks belong to one database, so each party has its own.
const writerLock = 0x6b6c756973

// clock is the query for the server's time, which goes on while a transaction runs.
const clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

// answer bounds how long the server may take to accept a connection.
const answer = 10 * time.Second

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	store.Domains

	readers *store.Readers
	writer  *store.Writer

	known  map[string]int64 // up to which version, by set of tables
	caveat string
	listen func() (*sql.DB, error) // a pool of connections to listen by

	clock string   // the query for the database's time; "" is the process's own
	pool  *sql.DB  // of the one connection that writes
	write struct { // only the writing goroutine touches it
		*store.Conn                // nil if there is none
		line        *pgconn.PgConn // that it goes by
		transaction                // that runs
	}
}

// A transaction is one of those of all servers that a database has had.
type transaction struct{ id, life string }

// Open opens the database at url, a connection string as libpq takes it, and
// brings its tables up to date; replicas that start together take turns. It refuses
// a database that a newer release has written.
func Open(ctx context.Context, url string, schema store.Schema) (*DB, error) {
	seen := new(lineage)
	if err := prepare(ctx, url, seen, schema, migrate); err != nil {
		return nil, err
	}
	return open(ctx, url, seen, schema)
}

// OpenAsIs opens the database at url, and changes no table. It refuses one whose tables
// another release has made.
func OpenAsIs(ctx context.Context, url string, schema store.Schema) (*DB, error) {
	seen := new(lineage)
	if err := prepare(ctx, url, seen, schema, current); err != nil {
		return nil, err
	}
	return open(ctx, url, seen, schema)
}

func open(ctx context.Context, url string, seen *lineage, schema store.Schema) (*DB, error) {
	db := &DB{
		known: map[string]int64{},
		listen: func() (*sql.DB, error) {
			return connections(url, seen, session{still: slow, statement: slow, listens: true})
		},
	}
	var err error
	for _, set := range schema {
		if db.known[set], _, err = store.Known(set); err != nil {
			return nil, err
		}
	}
	if db.pool, err = connections(url, seen, session{still: paused, statement: slow}); err != nil {
		return nil, err
	}
	if db.clock, err = clockOf(ctx, db.pool); err != nil {
		return nil, errors.Join(err, db.pool.Close())
	}
	if db.caveat, err = caveat(ctx, db.pool); err != nil {
		return nil, errors.Join(err, db.pool.Close())
	}
	readers, err := connections(url, seen, session{still: slow, statement: slow})
	if err != nil {
		return nil, errors.Join(err, db.pool.Close())
	}
	db.readers = store.NewReaders(readers, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", explain)
	db.readers.Clock(db.clock)
	db.writer = store.NewWriter(committer{db})
	db.Domains = store.Over(runner{db})
	return db, nil
}

// Caveat returns what the server, as it was at the start, does not promise of what it has
// acknowledged, for the operator; "" if there is nothing to say.
func (db *DB) Caveat() string { return db.caveat }

// How long a session may stand still in a transaction before the server ends it. A
// process that is paused with the writer's lock must not keep the others waiting.
const (
	paused = 5 * time.Second
	slow   = time.Minute
)

// A session says how long one may stand still in a transaction, and a statement may take; 0
// is for ever. One that listens waits for ever for what it was not asked for; of all others
// with a bound the answer is waited for a little longer than that, and no longer.
type session struct {
	still, statement time.Duration
	listens          bool
}

// connections returns a pool of connections whose sessions are set up. None leads to a
// server that was replaced.
func connections(url string, seen *lineage, as session) (*sql.DB, error) {
	c, err := parse(url)
	if err != nil {
		return nil, err
	}
	c.ConnectTimeout, c.ValidateConnect, c.OnNotice = bounds.connect, seen.follow(c.ValidateConnect), heed
	c.DialFunc = dialer().DialContext
	if as.statement > 0 && !as.listens {
		c.DialFunc = impatient(c.DialFunc)
	}
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	for name, value := range map[string]string{
		"application_name": "kluis", "synchronous_commit": "on", "default_transaction_isolation": "read committed", "idle_in_transaction_session_timeout": ms(as.still),
		"lock_timeout": ms(slow), "statement_timeout": ms(as.statement),
	} {
		c.RuntimeParams[name] = value
	}
	return stdlib.OpenDB(*c), nil
}

// Answers makes sure that the database can be asked.
func (db *DB) Answers(ctx context.Context) error { return db.readers.Answers(ctx) }

// Close waits for the transactions that have begun, and closes the database.
func (db *DB) Close() error {
	if !db.writer.Close() {
		return nil
	}
	if db.write.Conn != nil {
		db.write.Unfit() // so that the server forgets its lock with it
		db.write.Close()
	}
	return errors.Join(db.readers.Close(), db.pool.Close())
}

// A runner is the database as package store sees it.
type runner struct{ db *DB }

func (r runner) View(ctx context.Context, fn func(*store.Tx) error) error {
	return r.db.readers.View(ctx, fn)
}

func (r runner) Update(ctx context.Context, fn func(*store.Tx) error) error {
	return r.db.writer.Update(ctx, fn)
}

// A committer is the database as its writer sees it.
type committer struct{ db *DB }

// Begin implements [store.Committer].
func (c committer) Begin() (*store.Conn, error) {
	w := &c.db.write
	if w.Conn != nil && c.begin() == nil {
		return w.Conn, nil
	}
	// There was no connection, or it was cut since: nothing has been written yet.
	if err := c.connect(); err != nil {
		return nil, err
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	return w.Conn, nil
}

func (c committer) connect() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), bounds.connect)
	defer cancel()
	if c.db.write.Conn, err = store.Connect(ctx, c.db.pool, explain); err != nil {
		return err
	}
	c.db.write.Clock(c.db.clock)
	c.db.write.Tells(tell)
	err = c.db.write.Raw(func(driver any) error {
		c.db.write.line = driver.(*stdlib.Conn).Conn().PgConn()
		return nil
	})
	if err == nil {
		err = c.db.enter()
	}
	if err != nil {
		c.drop()
	}
	return err
}

func (c committer) begin() error {
	w := &c.db.write
	err := w.Exec("BEGIN")
	if err == nil {
		err = w.Row("SELECT pg_current_xact_id()::text FROM (SELECT pg_advisory_xact_lock($1)) AS locked", []any{int64(writerLock)}, &w.id)
	}
	if err != nil {
		c.drop()
	}
	return err
}

// Commit implements [store.Committer].
func (c committer) Commit(store.Shreds) error {
	w := &c.db.write
	err := beforeCommit.Hit()
	if err == nil && !c.whole() {
		err = fault.New(fault.Unavailable, "The database has given the transaction up.").WithMend("Try again.")
	}
	if err != nil {
		c.Rollback()
		return err
	}
	ran := w.transaction
	delete(w.line.CustomData(), warnedKey)
	if err = w.Exec("COMMIT"); err == nil {
		err = afterCommit.Hit()
	}
	switch {
	case w.line.CustomData()[warnedKey] != nil:
		// What is committed on this server alone may be lost with it.
		c.drop()
		err = fault.Wrap(fault.Unavailable, err, "The database's standby has not confirmed the transaction.")
	case err != nil:
		c.drop()
		err = c.outcome(ran, err)
	}
	return err
}

// warnedKey marks a connection on which the server has warned of something.
const warnedKey = "kluis/warned"

// heed marks the connection on which a warning came. A commit has one only if somebody
// ended the server's wait for a standby that has to confirm it.
func heed(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" {
		c.CustomData()[warnedKey] = true
	}
}

// whole reports whether the transaction can still be committed. The server answers
// the commit of one in which a statement failed with a rollback, and no error.
func (c committer) whole() bool { return c.db.write.line.TxStatus() == 'T' }

// outcome finds out what became of a transaction whose commit failed: nil if it was
// committed. It takes the writer's lock first, which that transaction has held to its
// end. If the server does not answer in time, or has crashed or been replaced since,
// nobody can tell: err is returned, and whoever writes next waits for the same lock.
func (c committer) outcome(ran transaction, err error) error {
	if c.connect() != nil || c.begin() != nil {
		return err
	}
	var status string
	if c.db.write.life == ran.life && c.db.write.Row("SELECT COALESCE(pg_xact_status($1::text::xid8), '')", []any{ran.id}, &status) == nil && status == "committed" {
		err = nil
	}
	c.Rollback()
	return err
}

// Rollback implements [store.Committer].
func (c committer) Rollback() error {
	err := c.db.write.Exec("ROLLBACK")
	if err != nil {
		c.drop()
	}
	return err
}

// Upkeep implements [store.Committer].
func (c committer) Upkeep() (owed bool) { return false }

// drop gives the connection up.
func (c committer) drop() {
	if w := &c.db.write; w.Conn != nil {
		w.Unfit()
		w.Close()
		w.Conn = nil
	}
}

// lost reports whether err says that the connection is no more.
func lost(err error) bool {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code[:2] == "57" || said.Code[:2] == "08" // the server ends, or the line is cut
	}
	var network net.Error
	var connecting *pgconn.ConnectError
	return errors.Is(err, errUnanswered) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, &network) || errors.As(err, &connecting)
}

// explain gives an error of the database its meaning.
func explain(err error) error {
	var known *fault.Error
	var said *pgconn.PgError
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, store.ErrConstraint), errors.Is(err, sql.ErrNoRows):
		return err
	case lost(err):
		return fault.Wrap(fault.Unavailable, err, "The database does not answer.")
	case errors.As(err, &said):
		switch said.Code[:2] {
		case "23":
			return fmt.Errorf("%w: %w", store.ErrConstraint, err)
		case "53":
			return fault.Wrap(fault.Unavailable, err, "The database server has no room.")
		case "40", "55":
			return fault.Wrap(fault.Unavailable, err, "The database is busy.")
		}
	}
	return err
}
