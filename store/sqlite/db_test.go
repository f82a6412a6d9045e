package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/sqlite"
	"github.com/kluis-io/kluis/store/storetest"
)

// core opens a database with a table to play with.
func core(t *testing.T) *sqlite.DB {
	t.Helper()
	db := open(t, store.Schema{"audit"})
	must(t, db.Update(t.Context(), func(tx *store.Tx) error {
		return tx.Exec("CREATE TABLE thing (id INTEGER PRIMARY KEY, v TEXT NOT NULL) STRICT")
	}))
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(id int, v string) func(*store.Tx) error {
	return func(tx *store.Tx) error { return tx.Exec("INSERT INTO thing VALUES (?, ?)", id, v) }
}

func count(t *testing.T, db *sqlite.DB) (n int) {
	t.Helper()
	must(t, db.View(t.Context(), func(tx *store.Tx) error { return tx.Row("SELECT COUNT(*) FROM thing", nil, &n) }))
	return n
}

// hold keeps the writer busy until the returned function is called, so that what
// comes meanwhile waits and is committed together.
func hold(t *testing.T, db *sqlite.DB) (release func()) {
	t.Helper()
	running, goOn := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- db.Update(context.Background(), func(*store.Tx) error {
			close(running)
			<-goOn
			return nil
		})
	}()
	<-running
	return func() {
		close(goOn)
		must(t, <-done)
	}
}

func TestPragmas(t *testing.T) {
	db := core(t)
	want := map[string]string{
		"journal_mode": "wal", "synchronous": "2", "secure_delete": "1", "foreign_keys": "1", "trusted_schema": "0",
	}
	check := func(side string) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			for name, want := range want {
				var got string
				if err := tx.Row("PRAGMA "+name, nil, &got); err != nil {
					return err
				}
				if got != want {
					t.Errorf("%s: %s is %s, want %s", side, name, got, want)
				}
			}
			return nil
		}
	}
	must(t, db.View(t.Context(), check("reader")))
	must(t, db.Update(t.Context(), check("writer")))
	if err := db.View(t.Context(), put(1, "x")); err == nil {
		t.Error("a read transaction wrote")
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(db.Path() + suffix)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", filepath.Base(info.Name()), info.Mode().Perm())
		}
	}
}

// One failing transaction of a group takes nothing of the others with it.
func TestIsolationInAGroup(t *testing.T) {
	db := core(t)
	own := fault.New(fault.Denied, "no")
	cancelled, cancel := context.WithCancel(t.Context())
	jobs := []struct {
		name string
		fn   func(*store.Tx) error
		want error
	}{
		{"good", put(1, "a"), nil},
		{"fails after writing", func(tx *store.Tx) error { return errors.Join(put(2, "b")(tx), own) }, fault.Denied},
		{"panics after writing", func(tx *store.Tx) error { put(3, "c")(tx); panic("oops") }, fault.Internal},
		{"breaks a constraint", func(tx *store.Tx) error { return errors.Join(put(4, "d")(tx), put(4, "d")(tx)) }, errors.New("any")},
		{"good too", put(5, "e"), nil},
	}
	release := hold(t, db)
	var wg sync.WaitGroup
	for _, job := range jobs {
		wg.Go(func() {
			err := db.Update(context.Background(), job.fn)
			if (err == nil) != (job.want == nil) {
				t.Errorf("%s: %v", job.name, err)
			}
			if r, ok := job.want.(fault.Reason); ok && fault.ReasonOf(err) != r {
				t.Errorf("%s: %v, want %v", job.name, err, r)
			}
		})
	}
	wg.Go(func() {
		err := db.Update(cancelled, put(6, "f"))
		if !errors.Is(err, context.Canceled) || fault.ReasonOf(err) != fault.Unavailable {
			t.Errorf("cancelled before it began: %v", err)
		}
	})
	cancel()
	release()
	wg.Wait()
	var ids string
	must(t, db.View(t.Context(), func(tx *store.Tx) error { return tx.Row("SELECT group_concat(id) FROM thing", nil, &ids) }))
	if ids != "1,5" {
		t.Errorf("rows %s, want 1,5", ids)
	}
}

func TestGroupedCommit(t *testing.T) {
	db := core(t)
	const n = 200
	before := db.Commits()
	release := hold(t, db)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := db.Update(context.Background(), put(i, "x")); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // for most to arrive; the bound below leaves room
	release()
	wg.Wait()
	if commits := db.Commits() - before; commits > n/4 {
		t.Errorf("%d transactions that came together took %d commits", n, commits)
	}
	if got := count(t, db); got != n {
		t.Errorf("%d rows, want %d", got, n)
	}
}

func TestReaderSnapshot(t *testing.T) {
	db := core(t)
	must(t, db.Update(t.Context(), put(1, "before")))
	must(t, db.View(t.Context(), func(tx *store.Tx) error {
		var v string
		must(t, tx.Row("SELECT v FROM thing WHERE id = 1", nil, &v))
		// A reader neither sees what is written meanwhile nor stops it.
		must(t, db.Update(t.Context(), func(tx *store.Tx) error { return tx.Exec("UPDATE thing SET v = 'after'") }))
		must(t, tx.Row("SELECT v FROM thing WHERE id = 1", nil, &v))
		if v != "before" {
			t.Errorf("the snapshot moved: %s", v)
		}
		return nil
	}))
	must(t, db.View(t.Context(), func(tx *store.Tx) error {
		var v string
		must(t, tx.Row("SELECT v FROM thing WHERE id = 1", nil, &v))
		if v != "after" {
			t.Errorf("a new reader sees %s", v)
		}
		return nil
	}))
}

// More readers than there are connections, each with queries of its own, wait
// for each other and not for ever.
func TestManyReaders(t *testing.T) {
	db := core(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			err := db.View(context.Background(), func(tx *store.Tx) error {
				var n int
				return tx.Row(fmt.Sprintf("SELECT %d + COUNT(*) FROM thing", i%40), nil, &n)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	err := db.Audit().View(ctx, func(tx audit.Tx) error {
		cancel()
		_, err := tx.AuditSize()
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a query of a request that ended: %v", err)
	}
	for range 40 {
		count(t, db)
	}
}

func TestCloseWhileBusy(t *testing.T) {
	db := core(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := 0
	for i := range 300 {
		wg.Go(func() {
			err := db.Update(context.Background(), put(i, "x"))
			switch {
			case err == nil:
				mu.Lock()
				acked++
				mu.Unlock()
			case fault.ReasonOf(err) != fault.Unavailable:
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := db.View(context.Background(), func(tx *store.Tx) error { return nil }); err != nil && fault.ReasonOf(err) != fault.Unavailable {
				t.Error(err)
			}
		})
	}
	must(t, db.Close())
	wg.Wait()
	must(t, db.Close())
	again, err := sqlite.Open(t.Context(), db.Path(), store.Schema{"audit"})
	must(t, err)
	defer again.Close()
	if got := count(t, again); got != acked {
		t.Errorf("%d rows after closing, %d were acknowledged", got, acked)
	}
}

func TestBroken(t *testing.T) {
	db := core(t)
	must(t, db.Err())
	db.Break(errors.New("fsync failed"))
	if err := db.Update(t.Context(), put(1, "x")); fault.ReasonOf(err) != fault.Unavailable || db.Err() == nil {
		t.Errorf("a write after a commit of unknown outcome: %v", err)
	}
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	db := open(t, store.Schema{"audit"})
	must(t, db.Update(t.Context(), func(tx *store.Tx) error {
		return tx.Exec("INSERT INTO schema_audit (version_id, is_applied) VALUES (99, 1)")
	}))
	must(t, db.Close())
	next, err := sqlite.Open(t.Context(), db.Path(), store.Schema{"audit"})
	if err != nil {
		t.Fatalf("a newer release's tables that this one can live with: %v", err)
	}
	must(t, next.Update(t.Context(), func(tx *store.Tx) error { return tx.Exec("UPDATE kluis_oldest SET version = 98") }))
	must(t, next.Close())
	_, err = sqlite.Open(t.Context(), db.Path(), store.Schema{"audit"})
	if err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("opened tables of a newer release: %v", err)
	}
}

// What was deleted is in none of the database's files once it is closed.
func TestSecureDelete(t *testing.T) {
	db := core(t)
	secret := strings.Repeat("sEcReT-", 40)
	must(t, db.Update(t.Context(), put(1, secret)))
	must(t, db.Update(t.Context(), func(tx *store.Tx) error { return tx.Exec("DELETE FROM thing") }))
	must(t, db.Close())
	files, err := filepath.Glob(db.Path() + "*")
	must(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		if bytes.Contains(b, []byte("sEcReT-")) {
			t.Errorf("%s still holds what was deleted", filepath.Base(f))
		}
	}
}

func TestBackup(t *testing.T) {
	db := core(t)
	must(t, db.Update(t.Context(), put(1, "x")))
	path := filepath.Join(t.TempDir(), "backup.db")
	must(t, db.Backup(t.Context(), path))
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %o", info.Mode().Perm())
	}
	if err := db.Backup(t.Context(), path); err == nil {
		t.Error("a backup replaced another file")
	}
	copied, err := sqlite.Open(t.Context(), path, store.Schema{"audit"})
	must(t, err)
	defer copied.Close()
	if n := count(t, copied); n != 1 {
		t.Errorf("%d rows in the backup", n)
	}
}

const killedDir = "KLUIS_TEST_KILLED"

func TestMain(m *testing.M) {
	if path := os.Getenv(killedDir); path != "" {
		toBeKilled(path)
	}
	os.Exit(m.Run())
}

// toBeKilled writes, and prints what is acknowledged, until it is killed.
func toBeKilled(path string) {
	db, err := sqlite.Open(context.Background(), path, store.Schema{"audit"})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("open")
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				err := db.Audit().Update(context.Background(), func(tx audit.Tx) error {
					return tx.AppendAudit(audit.Entry{Operation: "test/act", Outcome: audit.Allowed, Request: id})
				})
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				fmt.Println("ack", id)
			}
		}()
	}
	select {}
}

// Whatever was acknowledged before a kill -9 is there after it, whole.
func TestKill(t *testing.T) {
	kills := 20
	if testing.Short() {
		kills = 3
	}
	path := filepath.Join(t.TempDir(), "kluis.db")
	acked := map[string]bool{}
	for i := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedDir+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for after := 1 + i*7; lines.Scan(); {
			word, id, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "ack":
				acked[id] = true
			case "error":
				t.Error(lines.Text())
			}
			if after--; after == 0 {
				cmd.Process.Kill()
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
	}

	raw, err := sql.Open("sqlite", path)
	must(t, err)
	var verdict string
	must(t, raw.QueryRow("PRAGMA integrity_check").Scan(&verdict))
	must(t, raw.Close())
	if verdict != "ok" {
		t.Errorf("integrity check: %s", verdict)
	}
	db, err := sqlite.Open(t.Context(), path, store.Schema{"audit"})
	must(t, err)
	defer db.Close()
	dir := t.TempDir()
	signer, verifier, err := audit.CreateSigner(filepath.Join(dir, "key"), "test")
	must(t, err)
	l, err := audit.Open(t.Context(), audit.Config{Store: db.Audit(), Signer: signer, Verifier: verifier,
		CheckpointPath: filepath.Join(dir, "outside"), Interval: -1})
	must(t, err)
	defer l.Close()
	report, err := audit.Verify(t.Context(), db.Audit(), verifier, nil)
	must(t, err)
	if !report.OK() || len(acked) == 0 || report.Entries < int64(len(acked)) {
		t.Errorf("%d acknowledged; verified: %+v", len(acked), report)
	}
	must(t, db.Audit().View(t.Context(), func(tx audit.Tx) error {
		records, err := tx.AuditRecords(0, 1<<30)
		for _, r := range records {
			e, err := audit.Parse(r.Body)
			must(t, err)
			delete(acked, e.Request)
		}
		return err
	}))
	if len(acked) != 0 {
		t.Errorf("%d acknowledged entries are lost", len(acked))
	}
}

func TestAsIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if _, err := sqlite.OpenAsIs(t.Context(), path, store.Schema{"audit"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
	using := func(open func(context.Context, string, store.Schema) (*sqlite.DB, error)) func(store.Schema) (storetest.Database, error) {
		return func(schema store.Schema) (storetest.Database, error) {
			db, err := open(t.Context(), path, schema)
			if err != nil {
				return storetest.Database{}, err
			}
			return storetest.Database{Domains: db.Domains, Close: db.Close}, nil
		}
	}
	storetest.AsIs(t, using(sqlite.Open), using(sqlite.OpenAsIs))
}
