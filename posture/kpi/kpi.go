// Package kpi reckons the figures by which a security officer is measured, from
// stored scans and from what the audit logs tell, and from nothing else: whoever has
// those gets the same figures again.
//
// [Input] is what the history of scans and the logs hold; [Reckon] gives each figure
// for a window, with its formula, the numbers that went into it and what it leaves
// out. A figure that cannot be told is "not measurable", with the reason; it is
// never 0 or 100 for want of data. What lies after a window's end does not count in
// it, so that a report of the past stays what it was.
//
// The package calls nobody and keeps nothing. It believes what it is given.
package kpi

import (
	"fmt"
	"slices"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// A Window is a stretch of time, from From on and before Until.
type Window struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
}

// Windows are the lengths that reports are asked for by name.
var Windows = []string{"7d", "30d", "90d", "365d"}

// WindowNamed returns the window of a name that ends at until.
func WindowNamed(name string, until time.Time) (Window, error) {
	if !slices.Contains(Windows, name) {
		return Window{}, fault.New(fault.InvalidArgument, fmt.Sprintf("There is no window %q: choose 7d, 30d, 90d or 365d.", name))
	}
	var days int
	fmt.Sscanf(name, "%dd", &days)
	return Window{From: until.AddDate(0, 0, -days), Until: until}, nil
}

func (w Window) holds(t time.Time) bool { return !t.Before(w.From) && t.Before(w.Until) }

// A Figure is a number that went into a KPI.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
}

// A Point is a KPI at one time, or in one month.
type Point struct {
	Time   time.Time `json:"time"`
	Estate string    `json:"estate,omitempty"`
	Value  float64   `json:"value"`
	Of     float64   `json:"of,omitempty"`   // the denominator, where there is one
	Part   bool      `json:"part,omitempty"` // the scan had gaps, or the month is not all in the window
}

// A Group is a part of a KPI's count.
type Group struct {
	Name  string    `json:"name"`
	Count int       `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// A KPI is one figure of a report.
type KPI struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Formula string   `json:"formula"`
	Value   *float64 `json:"value"` // null if not measurable
	Unit    string   `json:"unit"`
	Why     string   `json:"notMeasurable,omitempty"`
	Inputs  []Figure `json:"inputs"`
	Notes   []string `json:"notes,omitempty"` // what the figure does not say
	Series  []Point  `json:"series,omitempty"`
	Groups  []Group  `json:"groups,omitempty"`
}

func (k *KPI) is(v float64)                   { k.Value = &v }
func (k *KPI) not(format string, args ...any) { k.Why = fmt.Sprintf(format, args...) }
func (k *KPI) note(format string, args ...any) {
	k.Notes = append(k.Notes, fmt.Sprintf(format, args...))
}
func (k *KPI) in(name string, v float64, u string) { k.Inputs = append(k.Inputs, Figure{name, v, u}) }
func (k *KPI) count(name string, n int)            { k.in(name, float64(n), "") }

// share makes the KPI n of all, in per cent.
func (k *KPI) share(n, all int) {
	k.Unit = "%"
	k.is(100 * float64(n) / float64(all))
}

// A Report is all KPIs of a window.
type Report struct {
	Window Window `json:"window"`
	Scans  int    `json:"scans"` // in the window
	KPIs   []KPI  `json:"kpis"`
}

// Find returns the KPI of a name, nil if there is none.
func (r Report) Find(name string) *KPI {
	for i := range r.KPIs {
		if r.KPIs[i].Name == name {
			return &r.KPIs[i]
		}
	}
	return nil
}

// Reckon reckons every KPI for a window.
func Reckon(in Input, w Window) Report {
	l := ledger{Input: in.inOrder(w)}
	r := Report{Window: w, Scans: len(l.within(w))}
	for _, reckon := range []func(Window) KPI{
		l.coverage, l.blocked, l.remediation, l.rotation, l.drill, l.versionless, l.radius, l.logged, l.separated,
	} {
		k := reckon(w)
		if k.Inputs == nil {
			k.Inputs = []Figure{}
		}
		r.KPIs = append(r.KPIs, k)
	}
	return r
}
