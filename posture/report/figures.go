package report

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
)

// Figures are what the page shows beside a scan: the KPIs of a window and how the
// estate has stood in it.
type Figures struct {
	KPIs  kpi.Report
	Trend []history.Scan // in the order of time
}

// Page writes the HTML report with figures over time; without, if f is nil.
func Page(w io.Writer, s *posture.Scan, f *Figures) error { return htmlPage(w, s, f) }

// quantity spells a KPI's value for people.
func quantity(k kpi.KPI) string {
	if k.Value == nil {
		return "not measurable"
	}
	v, unit := *k.Value, " "+k.Unit
	switch {
	case k.Unit == "%":
		unit = "%"
	case k.Unit == "h" && v >= 48:
		v, unit = v/24, " days"
	}
	return strings.TrimSpace(fmt.Sprintf("%g%s", math.Round(v*10)/10, unit))
}

// mostScans bounds the table of scans.
const mostScans = 50

// Newest returns the scans that the page lists.
func (f *Figures) Newest() []history.Scan { return f.Trend[max(0, len(f.Trend)-mostScans):] }

// line returns the points of the coverage's line in a box of 1000 by 100: of at least two
// scans of one estate, "" of others.
func line(trend []history.Scan) string {
	if len(trend) < 2 || slices.ContainsFunc(trend, func(s history.Scan) bool { return s.Estate != trend[0].Estate }) {
		return ""
	}
	first, length := trend[0].Time, trend[len(trend)-1].Time.Sub(trend[0].Time)
	points := make([]string, len(trend))
	for i, s := range trend {
		points[i] = fmt.Sprintf("%.1f,%.1f", 1000*float64(s.Time.Sub(first))/float64(max(length, 1)), 100-s.Summary.Coverage)
	}
	return strings.Join(points, " ")
}

// A heat is how the resources of each type stand under each rule.
type heat struct {
	Rules []string
	Rows  []heatRow
}

type heatRow struct {
	Type  string
	Cells []cell
}

// A cell counts the resources of one type under one rule.
type cell struct {
	All, Compliant, Out int // Out: no rule asks for a key
}

// Level is the cell's colour: none, out, or h0 to h4 by the share that is compliant.
func (c cell) Level() string {
	switch {
	case c.All == 0:
		return "none"
	case c.All == c.Out:
		return "out"
	}
	return fmt.Sprintf("h%d", 4*c.Compliant/(c.All-c.Out))
}

// Text is what the cell says.
func (c cell) Text() string {
	switch {
	case c.All == 0:
		return ""
	case c.All == c.Out:
		return fmt.Sprint(c.All)
	}
	return fmt.Sprintf("%d of %d", c.Compliant, c.All-c.Out)
}

// mostRules bounds the columns; the rules of the fewest resources share the last.
const mostRules = 8

// heatOf counts a scan's resources by type and rule.
func heatOf(s *posture.Scan) (h heat) {
	const none, other = "no rule", "other rules"
	count := map[string]int{}
	for _, r := range s.Resources {
		count[cmp.Or(r.Rule, none)]++
	}
	for rule := range count {
		h.Rules = append(h.Rules, rule)
	}
	slices.SortFunc(h.Rules, func(a, b string) int { return cmp.Or(count[b]-count[a], cmp.Compare(a, b)) })
	if len(h.Rules) > mostRules {
		h.Rules = append(h.Rules[:mostRules-1:mostRules-1], other)
	}
	at := map[string]int{}
	for i, rule := range h.Rules {
		at[rule] = i
	}
	rows := map[string]int{}
	for _, r := range s.Resources {
		i, seen := rows[r.Type]
		if !seen {
			i = len(h.Rows)
			rows[r.Type] = i
			h.Rows = append(h.Rows, heatRow{Type: r.Type, Cells: make([]cell, len(h.Rules))})
		}
		column, named := at[cmp.Or(r.Rule, none)]
		if !named {
			column = len(h.Rules) - 1
		}
		c := &h.Rows[i].Cells[column]
		c.All++
		switch r.Verdict {
		case posture.Compliant:
			c.Compliant++
		case posture.OutOfScope, posture.Unclassified:
			c.Out++
		}
	}
	slices.SortFunc(h.Rows, func(a, b heatRow) int { return cmp.Compare(a.Type, b.Type) })
	return h
}
