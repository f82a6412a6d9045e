package keyvault_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/vault/vaulttest"
)

// What kluis leaves out of the protocol answers in the protocol's own words, in each of
// its versions: never as if it had been done.
func TestLeftOut(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	b := f.Key(t, "kv1", "k")
	s := serve(t, f)
	w := wire{t: t, s: s, c: f.Officer}
	version := "/keys/k/" + string(b.Version.Version)
	digest := `"` + b64(make([]byte, 32)) + `"`
	for _, api := range []string{"7.0", "7.3", "7.6", "2025-07-01"} {
		for _, c := range []struct{ method, path, body, words string }{
			{"POST", version + "/release", `{"target":"token"}`, "not supported"},
			{"POST", "/keys/k/release", `{"target":"token"}`, "not supported"},
			{"GET", version + "/attestation", "", "not supported"},
			{"POST", version + "/securewrapkey", "{}", "not supported"},
			{"POST", version + "/secureunwrapkey", "{}", "not supported"},
			{"POST", "/keys/n/create", `{"kty":"RSA","attributes":{"exportable":true}}`, "Exportable keys"},
			{"POST", "/keys/n/create", `{"kty":"RSA","release_policy":{"data":"e30"}}`, "release policies"},
			{"PUT", "/keys/n", `{"key":{"kty":"oct","k":"AAAA"},"attributes":{"exportable":true}}`, "Exportable keys"},
			{"PUT", "/keys/n", `{"key":{"kty":"oct","k":"AAAA"},"release_policy":{"data":"e30"}}`, "release policies"},
			{"PATCH", version, `{"attributes":{"exportable":true}}`, "Exportable keys"},
			{"PATCH", version, `{"release_policy":{"data":"e30"}}`, "release policies"},
			{"POST", version + "/sign", `{"alg":"RSNULL","value":` + digest + `}`, "RSNULL is not supported"},
			{"POST", version + "/verify", `{"alg":"RSNULL","digest":` + digest + `,"value":"AAAA"}`, "RSNULL is not supported"},
		} {
			res, text := w.send(c.method, "kv1.vault.localhost", c.path+"?api-version="+api, c.body)
			var answer struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal([]byte(text), &answer); err != nil || res.StatusCode != 400 || answer.Error.Code != "NotSupported" ||
				!strings.Contains(answer.Error.Message, c.words) {
				t.Errorf("%s %s %s: %d %s", api, c.method, c.path, res.StatusCode, text)
			}
		}
	}
	res, text := w.send("GET", "kv1.vault.localhost", "/keys/n?api-version=7.4", "")
	if res.StatusCode != 404 {
		t.Errorf("something was made: %s", text)
	}
}
