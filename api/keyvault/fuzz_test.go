package keyvault_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/api/keyvault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// No path panics, and what is taken from one has no slash that the path had not.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/keys", "/keys/k", "/keys/k/", "//keys//restore", "/keys/k/0123456789abcdef0123456789abcdef/unwrapKey", "/deletedkeys/k/recover",
		"/keys/%2f", "/%", "", "/keys/k/versions/x", "/changes", "/rng",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		named, name, version, ok := keyvault.Parse(path)
		if !ok && (named && name != "") {
			t.Errorf("%q: not a path, but names %q", path, name)
		}
		if ok && named && name == "" {
			t.Errorf("%q: names nothing", path)
		}
		if strings.Contains(version, "/") && !strings.Contains(strings.ToLower(path), "%2f") {
			t.Errorf("%q: version %q", path, version)
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{"kty":"RSA","key_size":2048,"attributes":{"nbf":1,"exp":2},"tags":{"a":"b"},"key_ops":["wrapKey"]}`,
		`{"alg":"RSA-OAEP-256","value":"AAAA"}`, `{"attributes":null,"tags":null,"key_ops":null,"release_policy":{}}`, `[]`, `{"attributes":{"nbf":-1e99}}`,
		`{"key":{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQAB","p":"Aw","q":"Aw"},"Hsm":true}`, `{"key":{"kty":"EC","crv":"P-256K","d":"AQ","x":"AQ","y":"AQ"}}`,
		`{"key":{"kty":"RSA-HSM","key_hsm":"eyJzY2hlbWFfdmVyc2lvbiI6IjEuMC4wIiwiaGVhZGVyIjp7ImFsZyI6ImRpciJ9fQ"}}`,
		`{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P90D"},"action":{"type":"Rotate"}}],"attributes":{"expiryTime":"P2Y"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, b []byte) { keyvault.ReadBodies(b) })
}

// The challenge comes before the request is looked at, whatever it is.
func TestChallengeBeforeParsing(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	h := keyvault.New(f.Vaults, vaulttest.Tokens{}, keyvault.Config{Suffix: "vault.localhost", Authority: "https://login.localhost"})
	for host, want := range map[string]int{
		"kv1.vault.localhost": 401, "KV1.Vault.Localhost:8443": 401, "localhost": 404, "a.kv1.vault.localhost": 404, ".vault.localhost": 404,
		"vault.localhost": 404, "nokv.vault.localhost": 404,
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader("{"))
		r.Host, r.URL.Path = host, "/no//such\x00path"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || (w.Header().Get("WWW-Authenticate") != "") != (want == 401) {
			t.Errorf("%s: %d, want %d", host, w.Code, want)
		}
		if want == http.StatusUnauthorized && !strings.Contains(w.Body.String(), "AKV10000") {
			t.Errorf("%s: %s", host, w.Body)
		}
	}
}
