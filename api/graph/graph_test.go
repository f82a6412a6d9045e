package graph_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/graph"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

const tenant identity.TenantID = "11111111-1111-4111-8111-111111111111"

const (
	nobody  = "99999999-9999-4999-8999-999999999999"
	address = "https://graph.example"
)

type discard struct{}

func (discard) Record(context.Context, audit.Entry) error { return nil }

// tokens takes a principal's object id for its token.
type tokens struct{}

func (tokens) Verify(_ context.Context, token string, audiences ...string) (identity.Caller, error) {
	if len(audiences) != 1 || audiences[0] != address || len(token) != 36 {
		return identity.Caller{}, fault.New(fault.Unauthenticated, "The token does not hold.")
	}
	return identity.Caller{Tenant: tenant, Principal: identity.PrincipalID(token), Type: types[token]}, nil
}

// types are those of callers that are no applications.
var types = map[string]identity.PrincipalType{}

type client struct {
	handler http.Handler
	admin   identity.Principal
}

func newClient(t *testing.T) client {
	t.Helper()
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), store.DirectorySchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	directory := identity.NewDirectory(db.Identity(), discard{}, identity.NoRoles{}, nil)
	admin, _, err := directory.Bootstrap(t.Context(), tenant, "Contoso", "admin")
	if err != nil {
		t.Fatal(err)
	}
	return client{api.WithRequestID(graph.New(directory, nil, tokens{}, address)), admin}
}

func (c client) do(t *testing.T, as identity.PrincipalID, method, path, body string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(method, address+path, strings.NewReader(body))
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+string(as))
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	var answer map[string]any
	if w.Code != http.StatusNoContent {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%s %s: %d %q", method, path, w.Code, w.Body)
		}
	}
	return w.Code, answer
}

// The steps by which an administrator lets the platform into the tenant.
func TestServicePrincipals(t *testing.T) {
	c := newClient(t)
	admin := c.admin.ID
	status, created := c.do(t, admin, "POST", "/v1.0/servicePrincipals", `{"appId":"`+identity.FabricPlatformCMK+`"}`)
	if status != 201 || created["displayName"] != "Fabric Platform CMK" || created["appId"] != identity.FabricPlatformCMK {
		t.Fatalf("%d %v", status, created)
	}
	id := created["id"].(string)
	if status, body := c.do(t, admin, "POST", "/v1.0/servicePrincipals", `{"appId":"`+identity.FabricPlatformCMK+`"}`); status != 409 {
		t.Errorf("twice: %d %v", status, body)
	}
	for filter, n := range map[string]int{
		"servicePrincipalNames/any(c:c eq '" + identity.FabricPlatformCMK + "')": 1,
		"appId eq '" + identity.FabricPlatformCMK + "'":                          1,
		"displayName eq 'Fabric Platform CMK'":                                   1,
		"displayName eq 'it''s'":                                                 0,
		"appId eq '" + nobody + "'":                                              0,
		"":                                                                       2,
	} {
		status, body := c.do(t, identity.PrincipalID(id), "GET", "/v1.0/servicePrincipals?$filter="+url.QueryEscape(filter), "")
		value, ok := body["value"].([]any)
		if status != 200 || !ok || len(value) != n {
			t.Errorf("%s: %d %v", filter, status, body)
		}
		if n == 1 && value[0].(map[string]any)["id"] != id {
			t.Errorf("%s: %v", filter, value)
		}
	}
	if status, body := c.do(t, admin, "GET", "/v1.0/servicePrincipals/"+strings.ToUpper(id), ""); status != 200 || body["id"] != id || body["accountEnabled"] != true {
		t.Errorf("%d %v", status, body)
	}
	path := "/v1.0/servicePrincipals/" + id
	end := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	status, secret := c.do(t, admin, "POST", path+"/addPassword", `{"passwordCredential":{"displayName":"platform","endDateTime":"`+end.Format(time.RFC3339)+`"}}`)
	if text, _ := secret["secretText"].(string); status != 200 || len(text) < 40 || secret["displayName"] != "platform" || secret["keyId"] == "" {
		t.Errorf("%d %v", status, secret)
	}
	if status, body := c.do(t, admin, "POST", path+"/addPassword", ""); status != 200 {
		t.Errorf("without a body: %d %v", status, body)
	}
	if status, body := c.do(t, admin, "POST", path+"/removePassword", `{"keyId":"`+secret["keyId"].(string)+`"}`); status != 204 {
		t.Errorf("%d %v", status, body)
	}
	if status, body := c.do(t, admin, "PATCH", path, `{"accountEnabled":false}`); status != 204 {
		t.Errorf("%d %v", status, body)
	}
	if _, body := c.do(t, admin, "GET", path, ""); body["accountEnabled"] != false {
		t.Errorf("after disabling: %v", body)
	}
}

func TestRefusals(t *testing.T) {
	c := newClient(t)
	admin := c.admin.ID
	self := "/v1.0/servicePrincipals/" + string(admin)
	for name, q := range map[string]struct {
		as                 identity.PrincipalID
		method, path, body string
		status             int
		code               string
	}{
		"me":                     {admin, "GET", "/v1.0/me", "", 400, "Request_BadRequest"},
		"no token":               {"", "GET", "/v1.0/me", "", 401, "InvalidAuthenticationToken"},
		"bad token":              {"x", "GET", "/v1.0/servicePrincipals", "", 401, "InvalidAuthenticationToken"},
		"unknown address":        {admin, "GET", "/v1.0/groups", "", 501, "Request_UnsupportedQuery"},
		"unknown filter":         {admin, "GET", "/v1.0/servicePrincipals?$filter=" + url.QueryEscape("startswith(mail,'a')"), "", 501, "Request_UnsupportedQuery"},
		"unknown principal":      {admin, "GET", "/v1.0/servicePrincipals/" + nobody, "", 404, "Request_ResourceNotFound"},
		"not an id":              {admin, "GET", "/v1.0/servicePrincipals/me", "", 400, "Request_BadRequest"},
		"create by another":      {nobody, "POST", "/v1.0/servicePrincipals", `{"appId":"` + nobody + `"}`, 403, "Authorization_RequestDenied"},
		"create without JSON":    {admin, "POST", "/v1.0/servicePrincipals", `appId`, 400, "Request_BadRequest"},
		"create without a UUID":  {admin, "POST", "/v1.0/servicePrincipals", `{"appId":"x"}`, 400, "Request_BadRequest"},
		"password by another":    {nobody, "POST", self + "/addPassword", `{}`, 403, "Authorization_RequestDenied"},
		"password in the past":   {admin, "POST", self + "/addPassword", `{"passwordCredential":{"endDateTime":"2001-01-01T00:00:00Z"}}`, 400, "Request_BadRequest"},
		"remove an unknown one":  {admin, "POST", self + "/removePassword", `{"keyId":"` + nobody + `"}`, 404, "Request_ResourceNotFound"},
		"disable by another":     {nobody, "PATCH", self, `{"accountEnabled":false}`, 403, "Authorization_RequestDenied"},
		"disable the last admin": {admin, "PATCH", self, `{"accountEnabled":false}`, 409, "Request_BadRequest"},
		"change the name":        {admin, "PATCH", self, `{"displayName":"x"}`, 501, "Request_UnsupportedQuery"},
		"too large":              {admin, "PATCH", self, `"` + strings.Repeat("x", 70<<10) + `"`, 413, "Request_BadRequest"},
	} {
		status, body := c.do(t, q.as, q.method, q.path, q.body)
		e, _ := body["error"].(map[string]any)
		if status != q.status || e["code"] != q.code || e["message"] == "" {
			t.Errorf("%s: %d %v, want %d %s", name, status, body, q.status, q.code)
		}
	}
}

func TestEveryReasonHasAShape(t *testing.T) {
	for _, r := range fault.Reasons() {
		if status, code, ok := graph.Shape(r); !ok || status < 400 || code == "" {
			t.Errorf("%s: %d %q", r, status, code)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		"", "appId eq 'a'", "displayName eq 'it''s'", "servicePrincipalNames/any(c:c eq 'a')", "appId eq 'a' or appId eq 'b'",
		"appId eq ''", "servicePrincipalNames/any(:eq 'a')", "servicePrincipalNames/any(c:d eq 'a')", "appId eq '''", "displayName eq 'a'b'",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := graph.ParseFilter(s)
		all := filter == identity.Filter{}
		switch {
		case err != nil && (fault.ReasonOf(err) != fault.NotSupported || !all):
			t.Fatalf("%q: %+v, %v", s, filter, err)
		case err == nil && all && strings.TrimSpace(s) != "":
			t.Fatalf("%q selects everything", s)
		case err == nil && filter.Application != "" && filter.Name != "":
			t.Fatalf("%q: %+v", s, filter)
		}
	})
}

func TestFilter(t *testing.T) {
	for s, want := range map[string]identity.Filter{
		"appId eq 'a'":                           {Application: "a"},
		"displayName eq 'it''s'":                 {Name: "it's"},
		"servicePrincipalNames/any(c:c eq 'a')":  {Application: "a"},
		"servicePrincipalNames/any(x: x eq 'a')": {Application: "a"},
	} {
		if got, err := graph.ParseFilter(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, bad := range []string{
		"appId eq 'a' or appId eq 'b'", "appId eq ''", "appId eq a", "servicePrincipalNames/any(c:d eq 'a')", "appId ne 'a'",
		"servicePrincipalNames/any(:eq 'a')", "displayName eq 'a'b'", "appId", "appIdeq 'a'",
	} {
		if got, err := graph.ParseFilter(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}
