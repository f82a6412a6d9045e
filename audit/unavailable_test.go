package audit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

// A faltering store does not answer one of the questions to it.
type faltering struct {
	audit.Store
	asked, silent int // which one, counted from 1
}

func (f *faltering) View(ctx context.Context, fn func(audit.Tx) error) error {
	return f.Store.View(ctx, func(tx audit.Tx) error { return fn(falteringTx{tx, f}) })
}

func (f *faltering) Update(ctx context.Context, fn func(audit.Tx) error) error {
	return f.Store.Update(ctx, func(tx audit.Tx) error { return fn(falteringTx{tx, f}) })
}

func (f *faltering) ask() error {
	if f.asked++; f.asked == f.silent {
		return fault.New(fault.Unavailable, "The database does not answer.")
	}
	return nil
}

type falteringTx struct {
	audit.Tx
	f *faltering
}

func (t falteringTx) AuditSize() (int64, error) {
	if err := t.f.ask(); err != nil {
		return 0, err
	}
	return t.Tx.AuditSize()
}

func (t falteringTx) AuditRecords(from int64, limit int) ([]audit.Record, error) {
	if err := t.f.ask(); err != nil {
		return nil, err
	}
	return t.Tx.AuditRecords(from, limit)
}

func (t falteringTx) AuditHashes(from int64, limit int) ([]audit.StoredHash, error) {
	if err := t.f.ask(); err != nil {
		return nil, err
	}
	return t.Tx.AuditHashes(from, limit)
}

func (t falteringTx) AuditCheckpoints() ([]audit.StoredCheckpoint, error) {
	if err := t.f.ask(); err != nil {
		return nil, err
	}
	return t.Tx.AuditCheckpoints()
}

func (t falteringTx) NewestAuditCheckpoint() (audit.StoredCheckpoint, bool, error) {
	if err := t.f.ask(); err != nil {
		return audit.StoredCheckpoint{}, false, err
	}
	return t.Tx.NewestAuditCheckpoint()
}

// Whatever question a database leaves unanswered, nobody takes that for a log that was
// tampered with, which would end the process: it is said what it is, and the next time all
// goes on.
func TestUnansweredIsNotDamaged(t *testing.T) {
	m := &memory{}
	c := config(t, m)
	theirs := openLog(t, c) // of another process, that signs too
	record(t, theirs, 3)
	checkpoint(t, theirs)
	unanswered := func(what string, do func(*faltering) error) {
		t.Helper()
		for n := 1; ; n++ {
			record(t, theirs, 2)
			checkpoint(t, theirs)
			record(t, theirs, 1)
			f := &faltering{Store: m, silent: n}
			err := do(f)
			if f.asked < n { // all were answered
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if n < 4 {
					t.Errorf("%s takes %d questions", what, f.asked)
				}
				return
			}
			if err != nil && fault.ReasonOf(err) != fault.Unavailable {
				t.Errorf("%s, with question %d unanswered: %v", what, n, err)
			}
		}
	}
	unanswered("a start", func(f *faltering) error {
		c := c
		c.Store = f
		c.CheckpointPath = filepath.Join(t.TempDir(), "outside")
		if err := os.WriteFile(c.CheckpointPath, outsideOf(t, theirs.Config), 0o600); err != nil {
			return err
		}
		_, err := audit.Open(t.Context(), c)
		return err
	})
	unanswered("following another's checkpoint", func(f *faltering) error {
		own := c
		own.Store = f
		silent := f.silent
		f.silent = 0
		ours := openLog(t, own)
		record(t, theirs, 2)
		checkpoint(t, theirs)
		f.asked, f.silent = 0, silent
		_, err := ours.Checkpoint(t.Context())
		if f.asked >= silent {
			f.silent = 0
			if _, again := ours.Checkpoint(t.Context()); again != nil {
				t.Errorf("after question %d was left unanswered: %v", silent, again)
			}
		}
		return err
	})
	if r := verify(t, c); !r.OK() {
		t.Error(fmt.Sprint(r))
	}
}
