package keyvault_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// A deletion by two, over the wire.
func TestApprovalsOnTheWire(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1", func(s *vault.Spec) { s.RequireApproval = new(true) })
	f.Key(t, "kv1", "k")
	s := serve(t, f)
	second := vaulttest.Caller(2)
	f.Grant(t, second, rbac.KeyVaultCryptoOfficer, v.Scope())
	first, other, nobody := wire{t, s, f.Officer}, wire{t, s, second}, wire{t, s, vaulttest.Caller(9)}
	const del = "/keys/k?api-version=7.4"
	res, body := first.send("DELETE", kv1, del, "")
	id := res.Header.Get("x-kluis-approval")
	if res.StatusCode != 403 || !strings.Contains(body, `"innererror":{"code":"ApprovalRequired"}`) || id == "" || !strings.Contains(body, id) {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	for _, c := range []struct {
		who          wire
		method, path string
		status       int
		has          string
	}{
		{first, "POST", "/approvals/" + id + "/approve", 403, "Nobody approves"},
		{nobody, "POST", "/approvals/" + id + "/approve", 403, "ForbiddenByRbac"},
		{nobody, "GET", "/approvals", 200, `{"value":[]}`},
		{nobody, "GET", "/approvals/" + id, 403, "ForbiddenByRbac"},
		{other, "GET", "/approvals/" + vaulttest.ID(1), 404, "NotFound"},
		{other, "GET", "/approvals/x/y/z", 404, "NotFound"},
		{other, "PUT", "/approvals/" + id, 405, "MethodNotAllowed"},
		{other, "GET", "/approvals", 200, `"operation":"KeyDelete"`},
		{other, "GET", "/approvals/" + id, 200, `"state":"pending"`},
		{other, "POST", "/Approvals/" + id + "/approve", 200, `"decidedBy":"` + vaulttest.ID(2)},
		{first, "DELETE", del, 200, `"recoveryId"`},
		{other, "GET", "/approvals/" + id, 200, `"state":"executed"`},
		{other, "POST", "/approvals/" + id + "/reject", 409, "Conflict"},
	} {
		if res, body := c.who.send(c.method, kv1, c.path, ""); res.StatusCode != c.status || !strings.Contains(body, c.has) {
			t.Errorf("%s %s: %d, want %d with %q: %s", c.method, c.path, res.StatusCode, c.status, c.has, body)
		}
	}
}

func TestAccessOnTheWire(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	s := serve(t, f)
	service := vaulttest.Caller(2)
	as := f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))
	w := wire{t, s, f.Officer}
	res, body := w.send("GET", kv1, "/access?permission=unwrapKey&key=k", "")
	var got struct {
		Value []struct {
			PrincipalID      string
			RoleAssignmentID string
			Scope            string
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != 200 || len(got.Value) != 2 {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	found := false
	for _, h := range got.Value {
		found = found || h.PrincipalID == vaulttest.ID(2) && h.RoleAssignmentID == as.ID && h.Scope == string(v.KeyScope("k"))
	}
	if !found {
		t.Errorf("the service's role is missing: %s", body)
	}
	for path, status := range map[string]int{"/access?permission=fly": 400, "/access?permission=get&key=a_b": 400, "/access": 400} {
		if res, body := w.send("GET", kv1, path, ""); res.StatusCode != status {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	if res, _ := (wire{t, s, service}).send("GET", kv1, "/access?permission=get", ""); res.StatusCode != http.StatusForbidden {
		t.Errorf("who may not read roles: %d", res.StatusCode)
	}
}

// Azure's codes for what network rules and access policies refuse.
func TestRefusalsOnTheWire(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1", func(s *vault.Spec) { s.RBAC = new(false) })
	s := serve(t, f)
	w := wire{t, s, f.Officer}
	set := func(spec vault.Spec) {
		t.Helper()
		if _, err := f.Vaults.PatchVault(t.Context(), f.Officer, vaulttest.Path("kv1"), spec); err != nil {
			t.Fatal(err)
		}
	}
	want := func(inner, message string) {
		t.Helper()
		res, body := w.send("GET", kv1, "/keys?api-version=7.4", "")
		if res.StatusCode != 403 || !strings.Contains(body, `"code":"Forbidden"`) || !strings.Contains(body, `"innererror":{"code":"`+inner+`"}`) || !strings.Contains(body, message) {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	}
	want("AccessDenied", "does not have keys list permission on key vault 'kv1;")
	set(vault.Spec{Network: &vault.Network{Deny: true}})
	want("ForbiddenByFirewall", `Client address: 127.0.0.1\r\n`)
	set(vault.Spec{PublicAccess: new(false)})
	want("ForbiddenByConnection", "PublicNetworkAccess is set to 'Disabled'")
	if res, _ := w.send("GET", kv1, "/changes", ""); res.StatusCode != 200 {
		t.Errorf("the feed answers %d", res.StatusCode)
	}
}
