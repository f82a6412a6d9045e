package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/sqlite"
	"github.com/kluis-io/kluis/store/storetest"
)

// open opens a database in a folder of its own, and closes it with the test.
func open(t *testing.T, schema store.Schema) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "kluis.db"), schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestConformance(t *testing.T) {
	storetest.Engine(t, func(t *testing.T, schema store.Schema) store.Domains { return open(t, schema).Domains })
}

// What an insider with SQL can do to the real database is found, and so is a
// database put back from an older copy.
func TestAuditTampering(t *testing.T) {
	dir := t.TempDir()
	path, outside := filepath.Join(dir, "kluis.db"), filepath.Join(dir, "outside")
	signer, verifier, err := audit.CreateSigner(filepath.Join(dir, "key"), "test.example/log")
	if err != nil {
		t.Fatal(err)
	}
	start := func() (*sqlite.DB, *audit.Log, error) {
		db, err := sqlite.Open(t.Context(), path, store.Schema{"audit"})
		if err != nil {
			t.Fatal(err)
		}
		l, err := audit.Open(t.Context(), audit.Config{Store: db.Audit(), Signer: signer, Verifier: verifier, CheckpointPath: outside, Interval: -1})
		return db, l, err
	}
	run := func(entries int) {
		t.Helper()
		db, l, err := start()
		if err != nil {
			t.Fatal(err)
		}
		for range entries {
			if err := l.Record(t.Context(), audit.Entry{Operation: "test/act", Outcome: audit.Allowed}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		db.Close()
	}
	verify := func(path string) *audit.Report {
		t.Helper()
		db, err := sqlite.Open(t.Context(), path, store.Schema{"audit"})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		note, err := os.ReadFile(outside)
		if err != nil {
			t.Fatal(err)
		}
		r, err := audit.Verify(t.Context(), db.Audit(), verifier, note)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}

	run(20)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	run(20)
	if r := verify(path); !r.OK() || r.Entries != 40 || r.Covered != 40 {
		t.Fatalf("an untouched log: %+v", r)
	}

	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, stmt := range []string{
		"UPDATE audit_entry SET body = CAST(replace(body, 'allowed', 'denied') AS BLOB) WHERE seq = 7",
		"UPDATE audit_entry SET time = time + 1 WHERE seq = 7",
		"UPDATE audit_entry SET body = (SELECT body FROM audit_entry WHERE seq = 8) WHERE seq = 7",
		"DELETE FROM audit_entry WHERE seq = 7",
		"DELETE FROM audit_entry WHERE seq = 39",
		"DELETE FROM audit_entry WHERE seq >= 20",
		"INSERT INTO audit_entry SELECT 40, time, body FROM audit_entry WHERE seq = 39",
		"INSERT INTO audit_entry SELECT -1, time, body FROM audit_entry WHERE seq = 39",
		"INSERT INTO audit_entry SELECT 9223372036854775807, time, body FROM audit_entry WHERE seq = 39",
		"UPDATE audit_hash SET hash = zeroblob(32) WHERE idx = 2",
		"DELETE FROM audit_hash WHERE idx = 77",
		"INSERT INTO audit_hash VALUES (1000, zeroblob(32))",
		"DELETE FROM audit_checkpoint WHERE serial = 1",
		"DELETE FROM audit_checkpoint WHERE serial = 2",
		"DELETE FROM audit_checkpoint",
		"INSERT INTO audit_checkpoint SELECT serial + 1, note FROM audit_checkpoint WHERE serial = 2",
	} {
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		raw, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raw.Exec(stmt); err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
		if err := raw.Close(); err != nil {
			t.Fatal(err)
		}
		if r := verify(path); r.OK() {
			t.Errorf("%s: not found", stmt)
		}
	}

	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verify(path); r.OK() {
		t.Error("an older copy of the database: not found")
	}
	db, _, err := start()
	if fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("start on an older copy: %v; want Integrity", err)
	}
	db.Close()
}

// A failing database fails the act's entry, and with it the act.
func TestAuditFailsClosed(t *testing.T) {
	db := open(t, store.Schema{"audit"})
	signer, verifier, err := audit.CreateSigner(filepath.Join(t.TempDir(), "key"), "test")
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(t.Context(), audit.Config{
		Store: db.Audit(), Signer: signer, Verifier: verifier, CheckpointPath: filepath.Join(t.TempDir(), "outside"), Interval: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	e := audit.Entry{Operation: "test/act", Outcome: audit.Denied}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Record(ctx, e); err != nil {
		t.Errorf("a client that hung up leaves no trace: %v", err)
	}
	db.Close()
	if err := l.Record(t.Context(), e); fault.ReasonOf(err) != fault.AuditFailed {
		t.Errorf("a closed database: %v; want AuditFailed", err)
	}
}

// Entries of one group are written together, and still each stands or falls with its
// own transaction, also if that has read the log meanwhile.
func TestAuditInAGroup(t *testing.T) {
	db := open(t, store.Schema{"audit"})
	log := db.Audit()
	act := func(name string, look, fail bool) func(audit.Tx) error {
		return func(tx audit.Tx) error {
			err := tx.AppendAudit(audit.Entry{Operation: name, Outcome: audit.Allowed})
			if look {
				n, serr := tx.AuditSize()
				records, rerr := tx.AuditRecords(n-1, 1)
				if err = errors.Join(err, serr, rerr); err == nil && (len(records) != 1 || !bytes.Contains(records[0].Body, []byte(name))) {
					t.Errorf("%s does not see its own entry", name)
				}
			}
			if fail {
				err = errors.Join(err, fault.New(fault.Denied, "no"))
			}
			return err
		}
	}
	release := hold(t, db)
	var wg sync.WaitGroup
	want := map[string]bool{}
	for i := range 100 {
		look, fail := i%3 == 0, i%4 == 1
		name := fmt.Sprintf("act/%d/end", i)
		want[name] = !fail
		wg.Go(func() {
			if err := log.Update(context.Background(), act(name, look, fail)); (err != nil) != fail {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	release()
	wg.Wait()
	var hashes int
	must(t, log.View(t.Context(), func(tx audit.Tx) error {
		records, err := tx.AuditRecords(0, 1000)
		for i, r := range records {
			e, perr := audit.Parse(r.Body)
			if perr != nil || r.Sequence != int64(i) || !want[e.Operation] {
				t.Errorf("entry %d is number %d, %s, %v", i, r.Sequence, e.Operation, perr)
			}
			delete(want, e.Operation)
		}
		all, herr := tx.AuditHashes(0, 1000)
		hashes = len(all)
		return errors.Join(err, herr)
	}))
	for name, kept := range want {
		if kept {
			t.Errorf("%s is missing", name)
		}
	}
	if n := tlog.StoredHashCount(75); hashes != int(n) {
		t.Errorf("%d hashes of 75 entries, want %d", hashes, n)
	}
}
