package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/pgtest"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/postgres"
)

// pair returns a server and a standby that follows it.
func pair(t *testing.T) (primary, standby *pgtest.Server) {
	t.Helper()
	primary, err := pgtest.Start()
	if err == nil {
		standby, err = primary.Standby()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		primary.Stop("immediate") // unless it is dead
		standby.Stop("immediate")
	})
	return primary, standby
}

// A primary is killed and its standby promoted: what was acknowledged is there, the
// process goes on by itself, and does not go back to the old primary when that returns.
func TestFailover(t *testing.T) {
	primary, standby := pair(t)
	if _, err := primary.Named("vault"); err != nil {
		t.Fatal(err)
	}
	db, err := postgres.Open(t.Context(), pgtest.Either("vault", primary, standby), store.Schema{"audit"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if c := db.Caveat(); c != "" {
		t.Errorf("the standby confirms: %s", c)
	}

	// What stands behind a transaction's id ends with the server that gave it.
	ran, err := db.Write(true)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Outcome(ran); err != nil {
		t.Errorf("it was committed: %v", err)
	}

	acknowledged := map[string]bool{}
	var mu sync.Mutex
	var writers sync.WaitGroup
	stop := make(chan struct{})
	write := func(name string) error {
		err := db.Audit().Update(t.Context(), record(name))
		mu.Lock()
		defer mu.Unlock()
		acknowledged[name] = err == nil
		return err
	}
	for w := range 3 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if write(fmt.Sprintf("act/%d/%d", w, i)) != nil {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	eventually(t, func() error { return atLeast(db, t, 50) })
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return write("act/promoted") })
	// The old one returns, takes writes, is named first, and the sessions are cut.
	if err := primary.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := primary.Configure("synchronous_standby_names", ""); err != nil {
		t.Fatal(err)
	}
	if err := standby.Exec("vault", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kluis'"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return write("act/after/all") })
	close(stop)
	writers.Wait()
	if err := db.Outcome(ran); !errors.Is(err, postgres.ErrLost) {
		t.Errorf("the promoted server may have given the id to another: %v", err)
	}

	there := map[string]bool{}
	for _, n := range entries(t, db) {
		there[n] = true
	}
	kept := 0
	for name, ok := range acknowledged {
		if ok && !there[name] {
			t.Errorf("%s was acknowledged, and is gone", name)
		}
		if ok {
			kept++
		}
	}
	t.Logf("%d acknowledged, %d failed", kept, len(acknowledged)-kept)
}

// A server whose standby need not confirm is taken, and the operator told what it means.
func TestCaveat(t *testing.T) {
	primary, standby := pair(t)
	if _, err := primary.Named("vault"); err != nil {
		t.Fatal(err)
	}
	if err := primary.Configure("synchronous_standby_names", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		db, err := postgres.Open(t.Context(), pgtest.Either("vault", standby, primary), store.Schema{"audit"})
		if err != nil { // the standby has not come to the database's making
			return err
		}
		defer db.Close()
		if c := db.Caveat(); !strings.Contains(c, "synchronous_standby_names") {
			return fmt.Errorf("the caveat is %q", c)
		}
		return nil
	})
	// A standby alone is not taken at all.
	_, err := postgres.Open(t.Context(), standby.URL("vault"), store.Schema{"audit"})
	var refused *fault.Error
	if !errors.As(err, &refused) || !strings.Contains(refused.Mend, "Name the primary") {
		t.Errorf("a standby: %v", err)
	}
}

// Who has the server stop waiting for its standby has not made the commit durable: it is
// not acknowledged.
func TestUnconfirmedCommit(t *testing.T) {
	primary, standby := pair(t)
	if _, err := primary.Named("vault"); err != nil {
		t.Fatal(err)
	}
	db, err := postgres.Open(t.Context(), primary.URL("vault"), store.Schema{"audit"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Audit().Update(t.Context(), record("act/confirmed")); err != nil {
		t.Fatal(err)
	}
	if err := standby.Stop("immediate"); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
		answer := make(chan error, 1)
		go func() { answer <- db.Audit().Update(t.Context(), record("act/unconfirmed/"+end)) }()
		eventually(t, func() error { // 1/0 until it waits
			return primary.Exec("vault", "SELECT 1/count("+end+"(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		})
		var refused *fault.Error
		if err := <-answer; !errors.As(err, &refused) || !strings.Contains(err.Error(), "standby has not confirmed") {
			t.Errorf("%s: %v", end, err)
		}
	}
}

func atLeast(db *postgres.DB, t *testing.T, n int) error {
	if got := len(entries(t, db)); got < n {
		return fmt.Errorf("%d entries, want %d", got, n)
	}
	return nil
}

// eventually tries until it succeeds.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
