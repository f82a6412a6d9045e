package sqlite

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"

	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/store"
)

// Copy writes a consistent copy of the database at from to a new file, mode 0600, on
// the disk when it returns. Another process may have the database open and write to
// it meanwhile; its tables are left at the version that they have.
func Copy(ctx context.Context, from, to string) (err error) {
	if _, err := os.Stat(from); err != nil {
		return err // or SQLite would make it
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(to)
		}
	}()
	source, err := sql.Open("sqlite", dsn(from, "deferred"))
	if err != nil {
		return err
	}
	defer source.Close()
	if _, err := source.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

// Versions returns the version of each set of tables of a schema, by name.
func (db *DB) Versions(ctx context.Context, schema store.Schema) (map[string]int64, error) {
	all := map[string]int64{}
	for _, set := range schema {
		var v int64
		err := db.readers.Lend(ctx, func(c *store.Conn) error {
			return c.Row("SELECT max(version_id) FROM schema_"+set, nil, &v)
		})
		if err != nil {
			return nil, err
		}
		all[set] = v
	}
	return all, nil
}
