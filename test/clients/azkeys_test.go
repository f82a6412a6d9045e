package clients_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/kluis-io/kluis/internal/sdk"
)

const azkeysModule = "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys@v1.5.0"

// The official Go module's own tests, built from its unmodified source, against a
// vault and a managed HSM of the server. They learn where those are from the
// environment, log in as a managed identity, and verify the challenge's resource.
//
// Left out: TestReleaseKey, since kluis releases no keys.
func TestAzkeys(t *testing.T) {
	if !slow {
		t.Skip("SKIPPED, SET CI=true TO RUN: the test binary of azkeys takes minutes to build")
	}
	tests := azkeysTests(t)
	binary, target := serve(t)
	identity := managedIdentity(t, target)
	custodian := target.Principals["custodian"]
	vault, hsm := vaults(t, binary, target, "conformance", "custodian")
	through, refused := proxy(t)

	cmd := exec.Command(tests, "-test.v", "-test.timeout=10m", "-test.skip=^TestReleaseKey$")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(),
		"AZURE_RECORD_MODE=live", "AZURE_KEYVAULT_URL="+vault+"/", "AZURE_MANAGEDHSM_URL="+hsm+"/",
		"AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential", "AZURE_CLIENT_ID="+custodian.ClientID,
		"IDENTITY_ENDPOINT="+identity.Endpoint, "IDENTITY_HEADER="+identity.Header,
		"SSL_CERT_FILE="+target.CAFile, "HTTPS_PROXY="+through, "NO_PROXY=", "no_proxy=",
	)
	out, err := cmd.CombinedOutput()
	passed, skipped := bytes.Count(out, []byte("--- PASS: ")), bytes.Count(out, []byte("--- SKIP: "))
	t.Logf("%d passed, %d skipped", passed, skipped)
	// The module itself skips the attestation of managed HSM keys, in two tests.
	if err != nil || passed < 40 || skipped > 2 {
		t.Errorf("%v\n%s", err, out)
	}
	if r := refused(); len(r) > 0 {
		t.Errorf("the tests wanted to leave the machine for %v", r)
	}
}

// azkeysTests builds the module's test binary from a copy of its source.
func azkeysTests(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", azkeysModule).Output()
	if err != nil {
		t.Fatalf("fetching %s: %v", azkeysModule, err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(module.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "azkeys.test")
	cmd := exec.Command("go", "test", "-c", "-o", binary, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the tests of azkeys: %v\n%s", err, out)
	}
	return binary
}

type identityEndpoint struct{ Endpoint, Header string }

// managedIdentity reads what bootstrap.json says of the managed identities.
func managedIdentity(t *testing.T, target sdk.Target) identityEndpoint {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(target.CAFile)), "bootstrap.json"))
	if err != nil {
		t.Fatal(err)
	}
	var b struct {
		ManagedIdentity identityEndpoint `json:"managedIdentity"`
	}
	if err := json.Unmarshal(text, &b); err != nil || b.ManagedIdentity.Endpoint == "" {
		t.Fatalf("bootstrap.json tells of no managed identity: %v", err)
	}
	return b.ManagedIdentity
}

// The local roles of a managed HSM that make, use, recover and purge keys.
var hsmRoles = []string{"21dbd100-6940-42c2-9190-5d6cb909625b", "515eb02d-2335-4d2d-92f2-b1cbdf9c3778"}

// vaults makes a vault and a managed HSM through Resource Manager, both without
// purge protection. The managed HSM's security domain is taken out, and its first
// administrator gives himself the roles that reach its keys. It returns their URIs.
func vaults(t *testing.T, binary string, target sdk.Target, name, principal string) (vault, hsm string) {
	t.Helper()
	admin := target.Principals[principal]
	clients, err := sdk.New(target)
	if err != nil {
		t.Fatal(err)
	}
	credential, err := clients.Credential(principal)
	if err != nil {
		t.Fatal(err)
	}
	put := func(at, audience string, body any) map[string]any {
		t.Helper()
		token, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, at, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token.Token)
		res, err := clients.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		var out map[string]any
		if err != nil || res.StatusCode/100 != 2 || json.Unmarshal(answer, &out) != nil {
			t.Fatalf("PUT %s: %d, %v: %s", at, res.StatusCode, err, answer)
		}
		return out
	}
	arm := strings.TrimSuffix(target.Endpoints["arm"], "/")
	group := arm + "/subscriptions/" + target.SubscriptionID + "/resourceGroups/clients"
	put(group+"?api-version=2021-04-01", arm, map[string]any{"location": "local"})
	make := func(kind string, resource map[string]any) map[string]any {
		resource["location"] = "local"
		made := put(group+"/providers/Microsoft.KeyVault/"+kind+"?api-version=2024-11-01", arm, resource)
		return made["properties"].(map[string]any)
	}
	vault = strings.TrimSuffix(make("vaults/"+name, map[string]any{
		"properties": map[string]any{
			"tenantId": target.TenantID, "sku": map[string]string{"family": "A", "name": "standard"}, "softDeleteRetentionInDays": 7,
			"enableRbacAuthorization": true,
		},
	})["vaultUri"].(string), "/")
	hsm = strings.TrimSuffix(make("managedHSMs/"+name+"-hsm", map[string]any{
		"sku": map[string]string{"family": "B", "name": "Standard_B1"},
		"properties": map[string]any{
			"tenantId": target.TenantID, "initialAdminObjectIds": []string{admin.ObjectID}, "softDeleteRetentionInDays": 7,
		},
	})["hsmUri"].(string), "/")
	activate(t, binary, target, name+"-hsm")
	u, err := url.Parse(hsm)
	if err != nil {
		t.Fatal(err)
	}
	_, suffix, _ := strings.Cut(u.Host, ".")
	for i, role := range hsmRoles {
		put(fmt.Sprintf("%s/providers/Microsoft.Authorization/roleAssignments/%08d-0000-4000-8000-000000000001?api-version=7.4", hsm, i+1), "https://"+suffix,
			map[string]any{"properties": map[string]string{
				"roleDefinitionId": "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/" + role, "principalId": admin.ObjectID,
			}})
	}
	return vault, hsm
}

// activate takes a managed HSM's security domain out, at the command line.
func activate(t *testing.T, binary string, target sdk.Target, hsm string) {
	t.Helper()
	dir := t.TempDir()
	profile := filepath.Join(filepath.Dir(filepath.Dir(target.CAFile)), "bootstrap.json")
	for _, args := range [][]string{
		{"init-keys", "--dir", dir},
		{"download", hsm, "--profile", profile, "--file", filepath.Join(dir, "domain"), "--officer", filepath.Join(dir, "officer1.cer"),
			"--officer", filepath.Join(dir, "officer2.cer"), "--officer", filepath.Join(dir, "officer3.cer")},
	} {
		if out, err := exec.Command(binary, append([]string{"vault", "security-domain"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("kluis vault security-domain %s: %v\n%s", args[0], err, out)
		}
	}
}
