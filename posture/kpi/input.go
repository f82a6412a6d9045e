package kpi

import (
	"cmp"
	"slices"
	"time"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
)

// An Input is everything that KPIs are reckoned from, in any order.
type Input struct {
	Scans     []history.Scan
	Spans     []history.Span               // all that were open in the window, or ended in it
	Registers map[string]*posture.Register // by the scans' [history.Scan.Register]

	Attempts []Attempt // the same request counts once, however often it is there
	LogFrom  time.Time // since when the vaults' log tells attempts; zero: there is none

	Drills   []Drill
	DrillLog bool // a platform's log was read, which may hold none
}

// An Attempt is one request for a key that a vault has refused its caller.
type Attempt struct {
	Time      time.Time `json:"time"`
	Request   string    `json:"request,omitempty"`   // the vault's own id of the request, where it is told
	Principal string    `json:"principal,omitempty"` // object id; "" if the token was no good
	Key       string    `json:"key"`                 // resource id or identifier of the key, or the vault's
	Operation string    `json:"operation"`
	Reason    string    `json:"reason"`
}

// A Drill is a revocation drill that a platform has on record.
type Drill struct {
	Time   time.Time     `json:"time"`
	Scope  string        `json:"scope"`
	Trials int           `json:"trials"`
	Dark   time.Duration `json:"darkNanoseconds"` // of the slowest trial: from the vault's confirmation until nothing could be read or written
	Back   time.Duration `json:"backNanoseconds"` // of the slowest trial, until everything could again
}

// inOrder returns the input by time, without what comes after the window and
// without requests told twice.
func (in Input) inOrder(w Window) Input {
	before := func(t time.Time) bool { return t.Before(w.Until) }
	out := in
	out.Scans = keep(in.Scans, func(s history.Scan) bool { return before(s.Time) })
	slices.SortStableFunc(out.Scans, func(a, b history.Scan) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Estate, b.Estate), cmp.Compare(a.ID, b.ID))
	})
	out.Spans = keep(in.Spans, func(s history.Span) bool { return before(s.First) })
	slices.SortStableFunc(out.Spans, func(a, b history.Span) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Estate, b.Estate), cmp.Compare(a.Finding.ID, b.Finding.ID))
	})
	out.Attempts = keep(in.Attempts, func(a Attempt) bool { return before(a.Time) })
	slices.SortStableFunc(out.Attempts, func(a, b Attempt) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Request, b.Request), cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Key, b.Key))
	})
	seen := map[string]bool{}
	out.Attempts = keep(out.Attempts, func(a Attempt) bool {
		twice := a.Request != "" && seen[a.Request]
		seen[a.Request] = true
		return !twice
	})
	out.Drills = keep(in.Drills, func(d Drill) bool { return before(d.Time) })
	slices.SortStableFunc(out.Drills, func(a, b Drill) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Scope, b.Scope)) })
	return out
}

// keep returns the elements that are wanted, and leaves the input alone.
func keep[T any](all []T, wanted func(T) bool) []T {
	out := make([]T, 0, len(all))
	for _, v := range all {
		if wanted(v) {
			out = append(out, v)
		}
	}
	return out
}

// A ledger is an input in order, up to the window's end.
type ledger struct{ Input }

// within returns the scans of the window.
func (l ledger) within(w Window) []history.Scan {
	return keep(l.Scans, func(s history.Scan) bool { return w.holds(s.Time) })
}

// last returns the newest scan in the window of each estate, in the order of time.
func (l ledger) last(w Window) []history.Scan {
	var out []history.Scan
	for _, s := range l.within(w) {
		out = append(slices.DeleteFunc(out, func(o history.Scan) bool { return o.Estate == s.Estate }), s)
	}
	return out
}

// Between returns the scans in a window, in the order of time.
func (in Input) Between(w Window) []history.Scan { return ledger{in.inOrder(w)}.within(w) }
