package governance_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/sqlite"
)

const tenant identity.TenantID = "11111111-1111-1111-1111-111111111111"

var (
	officer  = identity.Caller{Tenant: tenant, Principal: "22222222-2222-2222-2222-222222222222", Type: identity.ServicePrincipal}
	reader   = identity.Caller{Tenant: tenant, Principal: "33333333-3333-3333-3333-333333333333", Type: identity.ServicePrincipal}
	stranger = identity.Caller{Tenant: tenant, Principal: "44444444-4444-4444-4444-444444444444", Type: identity.ServicePrincipal}
	foreign  = identity.Caller{Tenant: "55555555-5555-5555-5555-555555555555", Principal: officer.Principal, Type: identity.ServicePrincipal}
)

// A world is governance with a scan of two estates and an alert.
type world struct {
	*governance.Records
	db    *sqlite.DB
	looks int
	fail  error
	log   failing
}

// failing is a recorder that can be told to fail.
type failing struct {
	audit.Recorder
	err error
}

func (f *failing) Record(ctx context.Context, e audit.Entry) error {
	if f.err != nil {
		return f.err
	}
	return f.Recorder.Record(ctx, e)
}

var start = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func finding(id string, s posture.Severity) posture.Finding {
	return posture.Finding{ID: id, Control: "CMK/" + id, Severity: s, Resource: "/Subscriptions/s/" + id, State: "fail"}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.GovernanceSchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{db: db}
	w.log.Recorder = &audit.Log{Config: audit.Config{Store: db.Audit()}}
	accepted := finding("ffff", "high")
	accepted.Excepted = &posture.Exception{Owner: "ann", Reason: "moves"}
	scan := &posture.Scan{Time: start, Findings: []posture.Finding{finding("aaaa", "critical"), finding("bbbb", "low"), finding("cccc", "high"), accepted}}
	w.Records = governance.New(governance.Config{
		Store: db.Governance(), Audit: &w.log, Tenant: tenant, Now: func() time.Time { return start.Add(time.Hour) },
		Look: func(context.Context, []posture.Exception) (governance.Found, error) {
			w.looks++
			return governance.Found{Estate: "one", Source: "test", Scan: &posture.Scan{Time: start.Add(time.Duration(w.looks) * time.Minute)}}, w.fail
		},
		Logs: func(_ context.Context, _ time.Time, in *kpi.Input) error { in.LogFrom = start; return nil },
		Seal: func(_ context.Context, p governance.Pack) ([]byte, error) { return []byte(p.Found.Estate), nil },
	})
	for _, estate := range []string{"one", "two"} {
		if _, err := history.Record(t.Context(), db.Posture(), estate, "test", scan); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Alert().Update(t.Context(), func(tx alert.Tx) error {
		return tx.PutAlert(alert.Alert{ID: "deadbeef", Kind: alert.KeyUnavailable, Severity: "critical", First: start})
	}); err != nil {
		t.Fatal(err)
	}
	role := func(c identity.Caller, r rbac.RoleID) rbac.Assignment {
		return rbac.Assignment{Principal: c.Principal, PrincipalType: c.Type, Role: r, Scope: "/", CreatedBy: c.Principal}
	}
	if err := w.Provision(t.Context(), role(officer, rbac.GovernanceOfficer), role(reader, rbac.GovernanceReader)); err != nil {
		t.Fatal(err)
	}
	return w
}

// entries returns what the log has of an operation: outcome and reason.
func (w *world) entries(t *testing.T, operation string) (out []string) {
	t.Helper()
	all, err := (&audit.Log{Config: audit.Config{Store: w.db.Audit()}}).Entries(t.Context(), audit.Query{Operation: operation})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		out = append(out, string(e.Outcome)+" "+string(e.Reason)+" "+e.Principal)
	}
	return out
}

// TestRights checks every method for everybody, and that the log has each act.
func TestRights(t *testing.T) {
	window := kpi.Window{From: start.AddDate(0, 0, -30), Until: start.AddDate(0, 0, 1)}
	for _, act := range []struct {
		operation string
		reads     bool // a reader may
		do        func(ctx context.Context, w *world, c identity.Caller) error
	}{
		{"GetStatus", true, func(ctx context.Context, w *world, c identity.Caller) error {
			_, _, err := w.Status(ctx, c)
			return err
		}},
		{"ListScans", true, func(ctx context.Context, w *world, c identity.Caller) error {
			_, err := w.Scans(ctx, c, "", time.Time{}, 10)
			return err
		}},
		{"ListFindings", true, func(ctx context.Context, w *world, c identity.Caller) error {
			_, err := w.Findings(ctx, c, governance.Filter{Limit: 10})
			return err
		}},
		{"ReckonKPIs", true, func(ctx context.Context, w *world, c identity.Caller) error {
			_, err := w.KPIs(ctx, c, "", window)
			return err
		}},
		{"GetTrend", true, func(ctx context.Context, w *world, c identity.Caller) error {
			_, err := w.Trend(ctx, c, "", window)
			return err
		}},
		{"ListAlerts", true, func(ctx context.Context, w *world, c identity.Caller) error {
			_, err := w.Alerts(ctx, c, true)
			return err
		}},
		{"MakeEvidencePack", true, func(ctx context.Context, w *world, c identity.Caller) error {
			_, err := w.Evidence(ctx, c, window)
			return err
		}},
		{"RunScan", false, func(ctx context.Context, w *world, c identity.Caller) error { _, err := w.RunScan(ctx, c); return err }},
		{"AcknowledgeAlert", false, func(ctx context.Context, w *world, c identity.Caller) error {
			_, err := w.Acknowledge(ctx, c, "dead", "seen", time.Hour)
			return err
		}},
	} {
		t.Run(act.operation, func(t *testing.T) {
			w := newWorld(t)
			var want []string
			for _, by := range []struct {
				caller identity.Caller
				may    bool
			}{{officer, true}, {reader, act.reads}, {stranger, false}, {foreign, false}} {
				looks := w.looks
				err := act.do(t.Context(), w, by.caller)
				if by.may && err != nil || !by.may && fault.ReasonOf(err) != fault.Denied {
					t.Errorf("%s: %v", by.caller.Principal, err)
				}
				if !by.may && w.looks != looks {
					t.Errorf("%s had a scan run", by.caller.Principal)
				}
				outcome := "allowed  "
				if !by.may {
					outcome = "denied Denied "
				}
				want = append(want, outcome+string(by.caller.Principal))
			}
			if d := cmp.Diff(want, w.entries(t, act.operation)); d != "" {
				t.Error(d)
			}
			w.log.err = errors.New("full")
			looks := w.looks
			// An acknowledgement's entry is in its own transaction, which holds.
			if err := act.do(t.Context(), w, officer); act.operation != "AcknowledgeAlert" && fault.ReasonOf(err) != fault.AuditFailed || w.looks != looks {
				t.Errorf("without a log: %v, and %d scans", err, w.looks-looks)
			}
		})
	}
}

func TestFindings(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		filter governance.Filter
		want   string
	}{
		{governance.Filter{}, "one/aaaa one/bbbb one/cccc one/ffff two/aaaa two/bbbb two/cccc two/ffff"},
		{governance.Filter{Estate: "two", AtLeast: "high"}, "two/aaaa two/cccc two/ffff"},
		{governance.Filter{Standing: governance.Excepted}, "one/ffff two/ffff"},
		{governance.Filter{Standing: governance.Resolved}, ""},
		{governance.Filter{Estate: "one", Control: "CMK/a*"}, "one/aaaa"},
		{governance.Filter{Estate: "one", Control: "CMK/a"}, ""},
		{governance.Filter{Estate: "one", Resource: "S/CCcc"}, "one/cccc"},
	} {
		for _, limit := range []int{1, 3, 1000} {
			var got []string
			f := test.filter
			f.Limit = limit
			for {
				p, err := w.Findings(t.Context(), reader, f)
				if err != nil {
					t.Fatal(err)
				}
				if want := len(strings.Fields(test.want)); p.Total != want {
					t.Errorf("%+v: %d in all, want %d", f, p.Total, want)
				}
				for _, s := range p.Findings {
					got = append(got, s.Estate+"/"+s.Finding.ID)
				}
				if f.After = p.Next; f.After == "" {
					break
				}
			}
			if d := cmp.Diff(test.want, strings.Join(got, " ")); d != "" {
				t.Errorf("%+v: %s", f, d)
			}
		}
	}
	for _, f := range []governance.Filter{{}, {Limit: 1001}, {Limit: 1, Standing: "shut"}, {Limit: 1, AtLeast: "bad"}} {
		if _, err := w.Findings(t.Context(), reader, f); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// TestAct checks what acts leave behind.
func TestAct(t *testing.T) {
	w := newWorld(t)
	a, err := w.Acknowledge(t.Context(), officer, "dead", "on it", 48*time.Hour)
	if err != nil || a.Ack.By != string(officer.Principal) || !a.Ack.Until.Equal(start.Add(49*time.Hour)) {
		t.Errorf("%+v, %v", a.Ack, err)
	}
	if _, err := w.Acknowledge(t.Context(), officer, "beef", "", time.Hour); fault.ReasonOf(err) != fault.NotFound {
		t.Error(err)
	}
	if _, err := w.Acknowledge(t.Context(), officer, "dead", "", 91*24*time.Hour); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Error(err)
	}
	s, err := w.RunScan(t.Context(), officer)
	if err != nil || s.Resolved != 4 {
		t.Errorf("%+v, %v", s, err)
	}
	if got, err := w.Scan(t.Context(), reader, s.ID); err != nil || got.Estate != "one" {
		t.Errorf("%+v, %v", got, err)
	}
	states, alerts, err := w.Status(t.Context(), reader)
	if err != nil || len(states) != 2 || len(alerts) != 1 || states[0].Scan.ID != s.ID || states[0].Excepted != 0 || states[1].Findings["critical"] != 1 || states[1].Excepted != 1 {
		t.Errorf("%+v, %v, %v", states, alerts, err)
	}
	w.fail = errors.New("the vault is away")
	if _, err := w.RunScan(t.Context(), officer); !errors.Is(err, w.fail) {
		t.Error(err)
	}
	want := []string{"allowed  " + string(officer.Principal), "allowed  " + string(officer.Principal), "failed Internal " + string(officer.Principal)}
	if d := cmp.Diff(want, w.entries(t, "RunScan")); d != "" {
		t.Error(d)
	}
}
