// Package posture serves what governance has on record over HTTP: scans, findings,
// figures, alerts and evidence packs, as JSON below /posture/v1. docs/posture.md lists
// the operations.
//
// It holds no rule of its own: who may do what is package governance's.
package posture

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/rbac"
)

// Records are what governance has on record.
type Records interface {
	Status(ctx context.Context, c identity.Caller) ([]governance.Status, []alert.Alert, error)
	Scans(ctx context.Context, c identity.Caller, estate string, from time.Time, limit int) ([]history.Scan, error)
	Scan(ctx context.Context, c identity.Caller, id string) (history.Scan, error)
	RunScan(ctx context.Context, c identity.Caller) (history.Scan, error)
	Findings(ctx context.Context, c identity.Caller, f governance.Filter) (governance.Page, error)
	KPIs(ctx context.Context, c identity.Caller, estate string, w kpi.Window) (kpi.Report, error)
	Trend(ctx context.Context, c identity.Caller, estate string, w kpi.Window) ([]history.Scan, error)
	Alerts(ctx context.Context, c identity.Caller, resolved bool) ([]alert.Alert, error)
	Acknowledge(ctx context.Context, c identity.Caller, id, note string, length time.Duration) (alert.Alert, error)
	Evidence(ctx context.Context, c identity.Caller, w kpi.Window) ([]byte, error)
	Chain(ctx context.Context, c identity.Caller, estate, finding string) (governance.Chain, error)
	Plan(ctx context.Context, c identity.Caller, finding, key string) (governance.Plan, error)
	Exceptions(ctx context.Context, c identity.Caller) ([]governance.Exception, error)
	Except(ctx context.Context, c identity.Caller, finding, owner, reason string, expires time.Time) (governance.Exception, error)
	Withdraw(ctx context.Context, c identity.Caller, id string) error
	Rights(ctx context.Context, c identity.Caller) ([]rbac.Action, error)
	Roles(ctx context.Context, c identity.Caller) ([]rbac.Assignment, error)
	GiveRole(ctx context.Context, c identity.Caller, g governance.Grant) (rbac.Assignment, error)
	TakeRole(ctx context.Context, c identity.Caller, id string) (rbac.Assignment, error)
}

const maxBody = 64 << 10

// Root is where the operations lie.
const root = "/posture/v1"

// New returns the handler. Tokens must be meant for one of the audiences.
func New(records Records, tokens api.Tokens, audiences ...string) http.Handler {
	p := &posture{records: records, tokens: tokens, audiences: audiences}
	mux := http.NewServeMux()
	handle := func(method, path string, fn operation) {
		mux.HandleFunc(method+" "+root+path, func(w http.ResponseWriter, r *http.Request) { p.authenticated(w, r, fn) })
	}
	handle("GET", "/status", p.status)
	handle("GET", "/scans", p.scans)
	handle("POST", "/scans", p.runScan)
	handle("GET", "/scans/{id}", p.scan)
	handle("GET", "/findings", p.findings)
	handle("GET", "/findings/{id}", p.finding)
	handle("POST", "/findings/{id}/plan", p.plan)
	handle("GET", "/exceptions", p.exceptions)
	handle("POST", "/exceptions", p.except)
	handle("DELETE", "/exceptions/{id}", p.withdraw)
	handle("GET", "/kpis", p.kpis)
	handle("GET", "/trend", p.trend)
	handle("GET", "/alerts", p.alerts)
	handle("POST", "/alerts/{id}/acknowledge", p.acknowledge)
	handle("POST", "/evidence", p.evidence)
	handle("GET", "/rights", p.rights)
	handle("GET", "/roleAssignments", p.roles)
	handle("POST", "/roleAssignments", p.giveRole)
	handle("DELETE", "/roleAssignments/{id}", p.takeRole)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.authenticated(w, r, func(http.ResponseWriter, *http.Request, identity.Caller) error {
			return fault.New(fault.NotFound, "There is no such operation below "+root+".")
		})
	})
	return mux
}

// Serves reports whether a path belongs to this interface, for listeners that share one
// host among protocols.
func Serves(path string) bool { return path == "/posture" || strings.HasPrefix(path, "/posture/") }

type posture struct {
	records   Records
	tokens    api.Tokens
	audiences []string
}

// An operation answers one request.
type operation func(http.ResponseWriter, *http.Request, identity.Caller) error

func (p *posture) authenticated(w http.ResponseWriter, r *http.Request, fn operation) {
	w.Header().Set("Cache-Control", "no-store")
	caller, err := api.Authenticate(r, p.tokens, p.audiences...)
	if err == nil {
		err = fn(w, r, caller)
	}
	if err != nil {
		writeError(w, r, err)
	}
}

// page is a list as it is answered.
type page struct {
	Value any    `json:"value"`
	Total *int   `json:"total,omitempty"`    // of all pages
	Next  string `json:"nextLink,omitempty"` // of the next page
}

func list[T any](all []T) page {
	if all == nil {
		all = []T{}
	}
	return page{Value: all}
}

func (p *posture) status(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	all, alerts, err := p.records.Status(r.Context(), c)
	if err != nil {
		return err
	}
	estates := make([]estateStatus, len(all))
	for i, s := range all {
		estates[i] = estateStatus{Estate: s.Scan.Estate, Scan: s.Scan, Findings: s.Findings, Excepted: s.Excepted}
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"estates": estates, "alerts": list(alerts).Value})
	return nil
}

func (p *posture) scans(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	q := r.URL.Query()
	from, err := instant(q.Get("from"), time.Time{})
	if err != nil {
		return err
	}
	limit, err := number(q.Get("top"), 100)
	if err != nil {
		return err
	}
	all, err := p.records.Scans(r.Context(), c, q.Get("estate"), from, limit)
	if err == nil {
		api.WriteJSON(w, http.StatusOK, list(all))
	}
	return err
}

func (p *posture) scan(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	s, err := p.records.Scan(r.Context(), c, r.PathValue("id"))
	if err == nil {
		api.WriteJSON(w, http.StatusOK, s)
	}
	return err
}

func (p *posture) runScan(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	s, err := p.records.RunScan(r.Context(), c)
	if err == nil {
		w.Header().Set("Location", root+"/scans/"+s.ID)
		api.WriteJSON(w, http.StatusCreated, s)
	}
	return err
}

func (p *posture) kpis(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	window, err := window(r, "30d")
	if err != nil {
		return err
	}
	report, err := p.records.KPIs(r.Context(), c, r.URL.Query().Get("estate"), window)
	if err == nil {
		api.WriteJSON(w, http.StatusOK, report)
	}
	return err
}

func (p *posture) trend(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	window, err := window(r, "30d")
	if err != nil {
		return err
	}
	all, err := p.records.Trend(r.Context(), c, r.URL.Query().Get("estate"), window)
	if err == nil {
		api.WriteJSON(w, http.StatusOK, list(all))
	}
	return err
}

func (p *posture) alerts(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	all, err := p.records.Alerts(r.Context(), c, r.URL.Query().Get("resolved") == "true")
	if err == nil {
		api.WriteJSON(w, http.StatusOK, list(all))
	}
	return err
}

func (p *posture) acknowledge(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	var body struct {
		Note    string `json:"note"`
		Seconds int64  `json:"seconds"`
	}
	if err := api.ReadJSON(r, maxBody, &body); err != nil {
		return err
	}
	const most = 1 << 31 // which no acknowledgement reaches, and no Duration overflows at
	a, err := p.records.Acknowledge(r.Context(), c, r.PathValue("id"), body.Note, time.Duration(min(body.Seconds, most))*time.Second)
	if err == nil {
		api.WriteJSON(w, http.StatusOK, a)
	}
	return err
}

func (p *posture) evidence(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	window, err := window(r, "365d")
	if err != nil {
		return err
	}
	archive, err := p.records.Evidence(r.Context(), c, window)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="evidence.zip"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(archive)))
	w.Write(archive)
	return nil
}

// window reads the window that a request names, which ends now unless it says otherwise.
func window(r *http.Request, by string) (kpi.Window, error) {
	q := r.URL.Query()
	until, err := instant(q.Get("until"), time.Now())
	if err != nil {
		return kpi.Window{}, err
	}
	if name := q.Get("window"); name != "" {
		by = name
	}
	return kpi.WindowNamed(by, until.UTC())
}

func instant(s string, by time.Time) (time.Time, error) {
	if s == "" {
		return by, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		err = fault.New(fault.InvalidArgument, "A time is written as in 2026-07-01T12:00:00Z.")
	}
	return t, err
}

func number(s string, by int) (int, error) {
	if s == "" {
		return by, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		err = fault.New(fault.InvalidArgument, "top is a whole number.")
	}
	return n, err
}
