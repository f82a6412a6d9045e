package keyvault_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// Who asks for more than the limit is told when to come back.
func TestThrottled(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	f.Vaults = vault.New(vault.Config{
		Store: f.Store, Audit: f.Log, Keys: f.Keys, Roles: rbac.VaultRoles,
		Limits: &vault.Limits{Period: time.Hour, Software: vault.Rates{RSA2048: 2}},
	})
	t.Cleanup(f.Vaults.Close)
	w := wire{t, serve(t, f), f.Officer}
	for i := range 4 {
		res, body := w.send("POST", kv1, "/keys/k/wrapkey?api-version=7.4", `{"alg":"RSA-OAEP-256","value":"AAAA"}`)
		after := res.Header.Get("Retry-After")
		if i < 2 && (res.StatusCode != 200 || after != "") ||
			i >= 2 && (res.StatusCode != 429 || after == "" || !strings.Contains(body, `"code":"Throttled"`)) {
			t.Errorf("request %d: %d, Retry-After %q, %s", i+1, res.StatusCode, after, body)
		}
	}
}
