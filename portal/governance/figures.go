package governance

import (
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/chart"
	"github.com/kluis-io/kluis/portal/client"
)

// figures is the page of the KPIs.
type figures struct {
	pane
	Windows []window
	Window  window
	KPIs    []drawn
}

// A drawn KPI is one with its drawings: by estate, of those that change over time.
type drawn struct {
	client.KPI
	Drawings []drawing
}

type drawing struct {
	Estate string
	SVG    template.HTML
}

func kpis(c *portal.Call) error {
	d := figures{Windows: windows, Window: windowNamed(c.R.URL.Query().Get("window"))}
	var err error
	if d.pane, err = open(c, "kpis"); err != nil {
		return err
	}
	all, err := c.Parties.KPIs(c.Context(), d.Window.Name)
	if err != nil {
		return err
	}
	until := time.Now().UTC()
	for _, k := range all {
		d.KPIs = append(d.KPIs, draw(k, until.AddDate(0, 0, -d.Window.days), until))
	}
	return c.Render(portal.View{Title: "KPIs", Template: "governance/kpis", Data: d})
}

// draw draws a figure's history: by month as columns, else as a line.
func draw(k client.KPI, from, until time.Time) drawn {
	out := drawn{KPI: k}
	byEstate := map[string]*chart.Series{}
	var order []string
	for _, p := range k.Series {
		s := byEstate[p.Estate]
		if s == nil {
			s = &chart.Series{Title: k.Title, Unit: k.Unit, From: from, Until: until}
			if k.Unit == "%" {
				s.Top = 100
			}
			byEstate[p.Estate], order = s, append(order, p.Estate)
		}
		s.Points = append(s.Points, chart.Point{Time: p.Time, Value: p.Value})
	}
	for _, estate := range order {
		s := *byEstate[estate]
		svg := chart.Line(s)
		if k.Name == "blockedAttempts" {
			s.Class = "bad"
			svg = chart.Columns(s)
		}
		out.Drawings = append(out.Drawings, drawing{estate, svg})
	}
	return out
}

// figure spells a value in its unit.
func figure(v float64, unit string) string {
	if v == 1 {
		unit = strings.TrimSuffix(unit, "s")
	}
	return chart.Number(v, unit)
}

// board is the page of alerts.
type board struct {
	pane
	Resolved bool
	Rows     []client.Alert
}

func alerts(c *portal.Call) error {
	d := board{Resolved: c.R.URL.Query().Get("resolved") == "true"}
	var err error
	if d.pane, err = open(c, "alerts"); err != nil {
		return err
	}
	if d.Rows, err = c.Parties.Alerts(c.Context(), d.Resolved); err != nil {
		return err
	}
	return c.Render(portal.View{Title: "Alerts", Template: "governance/alerts", Data: d})
}

// acknowledge notes that the user knows of an alert, for some days.
func acknowledge(c *portal.Call) error {
	days, err := strconv.Atoi(c.R.PostFormValue("days"))
	if err != nil {
		days = 1
	}
	if err := c.Parties.Acknowledge(c.Context(), c.R.PathValue("id"), c.R.PostFormValue("note"), time.Duration(days)*24*time.Hour); err != nil {
		return err
	}
	return c.Done("/governance/alerts", "The alert is acknowledged.")
}
