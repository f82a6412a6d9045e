package governance

import (
	"cmp"
	"context"
	"slices"
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
			spans, err := tx.Spans(s.Estate, time.Time{})
			if err != nil {
				return err
			}
			status := Status{Scan: s, Findings: map[posture.Severity]int{}}
			for _, span := range spans {
				if span.Finding.Excepted != nil {
					status.Excepted++
				} else {
					status.Findings[span.Finding.Severity]++
				}
			}
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

// A Standing says which findings are asked for, by how they stand.
type Standing string

// The standings.
const (
	Open     Standing = "open" // fails, is unknown or is excepted now
	Excepted Standing = "excepted"
	Resolved Standing = "resolved"
	Any      Standing = "any"
)

// A Filter selects findings. What is empty selects all.
type Filter struct {
	Estate   string
	Standing Standing         // Open if ""
	AtLeast  posture.Severity // this bad, or worse
	Control  string           // or the beginning of one that ends in *
	Resource string           // a part of the resource's id; case does not matter
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

// Findings returns a page of findings, in the order of estate, beginning and id: that of
// one does not change while others come and go.
func (r *Records) Findings(ctx context.Context, c identity.Caller, f Filter) (p Page, err error) {
	err = r.read(ctx, c, rbac.FindingsRead, "ListFindings", "/findings", func(tx Tx) error {
		if f.Limit < 1 || f.Limit > MostFindings {
			return fault.New(fault.InvalidArgument, "Between 1 and 1000 findings can be asked for at once.")
		}
		all, err := Select(tx, f)
		if err != nil {
			return err
		}
		p.Total = len(all)
		from, found := slices.BinarySearchFunc(all, f.After, func(s history.Span, after string) int { return cmp.Compare(position(s), after) })
		if found {
			from++
		}
		if p.Findings = all[from:]; len(p.Findings) > f.Limit {
			p.Findings = p.Findings[:f.Limit]
			p.Next = position(p.Findings[f.Limit-1])
		}
		return nil
	})
	return p, err
}

// Select returns all findings that a filter selects, whatever its page, of a history that
// need not be governance's own.
func Select(tx history.Tx, f Filter) ([]history.Span, error) {
	f.Standing = cmp.Or(f.Standing, Open)
	if err := f.check(); err != nil {
		return nil, err
	}
	all, err := spans(tx, f)
	all = slices.DeleteFunc(all, func(s history.Span) bool { return !f.selects(s) })
	slices.SortFunc(all, func(a, b history.Span) int { return cmp.Compare(position(a), position(b)) })
	return all, err
}

// spans reads what a filter may select.
func spans(tx history.Tx, f Filter) (all []history.Span, err error) {
	since := time.Time{}
	if f.Standing == Resolved || f.Standing == Any {
		since = time.UnixMicro(1)
	}
	estates := []string{f.Estate}
	if f.Estate == "" {
		scans, err := newest(tx)
		if err != nil {
			return nil, err
		}
		estates = nil
		for _, s := range scans {
			estates = append(estates, s.Estate)
		}
	}
	for _, e := range estates {
		of, err := tx.Spans(e, since)
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

func (f Filter) check() error {
	switch {
	case !slices.Contains([]Standing{Open, Excepted, Resolved, Any}, f.Standing):
		return fault.New(fault.InvalidArgument, "Findings are open, excepted, resolved or any.")
	case f.AtLeast != "" && !slices.Contains(posture.Severities, f.AtLeast):
		return fault.New(fault.InvalidArgument, "A severity is critical, high, medium, low or info.")
	}
	return nil
}

func (f Filter) selects(s history.Span) bool {
	switch {
	case f.Standing == Excepted && (s.Finding.Excepted == nil || !s.Resolved.IsZero()),
		f.Standing == Resolved && s.Resolved.IsZero(),
		f.AtLeast != "" && !s.Finding.Severity.AtLeast(f.AtLeast),
		!strings.Contains(strings.ToLower(s.Finding.Resource), strings.ToLower(f.Resource)):
		return false
	}
	begin, any := strings.CutSuffix(f.Control, "*")
	return f.Control == "" || s.Finding.Control == f.Control || any && strings.HasPrefix(s.Finding.Control, begin)
}

// position orders findings.
func position(s history.Span) string {
	return s.Estate + "\n" + s.First.UTC().Format("2006-01-02T15:04:05.000000") + "\n" + s.Finding.ID
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
