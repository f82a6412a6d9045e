package sqlite

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"

	"github.com/kluis-io/kluis/internal/durable"
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
