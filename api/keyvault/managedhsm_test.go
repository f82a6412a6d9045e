package keyvault_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

const hsm1 = "hsm1.managedhsm.localhost"

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// A managed HSM differs from a vault in small things, each of which some client
// relies on.
func TestManagedHSMShapes(t *testing.T) {
	f := vaulttest.New(t)
	p := vaulttest.Path("hsm1")
	p.Flavour = vault.ManagedHSM
	if _, _, err := f.Vaults.PutVault(t.Context(), f.Officer, p, vault.Spec{Location: new("l"), Admins: &[]identity.PrincipalID{f.Officer.Principal}}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, f)
	nobody := wire{t: t, s: s}
	w := wire{t: t, s: s, c: f.Officer}
	res, body := nobody.send("GET", hsm1, "/keys?api-version=7.4", "")
	if res.StatusCode != 401 || body != "" || !strings.Contains(res.Header.Get("WWW-Authenticate"), `resource="https://managedhsm.localhost:`+s.Port+`"`) {
		t.Errorf("challenge: %d %q %s", res.StatusCode, body, res.Header.Get("WWW-Authenticate"))
	}
	if res, _ := nobody.send("GET", "hsm1.vault.localhost", "/keys?api-version=7.4", ""); res.StatusCode != 404 {
		t.Errorf("a managed HSM at a vault's host: %d", res.StatusCode)
	}
	ask := func(want int, method, path, body string) map[string]any {
		t.Helper()
		if !strings.Contains(path, "?") {
			path += "?api-version=7.4"
		}
		res, got := w.send(method, hsm1, path, body)
		var out map[string]any
		if res.StatusCode != want || got != "" && json.Unmarshal([]byte(got), &out) != nil {
			t.Fatalf("%s %s: %d, want %d: %s", method, path, res.StatusCode, want, got)
		}
		return out
	}
	ask(403, "POST", "/keys/k/create", `{"kty":"oct"}`) // its administrator uses no key
	roles := "/providers/Microsoft.Authorization/"
	if all := ask(200, "GET", roles+"roleDefinitions", "")["value"].([]any); len(all) != len(rbac.HSMRoles.All()) {
		t.Errorf("%d role definitions", len(all))
	}
	give := func(scope string, id int, role rbac.RoleID) map[string]any {
		t.Helper()
		return ask(201, "PUT", scope+roles+"roleAssignments/"+vaulttest.ID(id), fmt.Sprintf(
			`{"properties":{"roleDefinitionId":"Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":"%s"}}`, role, f.Officer.Principal))
	}
	if as := give("", 8001, rbac.ManagedHSMCryptoUser)["properties"].(map[string]any); as["scope"] != "/" {
		t.Errorf("assignment %v", as)
	}
	if as := give("/keys/k", 8002, rbac.ManagedHSMCryptoAuditor); as["properties"].(map[string]any)["scope"] != "/keys/k" ||
		!strings.HasPrefix(as["id"].(string), "/keys/k/providers/") {
		t.Errorf("assignment %v", as)
	}
	if all := ask(200, "GET", roles+"roleAssignments", "")["value"].([]any); len(all) != 3 {
		t.Errorf("%d role assignments", len(all))
	}
	ask(200, "DELETE", "/keys/k"+roles+"roleAssignments/"+vaulttest.ID(8002), "")
	ask(404, "GET", "/keys/k"+roles+"roleAssignments/"+vaulttest.ID(8002), "")

	key := ask(200, "POST", "/keys/k/create", `{"kty":"oct"}`)
	if k := key["key"].(map[string]any); k["kty"] != "oct-HSM" || k["k"] != nil || key["attributes"].(map[string]any)["hsmPlatform"] != "software" {
		t.Errorf("created %v", key)
	}
	// Its own roles say who may, and those above it nothing.
	if all := ask(200, "GET", "/access?key=k&permission=unwrapKey", "")["value"].([]any); len(all) != 1 || all[0].(map[string]any)["roleDefinitionId"] != string(rbac.ManagedHSMCryptoUser) {
		t.Errorf("who may unwrap: %v", all)
	}
	wrapped := ask(200, "POST", "/keys/k/wrapkey", `{"alg":"A256KW","value":"`+b64(make([]byte, 32))+`"}`)
	if wrapped["alg"] != "A256KW" || wrapped["kid"] == "" {
		t.Errorf("wrapped %v", wrapped)
	}
	sealed := ask(200, "POST", "/keys/k/encrypt", `{"alg":"A256GCM","value":"AAAA","aad":"AQ"}`)
	if sealed["iv"] == nil || sealed["tag"] == nil || sealed["aad"] != "AQ" {
		t.Errorf("encrypted %v", sealed)
	}
	ask(200, "POST", "/keys/e/create", `{"kty":"EC","crv":"P-256K"}`)
	digest := sha256.Sum256([]byte("m"))
	signature := ask(200, "POST", "/keys/e/sign", `{"alg":"ES256K","value":"`+b64(digest[:])+`"}`)["value"].(string)
	verdict := ask(200, "POST", "/keys/e/verify", `{"alg":"ES256K","digest":"`+b64(digest[:])+`","value":"`+signature+`"}`)
	if verdict["value"] != true || verdict["alg"] != "ES256K" || verdict["kid"] == nil {
		t.Errorf("verified %v", verdict)
	}
	list := ask(200, "GET", "/keys?api-version=7.4&maxresults=1", "")
	if next := list["nextLink"].(string); strings.Contains(next, "api-version") || !strings.Contains(next, "maxresults=1") {
		t.Errorf("next page at %s", next)
	}
	policy := ask(200, "PUT", "/keys/k/rotationpolicy", `{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P30D"},"action":{"type":"Rotate"}}],"attributes":{"expiryTime":"P90D"}}`)
	if acts := policy["lifetimeActions"].([]any); policy["id"] != "keys/k/rotationpolicy" || len(acts) != 1 || acts[0].(map[string]any)["action"].(map[string]any)["type"] != "rotate" {
		t.Errorf("policy %v", policy)
	}
	if r := ask(200, "POST", "/rng", `{"count":9}`)["value"].(string); len(r) != 12 {
		t.Errorf("random %q", r)
	}
	ask(400, "POST", "/rng", `{"count":129}`)
	if u := ask(200, "GET", "/keys/k/usage", "")["value"].([]any); len(u) != 2 {
		t.Errorf("usage %v", u)
	}
}

// JSON Web Keys of every type come in, and those that do not fit together do not.
func TestImportOverTheWire(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	s := serve(t, f)
	w := wire{t: t, s: s, c: f.Officer}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y, err := vault.Point(&e.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	k1, err := vault.K1Private(d)
	if err != nil {
		t.Fatal(err)
	}
	kx, ky, err := vault.Point(k1.PubKey())
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := func(d *big.Int) map[string]any {
		return map[string]any{"kty": "RSA", "n": b64(r.N.Bytes()), "e": "AQAB", "d": b64(d.Bytes()), "p": b64(r.Primes[0].Bytes()), "q": b64(r.Primes[1].Bytes())}
	}
	for name, c := range map[string]struct {
		want int
		key  map[string]any
	}{
		"RSA":            {200, rsaKey(r.D)},
		"RSA, wrong d":   {400, rsaKey(new(big.Int).Add(r.D, big.NewInt(2)))},
		"RSA, public":    {400, map[string]any{"kty": "RSA", "n": b64(r.N.Bytes()), "e": "AQAB"}},
		"P-256":          {200, map[string]any{"kty": "EC", "crv": "P-256", "d": b64(d), "x": b64(x), "y": b64(y)}},
		"P-256, wrong x": {400, map[string]any{"kty": "EC", "crv": "P-256", "d": b64(d), "x": b64(y), "y": b64(x)}},
		"P-256K":         {200, map[string]any{"kty": "EC-HSM", "crv": "P-256K", "d": b64(d), "x": b64(kx), "y": b64(ky)}},
		"curve":          {400, map[string]any{"kty": "EC", "crv": "P-224", "d": b64(d), "x": b64(x), "y": b64(y)}},
		"blob":           {400, map[string]any{"kty": "RSA-HSM", "key_hsm": "AAAA"}},
		"oct":            {400, map[string]any{"kty": "oct", "k": b64(d)}}, // of managed HSMs only
	} {
		t.Run(name, func(t *testing.T) {
			body, err := json.Marshal(map[string]any{"key": c.key})
			if err != nil {
				t.Fatal(err)
			}
			res, got := w.send("PUT", kv1, "/keys/k?api-version=7.4", string(body))
			if res.StatusCode != c.want {
				t.Errorf("%d, want %d: %s", res.StatusCode, c.want, got)
			}
			for _, secret := range []string{b64(d), b64(r.D.Bytes())} {
				if strings.Contains(got, secret) {
					t.Error("the answer holds the private key")
				}
			}
		})
	}
}
