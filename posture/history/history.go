// Package history keeps what scans have found: when each finding was first seen,
// when last, and when it was gone. Every figure over time is computed from it.
//
// [Record] adds a scan to a [Store]. A finding that the scan did not see counts as
// resolved only if the scan shows that it looked: what lies in a gap stays open.
// What comes back opens a span of its own.
package history

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// A Scan is a scan as it is kept: its figures. What it found lies in spans.
type Scan struct {
	ID       string          `json:"id"`     // UUID
	Estate   string          `json:"estate"` // what was scanned: findings are followed within one
	Source   string          `json:"source"` // how it was read: "profile", "azure", "export:DIR"
	Time     time.Time       `json:"time"`   // in microseconds
	Summary  posture.Summary `json:"summary"`
	Gaps     []posture.Gap   `json:"gaps"`
	Opened   int             `json:"opened"`   // findings that the scan before did not see
	Resolved int             `json:"resolved"` // findings that this one no longer sees
}

// A Span is a time for which a finding stood: from the first scan that saw it to the
// first that looked and did not.
type Span struct {
	Estate   string          `json:"estate"`
	Finding  posture.Finding `json:"finding"` // as it was last seen; its ID says which it is
	First    time.Time       `json:"firstSeen"`
	Last     time.Time       `json:"lastSeen"`
	Resolved time.Time       `json:"resolvedAt,omitzero"` // zero while it stands
}

// A Store keeps scans and spans.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is one transaction of a [Store].
type Tx interface {
	// AddScan adds a scan.
	AddScan(Scan) error
	// ScanByID returns a scan, or [fault.NotFound].
	ScanByID(id string) (Scan, error)
	// Scans returns an estate's scans of from and later, newest first, at most limit; all
	// estates' if estate is "".
	Scans(estate string, from time.Time, limit int) ([]Scan, error)
	// Spans returns an estate's spans that are open, or were resolved at since or later,
	// in the order of their beginning. A zero since asks for open ones alone.
	Spans(estate string, since time.Time) ([]Span, error)
	// PutSpan adds a span or replaces it; finding and beginning say which.
	PutSpan(Span) error
	// Forget removes scans and resolved spans older than before.
	Forget(before time.Time) error
}

// Record adds what a scan of an estate found. It fails with [fault.Conflict] if a later
// one is there already: time runs one way.
func Record(ctx context.Context, s Store, estate, source string, found *posture.Scan) (Scan, error) {
	at := found.Time.UTC().Truncate(time.Microsecond)
	scan := Scan{ID: uuid.NewString(), Estate: estate, Source: source, Time: at, Summary: found.Summary, Gaps: found.Gaps}
	if estate == "" {
		return scan, fault.New(fault.InvalidArgument, "An estate needs a name.")
	}
	if scan.Gaps == nil {
		scan.Gaps = []posture.Gap{}
	}
	looked := coverage(found)
	err := s.Update(ctx, func(tx Tx) error {
		scan.Opened, scan.Resolved = 0, 0 // the function may run again
		last, err := tx.Scans(estate, time.Time{}, 1)
		if err != nil {
			return err
		}
		if len(last) > 0 && !at.After(last[0].Time) {
			return fault.New(fault.Conflict, "A later scan of the estate is recorded already.").About(last[0].ID)
		}
		open, err := tx.Spans(estate, time.Time{})
		if err != nil {
			return err
		}
		standing := make(map[string]Span, len(open))
		for _, span := range open {
			standing[span.Finding.ID] = span
		}
		for _, f := range found.Findings {
			span, known := standing[f.ID]
			if !known {
				span = Span{Estate: estate, First: at}
				scan.Opened++
			}
			delete(standing, f.ID)
			span.Finding, span.Last = f, at
			if err := tx.PutSpan(span); err != nil {
				return err
			}
		}
		for _, span := range standing {
			if !looked(span.Finding) {
				continue
			}
			span.Resolved = at
			scan.Resolved++
			if err := tx.PutSpan(span); err != nil {
				return err
			}
		}
		return tx.AddScan(scan)
	})
	return scan, err
}

// coverage returns whether a scan that does not see a finding has looked for it: it has
// no gaps, or it judged the finding's resource.
func coverage(found *posture.Scan) func(posture.Finding) bool {
	judged := make(map[string]bool, len(found.Resources))
	for _, r := range found.Resources {
		judged[strings.ToLower(r.ID)] = true
	}
	return func(f posture.Finding) bool {
		id, _, _ := strings.Cut(strings.ToLower(f.Resource), "#")
		return len(found.Gaps) == 0 || strings.HasPrefix(f.Control, "CMK/") && judged[id]
	}
}

// Latest returns an estate's newest scan, or [fault.NotFound].
func Latest(tx Tx, estate string) (Scan, error) {
	all, err := tx.Scans(estate, time.Time{}, 1)
	if err == nil && len(all) == 0 {
		err = fault.New(fault.NotFound, "The estate was never scanned.").About(estate)
	}
	if err != nil {
		return Scan{}, err
	}
	return all[0], nil
}
