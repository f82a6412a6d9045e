package chart_test

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/portal/chart"
)

// wellFormed checks that a drawing is XML, and that nothing in it is a style or script.
func wellFormed(t *testing.T, drawing string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(drawing))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, drawing)
		}
		if e, ok := token.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if a.Name.Local == "style" || strings.HasPrefix(a.Name.Local, "on") || e.Name.Local == "script" {
					t.Errorf("<%s %s>", e.Name.Local, a.Name.Local)
				}
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("<%s %s=%q>", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

func TestDrawings(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }
	for name, s := range map[string]chart.Series{
		"nothing":   {Title: "Nothing"},
		"one":       {Title: "One", Unit: "%", Top: 100, Points: []chart.Point{{Time: day(1), Value: 50}}},
		"same time": {Title: "Same", Points: []chart.Point{{Time: day(1)}, {Time: day(1), Value: 9}}},
		"above top": {Title: "Above", Top: 10, Points: []chart.Point{{Time: day(1), Value: 99}, {Time: day(2), Value: -5}}},
		"hostile":   {Title: `"><script>`, Class: `x"y`, Points: []chart.Point{{Time: day(1), Label: "<b>&"}}},
		"many":      {Title: "Many", From: day(1), Until: day(30), Points: make([]chart.Point, 500)},
	} {
		t.Run(name, func(t *testing.T) {
			wellFormed(t, string(chart.Line(s)))
			wellFormed(t, string(chart.Columns(s)))
		})
	}
	wellFormed(t, string(chart.Meter([]chart.Part{{Name: "<a>", Value: 1, Class: "good"}, {Value: 2}})))
	wellFormed(t, string(chart.Meter(nil)))
}

// TestWords checks that whoever does not see a drawing is told what it shows.
func TestWords(t *testing.T) {
	s := chart.Series{Title: "Coverage", Unit: "%", Points: []chart.Point{
		{Time: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Value: 10}, {Time: time.Date(2026, 11, 9, 0, 0, 0, 0, time.UTC), Value: 62.5},
	}}
	const want = "Coverage: 2 values from 1 November 2026 to 9 November 2026; the first is 10%, the last 62.5%, the least 10% and the most 62.5%."
	if got := s.Words(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestNice(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 1: 1, 1.5: 2, 3: 4, 4.1: 5, 7: 10, 11: 20, 380: 400, 999: 1000} {
		if got := chart.Nice(v); got != want {
			t.Errorf("Nice(%g) is %g, want %g", v, got, want)
		}
	}
}
