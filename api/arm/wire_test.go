package arm_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/api/arm"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// send sends a request as a client that has no SDK.
func send(t *testing.T, s *vaulttest.Server, c identity.Caller, method, path, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, audience(s.Port)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if c.Principal != "" {
		req.Header.Set("Authorization", "Bearer "+vaulttest.Tokens{}.Token(c, audience(s.Port)))
	}
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// What az sends, and what others might.
func TestWire(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	s := serve(t, f)
	const sub = "/subscriptions/" + vaulttest.Subscription
	const vaults = sub + "/resourceGroups/" + vaulttest.Group + "/providers/Microsoft.KeyVault/vaults"
	const diagnostics = "/providers/Microsoft.Insights/diagnosticSettings"
	const sink = sub + "/resourceGroups/logs/providers/Microsoft.OperationalInsights/workspaces/kluis-audit"
	policies := `{"properties":{"accessPolicies":[{"tenantId":"` + string(vaulttest.Tenant) + `","objectId":"` + vaulttest.ID(2) + `","permissions":{"keys":["get"]}}]}}`
	stranger, foreign := vaulttest.Caller(9), f.Officer
	foreign.Tenant = vaulttest.OtherTenant
	for _, c := range []struct {
		who          identity.Caller
		method, path string
		body         string
		status       int
		has          string
	}{
		{identity.Caller{}, "GET", "/metadata/endpoints?api-version=2015-01-01", "", 200, `"loginEndpoint":"https://login.localhost`},
		{identity.Caller{}, "GET", "/metadata/endpoints?api-version=2022-09-01", "", 200, `[{`},
		{identity.Caller{}, "GET", "/subscriptions?api-version=2019-11-01", "", 401, "InvalidAuthenticationToken"},
		{f.Officer, "GET", "/subscriptions?api-version=2019-11-01", "", 200, `"subscriptionId":"` + vaulttest.Subscription},
		{stranger, "GET", "/subscriptions?api-version=2019-11-01", "", 200, `{"value":[]}`},
		{f.Officer, "GET", sub + "?api-version=2019-11-01", "", 200, `"state":"Enabled"`},
		{foreign, "GET", sub + "?api-version=2019-11-01", "", 404, "SubscriptionNotFound"},
		{f.Officer, "GET", "/subscriptions", "", 400, "api-version"},
		{f.Officer, "POST", "/subscriptions?api-version=2019-11-01", "", 405, "MethodNotAllowed"},
		{f.Officer, "GET", sub + "/resources?$filter=resourceType%20eq%20%27Microsoft.KeyVault/vaults%27&api-version=2015-11-01", "", 200, `"name":"kv1"`},
		{f.Officer, "GET", sub + "/resources?$filter=resourceType%20eq%20%27Microsoft.Storage/storageAccounts%27&api-version=2015-11-01", "", 200, `{"value":[]}`},
		{f.Officer, "GET", sub + "/resources?$filter=tagName%20eq%20%27x%27&api-version=2015-11-01", "", 400, "NotSupported"},
		{stranger, "GET", sub + "/resources?api-version=2015-11-01", "", 200, `{"value":[]}`},
		{f.Officer, "GET", sub + "/resourcegroups/RG1?api-version=2021-04-01", "", 200, `"location":"westeurope"`},
		{f.Officer, "PUT", sub + "/resourcegroups/rg2?api-version=2021-04-01", `{"location":"North Europe","tags":{}}`, 201, `"location":"northeurope"`},
		{f.Officer, "PUT", sub + "/resourcegroups/rg2?api-version=2021-04-01", `{"location":"northeurope"}`, 200, `"name":"rg2"`},
		{f.Officer, "PUT", sub + "/resourcegroups/rg2?api-version=2021-04-01", `{"location":"westeurope"}`, 409, "Conflict"},
		{f.Officer, "PUT", sub + "/resourcegroups/a*b?api-version=2021-04-01", `{"location":"westeurope"}`, 400, "BadRequest"},
		{stranger, "PUT", sub + "/resourcegroups/rg3?api-version=2021-04-01", `{"location":"westeurope"}`, 403, "AuthorizationFailed"},
		{f.Officer, "GET", sub + "/resourcegroups?api-version=2021-04-01", "", 200, `"name":"rg2"`},
		{f.Officer, "DELETE", sub + "/resourcegroups/rg2?api-version=2021-04-01", "", 200, ""},
		{f.Officer, "DELETE", sub + "/resourcegroups/rg1?api-version=2021-04-01", "", 409, "Conflict"},
		{f.Officer, "GET", "//SUBSCRIPTIONS/" + strings.ToUpper(vaulttest.Subscription) + "/ResourceGroups/RG1/Providers/microsoft.keyvault/VAULTS/KV1/?api-version=2022-07-01", "", 200, `"vaultUri":"https://kv1.vault.localhost`},
		{f.Officer, "GET", vaults + "/k?api-version=2022-07-01", "", 400, "BadRequest"},
		{f.Officer, "PUT", vaults + "/kv1/accessPolicies/add?api-version=2022-07-01", "{}", 200, `"accessPolicies":[]`},
		{f.Officer, "PUT", vaults + "/kv1/accessPolicies/drop?api-version=2022-07-01", policies, 400, "BadRequest"},
		{stranger, "PUT", vaults + "/kv1/accessPolicies/add?api-version=2022-07-01", policies, 403, "AuthorizationFailed"},
		{f.Officer, "PUT", vaults + "/kv3?api-version=2022-07-01", `{"location":"l"}`, 201, `"enableRbacAuthorization":false`},
		{f.Officer, "DELETE", vaults + "/kv3?api-version=2022-07-01", "", 200, ""},
		{f.Officer, "GET", sub + "/providers/Microsoft.KeyVault/locations/l/deletedVaults/kv3?api-version=2022-07-01", "", 200, `"requireApproval":false`},
		{f.Officer, "GET", sub + "/providers/Microsoft.KeyVault/locations/l/deletedVaults/kv3/usage?api-version=2022-07-01", "", 200, `{"value":[]}`},
		{f.Officer, "GET", sub + "/providers/Microsoft.KeyVault/locations/l/deletedVaults/kv1/usage?api-version=2022-07-01", "", 404, "VaultNotFound"},
		{stranger, "GET", sub + "/providers/Microsoft.KeyVault/locations/l/deletedVaults/kv3/usage?api-version=2022-07-01", "", 403, "AuthorizationFailed"},
		{f.Officer, "PUT", vaults + "/kv4?api-version=2026-02-01", `{"location":"l"}`, 201, `"trustedServices":["61d6811f-7544-4e75-a1e6-1c59c0383311"]`},
		{f.Officer, "PATCH", vaults + "/kv4?api-version=2026-02-01", `{"properties":{"requireApproval":true,"separationOfDuties":true}}`, 200, `"requireApproval":true`},
		{f.Officer, "DELETE", vaults + "/kv4?api-version=2026-02-01", "", 403, "ApprovalRequired"},
		{f.Officer, "PUT", vaults + "/kv1" + diagnostics + "/audit?api-version=2021-05-01-preview", `{"properties":{"storageAccountId":"/subscriptions/s/x","logs":[{"category":"AuditEvent","enabled":true}]}}`, 400, "NotSupported"},
		{f.Officer, "PUT", vaults + "/kv1" + diagnostics + "/audit?api-version=2021-05-01-preview", `{"properties":{"workspaceId":"` + sink + `","logs":[{"category":"AuditEvent","enabled":true}]}}`, 200, `"category":"AuditEvent"`},
		{f.Officer, "PUT", vaults + "/kv1" + diagnostics + "/audit?api-version=2021-05-01-preview", `{"properties":{"workspaceId":"` + sink + `","logs":[{"category":"Other","enabled":true}]}}`, 400, "BadRequest"},
		{stranger, "GET", vaults + "/kv1" + diagnostics + "?api-version=2021-05-01-preview", "", 403, "AuthorizationFailed"},
		{f.Officer, "GET", vaults + "/kv1" + diagnostics + "?api-version=2021-05-01-preview", "", 200, sink},
		{f.Officer, "GET", vaults + "/kv1" + diagnostics + "Categories?api-version=2021-05-01-preview", "", 200, `"name":"AuditEvent"`},
		{f.Officer, "GET", vaults + "/kv1" + diagnostics + "/AUDIT?api-version=2021-05-01-preview", "", 200, `"name":"audit"`},
		{f.Officer, "DELETE", vaults + "/kv1" + diagnostics + "/audit?api-version=2021-05-01-preview", "", 200, ""},
		{f.Officer, "DELETE", vaults + "/kv1" + diagnostics + "/audit?api-version=2021-05-01-preview", "", 204, ""},
		{f.Officer, "PUT", vaults + "/kv2?api-version=2022-07-01", `{"location":`, 400, "BadRequest"},
		{f.Officer, "GET", sub + "/providers/Microsoft.KeyVault/managedHSMs?api-version=2022-07-01", "", 200, `{"value":[]}`},
		{f.Officer, "GET", sub + "/providers/Microsoft.Compute/virtualMachines?api-version=2022-07-01", "", 404, "NotFound"},
		{f.Officer, "GET", "/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-04-01", "", 200, "Key Vault Crypto Officer"},
		{f.Officer, "GET", "/providers/Microsoft.Authorization/roleDefinitions/x?api-version=2022-04-01", "", 404, "RoleDefinitionDoesNotExist"},
		{f.Officer, "GET", sub + "/providers/Microsoft.Authorization/roleAssignments?$filter=odd&api-version=2022-04-01", "", 400, "NotSupported"},
		{f.Officer, "GET", "/workspaces/x/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01", "", 400, "BadRequest"},
		{f.Officer, "GET", sub + "/a%2f..%2fb/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01", "", 400, "BadRequest"},
	} {
		res, got := send(t, s, c.who, c.method, c.path, c.body)
		if res.StatusCode != c.status || !strings.Contains(got, c.has) {
			t.Errorf("%s %s: %d, want %d with %q: %s", c.method, c.path, res.StatusCode, c.status, c.has, got)
		}
		if res.StatusCode >= 400 {
			var e struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal([]byte(got), &e); err != nil || e.Error.Code == "" || e.Error.Message == "" {
				t.Errorf("%s %s: not an error of Resource Manager: %s", c.method, c.path, got)
			}
		}
	}
}

func TestErrorTable(t *testing.T) {
	for _, r := range fault.Reasons() {
		if status, code := arm.Row(r); status == 0 || code == "" {
			t.Errorf("%s has no row", r)
		}
	}
	if n := arm.RowCount(); n != len(fault.Reasons()) {
		t.Errorf("%d rows for %d reasons", n, len(fault.Reasons()))
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/subscriptions/x", "//a//", "/%2f", "/%", "", "/a%20b/.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		seg, err := arm.Segments(path)
		if err == nil && len(seg) > 32 {
			t.Errorf("%d segments", len(seg))
		}
		for _, s := range seg {
			if s == "" || strings.Contains(s, "/") {
				t.Errorf("%q: segment %q", path, s)
			}
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{"location":"l","properties":{"tenantId":"t","sku":{"family":"A","name":"standard"},"accessPolicies":[{"permissions":{"keys":["all"]}}]}}`,
		`{"tags":null,"properties":null}`, `{"properties":{"networkAcls":{"ipRules":[1]},"createMode":"recover"}}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, b []byte) { arm.ReadBody(b) })
}

// What az says of itself stands in the audit log.
func TestCommandRecorded(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	s := serve(t, f)
	req, err := http.NewRequestWithContext(t.Context(), "GET", audience(s.Port)+string(vaulttest.Path("kv1").Scope())+"?api-version=2022-07-01", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+vaulttest.Tokens{}.Token(f.Officer, audience(s.Port)))
	req.Header.Set("CommandName", "keyvault show")
	req.Header.Set("ParameterSetName", "--name"+strings.Repeat(" --x", 200))
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	got := f.Entries(t, "VaultGet")
	if len(got) == 0 || got[len(got)-1].Detail["command"] != "keyvault show" || len(got[len(got)-1].Detail["parameters"]) != 256 {
		t.Errorf("recorded %+v", got)
	}
}
