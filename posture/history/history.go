// Package history keeps what scans have found: when each finding was first seen,
// when last, and when it was gone. Every figure over time is computed from it.
//
// [Record] adds a scan to a [Store]. A finding that the scan did not see counts as
// resolved only if the scan shows that it looked: what lies in a gap stays open.
// What comes back opens a span of its own.
package history

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
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

	// Register is the SHA-256, in hex, of the keys, vaults and grants that the scan has
	// seen, as [Tx.Register] has them; "" if it has none.
	Register string `json:"registerSha256,omitempty"`
}

// A Span is a time for which a finding stood: from the first scan that saw it to the
// first that looked and did not.
type Span struct {
	Estate   string          `json:"estate"`
	Finding  posture.Finding `json:"finding"` // as it was last seen; its ID says which it is
	First    time.Time       `json:"firstSeen"`
	Last     time.Time       `json:"lastSeen"`
	Resolved time.Time       `json:"resolvedAt,omitzero"` // zero while it stands

	// Turns say how the finding stood, from the first scan on, each until the next. A
	// span without turns has failed all along.
	Turns []Turn `json:"turns,omitempty"`
	// Ended says by what the span was resolved; "" while it stands.
	Ended End `json:"ended,omitempty"`
}

// A Turn is a scan that saw a finding stand in another way than the scan before.
type Turn struct {
	Time   time.Time `json:"time"`
	Status Status    `json:"status"`
}

// A Status is how a finding stands.
type Status string

// The statuses.
const (
	Failing  Status = "fail"
	Unknown  Status = "unknown"  // nobody can tell whether the control holds
	Excepted Status = "excepted" // somebody has accepted it, for a time
)

// An End is what resolved a finding.
type End string

// The ends.
const (
	Mended  End = "mended"  // its subject was seen, and the control holds
	Removed End = "removed" // its subject is there no more
)

func statusOf(f posture.Finding) Status {
	switch {
	case f.Excepted != nil:
		return Excepted
	case f.State == "unknown":
		return Unknown
	}
	return Failing
}

// StatusAt returns how the finding stood at a time within the span.
func (s Span) StatusAt(t time.Time) Status {
	status := Failing
	for _, turn := range s.Turns {
		if turn.Time.After(t) {
			break
		}
		status = turn.Status
	}
	return status
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
	// SelectSpans returns the spans that a selection has, after a place among them, in the
	// order of estate, beginning and finding; at most limit.
	SelectSpans(sel Selection, after Place, limit int) ([]Span, error)
	// CountSpans returns how many a selection has, by severity.
	CountSpans(sel Selection) (map[posture.Severity]int, error)
	// PutSpan adds a span or replaces it; finding and beginning say which.
	PutSpan(Span) error
	// PutRegister keeps a register, unless it is there.
	PutRegister(sha256 string, body []byte) error
	// Register returns a register's JSON, or [fault.NotFound].
	Register(sha256 string) ([]byte, error)
	// Forget removes scans and resolved spans older than before, and registers that no
	// scan has any more.
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
	var register []byte
	if found.Register != nil {
		var err error
		if register, err = json.Marshal(found.Register); err != nil {
			return scan, err
		}
		sum := sha256.Sum256(register)
		scan.Register = hex.EncodeToString(sum[:])
	}
	looked, there := coverage(found), subjects(found)
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
			if now := statusOf(f); !known || span.StatusAt(at) != now {
				span.Turns = append(span.Turns, Turn{at, now})
			}
			if err := tx.PutSpan(span); err != nil {
				return err
			}
		}
		for _, span := range standing {
			if !looked(span.Finding) {
				continue
			}
			span.Resolved, span.Ended = at, Removed
			if there[subject(span.Finding)] || span.Finding.Type == "policy" || span.Finding.Type == "exception" {
				span.Ended = Mended
			}
			scan.Resolved++
			if err := tx.PutSpan(span); err != nil {
				return err
			}
		}
		if register != nil {
			if err := tx.PutRegister(scan.Register, register); err != nil {
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
	unread := map[string]bool{}
	if g := found.Register; g != nil {
		for _, k := range g.Keys {
			unread[strings.ToLower(k.Key)] = !k.Read
		}
	}
	return func(f posture.Finding) bool {
		if unread[subject(f)] && !slices.Contains([]string{"CHAIN", "RADIUS", "OWNER"}, f.Control) {
			return false // a resource names the key, and nobody has read it
		}
		return len(found.Gaps) == 0 || strings.HasPrefix(f.Control, "CMK/") && judged[subject(f)]
	}
}

// subject returns what a finding is about, in lower case and without its part.
func subject(f posture.Finding) string {
	id, _, _ := strings.Cut(strings.ToLower(f.Resource), "#")
	return id
}

// subjects returns what a scan has seen.
func subjects(found *posture.Scan) map[string]bool {
	there := map[string]bool{}
	for _, r := range found.Resources {
		there[strings.ToLower(r.ID)] = true
	}
	if g := found.Register; g != nil {
		for _, k := range g.Keys {
			there[strings.ToLower(k.Key)] = true
		}
		for _, v := range g.Vaults {
			there[strings.ToLower(v.ID)] = true
		}
	}
	return there
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
