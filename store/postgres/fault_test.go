package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/postgres"
)

func record(name string) func(audit.Tx) error {
	return func(tx audit.Tx) error {
		return tx.AppendAudit(audit.Entry{Operation: name, Outcome: audit.Allowed})
	}
}

// entries returns what the log has, in order, and fails if a number is missing.
func entries(t *testing.T, db *postgres.DB) (names []string) {
	t.Helper()
	err := db.Audit().View(t.Context(), func(tx audit.Tx) error {
		names = nil
		records, err := tx.AuditRecords(0, 1<<20)
		for i, r := range records {
			e, err := audit.Parse(r.Body)
			if err != nil || r.Sequence != int64(i) {
				t.Errorf("entry %d has number %d: %v", i, r.Sequence, err)
			}
			names = append(names, e.Operation)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Writers in several processes take turns: no entry of the log is lost or doubled,
// though each of them counts from what it has read.
func TestWritersTakeTurns(t *testing.T) {
	url := server.Database(t)
	const processes, each = 3, 40
	var wg sync.WaitGroup
	for p := range processes {
		wg.Go(func() { // they also start together, and make the tables once
			db, err := postgres.Open(t.Context(), url, store.Schema{"audit"})
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			var own sync.WaitGroup
			for i := range each {
				own.Go(func() {
					if err := db.Audit().Update(t.Context(), record(fmt.Sprintf("act/%d/%d", p, i))); err != nil {
						t.Error(err)
					}
				})
			}
			own.Wait()
		})
	}
	wg.Wait()
	db, err := postgres.Open(t.Context(), url, store.Schema{"audit"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	seen := map[string]bool{}
	for _, n := range entries(t, db) {
		seen[n] = true
	}
	if len(seen) != processes*each {
		t.Errorf("%d entries of %d", len(seen), processes*each)
	}
}

// What was acknowledged before the server crashed is there afterwards, what failed
// was told so, and the same process goes on by itself.
func TestServerCrash(t *testing.T) {
	db := open(t, store.Schema{"audit"})
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("act/%d/%d", w, i)
				err := db.Audit().Update(context.Background(), record(name))
				mu.Lock()
				acknowledged[name] = err == nil
				mu.Unlock()
				if err != nil {
					if r := fault.As(err).Reason; r != fault.Unavailable && r != fault.AuditFailed {
						t.Errorf("while the server is away: %v", err)
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	for range 3 {
		time.Sleep(150 * time.Millisecond)
		if err := server.Stop("immediate"); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	stop()
	wg.Wait()
	there := map[string]bool{}
	for _, n := range entries(t, db) {
		there[n] = true
	}
	kept, failed := 0, 0
	for name, ok := range acknowledged {
		switch {
		case ok && !there[name]:
			t.Errorf("%s was acknowledged, and is gone", name)
		case ok:
			kept++
		default:
			failed++
		}
	}
	t.Logf("%d acknowledged, %d failed", kept, failed)
	if kept == 0 {
		t.Error("nothing was written")
	}
}

// A commit whose answer is lost is looked up.
func TestLostAnswer(t *testing.T) {
	db := open(t, store.Schema{"audit"})
	for _, committed := range []bool{true, false} {
		ran, err := db.Write(committed)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Outcome(ran); errors.Is(err, postgres.ErrLost) == committed {
			t.Errorf("committed %v: %v", committed, err)
		}
	}
	if err := db.Audit().Update(t.Context(), record("act/after/all")); err != nil {
		t.Error(err)
	}
}

// A transaction that went on after an error of the server has not been acknowledged:
// the server answers its commit with a rollback and no error.
func TestNoCommitOfWhatIsGivenUp(t *testing.T) {
	db := open(t, store.Schema{"audit"})
	err := db.Audit().Update(t.Context(), func(tx audit.Tx) error {
		if _, err := tx.AuditRecords(0, -1); err == nil {
			t.Error("the server takes a negative limit")
		}
		return tx.AppendAudit(audit.Entry{Operation: "act/though/failed", Outcome: audit.Allowed})
	})
	if err == nil || len(entries(t, db)) != 0 {
		t.Errorf("%v, and %v is there", err, entries(t, db))
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	url := server.Database(t)
	db, err := postgres.Open(t.Context(), url, store.Schema{"audit"})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Exec(databaseOf(url), "INSERT INTO schema_audit (version_id, is_applied) VALUES (99, true)"); err != nil {
		t.Fatal(err)
	}
	next, err := postgres.Open(t.Context(), url, store.Schema{"audit"})
	if err != nil {
		t.Errorf("a newer release's tables that this one can live with: %v", err)
	} else {
		next.Close()
	}
	// One that has the database open finds out when it connects anew.
	if err := server.Exec(databaseOf(url), "UPDATE kluis_oldest SET version = 98", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kluis' AND datname = '"+databaseOf(url)+"'"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		err := db.Audit().Update(t.Context(), record("act/too/old"))
		if err == nil || !strings.Contains(err.Error(), "newer release") {
			return fmt.Errorf("a release that is too old writes: %v", err)
		}
		return nil
	})
	db.Close()
	if _, err := postgres.Open(t.Context(), url, store.Schema{"audit"}); err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("a newer release's tables: %v", err)
	}
}

func TestURLIsNotQuoted(t *testing.T) {
	_, err := postgres.Open(t.Context(), "postgres://u:geheim@host:notaport/db", store.Schema{"audit"})
	if err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("%v", err)
	}
	_, err = postgres.Open(t.Context(), "postgres://u:geheim@127.0.0.1:1/db", store.Schema{"audit"})
	if err == nil || strings.Contains(err.Error(), "geheim") || fault.As(err).Reason != fault.Unavailable {
		t.Errorf("%v", err)
	}
}
