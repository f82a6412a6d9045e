package history_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

const account = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/sa1"

// found is a scan that finds the controls' findings on one account.
func found(at time.Time, gaps int, judged bool, controls ...string) *posture.Scan {
	s := &posture.Scan{Time: at, Gaps: make([]posture.Gap, gaps)}
	for _, c := range controls {
		s.Findings = append(s.Findings, posture.Finding{ID: c, Control: c, Resource: account})
	}
	if judged {
		s.Resources = []posture.Judgement{{Resource: &posture.Resource{ID: account}}}
	}
	return s
}

// A finding's life: seen, seen again, hidden behind a gap, gone, back.
func TestRecord(t *testing.T) {
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.GovernanceSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := db.Posture()
	start := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	const cmk, guard = "CMK/Microsoft.Storage/storageAccounts", "G15"
	steps := []struct {
		name             string
		scan             *posture.Scan
		opened, resolved int
		spans            []string // finding: first, last and resolved in days
	}{
		{"both are seen", found(start, 0, true, cmk, guard), 2, 0, []string{cmk + " 0 0 -", guard + " 0 0 -"}},
		{"and again", found(start.AddDate(0, 0, 1), 0, true, cmk, guard), 0, 0, []string{cmk + " 0 1 -", guard + " 0 1 -"}},
		{"nothing was read", found(start.AddDate(0, 0, 2), 1, false), 0, 0, []string{cmk + " 0 1 -", guard + " 0 1 -"}},
		{"the account was read, its vault was not", found(start.AddDate(0, 0, 3), 1, true), 0, 1, []string{cmk + " 0 1 3", guard + " 0 1 -"}},
		{"all is well", found(start.AddDate(0, 0, 4), 0, true), 0, 1, []string{cmk + " 0 1 3", guard + " 0 1 4"}},
		{"it is back", found(start.AddDate(0, 0, 5), 0, true, cmk), 1, 0, []string{cmk + " 0 1 3", guard + " 0 1 4", cmk + " 5 5 -"}},
	}
	day := func(at time.Time) string {
		if at.IsZero() {
			return "-"
		}
		return fmt.Sprint(int(at.Sub(start).Hours() / 24))
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			scan, err := history.Record(t.Context(), store, "prod", "export:x", s.scan)
			if err != nil {
				t.Fatal(err)
			}
			if scan.Opened != s.opened || scan.Resolved != s.resolved {
				t.Errorf("opened %d and resolved %d, want %d and %d", scan.Opened, scan.Resolved, s.opened, s.resolved)
			}
			var spans []string
			if err := store.View(t.Context(), func(tx history.Tx) error {
				all, err := tx.Spans("prod", start)
				for _, span := range all {
					spans = append(spans, fmt.Sprint(span.Finding.ID, " ", day(span.First), " ", day(span.Last), " ", day(span.Resolved)))
				}
				if latest, lerr := history.Latest(tx, "prod"); lerr != nil || latest.ID != scan.ID {
					t.Errorf("the latest is %s, %v", latest.ID, lerr)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(s.spans, spans); d != "" {
				t.Error(d)
			}
		})
	}
	if _, err := history.Record(t.Context(), store, "prod", "export:x", found(start, 0, true)); !errors.Is(err, fault.Conflict) {
		t.Errorf("a scan from the past: %v", err)
	}
	if _, err := history.Record(t.Context(), store, "other", "export:x", found(start, 0, true)); err != nil {
		t.Errorf("another estate has a time of its own: %v", err)
	}
}

// What a finding was meanwhile, and what ended it, is kept: an exception is no
// remedy, nor is the end of the resource.
func TestTurns(t *testing.T) {
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.GovernanceSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := db.Posture()
	start := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	const key = "https://v/keys/k"
	scan := func(day int, read, judged bool, findings ...posture.Finding) {
		t.Helper()
		s := found(start.AddDate(0, 0, day), 0, judged)
		s.Findings = findings
		s.Register = &posture.Register{Keys: []posture.KeyRecord{{Key: key, Read: read}}}
		if _, err := history.Record(t.Context(), store, "prod", "export:x", s); err != nil {
			t.Fatal(err)
		}
	}
	cmk := posture.Finding{ID: "cmk", Control: "CMK/x", Resource: account, State: "fail"}
	unknown, accepted := cmk, cmk
	unknown.State, accepted.Excepted = "unknown", &posture.Exception{Owner: "ann"}
	old := posture.Finding{ID: "old", Control: "G8", Resource: key, State: "fail"}
	scan(0, true, true, cmk, old)
	scan(1, true, true, unknown, old)
	scan(2, false, true, unknown) // the key was not read
	scan(3, true, true, accepted)
	scan(4, true, false)
	var spans []history.Span
	var registers int
	err = store.View(t.Context(), func(tx history.Tx) error {
		var err error
		if spans, err = tx.Spans("prod", start); err != nil {
			return err
		}
		scans, err := tx.Scans("prod", start, 9)
		seen := map[string]bool{}
		for _, s := range scans {
			if _, err := tx.Register(s.Register); err != nil {
				return err
			}
			seen[s.Register] = true
		}
		registers = len(seen)
		return err
	})
	if err != nil || len(spans) != 2 || registers != 2 {
		t.Fatalf("%d spans, %d registers: %v", len(spans), registers, err)
	}
	for _, s := range spans {
		switch s.Finding.ID {
		case "cmk":
			if s.Ended != history.Removed || len(s.Turns) != 3 {
				t.Errorf("%+v", s)
			}
			for day, want := range []history.Status{history.Failing, history.Unknown, history.Unknown, history.Excepted} {
				if got := s.StatusAt(start.AddDate(0, 0, day)); got != want {
					t.Errorf("day %d: %s, want %s", day, got, want)
				}
			}
		case "old":
			if s.Ended != history.Mended || !s.Resolved.Equal(start.AddDate(0, 0, 3)) {
				t.Errorf("%+v", s)
			}
		}
	}
}
