package portal_test

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/accounts"
	"github.com/kluis-io/kluis/portal/audit"
	"github.com/kluis-io/kluis/portal/drill"
	"github.com/kluis-io/kluis/portal/governance"
	"github.com/kluis-io/kluis/portal/overview"
	"github.com/kluis-io/kluis/portal/password"
	"github.com/kluis-io/kluis/portal/portaltest"
	"github.com/kluis-io/kluis/portal/settings"
	"github.com/kluis-io/kluis/portal/vaults"
	"github.com/kluis-io/kluis/portal/workspaces"
)

// rightsFile says what each page and form of the portal answers each role with, as HTTP's
// status codes. KLUIS_UPDATE=1 writes it anew: then read what has changed, line by line.
const rightsFile = "testdata/rights.txt"

// rightsRoles are the columns: who administers the tenant and is governance's officer, the
// custodian of the vaults, the workspace's admin, one of its members, one of its viewers,
// the auditor, and somebody without any role.
var rightsRoles = []string{"admin", "custodian", "engineer", "member", "viewer", "auditor", "nobody"}

// rightsOrder is who asks when: those who may do least come first, lest there be nothing left
// to refuse them.
var rightsOrder = []string{"nobody", "viewer", "auditor", "member", "admin", "engineer", "custodian"}

// rightsLast are the forms that change what others are about, in their order, after all
// others.
var rightsLast = []string{
	"POST /vaults/{group}/{vault}/keys/{key}/disable", "POST /vaults/{group}/{vault}/keys/{key}/enable",
	"POST /vaults/{group}/{vault}/keys/{key}/delete", "POST /vaults/{group}/{vault}/deleted/{key}/recover", "POST /vaults/{group}/{vault}/deleted/{key}/purge",
	"POST /vaults/{group}/{vault}/delete", "POST /vaults/{group}/{vault}/purge", "POST /vaults/{group}/{vault}/recover",
}

// TestRights asks for every page and sends every form of the portal as every role, and
// compares the answers with the written table: what is forbidden is refused by the party
// whose business it is, whatever the portal offers.
func TestRights(t *testing.T) {
	portaltest.Slow(t)
	e := portaltest.Furnish(t)
	for _, name := range []string{"member", "viewer", "nobody"} {
		newcomer(t, e, name)
	}
	for name, role := range map[string]string{"member": "Member", "viewer": "Viewer"} {
		if err := e.Engineer.Fabric.Call(t.Context(), "POST", "/workspaces/"+e.Workspace+"/roleAssignments",
			map[string]any{"principal": map[string]string{"id": e.Clients.Target.Principals[name].ObjectID, "type": "ServicePrincipal"}, "role": role}, nil); err != nil {
			t.Fatal(err)
		}
	}
	sections := []portal.Section{
		overview.Section(), workspaces.Section(), accounts.Section(), drill.Section(), settings.Section(), vaults.Section(), governance.Section(), audit.Section(), password.Section(),
	}
	pages, err := filepath.Glob("*/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if dir := filepath.Dir(page); dir != "templates" && dir != "assets" && dir != "scope" && !slices.ContainsFunc(sections, func(s portal.Section) bool { return s.Name == dir }) {
			t.Errorf("the folder %s has pages that nobody asks for here", dir)
		}
	}
	base := portaltest.Open(t, e.Clients, portaltest.Parties(e.Clients.Target), sections...)
	ask := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // httptest's
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       2 * time.Minute,
	}
	lines := []string{fmt.Sprintf("%-64s %s", "#", strings.Join(rightsRoles, " "))}
	for _, route := range routes(t, sections) {
		method, pattern, _ := strings.Cut(route, " ")
		answers := map[string]int{}
		for _, role := range rightsOrder {
			form := formFor(e, pattern).Encode()
			if method == http.MethodGet {
				form = ""
			}
			req, err := http.NewRequestWithContext(t.Context(), method, base+pathFor(e, pattern), strings.NewReader(form))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.AddCookie(&http.Cookie{Name: portaltest.As, Value: role})
			resp, err := ask.Do(req)
			if err != nil {
				t.Fatalf("%s as %s: %v", route, role, err)
			}
			resp.Body.Close() // a stream's would not end
			if resp.StatusCode >= 500 {
				t.Errorf("%s as %s: %s", route, role, resp.Status)
			}
			answers[role] = resp.StatusCode
		}
		line := fmt.Sprintf("%-64s", route)
		for _, role := range rightsRoles {
			line += fmt.Sprintf(" %*d", len(role), answers[role])
		}
		lines = append(lines, line)
	}
	got := strings.Join(lines, "\n") + "\n"
	if os.Getenv("KLUIS_UPDATE") != "" {
		if err := os.WriteFile(rightsFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(rightsFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if !slices.Contains(strings.Split(string(want), "\n"), line) {
			t.Errorf("not as it is written:\n%s\n%s", lines[0], line)
		}
	}
	for line := range strings.Lines(string(want)) {
		if !slices.Contains(lines, strings.TrimRight(line, "\n")) {
			t.Errorf("it is written:\n%s", line)
		}
	}
}

// routes returns all routes of the sections, pages first. Managed HSMs' pages are the
// vaults', at another path: one of the two is asked.
func routes(t *testing.T, sections []portal.Section) (all []string) {
	has := map[string]bool{}
	for _, s := range sections {
		for route := range s.Routes {
			has[route] = true
		}
	}
	for route := range has {
		if strings.Contains(route, " /hsms/") {
			if twin := strings.Replace(route, " /hsms/", " /vaults/", 1); !has[twin] {
				t.Errorf("%s has no twin", route)
			}
			continue
		}
		all = append(all, route)
	}
	for _, route := range rightsLast {
		if !has[route] {
			t.Errorf("there is no %s any more", route)
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(slices.Index(rightsLast, a), slices.Index(rightsLast, b)), strings.Compare(a, b))
	})
	return all
}

var wildcard = regexp.MustCompile(`\{[^}]*\}`)

// pathFor fills in a route's path: with what there is, or what is nobody's.
func pathFor(e *portaltest.Estate, pattern string) string {
	return wildcard.ReplaceAllStringFunc(pattern, func(name string) string {
		switch {
		case name == "{$}":
			return ""
		case name == "{id}" && (strings.HasPrefix(pattern, "/workspaces/") || strings.HasPrefix(pattern, "/drill/")):
			return e.Workspace
		case name == "{group}":
			return "kluis"
		case name == "{vault}":
			return "default"
		case name == "{key}":
			return "sales"
		case strings.HasPrefix(pattern, "/settings/"):
			return "ApplyCustomerManagedKeys"
		case name == "{id}":
			return "00000000-0000-4000-8000-000000000000"
		}
		return "none"
	})
}

// formFor fills in a form so that the portal itself has nothing against it.
func formFor(e *portaltest.Estate, pattern string) url.Values {
	name := "Sales"
	switch {
	case pattern == "/vaults/new":
		name = "fresh-vault"
	case strings.HasSuffix(pattern, "/keys/new"):
		name = "fresh"
	case strings.Contains(pattern, "{key}"):
		name = "sales"
	case strings.HasPrefix(pattern, "/vaults/"):
		name = "default"
	case pattern == "/workspaces":
		name = "Fresh"
	}
	return url.Values{
		"name": {name}, "group": {"kluis"}, "location": {"local"}, "days": {"30"}, "network": {"Allow"}, "kind": {"RSA"}, "bits": {"2048"}, "enabled": {"true"},
		"seconds": {"60"}, "key": {e.Key}, "kid": {e.Key}, "note": {"seen"}, "owner": {"treasury"}, "reason": {"a test"}, "until": {time.Now().AddDate(0, 1, 0).Format(time.DateOnly)},
		"verdict": {"approve"}, "evidence": {"{}"}, "window": {"30d"}, "current": {"a"}, "new": {"b"}, "again": {"b"},
		"principal": {e.Clients.Target.Principals["nobody"].ObjectID}, "role": {portaltest.CryptoOfficer},
	}
}

// newcomer makes a principal, who has no role yet.
func newcomer(t *testing.T, e *portaltest.Estate, name string) {
	t.Helper()
	admin, err := e.Clients.OfficerAs("admin")
	if err != nil {
		t.Fatal(err)
	}
	graph := e.Clients.Target.Endpoints["graph"] + "/v1.0/servicePrincipals"
	call := func(address string, in, out any) {
		t.Helper()
		if err := admin.Call(t.Context(), "https://graph.microsoft.com/.default", http.MethodPost, address, in, out); err != nil {
			t.Fatal(err)
		}
	}
	var made struct{ ID, AppID string }
	call(graph, map[string]string{"displayName": name}, &made)
	var secret struct{ SecretText string }
	call(graph+"/"+made.ID+"/addPassword", map[string]any{}, &secret)
	e.Clients.Target.Principals[name] = sdk.Principal{ClientID: made.AppID, ClientSecret: secret.SecretText, ObjectID: made.ID}
}
