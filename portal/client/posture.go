package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// A Scan is one that governance has on record.
type Scan struct {
	ID      string    `json:"id"`
	Estate  string    `json:"estate"`
	Time    time.Time `json:"time"`
	Summary struct {
		Resources    int            `json:"resources"`
		InScope      int            `json:"inScope"`
		Compliant    int            `json:"compliant"`
		NonCompliant int            `json:"nonCompliant"`
		Unknown      int            `json:"unknown"`
		Excepted     int            `json:"excepted"`
		Unclassified int            `json:"unclassified"`
		Coverage     float64        `json:"coverage"`
		BySeverity   map[string]int `json:"bySeverity"`
		Cells        []Cell         `json:"cells"`
	} `json:"summary"`
	Opened   int `json:"opened"`
	Resolved int `json:"resolved"`
	Gaps     []struct {
		What string `json:"what"`
		Why  string `json:"why"`
	} `json:"gaps"`
}

// A Cell counts a scan's resources of one type that one rule of the policy reaches.
type Cell struct {
	Type         string `json:"type"`
	Class        string `json:"class"` // "" where none reaches them
	Resources    int    `json:"resources"`
	Compliant    int    `json:"compliant"`
	NonCompliant int    `json:"nonCompliant"`
	Unknown      int    `json:"unknown"`
	Excepted     int    `json:"excepted"`
}

// A Standing is how an estate stands.
type Standing struct {
	Estate   string         `json:"estate"`
	Scan     Scan           `json:"newestScan"`
	Findings map[string]int `json:"findings"` // by severity
	Excepted int            `json:"excepted"`
}

// An Alert is something that somebody has to look at.
type Alert struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	Severity string    `json:"severity"`
	Subject  string    `json:"subject"`
	Detail   string    `json:"detail"`
	Mend     string    `json:"mend"`
	First    time.Time `json:"firstSeen"`
	Last     time.Time `json:"lastSeen"`
	Resolved time.Time `json:"resolvedAt"`
	Ack      *struct {
		By    string    `json:"by"`
		Note  string    `json:"note"`
		At    time.Time `json:"at"`
		Until time.Time `json:"until"`
	} `json:"acknowledged"`
}

// Standings returns how each estate stands, and the alerts that are open.
func (c *Clients) Standings(ctx context.Context) (all []Standing, alerts []Alert, err error) {
	var body struct {
		Estates []Standing `json:"estates"`
		Alerts  []Alert    `json:"alerts"`
	}
	err = c.Call(ctx, c.Posture, http.MethodGet, "/posture/v1/status", nil, &body)
	return body.Estates, body.Alerts, err
}

// A KPI is one figure of a window.
type KPI struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Formula string   `json:"formula"`
	Value   *float64 `json:"value"` // null if not measurable
	Unit    string   `json:"unit"`
	Why     string   `json:"notMeasurable"`
	Inputs  []struct {
		Name  string  `json:"name"`
		Value float64 `json:"value"`
		Unit  string  `json:"unit"`
	} `json:"inputs"`
	Notes  []string   `json:"notes"`
	Series []KPIPoint `json:"series"`
	Groups []struct {
		Name  string    `json:"name"`
		Count int       `json:"count"`
		First time.Time `json:"first"`
		Last  time.Time `json:"last"`
	} `json:"groups"`
}

// Amount is the figure; 0 if it is not measurable.
func (k KPI) Amount() float64 {
	if k.Value == nil {
		return 0
	}
	return *k.Value
}

// A KPIPoint is a KPI at one time.
type KPIPoint struct {
	Time   time.Time `json:"time"`
	Estate string    `json:"estate"`
	Value  float64   `json:"value"`
	Of     float64   `json:"of"`
	Part   bool      `json:"part"`
}

// KPIs returns the figures of a window: 7d, 30d, 90d or 365d.
func (c *Clients) KPIs(ctx context.Context, window string) ([]KPI, error) {
	var body struct {
		KPIs []KPI `json:"kpis"`
	}
	err := c.Call(ctx, c.Posture, http.MethodGet, "/posture/v1/kpis?"+url.Values{"window": {window}}.Encode(), nil, &body)
	return body.KPIs, err
}

// Trend returns the scans of a window in the order of time.
func (c *Clients) Trend(ctx context.Context, window string) ([]Scan, error) {
	all, _, err := List[Scan](ctx, c, c.Posture, "/posture/v1/trend?"+url.Values{"window": {window}}.Encode(), 0)
	return all, err
}

// OpenFindings counts the findings that are open under a control.
func (c *Clients) OpenFindings(ctx context.Context, control string) (int, error) {
	var page Page[struct{}]
	q := url.Values{"control": {control}, "standing": {"open"}, "top": {"1"}}
	err := c.Call(ctx, c.Posture, http.MethodGet, "/posture/v1/findings?"+q.Encode(), nil, &page)
	return page.Total, err
}
