// Package alert tells people what cannot wait for the next report: a key near its
// end, one that is taken away from under data, refusals that pile up, a guardrail
// that was changed, a log that nobody receives.
//
// Rules turn what scans and logs say into a [Signal] for as long as it is so. A
// [Board] makes alerts of signals: one for each thing, however often it is seen,
// told again only when it gets worse, when its acknowledgement runs out, or after a
// day of silence. What is no longer so is resolved by itself.
//
// An alert is kept before it is sent, and sent again until its receiver has taken
// it: at least once, with the same id. It carries ids, and no secret.
package alert

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// A Kind is what an alert is about.
type Kind string

// The kinds.
const (
	KeyNearExpiry     Kind = "KeyNearExpiry"     // 30, 14, 7 and 1 days before, and after
	KeyUnavailable    Kind = "KeyUnavailable"    // disabled or deleted, and resources depend on it
	RotationOverdue   Kind = "RotationOverdue"   // by the key's own policy, and a day
	GuardrailChanged  Kind = "GuardrailChanged"  // a control held in the scan before, and does not now
	AttemptRate       Kind = "AttemptRate"       // one principal, refused again and again
	AttemptFirstSeen  Kind = "AttemptFirstSeen"  // a principal that was not refused before
	EncryptionFailing Kind = "EncryptionFailing" // wrapping, unwrapping or re-encrypting fails
	AuditSinkSilent   Kind = "AuditSinkSilent"   // a copy of a log does not arrive
)

// A Signal says that something is so now.
type Signal struct {
	Kind     Kind
	Subject  string // ids: of a key, a principal, a scope
	Severity posture.Severity
	Detail   string
	Mend     string
}

// ID returns the alert's id that the signal belongs to.
func (s Signal) ID() string {
	sum := sha256.Sum256([]byte(string(s.Kind) + "\x00" + strings.ToLower(s.Subject)))
	return hex.EncodeToString(sum[:8])
}

// An Alert is what people are told, and have said to it.
type Alert struct {
	ID       string           `json:"id"`
	Kind     Kind             `json:"kind"`
	Subject  string           `json:"subject"`
	Severity posture.Severity `json:"severity"`
	Detail   string           `json:"detail"`
	Mend     string           `json:"mend"`
	First    time.Time        `json:"firstSeen"`
	Last     time.Time        `json:"lastSeen"`
	Resolved time.Time        `json:"resolvedAt,omitzero"`
	Ack      *Ack             `json:"acknowledged,omitempty"`

	Told    time.Time        `json:"toldAt,omitzero"`         // when it was last given to the sinks
	Times   int              `json:"told"`                    // how often
	As      posture.Severity `json:"toldSeverity,omitempty"`  // and as how bad
	Pending []string         `json:"pendingAt,omitempty"`     // sinks that have not taken it yet
	Failure string           `json:"deliveryError,omitempty"` // the last one
}

// An Ack is somebody's word that he knows, for a time.
type Ack struct {
	By    string    `json:"by"`
	Note  string    `json:"note,omitempty"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
}

// State says in a word how the alert stands at a time.
func (a Alert) State(now time.Time) string {
	switch {
	case !a.Resolved.IsZero():
		return "resolved"
	case a.acked(now):
		return "acknowledged"
	}
	return "active"
}

func (a Alert) acked(now time.Time) bool { return a.Ack != nil && now.Before(a.Ack.Until) }

// A Store keeps alerts.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is one transaction of a [Store].
type Tx interface {
	// Alerts returns every alert, by id.
	Alerts() ([]Alert, error)
	// PutAlert adds an alert or replaces it.
	PutAlert(Alert) error
	// DropAlert removes one.
	DropAlert(id string) error
}

// The times of a board.
const (
	repeat  = 24 * time.Hour      // until an alert that nobody acknowledges is told again
	kept    = 30 * 24 * time.Hour // of what is resolved
	mostAck = 90 * 24 * time.Hour // of an acknowledgement
)

// fold brings alerts up to date with what is so now, and returns those that changed
// and the ids of those that nobody needs any more.
func fold(known []Alert, signals []Signal, sinks []string, now time.Time) (changed []Alert, gone []string) {
	at := map[string]Alert{}
	for _, a := range known {
		at[a.ID] = a
	}
	seen := map[string]bool{}
	for _, s := range signals {
		id := s.ID()
		if seen[id] {
			continue
		}
		seen[id] = true
		a, old := at[id]
		if old && !a.Resolved.IsZero() && s.Kind == AttemptFirstSeen {
			continue // it is not the first any more
		}
		if !old || !a.Resolved.IsZero() {
			a = Alert{ID: id, Kind: s.Kind, Subject: s.Subject, First: now, Times: a.Times}
		}
		a.Severity, a.Detail, a.Mend, a.Last = s.Severity, s.Detail, s.Mend, now
		worse := a.As != "" && a.Severity != a.As && a.Severity.AtLeast(a.As)
		if worse {
			a.Ack = nil // it was given for something less bad
		}
		lapsed := a.Ack != nil && !a.acked(now) && a.Told.Before(a.Ack.Until)
		if a.As == "" || worse || lapsed || !a.acked(now) && now.Sub(a.Told) >= repeat {
			a.Told, a.As, a.Pending = now, a.Severity, slices.Clone(sinks)
			a.Times++
		}
		changed = append(changed, a)
	}
	for _, a := range known {
		switch {
		case seen[a.ID]:
		case a.Resolved.IsZero():
			a.Resolved, a.Ack = now, nil
			changed = append(changed, a)
		case now.Sub(a.Resolved) >= kept:
			gone = append(gone, a.ID)
		}
	}
	slices.SortFunc(changed, func(a, b Alert) int { return cmp.Compare(a.ID, b.ID) })
	return changed, gone
}

// AcknowledgeIn notes in a transaction that somebody knows of an alert, named by its id
// or the beginning of one, for a time of at most 90 days. It fails with
// [fault.NotFound] and [fault.InvalidArgument].
func AcknowledgeIn(tx Tx, id string, ack Ack) (found Alert, err error) {
	if ack.By == "" || !ack.Until.After(ack.At) || ack.Until.Sub(ack.At) > mostAck {
		return found, fault.New(fault.InvalidArgument, "An acknowledgement says by whom, and for how long: at most 90 days.")
	}
	all, err := tx.Alerts()
	if err != nil {
		return found, err
	}
	n := 0
	for _, a := range all {
		if id != "" && strings.HasPrefix(a.ID, strings.ToLower(id)) && a.Resolved.IsZero() {
			found = a
			n++
		}
	}
	if n != 1 {
		return found, fault.New(fault.NotFound, "No alert that stands has this id, or several begin so.").About(id)
	}
	found.Ack = &ack
	return found, tx.PutAlert(found)
}

// Acknowledge is [AcknowledgeIn] in a transaction of its own.
func Acknowledge(ctx context.Context, store Store, id string, ack Ack) (found Alert, err error) {
	err = store.Update(ctx, func(tx Tx) error {
		found, err = AcknowledgeIn(tx, id, ack)
		return err
	})
	return found, err
}

// Standing returns the alerts that stand, the worst first, and with all those that were
// resolved in the last 30 days.
func Standing(tx Tx, all bool) ([]Alert, error) {
	out, err := tx.Alerts()
	out = slices.DeleteFunc(out, func(a Alert) bool { return !all && !a.Resolved.IsZero() })
	slices.SortStableFunc(out, func(a, b Alert) int {
		return cmp.Or(cmp.Compare(slices.Index(posture.Severities, a.Severity), slices.Index(posture.Severities, b.Severity)), b.Last.Compare(a.Last))
	})
	return out, err
}

// List is [Standing] in a transaction of its own.
func List(ctx context.Context, store Store, all bool) (out []Alert, err error) {
	err = store.View(ctx, func(tx Tx) error {
		out, err = Standing(tx, all)
		return err
	})
	return out, err
}
