// Package pgtest runs a real PostgreSQL server for tests: Debian's, on a Unix
// socket in a folder of its own, as a user that is not root.
package pgtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver that makes databases
)

// A Server is a PostgreSQL server.
type Server struct {
	bin   string // its programs
	dir   string
	as    *syscall.Credential
	alive io.Closer // the pipe, held open: a garbage-collected file is closed
	count atomic.Int64
}

// Run starts a server and runs the tests, which get a database each from it. A
// machine that has no PostgreSQL skips them, loudly, but for CI, which fails.
func Run(m *testing.M, into *(*Server)) int {
	s, err := Start()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v: NOTHING IS TESTED ON POSTGRESQL\n", err)
		if os.Getenv("CI") != "" {
			return 1
		}
		return 0
	}
	*into = s
	return m.Run()
}

// Start starts a server with a fresh cluster, which ends and goes with this process.
func Start() (*Server, error) {
	s := &Server{}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	found = slices.DeleteFunc(found, func(p string) bool {
		v, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p))))
		return err != nil || v < 15
	})
	if len(found) == 0 {
		return nil, errors.New("there is no PostgreSQL 15 or later: Debian's package is postgresql")
	}
	s.bin = filepath.Dir(found[len(found)-1])
	if os.Getuid() == 0 { // the server refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	if err := s.makeFolder(); err != nil {
		return nil, err
	}
	if err := s.program("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"); err != nil {
		return nil, err
	}
	return s, errors.Join(s.Restart(), s.endWithProcess())
}

// makeFolder makes the folder that all of the server lies in.
func (s *Server) makeFolder() (err error) {
	if s.dir, err = os.MkdirTemp("", "pg"); err == nil && s.as != nil { // short: a socket's path has 107 bytes
		err = os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid))
	}
	return err
}

// endWithProcess has the server stopped and its folder removed when this process is no
// more, however it ends: then the pipe that the shell reads is closed.
func (s *Server) endWithProcess() error {
	c := exec.Command("/bin/sh", "-c", `trap "" INT TERM; read -r never; "$1"/pg_ctl stop -D "$2"/data -m immediate; rm -rf "$2"`, "sh", s.bin, s.dir)
	c.Dir, c.SysProcAttr = "/", &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	var err error
	if s.alive, err = c.StdinPipe(); err != nil {
		return err
	}
	return c.Start()
}

// Attach returns a server that another process has started, by its socket's folder, for
// databases on it.
func Attach(socket string) *Server { return &Server{dir: socket} }

// Socket returns the folder of the server's socket.
func (s *Server) Socket() string { return s.dir }

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) program(name string, args ...string) error {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir, c.SysProcAttr = s.dir, &syscall.SysProcAttr{Credential: s.as}
	log, err := os.CreateTemp("", "pg")
	if err != nil {
		return err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	c.Stdout, c.Stderr = log, log // no pipe: the server that it leaves running would hold it
	if err := c.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s: %w: %s", name, err, said)
	}
	return nil
}

// Restart starts the server after Stop. It leaves flushing to the operating system,
// which a server's crash does not touch.
func (s *Server) Restart() error {
	log := filepath.Join(s.dir, "log")
	err := s.program("pg_ctl", "start", "-w", "-D", s.data(), "-l", log,
		"-o", "-c listen_addresses= -c unix_socket_directories="+s.dir+" -c fsync=off -c kluis.may_lose_data=on -c max_connections=200 -c shared_buffers=32MB -c max_wal_size=256MB")
	if err != nil {
		said, _ := os.ReadFile(log)
		err = fmt.Errorf("%w%s", err, said[max(0, len(said)-2000):])
	}
	return err
}

// Stop stops the server: "fast", or "immediate" as a crash would.
func (s *Server) Stop(mode string) error {
	return s.program("pg_ctl", "stop", "-w", "-D", s.data(), "-m", mode)
}

// URL returns the connection string of a database.
func (s *Server) URL(database string) string {
	q := url.Values{"host": {s.dir}, "user": {"postgres"}, "sslmode": {"disable"}}
	return "postgres:///" + database + "?" + q.Encode()
}

// Database makes a fresh database and returns its connection string.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	url, err := s.Named("test" + strconv.FormatInt(s.count.Add(1), 10))
	if err != nil {
		tb.Fatal(err)
	}
	return url
}

// Named returns the connection string of a database, which it makes if it is missing.
func (s *Server) Named(name string) (string, error) {
	err := s.Exec("postgres", "CREATE DATABASE "+name+" STRATEGY wal_log")
	var said *pgconn.PgError
	if errors.As(err, &said) && said.Code == "42P04" { // there is one
		err = nil
	}
	return s.URL(name), err
}

// Exec runs statements in a database, as its superuser.
func (s *Server) Exec(database string, statements ...string) error {
	db, err := sql.Open("pgx", s.URL(database))
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(strings.Join(statements, ";\n"))
	return err
}

// Contents returns the values of all rows of all tables of a database.
func Contents(ctx context.Context, url string) ([]byte, error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var tables []string
	all := []byte{}
	err = each(ctx, db, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'", func(values []sql.RawBytes) {
		tables = append(tables, string(values[0]))
	})
	for _, table := range tables {
		if err == nil {
			err = each(ctx, db, "SELECT * FROM "+table, func(values []sql.RawBytes) {
				for _, v := range values {
					all = append(append(all, v...), 0)
				}
			})
		}
	}
	return all, err
}

func each(ctx context.Context, db *sql.DB, query string, row func([]sql.RawBytes)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		row(values)
	}
	return rows.Err()
}
