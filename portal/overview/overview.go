// Package overview is the portal's first page: how the estate stands, how fast its keys
// can be taken away, and what somebody has to look at now.
package overview

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/chart"
	"github.com/kluis-io/kluis/portal/client"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	return portal.Section{
		Name: "overview", Title: "Overview", Icon: "home", Path: "/", Templates: templates,
		Routes: map[string]portal.Handler{"GET /{$}": show},
	}
}

// windows are the lengths of time that trends are shown over.
var windows = []window{{"7d", "7 days", 7}, {"30d", "30 days", 30}, {"90d", "90 days", 90}, {"365d", "1 year", 365}}

type window struct {
	Name, Title string
	days        int
}

// data is what the page shows.
type data struct {
	Windows []window
	Window  window

	Scopes  *scopes         // nil if the platform tells nothing
	Missing *portal.Problem // why

	Custody *custody // nil if the user sees no vault

	Posture    *standing
	NoPosture  *portal.Problem
	Coverage   chart.Series
	Blocked    chart.Series
	HasBlocked bool
}

// Told reports whether governance has told how keys stand.
func (d data) Told() bool { return d.Posture != nil && d.Posture.Scan != nil }

// Begin reports whether whoever looks should be told how to begin: nothing that he sees lies
// under a customer's key, and no vault that he sees has one.
func (d data) Begin() bool {
	if d.Scopes == nil && d.Custody == nil || d.Scopes != nil && d.Scopes.Managed > 0 {
		return false
	}
	return d.Scopes != nil && d.Scopes.Total > 0 || d.Custody == nil || d.Custody.Keys == 0
}

// scopes are the workspaces that the user sees, counted.
type scopes struct {
	Total, Managed             int
	Progress, Failed           int
	Revoked, Unreachable, Lost int
	Capped                     bool // there are more
	Bound                      int64
	Attention                  []client.Workspace // which do not serve, or are on their way
	Parts                      []chart.Part
}

// standing is how estates stand, by governance.
type standing struct {
	Scan              *client.Scan // the newest of all estates
	Alerts            []client.Alert
	Expiry, Overdue   int // findings
	Drill             *client.KPI
	Attempts          *client.KPI
	Rotation          *client.KPI
	Critical, High    int
	Compliant, Behind int
}

func show(c *portal.Call) error {
	d := data{Windows: windows, Window: windows[1]}
	for _, w := range windows {
		if w.Name == c.R.URL.Query().Get("window") {
			d.Window = w
		}
	}
	var all sync.WaitGroup
	all.Go(func() {
		var err error
		if d.Scopes, err = count(c.Context(), c.Parties); err != nil {
			d.Missing = c.Explain(err)
		}
	})
	all.Go(func() {
		if err := d.posture(c.Context(), c.Parties); err != nil {
			d.Posture, d.NoPosture = nil, c.Explain(err)
		}
	})
	all.Go(func() { d.Custody, _ = custodian(c.Context(), c.Parties, d.Window.days) }) // who may see no vault sees none
	all.Wait()
	return c.Render(portal.View{Title: "Overview", Template: "overview/overview", Data: d})
}

// mostListed bounds the workspaces that are counted, and mostAsked those of them that
// are asked for one by one.
const (
	mostListed = 2000
	mostAsked  = 24
)

// count counts the tenant's workspaces, or, of a user who does not see all, his own.
func count(ctx context.Context, p *client.Clients) (*scopes, error) {
	s := &scopes{}
	listed, err := list(ctx, p, s, p.AdminWorkspaces)
	var e *client.Error
	if errors.As(err, &e) && e.Status == http.StatusForbidden {
		s = &scopes{}
		listed, err = list(ctx, p, s, func(ctx context.Context, token string) (client.Page[client.Workspace], error) {
			return p.Workspaces(ctx, "", token)
		})
	}
	if err != nil {
		return nil, err
	}
	if err := s.ask(ctx, p, listed); err != nil {
		return nil, err
	}
	for _, w := range listed {
		s.add(w)
	}
	slices.SortFunc(s.Attention, func(a, b client.Workspace) int { return cmp.Compare(a.DisplayName, b.DisplayName) })
	rest := s.Managed - s.Progress - s.Failed - s.Revoked - s.Unreachable - s.Lost
	s.Parts = []chart.Part{
		{Name: "Active", Value: float64(rest), Class: "good"}, {Name: "In progress", Value: float64(s.Progress), Class: "busy"},
		{Name: "Unreachable", Value: float64(s.Unreachable), Class: "warn"},
		{Name: "Failed, revoked or lost", Value: float64(s.Failed + s.Revoked + s.Lost), Class: "bad"},
		{Name: "Platform-managed", Value: float64(s.Total - s.Managed), Class: "plain"},
	}
	return s, nil
}

func list(ctx context.Context, p *client.Clients, s *scopes, page func(context.Context, string) (client.Page[client.Workspace], error)) (all []client.Workspace, err error) {
	for token := ""; ; {
		next, err := page(ctx, token)
		if err != nil {
			return nil, err
		}
		all = append(all, next.Value...)
		if token = next.Token; token == "" || len(all) >= mostListed {
			s.Capped = token != ""
			return all, nil
		}
	}
}

// ask asks for what the listing does not tell: how workspaces are encrypted, and the
// longest kill-switch bound among them.
func (s *scopes) ask(ctx context.Context, p *client.Clients, listed []client.Workspace) error {
	var mu sync.Mutex
	var all sync.WaitGroup
	asked := 0
	for i := range listed {
		if e := listed[i].Encryption; e != nil && e.Status == "Disabled" {
			continue
		}
		if asked++; asked > mostAsked {
			s.Capped = true
			break
		}
		all.Go(func() {
			st, err := p.Encryption(ctx, client.WorkspaceScope(listed[i].ID))
			if err != nil { // one that is gone since, or may not be seen, counts by the listing
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if st.Detail.Status != "Disabled" {
				s.Bound = max(s.Bound, st.Bound)
			}
			listed[i].Encryption = &client.EncryptionMark{Status: st.Detail.Status, KeyIdentifier: st.Detail.KeyIdentifier, Serving: st.Serving}
		})
	}
	all.Wait()
	return ctx.Err()
}

func (s *scopes) add(w client.Workspace) {
	s.Total++
	e := w.Encryption
	if e == nil || e.Status == "Disabled" && e.Serving.State == "Serving" {
		return
	}
	if e.Status != "Disabled" {
		s.Managed++
	}
	switch {
	case e.Serving.State == "Revoked":
		s.Revoked++
	case e.Serving.State == "Unreachable":
		s.Unreachable++
	case e.Serving.State == "KeyLost":
		s.Lost++
	case e.Status == "Failed":
		s.Failed++
	case e.Status == "EnableInProgress", e.Status == "DisableInProgress":
		s.Progress++
	default:
		return
	}
	const mostShown = 8
	if len(s.Attention) < mostShown {
		s.Attention = append(s.Attention, w)
	}
}

// posture asks governance.
func (d *data) posture(ctx context.Context, p *client.Clients) error {
	estates, alerts, err := p.Standings(ctx)
	if err != nil {
		return err
	}
	s := &standing{Alerts: alerts}
	for _, e := range estates {
		if s.Scan == nil || e.Scan.Time.After(s.Scan.Time) {
			s.Scan = &e.Scan
		}
		s.Critical += e.Findings["critical"]
		s.High += e.Findings["high"]
	}
	d.Posture = s
	if s.Scan == nil {
		return nil
	}
	var all sync.WaitGroup
	var errs [3]error
	var kpis []client.KPI
	var trend []client.Scan
	all.Go(func() { kpis, errs[0] = p.KPIs(ctx, d.Window.Name) })
	all.Go(func() { trend, errs[1] = p.Trend(ctx, d.Window.Name) })
	all.Go(func() {
		for control, into := range map[string]*int{"G6": &s.Expiry, "EXPIRED": &s.Expiry, "G7": &s.Overdue, "G8": &s.Overdue} {
			n, err := p.OpenFindings(ctx, control)
			*into += n
			errs[2] = errors.Join(errs[2], err)
		}
	})
	all.Wait()
	for i := range kpis {
		switch k := &kpis[i]; k.Name {
		case "drillTime":
			s.Drill = k
		case "blockedAttempts":
			s.Attempts = k
		case "rotationAdherence":
			s.Rotation = k
		}
	}
	d.draw(trend)
	return errors.Join(errs[:]...)
}

// draw makes the drawings of the window.
func (d *data) draw(trend []client.Scan) {
	until := time.Now().UTC()
	from := until.AddDate(0, 0, -d.Window.days)
	d.Coverage = chart.Series{Title: "Coverage", Unit: "%", Top: 100, From: from, Until: until}
	for _, s := range trend {
		if s.Estate == d.Posture.Scan.Estate {
			d.Coverage.Points = append(d.Coverage.Points, chart.Point{Time: s.Time, Value: s.Summary.Coverage})
		}
	}
	d.Blocked = chart.Series{Title: "Blocked attempts", From: from, Until: until, Class: "bad"}
	if k := d.Posture.Attempts; k != nil && k.Value != nil {
		d.HasBlocked = true
		for _, p := range k.Series {
			d.Blocked.Points = append(d.Blocked.Points, chart.Point{Time: p.Time, Value: p.Value})
		}
	}
}
