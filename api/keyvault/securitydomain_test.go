package keyvault_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/securitydomain"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// The protocol by which a security domain leaves one managed HSM and comes to another,
// as the official clients speak it.
func TestSecurityDomain(t *testing.T) {
	f := vaulttest.New(t, func(c *vault.Config) { c.ActivateHSMs = false })
	for _, name := range []vault.Name{"hsm1", "hsm2"} {
		p := vaulttest.Path(name)
		p.Flavour = vault.ManagedHSM
		if _, _, err := f.Vaults.PutVault(t.Context(), f.Officer, p, vault.Spec{Location: new("l"), Admins: &[]identity.PrincipalID{f.Officer.Principal}}); err != nil {
			t.Fatal(err)
		}
	}
	f.Vault(t, "kv1")
	s := serve(t, f)
	w := wire{t: t, s: s, c: f.Officer}
	ask := func(want int, method, host, path, body string) (map[string]any, string) {
		t.Helper()
		res, got := w.send(method, host, path+"?api-version=7.5", body)
		var out map[string]any
		if res.StatusCode != want || json.Unmarshal([]byte(got), &out) != nil {
			t.Fatalf("%s %s: %d, want %d: %s", method, path, res.StatusCode, want, got)
		}
		return out, res.Header.Get("Azure-AsyncOperation")
	}
	inner := func(answer map[string]any) any {
		e := answer["error"].(map[string]any)
		if i, ok := e["innererror"].(map[string]any); ok {
			return i["code"]
		}
		return nil
	}
	const hsm2 = "hsm2.managedhsm.localhost"
	answer, _ := ask(403, "GET", hsm1, "/keys", "")
	if inner(answer) != "HSMNotActivated" {
		t.Errorf("before activation: %v", answer)
	}
	ask(404, "POST", "kv1.vault.localhost", "/securitydomain/download", "{}")
	ask(404, "GET", hsm1, "/securitydomain/download/pending", "")
	ask(404, "GET", hsm1, "/securitydomain/upload/pending", "")

	var officers []securitydomain.Officer
	var keys []map[string]any
	for n := range 3 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(n + 1)), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, _ := x509.ParseCertificate(der)
		officers = append(officers, securitydomain.Officer{Certificate: cert, Key: key})
		sum := sha256.Sum256(der)
		keys = append(keys, map[string]any{ // as az sends it: without a kid
			"kty": "RSA", "key_ops": []string{"verify", "encrypt", "wrapKey"}, "alg": "RSA-OAEP-256", "n": b64(key.N.Bytes()), "e": "AQAB",
			"x5c": []string{base64.StdEncoding.EncodeToString(der)}, "x5t#S256": b64(sum[:]),
		})
	}
	request := func(keys []map[string]any, required int) string {
		text, err := json.Marshal(map[string]any{"certificates": keys, "required": required})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	ask(400, "POST", hsm1, "/securitydomain/download", request(keys[:2], 2))
	ask(400, "POST", hsm1, "/securitydomain/download", request(keys, 4))
	ask(400, "POST", hsm1, "/securitydomain/download", request([]map[string]any{keys[0], keys[1], keys[0]}, 2))
	forged := map[string]any{}
	for k, v := range keys[2] {
		forged[k] = v
	}
	forged["n"] = keys[0]["n"]
	ask(400, "POST", hsm1, "/securitydomain/download", request([]map[string]any{keys[0], keys[1], forged}, 2))

	taken, at := ask(202, "POST", hsm1, "/securitydomain/download", request(keys, 2))
	if !strings.HasPrefix(at, "https://hsm1.managedhsm.localhost:"+s.Port+"/securitydomain/download/pending?api-version=7.5") {
		t.Errorf("status at %q", at)
	}
	if st, _ := ask(200, "GET", hsm1, "/securitydomain/download/pending", ""); st["status"] != "Success" {
		t.Errorf("status %v", st)
	}
	ask(404, "GET", hsm1, "/keys/k", "")

	transfer, _ := ask(200, "GET", hsm2, "/securitydomain/upload", "")
	var jwk struct {
		Chain []string `json:"x5c"`
	}
	if err := json.Unmarshal([]byte(transfer["transfer_key"].(string)), &jwk); err != nil || transfer["key_format"] != "jwk" {
		t.Fatalf("transfer key %v: %v", transfer, err)
	}
	der, _ := base64.StdEncoding.DecodeString(jwk.Chain[0])
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := ask(200, "GET", hsm2, "/securitydomain/upload/pending", ""); st["status"] != "InProgress" {
		t.Errorf("status %v", st)
	}
	secret, err := securitydomain.Open([]byte(taken["value"].(string)), officers[:2])
	if err != nil {
		t.Fatal(err)
	}
	blob, err := securitydomain.Wrap(secret, cert)
	if err != nil {
		t.Fatal(err)
	}
	value, _ := json.Marshal(map[string]string{"value": string(blob)})
	ask(400, "POST", hsm2, "/securitydomain/upload", `{"value":"{}"}`)
	ask(202, "POST", hsm2, "/securitydomain/upload", string(value))
	ask(409, "POST", hsm2, "/securitydomain/upload", string(value))
	ask(409, "GET", hsm2, "/securitydomain/upload", "")
	if st, _ := ask(200, "GET", hsm2, "/securitydomain/upload/pending", ""); st["status"] != "Success" {
		t.Errorf("status %v", st)
	}
}
