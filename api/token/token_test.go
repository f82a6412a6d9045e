package token_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/token"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

const tenant identity.TenantID = "11111111-1111-4111-8111-111111111111"

const (
	stranger = "99999999-9999-4999-8999-999999999999"
	audience = "https://vault.azure.net"
)

type discard struct{}

func (discard) Record(context.Context, audit.Entry) error { return nil }

type world struct {
	directory *identity.Directory
	server    *httptest.Server
	issuer    *identity.Issuer
	verifier  *identity.Verifier
	admin     identity.Principal
	secret    string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), store.DirectorySchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	directory := identity.NewDirectory(db.Identity(), discard{}, identity.NoRoles{}, nil)
	admin, secret, err := directory.Bootstrap(t.Context(), tenant, "Contoso", "admin")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	t.Cleanup(server.Close)
	issuer, err := identity.NewIssuer(t.Context(), directory, identity.IssuerConfig{
		Base: server.URL, Instance: "i", Root: envelope.NewKey(), Audiences: []string{audience},
		Clients: []identity.Client{{ID: "portal", Name: "kluis portal", Redirects: []string{callback}, SignedOut: []string{"https://portal.example/"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = api.WithRequestID(token.New(issuer, tenant))
	verifier, err := identity.NewVerifier(nil, issuer.Trust(tenant))
	if err != nil {
		t.Fatal(err)
	}
	return &world{directory: directory, server: server, issuer: issuer, verifier: verifier, admin: admin, secret: secret.Text}
}

// check verifies a token as a party would.
func (w *world) check(t *testing.T, got azcore.AccessToken, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.verifier.Verify(t.Context(), got.Token, audience)
	if err != nil || c.Principal != w.admin.ID || c.Tenant != tenant {
		t.Errorf("the caller is %+v, %v", c, err)
	}
	if left := time.Until(got.ExpiresOn); left < 50*time.Minute || left > time.Hour {
		t.Errorf("the client thinks that the token lives for %v", left)
	}
}

func TestClientSecretCredential(t *testing.T) {
	w := newWorld(t)
	options := func(authority string) *azidentity.ClientSecretCredentialOptions {
		return &azidentity.ClientSecretCredentialOptions{
			ClientOptions: policy.ClientOptions{
				Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: authority},
				Transport: w.server.Client(),
				Retry:     policy.RetryOptions{MaxRetries: -1},
			},
			DisableInstanceDiscovery: true,
		}
	}
	get := func(t *testing.T, tenant, client, secret, scope string) (azcore.AccessToken, error) {
		t.Helper()
		cred, err := azidentity.NewClientSecretCredential(tenant, client, secret, options(w.server.URL))
		if err != nil {
			t.Fatal(err)
		}
		return cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}, EnableCAE: true})
	}
	for _, as := range []string{string(tenant), "adfs"} {
		t.Run(as, func(t *testing.T) {
			got, err := get(t, as, w.admin.Application, w.secret, audience+"/.default")
			w.check(t, got, err)
			for name, c := range map[string]struct{ client, secret, scope, want string }{
				"wrong secret":     {w.admin.Application, "wrong", audience + "/.default", "invalid_client"},
				"unknown client":   {stranger, w.secret, audience + "/.default", "invalid_client"},
				"unknown audience": {w.admin.Application, w.secret, "https://evil.example/.default", "invalid_scope"},
			} {
				if _, err := get(t, as, c.client, c.secret, c.scope); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	if _, err := get(t, stranger, w.admin.Application, w.secret, audience+"/.default"); err == nil {
		t.Error("an unknown tenant gives tokens")
	}
}

func TestManagedIdentityCredential(t *testing.T) {
	w := newWorld(t)
	const header = "0123456789abcdef0123456789abcdef"
	identities, err := identity.NewManagedIdentity(w.issuer, tenant, header, w.admin.Application)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api.WithRequestID(token.NewManagedIdentity(identities)))
	defer server.Close()
	t.Setenv("IDENTITY_ENDPOINT", server.URL+"/token")
	t.Setenv("IDENTITY_HEADER", header)
	for name, id := range map[string]azidentity.ManagedIDKind{"default": nil, "named": azidentity.ClientID(w.admin.Application)} {
		cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		got, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.check(t, got, err)
	}

	for name, c := range map[string]struct {
		method, query, header string
		want                  int
	}{
		"good":             {"GET", "?api-version=2019-08-01&resource=" + audience, header, 200},
		"no header":        {"GET", "?api-version=2019-08-01&resource=" + audience, "", 401},
		"wrong header":     {"GET", "?api-version=2019-08-01&resource=" + audience, header + "x", 401},
		"other version":    {"GET", "?api-version=2018-02-01&resource=" + audience, header, 400},
		"no resource":      {"GET", "?api-version=2019-08-01", header, 400},
		"unknown resource": {"GET", "?api-version=2019-08-01&resource=https://evil.example", header, 400},
		"unknown client":   {"GET", "?api-version=2019-08-01&resource=" + audience + "&client_id=" + stranger, header, 401},
		"by object id":     {"GET", "?api-version=2019-08-01&resource=" + audience + "&principal_id=" + stranger, header, 400},
		"posted":           {"POST", "?api-version=2019-08-01&resource=" + audience, header, 405},
	} {
		req, err := http.NewRequest(c.method, server.URL+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-IDENTITY-HEADER", c.header)
		status, body := do(t, server.Client(), req)
		expires, isText := body["expires_on"].(string)
		if status != c.want || (status == 200) != (isText && expires != "") || (status != 200 && body["access_token"] != nil) {
			t.Errorf("%s: %d %v", name, status, body)
		}
	}
	far := httptest.NewRequest("GET", "/?api-version=2019-08-01&resource="+audience, nil) // from 192.0.2.1
	far.Header.Set("X-IDENTITY-HEADER", header)
	rec := httptest.NewRecorder()
	token.NewManagedIdentity(identities).ServeHTTP(rec, far)
	if rec.Code != http.StatusForbidden {
		t.Errorf("from another host: %d", rec.Code)
	}
}

func do(t *testing.T, client *http.Client, req *http.Request) (int, map[string]any) {
	t.Helper()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s may be cached", req.Method, req.URL.Path)
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		t.Fatalf("%s %s: %q", req.Method, req.URL.Path, raw)
	}
	return res.StatusCode, body
}

func TestDiscovery(t *testing.T) {
	w := newWorld(t)
	get := func(path string) (int, map[string]any) {
		t.Helper()
		req, err := http.NewRequest("GET", w.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return do(t, w.server.Client(), req)
	}
	for path, want := range map[string]map[string]string{
		"/" + string(tenant) + "/v2.0/.well-known/openid-configuration": {
			"issuer":         w.issuer.Name(tenant),
			"token_endpoint": w.server.URL + "/" + string(tenant) + "/oauth2/v2.0/token",
			"jwks_uri":       w.server.URL + "/" + string(tenant) + "/discovery/v2.0/keys",
		},
		"/adfs/.well-known/openid-configuration": {
			"issuer":                 w.server.URL + "/adfs",
			"token_endpoint":         w.server.URL + "/adfs/oauth2/token",
			"authorization_endpoint": w.server.URL + "/adfs/oauth2/authorize",
		},
		"/common/discovery/instance?api-version=1.1&authorization_endpoint=" + url.QueryEscape(w.server.URL+"/"+string(tenant)+"/oauth2/v2.0/authorize"): {
			"tenant_discovery_endpoint": w.server.URL + "/" + string(tenant) + "/v2.0/.well-known/openid-configuration",
		},
	} {
		status, body := get(path)
		if status != 200 {
			t.Errorf("%s: %d %v", path, status, body)
		}
		for name, value := range want {
			if body[name] != value {
				t.Errorf("%s: %s is %v, want %s", path, name, body[name], value)
			}
		}
	}
	status, body := get("/" + string(tenant) + "/discovery/v2.0/keys")
	raw, _ := json.Marshal(body)
	if keys, err := identity.ParseKeySet(raw); status != 200 || err != nil || len(keys) != 1 {
		t.Errorf("the keys are %d %s, %v", status, raw, err)
	}
	for path, want := range map[string]int{
		"/" + stranger + "/v2.0/.well-known/openid-configuration":                                               400,
		"/" + stranger + "/discovery/v2.0/keys":                                                                 400,
		"/contoso/v2.0/.well-known/openid-configuration":                                                        404,
		"/" + string(tenant) + "/nothing":                                                                       404,
		"/" + string(tenant) + "/oauth2/v2.0/token":                                                             405,
		"/common/discovery/instance?authorization_endpoint=https://login.microsoftonline.com/" + string(tenant): 400,
		"/common/discovery/instance?authorization_endpoint=" + url.QueryEscape(w.server.URL+"/x"):               400,
	} {
		if status, body := get(path); status != want || body["error"] == nil {
			t.Errorf("%s: %d %v, want %d", path, status, body, want)
		}
	}
}

func TestTokenEndpoint(t *testing.T) {
	w := newWorld(t)
	path := w.server.URL + "/" + string(tenant) + "/oauth2/v2.0/token"
	good := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {w.admin.Application}, "client_secret": {w.secret}, "scope": {audience + "/.default"},
	}
	with := func(changes ...string) url.Values {
		v := url.Values{}
		for name, values := range good {
			v[name] = values
		}
		for i := 0; i < len(changes); i += 2 {
			if changes[i+1] == "" {
				v.Del(changes[i])
			} else {
				v.Set(changes[i], changes[i+1])
			}
		}
		return v
	}
	post := func(address, contentType, body string, basic ...string) (int, map[string]any) {
		t.Helper()
		req, err := http.NewRequest("POST", address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		if len(basic) == 2 {
			req.SetBasicAuth(basic[0], basic[1])
		}
		return do(t, w.server.Client(), req)
	}
	const form = "application/x-www-form-urlencoded"

	for name, address := range map[string]string{
		"tenant v2": path, "tenant v1": w.server.URL + "/" + string(tenant) + "/oauth2/token",
		"adfs v1": w.server.URL + "/adfs/oauth2/token", "adfs v2": w.server.URL + "/adfs/oauth2/v2.0/token",
	} {
		if status, body := post(address, form, good.Encode()); status != 200 || body["token_type"] != "Bearer" || body["expires_in"] != 3600.0 {
			t.Errorf("%s: %d %v", name, status, body)
		}
	}
	if status, body := post(path, form, with("client_id", "", "client_secret", "").Encode(), w.admin.Application, w.secret); status != 200 {
		t.Errorf("HTTP Basic: %d %v", status, body)
	}
	if status, body := post(path, form, with("scope", "", "resource", audience).Encode()); status != 200 {
		t.Errorf("by resource: %d %v", status, body)
	}

	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"nothing":                   {"", 400, "invalid_request"},
		"not a form":                {"%zz", 400, "invalid_request"},
		"no grant":                  {with("grant_type", "").Encode(), 400, "invalid_request"},
		"password grant":            {with("grant_type", "password").Encode(), 400, "unsupported_grant_type"},
		"assertion":                 {with("client_assertion", "x").Encode(), 400, "invalid_request"},
		"twice":                     {good.Encode() + "&client_id=x", 400, "invalid_request"},
		"wrong secret":              {with("client_secret", "x").Encode(), 401, "invalid_client"},
		"unknown client":            {with("client_id", stranger).Encode(), 401, "invalid_client"},
		"no scope":                  {with("scope", "").Encode(), 400, "invalid_scope"},
		"too large":                 {with("x", strings.Repeat("x", 70<<10)).Encode(), 400, "invalid_request"},
		"no secret but in an extra": {with("client_secret", "", "password", w.secret).Encode(), 401, "invalid_client"},
	} {
		status, body := post(path, form, c.body)
		if status != c.status || body["error"] != c.code || body["access_token"] != nil || body["error_description"] == "" || body["trace_id"] == "" {
			t.Errorf("%s: %d %v", name, status, body)
		}
		if raw, _ := json.Marshal(body); strings.Contains(string(raw), w.secret) {
			t.Errorf("%s: the answer repeats the secret", name)
		}
	}
	if status, body := post(path+"?"+good.Encode(), form, ""); status != 400 {
		t.Errorf("a secret in the address: %d %v", status, body)
	}
	if status, body := post(path, form, good.Encode(), w.admin.Application, w.secret); status != 400 {
		t.Errorf("two ways at once: %d %v", status, body)
	}
	if status, body := post(path, "application/json", good.Encode()); status != 400 {
		t.Errorf("as JSON: %d %v", status, body)
	}
	if status, body := post(strings.Replace(path, string(tenant), stranger, 1), form, good.Encode()); status != 400 || body["error"] != "invalid_tenant" {
		t.Errorf("unknown tenant: %d %v", status, body)
	}
}

func TestServes(t *testing.T) {
	for path, want := range map[string]bool{
		"/adfs/oauth2/token": true, "/common/discovery/instance": true, "/" + string(tenant) + "/oauth2/v2.0/token": true,
		"/": false, "": false, "/adfs": false, "/v1/workspaces": false, "/keys/k": false, "/onelake/a/b": false,
		"/subscriptions/" + string(tenant): false, "/" + string(tenant) + "/files/a": false,
	} {
		if got := token.Serves(path); got != want {
			t.Errorf("%q: %t", path, got)
		}
	}
}

func TestEveryReasonHasAShape(t *testing.T) {
	for _, r := range fault.Reasons() {
		status, code, ok := token.Shape(r)
		if !ok || status < 400 || code == "" {
			t.Errorf("%s: %d %q", r, status, code)
		}
		// A platform takes invalid_client for its customer's no.
		if (code == "invalid_client") != (r == fault.InvalidClient) {
			t.Errorf("%s answers %s", r, code)
		}
	}
}

func FuzzServes(f *testing.F) {
	f.Add("/adfs/oauth2/token")
	f.Add("/" + string(tenant) + "/../adfs/oauth2/token")
	f.Fuzz(func(t *testing.T, path string) {
		if token.Serves(path) && (strings.Contains(path, "..") || strings.Contains(path, "//")) {
			t.Fatalf("serves %q", path)
		}
	})
}
