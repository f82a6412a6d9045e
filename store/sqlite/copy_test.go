package sqlite_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/sqlite"
)

func entries(t *testing.T, db *sqlite.DB) (n int64) {
	t.Helper()
	err := db.Audit().View(t.Context(), func(tx audit.Tx) (err error) {
		n, err = tx.AuditSize()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A copy of a database that somebody else has open and writes to is whole.
func TestCopyWhileOpen(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	if err := sqlite.Copy(t.Context(), from, to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := os.Stat(from); err == nil {
		t.Error("the missing database was made")
	}
	db, err := sqlite.Open(t.Context(), from, store.VaultSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	add := func() {
		err := db.Audit().Update(t.Context(), func(tx audit.Tx) error {
			return tx.AppendAudit(audit.Entry{Operation: "a/b", Outcome: audit.Allowed})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add()
	if err := sqlite.Copy(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	add()
	if err := sqlite.Copy(t.Context(), from, to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	info, err := os.Stat(to)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, %v", info.Mode().Perm(), err)
	}
	copied, err := sqlite.Open(t.Context(), to, store.VaultSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if a, b := entries(t, db), entries(t, copied); a != 2 || b != 1 {
		t.Errorf("%d entries, and %d in the copy", a, b)
	}
	versions, err := copied.Versions(t.Context(), store.VaultSchema)
	if err != nil || len(versions) != len(store.VaultSchema) || versions["audit"] < 1 {
		t.Errorf("versions %v, %v", versions, err)
	}
}
