package postgres_test

import (
	"context"
	"database/sql"
	"slices"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/pgtest"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/postgres"
)

// A server that takes what it is sent, and says nothing, is not waited for without end: not
// for what is read, not for what is written, and not for a commit, which is then told for
// what it is: unknown. It is never told as done, unless it is found to be.
func TestServerHangs(t *testing.T) {
	pg, err := pgtest.Start() // one of its own, to be stopped
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Stop("immediate") })
	t.Cleanup(func() { pg.GoOn() })
	url := pg.Database(t)
	defer postgres.Impatient(time.Second)()
	var db *postgres.DB
	eventually(t, func() error { db, err = postgres.Open(t.Context(), url, store.Schema{"audit"}); return err })
	defer db.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	read := func() error {
		return db.Audit().View(context.Background(), func(tx audit.Tx) error {
			names = nil
			records, err := tx.AuditRecords(0, 1000)
			for _, r := range records {
				if e, err := audit.Parse(r.Body); err == nil {
					names = append(names, e.Operation)
				}
			}
			return err
		})
	}
	write := func(name string) error { return db.Audit().Update(context.Background(), record(name)) }
	eventually(t, func() error { return write("before") })
	eventually(t, read)

	// Requests without a deadline of their own come back.
	must(pg.Hang())
	for what, do := range map[string]func() error{"read": read, "write": func() error { return write("hung") }} {
		came := make(chan error, 1)
		go func() { came <- do() }()
		select {
		case err := <-came:
			if fault.ReasonOf(err) != fault.Unavailable {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("the %s still waits after a minute", what)
		}
	}
	must(pg.GoOn())
	eventually(t, read)
	eventually(t, func() error { return write("after") })

	// A commit that hangs for longer than is waited for is unknown: it may be there, and is not
	// acknowledged. One whose server goes on before it is given up is asked after.
	eventually(t, func() error {
		return db.CommitAfter("CREATE TABLE IF NOT EXISTS made (name TEXT NOT NULL) ", func() error { return nil })
	})
	err = db.CommitAfter("INSERT INTO made VALUES ('unknown')", pg.Hang)
	if fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("a commit whose answer did not come: %v", err)
	}
	must(pg.GoOn())
	woken := make(chan error, 1)
	var known error
	eventually(t, func() error {
		known = db.CommitAfter("INSERT INTO made VALUES ('asked after')", func() error {
			time.AfterFunc(1500*time.Millisecond, func() { woken <- pg.GoOn() }) // a second for the answer, another for the question
			return pg.Hang()
		})
		return <-woken
	})
	eventually(t, func() error { return write("at last") })
	eventually(t, read)
	found := func(name string) bool {
		other, err := sql.Open("pgx", url)
		must(err)
		defer other.Close()
		var n int
		must(other.QueryRow("SELECT count(*) FROM made WHERE name = $1", name).Scan(&n))
		return n > 0
	}
	if known == nil && !found("asked after") {
		t.Error("a commit was acknowledged, and is not there")
	}
	t.Logf("the unknown commit is there: %t; the one asked after: %t, and it was told %v", found("unknown"), found("asked after"), known)
	for _, name := range []string{"before", "after", "at last"} {
		if !slices.Contains(names, name) {
			t.Errorf("%q was acknowledged, and is not there: %q", name, names)
		}
	}
}
