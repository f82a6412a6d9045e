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
	"github.com/kluis-io/kluis/store/sqlite"
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
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), sqlite.GovernanceSchema)
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
