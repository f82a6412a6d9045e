// Package enginetest opens databases for the tests of what lies above the store, so
// that the same tests run on every engine.
//
// KLUIS_TEST_STORE names the engine: sqlite, which is the default, or postgres. The
// server is one of this process, or the one whose socket lies in KLUIS_TEST_POSTGRES.
package enginetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kluis-io/kluis/internal/pgtest"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/postgres"
	"github.com/kluis-io/kluis/store/sqlite"
)

// A DB is an open database of any engine.
type DB struct {
	store.Domains
	close    func() error
	contents func(context.Context) ([]byte, error)
	driver   string
	source   string
}

// Close closes the database.
func (db *DB) Close() error { return db.close() }

// Contents returns all that the database holds, to be searched for what must not be
// there.
func (db *DB) Contents(ctx context.Context) ([]byte, error) { return db.contents(ctx) }

// Exec runs a statement as somebody would who has the database and not kluis.
func (db *DB) Exec(ctx context.Context, statement string) error {
	other, err := sql.Open(db.driver, db.source)
	if err != nil {
		return err
	}
	defer other.Close()
	_, err = other.ExecContext(ctx, statement)
	return err
}

// server is the PostgreSQL server of this process and of those that it starts.
var server = sync.OnceValues(func() (*pgtest.Server, error) {
	if socket := os.Getenv(socketVariable); socket != "" {
		return pgtest.Attach(socket), nil
	}
	s, err := pgtest.Start()
	if err == nil {
		err = os.Setenv(socketVariable, s.Socket())
	}
	return s, err
})

const socketVariable = "KLUIS_TEST_POSTGRES"

// parties are the folders of a data directory that have a database.
var parties = []string{"login", "vault", "platform", "governance"}

// Parties returns the variables that have kluis keep the parties of a data directory,
// if it is new, on the engine that is tested: none on SQLite.
func Parties(data string) (variables []string, err error) {
	if os.Getenv("KLUIS_TEST_STORE") != "postgres" {
		return nil, nil
	}
	s, err := server()
	if err != nil {
		return nil, err
	}
	variables = []string{socketVariable + "=" + s.Socket()}
	if _, err := os.Stat(filepath.Join(data, "instance.json")); err == nil {
		return variables, nil
	}
	var pairs []string
	for _, party := range parties {
		url, err := named(s, filepath.Join(data, party))
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, party+"="+url)
	}
	return append(variables, "KLUIS_DATABASE="+strings.Join(pairs, " ")), nil
}

// PostgreSQL returns the connection string of a PostgreSQL database that stands for a
// path, whatever engine is tested.
func PostgreSQL(path string) (string, error) {
	s, err := server()
	if err != nil {
		return "", err
	}
	return named(s, path)
}

// Copied gives the copy of a party's folder, which nobody serves, a database of its own
// with what that of the original holds.
func Copied(from, to string) error {
	address, err := os.ReadFile(filepath.Join(from, addressFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was copied with the folder
	}
	if err != nil {
		return err
	}
	source, err := url.Parse(string(bytes.TrimSpace(address)))
	if err != nil {
		return err
	}
	s, err := server()
	if err != nil {
		return err
	}
	target, err := nameOf(to)
	if err != nil {
		return err
	}
	target += "_" + strconv.FormatInt(copies.Add(1), 10)
	if err := s.Exec("postgres", "CREATE DATABASE "+target+" TEMPLATE "+strings.TrimPrefix(source.Path, "/")); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, addressFile), []byte(s.URL(target)), 0o600)
}

var copies atomic.Int64

// addressFile names a party's database in its folder, if it is not embedded.
const addressFile = "database"

// Party opens the database of a party's folder.
func Party(ctx context.Context, dir string, schema store.Schema) (*DB, error) {
	address, err := os.ReadFile(filepath.Join(dir, addressFile))
	if errors.Is(err, fs.ErrNotExist) {
		return openFile(ctx, filepath.Join(dir, "kluis.db"), schema)
	}
	if err != nil {
		return nil, err
	}
	return openURL(ctx, string(bytes.TrimSpace(address)), schema)
}

// named returns the connection string of the database that stands for a path.
func named(s *pgtest.Server, path string) (string, error) {
	name, err := nameOf(path)
	if err != nil {
		return "", err
	}
	return s.Named(name)
}

func nameOf(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(path))
	return "t" + hex.EncodeToString(sum[:12]), nil
}

// Open opens the database that lies at path, or that stands for path on the server of
// an engine that has one: opened again, it is the same.
func Open(ctx context.Context, path string, schema store.Schema) (*DB, error) {
	switch engine := os.Getenv("KLUIS_TEST_STORE"); engine {
	case "", "sqlite":
		return openFile(ctx, path, schema)
	case "postgres":
		url, err := PostgreSQL(path)
		if err != nil {
			return nil, err
		}
		return openURL(ctx, url, schema)
	default:
		return nil, fmt.Errorf("KLUIS_TEST_STORE=%s is no engine: sqlite or postgres", engine)
	}
}

func openFile(ctx context.Context, path string, schema store.Schema) (*DB, error) {
	db, err := sqlite.Open(ctx, path, schema)
	if err != nil {
		return nil, err
	}
	return &DB{db.Domains, db.Close, func(ctx context.Context) ([]byte, error) {
		dir, err := os.MkdirTemp("", "contents")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		copied := filepath.Join(dir, "db")
		if err := db.Backup(ctx, copied); err != nil {
			return nil, err
		}
		return os.ReadFile(copied)
	}, "sqlite", path}, nil
}

func openURL(ctx context.Context, url string, schema store.Schema) (*DB, error) {
	db, err := postgres.Open(ctx, url, schema)
	if err != nil {
		return nil, err
	}
	return &DB{db.Domains, db.Close, func(ctx context.Context) ([]byte, error) { return pgtest.Contents(ctx, url) }, "pgx", url}, nil
}
