package governance

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/rbac"
)

// MostScans is the most scans that one answer holds.
const MostScans = 1000

// Scans returns scans of a time and later, newest first, at most limit: of an estate, or
// of all if estate is "".
func (r *Records) Scans(ctx context.Context, c identity.Caller, estate string, from time.Time, limit int) (all []history.Scan, err error) {
	err = r.read(ctx, c, rbac.FindingsRead, "ListScans", "/scans", func(tx Tx) error {
		if limit < 1 || limit > MostScans {
			return fault.New(fault.InvalidArgument, "Between 1 and 1000 scans can be asked for at once.")
		}
		all, err = tx.Scans(estate, from, limit)
		return err
	})
	return all, err
}

// Scan returns one scan.
func (r *Records) Scan(ctx context.Context, c identity.Caller, id string) (s history.Scan, err error) {
	err = r.read(ctx, c, rbac.FindingsRead, "GetScan", "/scans/"+identifier(id), func(tx Tx) error {
		s, err = tx.ScanByID(id)
		return err
	})
	return s, err
}

// A Status is how an estate stands by its newest scan.
type Status struct {
	Scan     history.Scan
	Findings map[posture.Severity]int // that stand and nobody has excepted, unknown ones included
	Excepted int
}

// Status returns how each estate stands, and the alerts that stand.
func (r *Records) Status(ctx context.Context, c identity.Caller) (all []Status, alerts []alert.Alert, err error) {
	err = r.read(ctx, c, rbac.FindingsRead, "GetStatus", "/", func(tx Tx) error {
		newest, err := newest(tx)
		if err != nil {
			return err
		}
		for _, s := range newest {
			status := Status{Scan: s}
			if status.Findings, err = tx.CountSpans(history.Selection{Estate: s.Estate, Standing: history.NotAccepted}); err != nil {
				return err
			}
			accepted, err := tx.CountSpans(history.Selection{Estate: s.Estate, Standing: history.Accepted})
			if err != nil {
				return err
			}
			status.Excepted = sum(accepted)
			all = append(all, status)
		}
		alerts, err = alert.Standing(tx, false)
		return err
	})
	return all, alerts, err
}

// newest returns the newest scan of each estate, by the estates' names.
func newest(tx history.Tx) (all []history.Scan, err error) {
	scans, err := tx.Scans("", time.Time{}, 10*MostScans)
	seen := map[string]bool{}
	for _, s := range scans { // newest first
		if !seen[s.Estate] {
			seen[s.Estate] = true
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b history.Scan) int { return cmp.Compare(a.Estate, b.Estate) })
	return all, err
}

func sum(counts map[posture.Severity]int) (n int) {
	for _, m := range counts {
		n += m
	}
	return n
}

// A Standing says which findings are asked for, by how they stand.
type Standing = history.Standing

// The standings.
const (
	Open     = history.Open
	Excepted = history.Accepted
	Resolved = history.Over
	Any      = history.Any
)

// A Filter selects findings. What is empty selects all.
type Filter struct {
	Estate   string
	Standing Standing         // Open if ""
	AtLeast  posture.Severity // this bad, or worse
	Control  string           // or the beginning of one that ends in *
	Resource string           // a part of the resource's id or name; case does not matter
	Order    history.Order    // history.Oldest if ""
	After    string           // where the page before ended, as [Page.Next] says
	Limit    int              // of a page, 1 to [MostFindings]
}

// MostFindings is the most findings of one page.
const MostFindings = 1000

// A Page is some of the findings asked for.
type Page struct {
	Findings []history.Span
	Next     string // "" if there are no more
	Total    int    // of all pages, as of now
}

// Findings returns a page of findings. A finding's place among the others does not change
// while those come and go.
func (r *Records) Findings(ctx context.Context, c identity.Caller, f Filter) (p Page, err error) {
	err = r.read(ctx, c, rbac.FindingsRead, "ListFindings", "/findings", func(tx Tx) error {
		if f.Limit < 1 || f.Limit > MostFindings {
			return fault.New(fault.InvalidArgument, "Between 1 and 1000 findings can be asked for at once.")
		}
		sel, err := f.selection()
		if err != nil {
			return err
		}
		after, err := placeOf(f.After, sel.Order)
		if err != nil {
			return err
		}
		counts, err := tx.CountSpans(sel)
		if err != nil {
			return err
		}
		p.Total = sum(counts)
		all, err := tx.SelectSpans(sel, after, f.Limit+1)
		if len(all) > f.Limit {
			all = all[:f.Limit]
			p.Next = position(all[f.Limit-1], sel.Order)
		}
		p.Findings = all
		return err
	})
	return p, err
}

// Select returns all findings that a filter selects, whatever its page, of a history that
// need not be governance's own.
func Select(tx history.Tx, f Filter) ([]history.Span, error) {
	sel, err := f.selection()
	if err != nil {
		return nil, err
	}
	return tx.SelectSpans(sel, history.Place{}, math.MaxInt32)
}

// selection checks a filter.
func (f Filter) selection() (history.Selection, error) {
	sel := history.Selection{Estate: f.Estate, Standing: cmp.Or(f.Standing, Open), AtLeast: f.AtLeast, Control: f.Control, Resource: f.Resource, Order: cmp.Or(f.Order, history.Oldest)}
	switch {
	case !slices.Contains(history.Orders, sel.Order):
		return sel, fault.New(fault.InvalidArgument, "Findings are in the order oldest, newest or worst.")
	case !slices.Contains([]Standing{Open, Excepted, Resolved, Any}, sel.Standing):
		return sel, fault.New(fault.InvalidArgument, "Findings are open, excepted, resolved or any.")
	case f.AtLeast != "" && !slices.Contains(posture.Severities, f.AtLeast):
		return sel, fault.New(fault.InvalidArgument, "A severity is critical, high, medium, low or info.")
	}
	return sel, nil
}

// position is a span's place in an order as one text, which is that of the page after it.
func position(s history.Span, order history.Order) string {
	p := s.Place()
	return strings.Join([]string{string(order), string(p.Severity), p.Estate, strconv.FormatInt(p.First.UnixMicro(), 10), p.Finding}, "\n")
}

func placeOf(position string, order history.Order) (p history.Place, err error) {
	if position == "" {
		return p, nil
	}
	part := strings.Split(position, "\n")
	if len(part) == 5 {
		var at int64
		at, err = strconv.ParseInt(part[3], 10, 64)
		p = history.Place{Severity: posture.Severity(part[1]), Estate: part[2], First: time.UnixMicro(at).UTC(), Finding: part[4]}
	}
	if len(part) != 5 || err != nil || part[0] != string(order) {
		return p, fault.New(fault.InvalidContinuation, "This is not where a page of findings in this order ended.")
	}
	return p, nil
}

// KPIs reckons the figures of a window: of an estate, or of all if estate is "".
func (r *Records) KPIs(ctx context.Context, c identity.Caller, estate string, w kpi.Window) (out kpi.Report, err error) {
	var in kpi.Input
	err = r.read(ctx, c, rbac.FindingsRead, "ReckonKPIs", "/kpis", func(tx Tx) error {
		in, err = kpi.Read(tx, estate)
		return err
	})
	if err == nil {
		err = r.Logs(ctx, w.From, &in)
	}
	if err != nil {
		return out, err
	}
	return kpi.Reckon(in, w), nil
}

// Trend returns the scans of a window, in the order of time.
func (r *Records) Trend(ctx context.Context, c identity.Caller, estate string, w kpi.Window) (all []history.Scan, err error) {
	err = r.read(ctx, c, rbac.FindingsRead, "GetTrend", "/trend", func(tx Tx) error {
		scans, err := tx.Scans(estate, w.From, 10*MostScans)
		all = kpi.Input{Scans: scans}.Between(w)
		return err
	})
	return all, err
}

// Alerts returns the alerts that stand, the worst first, and with all those that were
// resolved in the last 30 days.
func (r *Records) Alerts(ctx context.Context, c identity.Caller, resolved bool) (all []alert.Alert, err error) {
	err = r.read(ctx, c, rbac.AlertsRead, "ListAlerts", "/alerts", func(tx Tx) error {
		all, err = alert.Standing(tx, resolved)
		return err
	})
	return all, err
}

// identifier keeps what is no id, and might be anything, out of the log.
func identifier(s string) string {
	if len(s) > 64 || strings.Trim(strings.ToLower(s), "0123456789abcdef-") != "" {
		return "-"
	}
	return s
}
