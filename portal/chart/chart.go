// Package chart draws figures as SVG, for pages that allow no style and no script of
// their own: colours come from the page's style sheet, by class. Every drawing says in
// words what it shows, and every point its value.
package chart

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
	"time"
)

// A Point is a value at a time.
type Point struct {
	Time  time.Time
	Value float64
	Label string // what is told of it; the value if empty
}

// A Series is what one drawing shows.
type Series struct {
	Title  string // what a reader who does not see it is told first
	Unit   string
	Points []Point
	From   time.Time // the first instant of the axis; the first point's if zero
	Until  time.Time
	Top    float64 // of the axis; as the values need if 0
	Class  string  // of the drawing: its colour
}

// The drawing's grid, in units of its own; the page scales it.
const (
	width, height             = 480.0, 180.0
	left, right, above, below = 44.0, 12.0, 12.0, 26.0
)

// scale places times and values.
type scale struct {
	from, until time.Time
	top         float64
}

func (s Series) scale() scale {
	c := scale{s.From, s.Until, s.Top}
	for i, p := range s.Points {
		if s.From.IsZero() && (i == 0 || p.Time.Before(c.from)) {
			c.from = p.Time
		}
		if s.Until.IsZero() && p.Time.After(c.until) {
			c.until = p.Time
		}
		if s.Top == 0 {
			c.top = max(c.top, p.Value)
		}
	}
	if s.Top == 0 {
		c.top = Nice(c.top)
	}
	return c
}

func (c scale) x(t time.Time) float64 {
	span := c.until.Sub(c.from)
	if span <= 0 {
		return (left + width - right) / 2
	}
	return left + (width-left-right)*float64(t.Sub(c.from))/float64(span)
}

func (c scale) y(v float64) float64 {
	return height - below - (height-above-below)*min(max(v/c.top, 0), 1)
}

// Nice returns the next round number that is no less than v, for the top of an axis.
func Nice(v float64) float64 {
	if v <= 1 {
		return 1
	}
	e := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 4, 5, 10} {
		if v <= m*e {
			return m * e
		}
	}
	return 10 * e
}

// Number spells a value.
func Number(v float64, unit string) string {
	text := strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	switch unit {
	case "":
		return text
	case "%":
		return text + "%"
	}
	return text + " " + unit
}

// begin opens the drawing with its words and axes.
func (s Series) begin(b *strings.Builder, c scale) {
	fmt.Fprintf(b, `<svg class="chart %s" viewBox="0 0 %g %g" role="img" aria-label="%s">`, html.EscapeString(s.Class), width, height, html.EscapeString(s.Words()))
	for _, share := range []float64{0, .5, 1} {
		v := c.top * share
		if s.Unit == "" && v != math.Trunc(v) {
			continue // half of a thing that is counted
		}
		fmt.Fprintf(b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="tick" x="%g" y="%.1f" text-anchor="end">%s</text>`,
			left, width-right, c.y(v), c.y(v), left-8, c.y(v)+4, html.EscapeString(axisNumber(v, s.Unit)))
	}
	layout := "2 Jan"
	if c.until.Sub(c.from) > 300*24*time.Hour {
		layout = "Jan 2006"
	}
	for _, e := range []struct {
		t      time.Time
		anchor string
	}{{c.from, "start"}, {c.from.Add(c.until.Sub(c.from) / 2), "middle"}, {c.until, "end"}} {
		if e.t.IsZero() {
			continue
		}
		fmt.Fprintf(b, `<text class="tick" x="%.1f" y="%g" text-anchor="%s">%s</text>`, c.x(e.t), height-6, e.anchor, e.t.UTC().Format(layout))
	}
}

func axisNumber(v float64, unit string) string {
	if unit != "%" {
		unit = ""
	}
	return Number(v, unit)
}

// Words says what the drawing shows.
func (s Series) Words() string {
	if len(s.Points) == 0 {
		return s.Title + ": no data."
	}
	first, last := s.Points[0], s.Points[len(s.Points)-1]
	least, most := first.Value, first.Value
	for _, p := range s.Points {
		least, most = min(least, p.Value), max(most, p.Value)
	}
	return fmt.Sprintf("%s: %d values from %s to %s; the first is %s, the last %s, the least %s and the most %s.", s.Title, len(s.Points),
		first.Time.UTC().Format("2 January 2006"), last.Time.UTC().Format("2 January 2006"),
		Number(first.Value, s.Unit), Number(last.Value, s.Unit), Number(least, s.Unit), Number(most, s.Unit))
}

func (p Point) title(unit string) string {
	text := p.Label
	if text == "" {
		text = Number(p.Value, unit)
	}
	return html.EscapeString(p.Time.UTC().Format("2 January 2006, 15:04 UTC") + ": " + text)
}

// Line draws values as a line over time, with the area below it.
func Line(s Series) template.HTML {
	var b strings.Builder
	c := s.scale()
	s.begin(&b, c)
	if n := len(s.Points); n > 1 {
		points := make([]string, n)
		for i, p := range s.Points {
			points[i] = fmt.Sprintf("%.1f,%.1f", c.x(p.Time), c.y(p.Value))
		}
		line := strings.Join(points, " ")
		fmt.Fprintf(&b, `<polygon class="area" points="%.1f,%.1f %s %.1f,%.1f"/><polyline class="line" points="%s"/>`,
			c.x(s.Points[0].Time), c.y(0), line, c.x(s.Points[n-1].Time), c.y(0), line)
	}
	const mostDots = 60
	for i, p := range s.Points {
		if len(s.Points) > mostDots && i != len(s.Points)-1 {
			continue // they would hide the line
		}
		fmt.Fprintf(&b, `<circle class="dot" cx="%.1f" cy="%.1f" r="3.5"><title>%s</title></circle>`, c.x(p.Time), c.y(p.Value), p.title(s.Unit))
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

// Columns draws values as columns over time.
func Columns(s Series) template.HTML {
	var b strings.Builder
	c := s.scale()
	s.begin(&b, c)
	n := max(len(s.Points), 1)
	wide := min((width-left-right)/float64(n)*.7, 26)
	for _, p := range s.Points {
		x := min(max(c.x(p.Time)-wide/2, left), width-right-wide)
		fmt.Fprintf(&b, `<rect class="column" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2"><title>%s</title></rect>`,
			x, c.y(p.Value), wide, c.y(0)-c.y(p.Value), p.title(s.Unit))
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

// A Part is a share of a whole.
type Part struct {
	Name  string
	Value float64
	Class string
}

// Meter draws shares of a whole side by side. It says nothing by itself: the numbers
// stand beside it.
func Meter(parts []Part) template.HTML {
	total := 0.0
	for _, p := range parts {
		total += p.Value
	}
	var b strings.Builder
	b.WriteString(`<svg class="meter" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" focusable="false"><rect class="rest" width="1000" height="10"/>`)
	x := 0.0
	for _, p := range parts {
		if total == 0 || p.Value == 0 {
			continue
		}
		w := 1000 * p.Value / total
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" width="%.1f" height="10"><title>%s: %s</title></rect>`, html.EscapeString(p.Class), x, w, html.EscapeString(p.Name), Number(p.Value, ""))
		x += w
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}
