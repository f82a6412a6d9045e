// Package enginetest opens databases for the tests of what lies above the store, so
// that the same tests run on every engine.
//
// KLUIS_TEST_STORE names the engine: sqlite, which is the default, or postgres.
package enginetest

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"

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

// server is the PostgreSQL server of this process.
var server = sync.OnceValues(pgtest.Start)

// Open opens the database that lies at path, or that stands for path on the server of
// an engine that has one: opened again, it is the same.
func Open(ctx context.Context, path string, schema store.Schema) (*DB, error) {
	switch engine := os.Getenv("KLUIS_TEST_STORE"); engine {
	case "", "sqlite":
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
	case "postgres":
		s, err := server()
		if err != nil {
			return nil, err
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		sum := sha256.Sum256([]byte(path))
		url, err := s.Named("t" + hex.EncodeToString(sum[:12]))
		if err != nil {
			return nil, err
		}
		db, err := postgres.Open(ctx, url, schema)
		if err != nil {
			return nil, err
		}
		return &DB{db.Domains, db.Close, func(ctx context.Context) ([]byte, error) { return pgtest.Contents(ctx, url) }, "pgx", url}, nil
	default:
		return nil, fmt.Errorf("KLUIS_TEST_STORE=%s is no engine: sqlite or postgres", engine)
	}
}
