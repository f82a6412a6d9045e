package posture_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/api/posture"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/identity"
	judged "github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

const tenant identity.TenantID = "11111111-1111-1111-1111-111111111111"

const (
	officer  = "22222222-2222-2222-2222-222222222222"
	auditor  = "33333333-3333-3333-3333-333333333333"
	stranger = "44444444-4444-4444-4444-444444444444"
	address  = "https://posture.example"
	keyURL   = "https://kv1.vault.example/keys/k1"
	vaultID  = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv1"
)

// tokens takes a principal's object id for its token.
type tokens struct{}

func (tokens) Verify(_ context.Context, token string, audiences ...string) (identity.Caller, error) {
	if len(audiences) != 1 || audiences[0] != address || len(token) != 36 {
		return identity.Caller{}, fault.New(fault.Unauthenticated, "The token does not hold.")
	}
	return identity.Caller{Tenant: tenant, Principal: identity.PrincipalID(token), Type: identity.User}, nil
}

// A world is the interface over governance with a scan of some findings.
type world struct {
	http.Handler
	accepted []judged.Exception // that the last scan was told of
	fail     error
}

var start = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func scanned(at time.Time) *judged.Scan {
	s := &judged.Scan{Time: at, Register: &judged.Register{
		Keys:   []judged.KeyRecord{{Key: keyURL, Read: true, Rotation: judged.RotatesNot}},
		Vaults: []judged.VaultRecord{{ID: vaultID, Host: "kv1.vault.example"}},
		Grants: []judged.GrantRecord{
			{Principal: "zed", Role: string(rbac.KeyVaultCryptoOfficer), Scope: vaultID}, {Principal: "app", Role: string(rbac.KeyVaultCryptoServiceEncryption), Scope: vaultID + "/keys/k1"},
			{Principal: "app", Role: string(rbac.Owner), Scope: "/subscriptions/s"}, {Principal: "far", Role: string(rbac.Owner), Scope: vaultID + "/keys/k10"},
		},
	}}
	for i := range 25 {
		s.Findings = append(s.Findings, judged.Finding{
			ID: fmt.Sprintf("%016x", i), Control: "G1" + fmt.Sprint(i%5), Severity: judged.Severities[i%4], State: "fail", Resource: fmt.Sprintf("/r/%d", i), Key: keyURL, Principals: []string{"app"},
		})
	}
	return s
}

func newWorld(t testing.TB) *world {
	t.Helper()
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.GovernanceSchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{}
	looks := 0
	records := governance.New(governance.Config{
		Store: db.Governance(), Audit: &audit.Log{Config: audit.Config{Store: db.Audit()}}, Tenant: tenant, Now: func() time.Time { return start.Add(time.Hour) },
		Look: func(_ context.Context, accepted []judged.Exception) (governance.Found, error) {
			looks++
			w.accepted = accepted
			return governance.Found{Estate: "one", Source: "test", Scan: scanned(start.Add(time.Duration(looks) * time.Minute))}, w.fail
		},
		Logs: func(_ context.Context, _ time.Time, in *kpi.Input) error { in.LogFrom = start; return nil },
		Seal: func(_ context.Context, p governance.Pack) ([]byte, error) { return []byte("PK" + p.Found.Estate), nil },
	})
	if _, err := history.Record(t.Context(), db.Posture(), "one", "test", scanned(start)); err != nil {
		t.Fatal(err)
	}
	if err := db.Alert().Update(t.Context(), func(tx alert.Tx) error {
		return tx.PutAlert(alert.Alert{ID: "deadbeef", Kind: alert.KeyUnavailable, Severity: "critical", First: start})
	}); err != nil {
		t.Fatal(err)
	}
	role := func(p identity.PrincipalID, r rbac.RoleID) rbac.Assignment {
		return rbac.Assignment{Principal: p, PrincipalType: identity.User, Role: r, Scope: "/"}
	}
	if err := records.Provision(t.Context(), role(officer, rbac.GovernanceOfficer), role(auditor, rbac.GovernanceReader)); err != nil {
		t.Fatal(err)
	}
	w.Handler = posture.New(records, tokens{}, address)
	return w
}

// do makes a request, and returns the answer's status and JSON.
func (w *world) do(as, method, path, body string) (int, map[string]any) {
	r := httptest.NewRequest(method, address+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+as)
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	out := map[string]any{}
	json.Unmarshal(rec.Body.Bytes(), &out)
	return rec.Code, out
}

// TestOperations checks each operation's status, and that of those who may not.
func TestOperations(t *testing.T) {
	for _, test := range []struct {
		method, path, body string
		officer, auditor   int
	}{
		{"GET", "/status", "", 200, 200},
		{"GET", "/scans", "", 200, 200},
		{"GET", "/scans?top=0", "", 400, 400},
		{"GET", "/scans?top=many", "", 400, 400},
		{"GET", "/scans?from=yesterday", "", 400, 400},
		{"GET", "/scans/00", "", 404, 404},
		{"POST", "/scans", "", 201, 403},
		{"GET", "/findings", "", 200, 200},
		{"GET", "/findings?top=1001", "", 400, 400},
		{"GET", "/findings?standing=shut", "", 400, 400},
		{"GET", "/findings?atLeast=dire", "", 400, 400},
		{"GET", "/findings?order=odd", "", 400, 400},
		{"GET", "/findings?after=%21%21", "", 400, 400},
		{"GET", "/findings?after=Zm9v", "", 400, 400}, // foo
		{"GET", "/findings/0000000000000003", "", 200, 200},
		{"GET", "/findings/ffff", "", 404, 404},
		{"POST", "/findings/0000000000000003/plan", "", 200, 200},
		{"POST", "/findings/0000000000000003/plan?key=nonsense", "", 400, 400},
		{"POST", "/findings/ffff/plan", "", 404, 404},
		{"GET", "/exceptions", "", 200, 200},
		{"POST", "/exceptions", `{"finding":"0000000000000003","owner":"ann","reason":"moves","expires":"2026-12-31"}`, 201, 403},
		{"POST", "/exceptions", `{"finding":"0000000000000003","owner":"","reason":"moves","expires":"2026-12-31"}`, 400, 403},
		{"POST", "/exceptions", `{"finding":"0000000000000003","owner":"ann","reason":"moves","expires":"2026-07-01"}`, 400, 403},
		{"POST", "/exceptions", `{"finding":"0000000000000003","owner":"ann","reason":"moves","expires":"2028-01-01"}`, 400, 403},
		{"POST", "/exceptions", `{"finding":"0000000000000003","owner":"ann","reason":"moves","expires":"soon"}`, 400, 400},
		{"POST", "/exceptions", `{"finding":"ffff","owner":"ann","reason":"moves","expires":"2026-12-31"}`, 404, 403},
		{"POST", "/exceptions", `{`, 400, 400},
		{"DELETE", "/exceptions/ffff", "", 404, 403},
		{"GET", "/kpis?window=7d", "", 200, 200},
		{"GET", "/kpis?window=fortnight", "", 400, 400},
		{"GET", "/trend", "", 200, 200},
		{"GET", "/alerts", "", 200, 200},
		{"POST", "/alerts/dead/acknowledge", `{"note":"on it","seconds":3600}`, 200, 403},
		{"POST", "/alerts/dead/acknowledge", `{"seconds":9223372036854775807}`, 400, 403},
		{"POST", "/evidence?window=30d", "", 200, 200},
		{"GET", "/roleAssignments", "", 200, 200},
		{"POST", "/roleAssignments", `{"principalId":"` + stranger + `","principalType":"User","role":"Governance Reader"}`, 201, 403},
		{"POST", "/roleAssignments", `{"principalId":"` + officer + `","principalType":"User","role":"Governance Reader"}`, 403, 403},
		{"POST", "/roleAssignments", `{"principalId":"` + stranger + `","principalType":"User","role":"King"}`, 400, 403},
		{"DELETE", "/roleAssignments/ffff", "", 404, 403},
		{"GET", "/nowhere", "", 404, 404},
	} {
		t.Run(test.method+test.path, func(t *testing.T) {
			w := newWorld(t)
			for as, want := range map[string]int{officer: test.officer, auditor: test.auditor, stranger: 403, "": 401, "bad": 401} {
				status, body := w.do(as, test.method, "/posture/v1"+test.path, test.body)
				if as == stranger && (test.officer == 400 || test.officer == 404) && status == test.officer {
					continue // refused before rights are looked at: it tells nothing
				}
				if status != want {
					t.Errorf("%q: %d, want %d: %v", as, status, want, body)
				}
				if e, _ := body["error"].(map[string]any); status >= 400 && (e["code"] == "" || e["message"] == "" || e["code"] == nil) {
					t.Errorf("%q: %d without a code and what it means: %v", as, status, body)
				}
			}
		})
	}
}

// TestRights checks that everybody is told what he may do.
func TestRights(t *testing.T) {
	w := newWorld(t)
	for as, want := range map[string]int{officer: len(rbac.GovernanceActions), auditor: 4, stranger: 0} {
		if status, body := w.do(as, "GET", "/posture/v1/rights", ""); status != 200 || len(body["value"].([]any)) != want {
			t.Errorf("%s: %d, %v", as, status, body)
		}
	}
}

// TestNextLink follows pages to their end.
func TestNextLink(t *testing.T) {
	w := newWorld(t)
	for i, top := range []int{1, 7, 25, 100, 7, 7} {
		order := []string{"", "", "", "oldest", "newest", "worst"}[i]
		seen, at := map[string]bool{}, fmt.Sprintf("/posture/v1/findings?top=%d&control=G1*&order=%s", top, order)
		for pages := 0; at != ""; pages++ {
			status, body := w.do(auditor, "GET", at, "")
			if status != 200 || pages > 25 || body["total"] != 25.0 {
				t.Fatalf("%s: %d, %v", at, status, body)
			}
			for _, v := range body["value"].([]any) {
				seen[v.(map[string]any)["finding"].(map[string]any)["id"].(string)] = true
			}
			at = ""
			if next, ok := body["nextLink"].(string); ok {
				u, err := url.Parse(next)
				if err != nil || u.Scheme != "https" || u.Host != "posture.example" {
					t.Fatalf("%s: %v", next, err)
				}
				at = u.RequestURI()
			}
		}
		if len(seen) != 25 {
			t.Errorf("%d at a time: %d findings", top, len(seen))
		}
	}
}

// TestException follows one from its making to its end: findings, scans and the finding's
// history tell of it.
func TestException(t *testing.T) {
	w := newWorld(t)
	const one = `{"finding":"0000000000000003","owner":"ann","reason":"moves in March","expires":"2026-12-31"}`
	status, made := w.do(officer, "POST", "/posture/v1/exceptions", one)
	if status != 201 || made["madeBy"] != officer || made["resource"] != "/r/3" {
		t.Fatalf("%d, %v", status, made)
	}
	if status, body := w.do(officer, "POST", "/posture/v1/exceptions", one); status != 409 {
		t.Errorf("twice: %d, %v", status, body)
	}
	listed := func() []any {
		_, body := w.do(auditor, "GET", "/posture/v1/exceptions", "")
		return body["value"].([]any)
	}
	if all := listed(); len(all) != 1 || all[0].(map[string]any)["id"] != made["id"] || all[0].(map[string]any)["owner"] != "ann" {
		t.Errorf("listed %v", all)
	}
	if status, body := w.do(officer, "POST", "/posture/v1/scans", ""); status != 201 || len(w.accepted) != 1 || w.accepted[0].Owner != "ann" || w.accepted[0].Controls[0] != "G13" {
		t.Errorf("%d, %v: the scan was told of %+v", status, body, w.accepted)
	}
	// The scan here does not judge, and so its finding fails again: what stands is the scan's.
	if status, _ := w.do(officer, "DELETE", "/posture/v1/exceptions/"+made["id"].(string), ""); status != 204 {
		t.Error(status)
	}
	if status, _ := w.do(officer, "POST", "/posture/v1/exceptions", one); status != 201 {
		t.Error(status)
	}
	_, made = w.do(auditor, "GET", "/posture/v1/exceptions", "")
	id := made["value"].([]any)[0].(map[string]any)["id"].(string)
	if status, _ := w.do(officer, "DELETE", "/posture/v1/exceptions/"+id, ""); status != 204 || len(listed()) != 0 {
		t.Errorf("%d, left %v", status, listed())
	}
	_, f := w.do(auditor, "GET", "/posture/v1/findings/0000000000000003", "")
	if turns := f["turns"].([]any); turns[len(turns)-1].(map[string]any)["status"] != "fail" {
		t.Errorf("turns %v", turns)
	}
}

// TestChain checks what lies behind a finding.
func TestChain(t *testing.T) {
	w := newWorld(t)
	_, f := w.do(auditor, "GET", "/posture/v1/findings/0000000000000003", "")
	if f["key"].(map[string]any)["key"] != keyURL || f["vault"].(map[string]any)["id"] != vaultID {
		t.Errorf("%v, %v", f["key"], f["vault"])
	}
	grants := f["grants"].([]any)
	first := grants[0].(map[string]any)
	if len(grants) != 2 || first["principalId"] != "app" || first["asks"] != true || len(first["roles"].([]any)) != 2 || first["roles"].([]any)[0].(map[string]any)["name"] != "Key Vault Crypto Service Encryption User" {
		t.Errorf("grants %v", grants)
	}
}

// TestFails checks that what fails behind it is told, and tells nothing of itself.
func TestFails(t *testing.T) {
	w := newWorld(t)
	w.fail = errors.New("secret")
	if status, body := w.do(officer, "POST", "/posture/v1/scans", ""); status != 500 || strings.Contains(fmt.Sprint(body), "secret") {
		t.Errorf("%d, %v", status, body)
	}
}

// FuzzQuery checks that no query makes the interface fail, or answer anything but JSON.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"", "top=3&after=b25lCjEKYQ", "standing=any&atLeast=high&control=G*&resource=%25", "after=%00", "window=7d&until=2026-07-01T00:00:00Z", "estate=\n&from=1"} {
		f.Add(q)
	}
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/findings", "/exceptions", "/scans", "/kpis", "/trend"} {
			r := httptest.NewRequest("GET", address+"/posture/v1"+path, nil)
			r.URL.RawQuery = query
			r.Header.Set("Authorization", "Bearer "+auditor)
			rec := httptest.NewRecorder()
			w.ServeHTTP(rec, r)
			if rec.Code != 200 && rec.Code != 400 || !json.Valid(rec.Body.Bytes()) {
				t.Errorf("%s?%q: %d %s", path, query, rec.Code, rec.Body)
			}
		}
	})
}
