package keyvault_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/api/keyvault"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

var update = flag.Bool("update", false, "write testdata")

// A wire sends requests as a client that has no SDK.
type wire struct {
	t *testing.T
	s *vaulttest.Server
	c identity.Caller
}

func (w wire) send(method, host, path, body string, headers ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+host+":"+w.s.Port+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if w.c.Principal != "" {
		audience := "https://vault.localhost:" + w.s.Port
		if _, suffix, ok := strings.Cut(host, "."); ok && strings.HasPrefix(suffix, "managedhsm.") {
			audience = "https://" + suffix + ":" + w.s.Port
		}
		req.Header.Set("Authorization", "Bearer "+vaulttest.Tokens{}.Token(w.c, audience))
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := w.s.Client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, string(b)
}

const kv1 = "kv1.vault.localhost"

var normal = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`localhost:\d+`), "localhost:PORT"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "VERSION"},
	{regexp.MustCompile(`"n":"[^"]+"`), `"n":"MODULUS"`},
	{regexp.MustCompile(`"value":"[^"]+"`), `"value":"BYTES"`},
	{regexp.MustCompile(`\b1[0-9]{9}\b`), "0"},
	{regexp.MustCompile(`"cursor":"[^"]+"`), `"cursor":"CURSOR"`},
	{regexp.MustCompile(`skiptoken=[\w-]+`), "skiptoken=TOKEN"},
	{regexp.MustCompile(`under request [\w-]+`), "under request ID"},
}

// golden compares a body, with what changes from run to run replaced.
func golden(t *testing.T, name string, status int, body string) {
	t.Helper()
	for _, n := range normal {
		body = n.what.ReplaceAllString(body, n.with)
	}
	var pretty bytes.Buffer
	if body != "" {
		if err := json.Indent(&pretty, []byte(body), "", "  "); err != nil {
			t.Fatalf("%s: %v in %q", name, err, body)
		}
	}
	got := http.StatusText(status) + "\n" + pretty.String() + "\n"
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s: %s", name, d)
	}
}

// Every body that clients see, in the order of a key's life.
func TestGolden(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	s := serve(t, f)
	officer, nobody, stranger := wire{t, s, f.Officer}, wire{t, s, identity.Caller{}}, wire{t, s, vaulttest.Caller(9)}
	step := func(name string, w wire, method, path, body string) {
		t.Helper()
		if !strings.Contains(path, "?") {
			path += "?api-version=7.4"
		}
		res, got := w.send(method, kv1, path, body)
		golden(t, name, res.StatusCode, got)
	}
	step("challenge", nobody, "POST", "/keys/k/create", "")
	step("create", officer, "POST", "/keys/k/create", `{"kty":"RSA","key_size":2048,"attributes":{"enabled":true},"tags":{"a":"b"}}`)
	step("create-curve", officer, "POST", "/keys/k/create", `{"kty":"EC","crv":"P-224"}`)
	step("create-1024", officer, "POST", "/keys/k/create", `{"kty":"RSA","key_size":1024}`)
	step("create-exportable", officer, "POST", "/keys/k/create", `{"kty":"RSA","attributes":{"exportable":true}}`)
	step("create-malformed", officer, "POST", "/keys/k/create", `{"kty":`)
	step("create-name", officer, "POST", "/keys/k_1/create", `{"kty":"RSA"}`)
	step("get", officer, "GET", "/keys/k/", "")
	step("get-absent", officer, "GET", "/keys/absent", "")
	step("get-version", officer, "GET", "/keys/k/nonsense", "")
	step("get-denied", stranger, "GET", "/keys/k", "")
	step("wrap", officer, "POST", "/keys/k/wrapkey", `{"alg":"RSA-OAEP-256","value":"AAAA"}`)
	step("wrap-algorithm", officer, "POST", "/keys/k/wrapkey", `{"alg":"A256KW","value":"AAAA"}`)
	step("wrap-rsa15", officer, "POST", "/keys/k/wrapkey", `{"alg":"RSA1_5","value":"AAAA"}`)
	step("wrap-base64", officer, "POST", "/keys/k/wrapkey", `{"alg":"RSA-OAEP-256","value":"+/"}`)
	step("unwrap-damaged", officer, "POST", "/keys/k/unwrapkey", `{"alg":"RSA-OAEP-256","value":"AAAA"}`)
	step("sign", officer, "POST", "/keys/k/sign", `{"alg":"RS256","value":"AAAA"}`)
	step("import", officer, "PUT", "/keys/k", `{}`)
	step("restore", officer, "POST", "/keys/restore", `{"value":"AAAA"}`)
	step("policy", officer, "GET", "/keys/k/rotationpolicy", ``)
	step("policy-early", officer, "PUT", "/keys/k/rotationpolicy", `{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P6D"},"action":{"type":"rotate"}}]}`)
	step("release", officer, "POST", "/keys/k/release", `{"target":"x"}`)
	step("rng", officer, "POST", "/rng", `{"count":8}`)
	step("update", officer, "PATCH", "/keys/k", `{"attributes":{"enabled":false,"nbf":2000000000,"exp":2000000001},"key_ops":["unwrapKey","wrapKey"]}`)
	step("unwrap-disabled", officer, "POST", "/keys/k/unwrapkey", `{"alg":"RSA-OAEP-256","value":"AAAA"}`)
	step("wrap-early", officer, "POST", "/keys/k/wrapkey", `{"alg":"RSA-OAEP-256","value":"AAAA"}`)
	step("decrypt-forbidden", officer, "POST", "/keys/k/decrypt", `{"alg":"RSA-OAEP-256","value":"AAAA"}`)
	step("list", officer, "GET", "/keys", "")
	step("rotate", officer, "POST", "/keys/k/rotate", "")
	step("versions", officer, "GET", "/keys/k/versions?api-version=7.4&maxresults=1", "")
	step("maxresults", officer, "GET", "/keys?api-version=7.4&maxresults=26", "")
	step("skiptoken", officer, "GET", "/keys?api-version=7.4&$skiptoken=!", "")
	step("delete", officer, "DELETE", "/keys/k", "")
	step("create-deleted", officer, "POST", "/keys/k/create", `{"kty":"RSA"}`)
	step("deleted", officer, "GET", "/deletedkeys/k", "")
	step("deleted-list", officer, "GET", "/deletedkeys", "")
	step("deleted-absent", officer, "GET", "/deletedkeys/absent", "")
	step("recover", officer, "POST", "/deletedkeys/k/recover", "")
	step("no-version", officer, "GET", "/keys?x=y", "")
	step("unknown-version", officer, "GET", "/keys?api-version=6.0", "")
	step("method", officer, "PUT", "/keys", "")
	step("path", officer, "GET", "/secrets", "")
	step("changes", officer, "GET", "/changes?wait=0", "")
	step("changes-wait", officer, "GET", "/changes?wait=x", "")
}

func TestChallenge(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	s := serve(t, f)
	want := `Bearer authorization="https://login.localhost:` + s.Port + `/` + string(vaulttest.Tenant) + `", resource="https://vault.localhost:` + s.Port + `"`
	anonymous := wire{t, s, identity.Caller{}}
	for name, send := range map[string]func() *http.Response{
		"no token": func() *http.Response { r, _ := anonymous.send("POST", kv1, "//nonsense", "{"); return r },
		"bad token": func() *http.Response {
			r, _ := anonymous.send("GET", kv1, "/keys", "", "Authorization", "Bearer x")
			return r
		},
		"other audience": func() *http.Response {
			r, _ := anonymous.send("GET", kv1, "/keys", "", "Authorization", "Bearer "+vaulttest.Tokens{}.Token(f.Officer, "https://management.localhost"))
			return r
		},
		"bare host": func() *http.Response { r, _ := anonymous.send("GET", "localhost", "/keys", ""); return r },
	} {
		if r := send(); r.StatusCode != 401 || r.Header.Get("WWW-Authenticate") != want {
			t.Errorf("%s: %d, %s", name, r.StatusCode, r.Header.Get("WWW-Authenticate"))
		}
	}
	r, _ := wire{t, s, f.Officer}.send("GET", "nokv.vault.localhost", "/keys?api-version=7.4", "")
	if r.StatusCode != 404 || r.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("unknown vault: %d", r.StatusCode)
	}
}

// Case, slashes, versions and the method's override are forgiven as clients need.
func TestForgiving(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	b := f.Key(t, "kv1", "k")
	s := serve(t, f)
	w := wire{t, s, f.Officer}
	body := `{"alg":"RSA-OAEP-256","value":"AAAA"}`
	version := string(b.Version.Version)
	for _, c := range []struct {
		method, host, path string
		status             int
		headers            []string
	}{
		{"POST", kv1, "/keys/k/wrapKey?api-version=7.0", 200, nil},
		{"POST", kv1, "/Keys/K/" + version + "/WRAPKEY/?api-version=2025-07-01", 200, nil},
		{"POST", kv1, "//keys//k//wrapkey//?api-version=7.6", 200, nil},
		{"POST", kv1, "/keys/k/" + strings.ToUpper(version) + "/wrapkey?api-version=7.4-preview.1", 200, nil},
		{"POST", strings.ToUpper(kv1), "/keys/k/wrapkey?api-version=7.4", 200, nil},
		{"POST", "localhost", "/keys/k/wrapkey?api-version=7.4", 200, nil},
		{"POST", kv1, "/keys/k?api-version=7.4", 405, nil},
		{"POST", kv1, "/keys/k?api-version=7.4", 200, []string{"X-HTTP-METHOD", "patch"}},
		{"GET", kv1, "/keys/k?api-version=7.7", 400, nil},
		{"GET", kv1, "/keys/k/" + version + "/x/y?api-version=7.4", 404, nil},
		{"GET", kv1, "/keys/k%2fversions?api-version=7.4", 400, nil},
	} {
		send := body
		if len(c.headers) > 0 {
			send = `{"attributes":{}}`
		}
		if r, got := w.send(c.method, c.host, c.path, send, c.headers...); r.StatusCode != c.status {
			t.Errorf("%s %s%s: %d, want %d: %s", c.method, c.host, c.path, r.StatusCode, c.status, got)
		}
	}
	for _, host := range []string{kv1, "localhost"} {
		if _, got := w.send("GET", host, "/keys/k?api-version=7.4", ""); !strings.Contains(got, `"kid":"https://`+host+":"+s.Port+`/keys/k/`+version) {
			t.Errorf("kid on %s: %s", host, got)
		}
	}
	r, _ := w.send("HEAD", kv1, "/keys?api-version=7.4", "")
	if r.StatusCode != 405 || r.Header.Get("Allow") != "GET" {
		t.Errorf("HEAD: %d, %q", r.StatusCode, r.Header.Get("Allow"))
	}
	r, _ = w.send("GET", kv1, "/keys?api-version=7.4", "")
	for h, want := range map[string]string{
		"x-ms-keyvault-region": "westeurope", "x-ms-keyvault-service-version": "1.9.0.0", "Cache-Control": "no-cache",
		"x-ms-keyvault-network-info": "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;", "X-Content-Type-Options": "nosniff",
	} {
		if got := r.Header.Get(h); got != want {
			t.Errorf("%s: %q, want %q", h, got, want)
		}
	}
	if r.Header.Get("x-ms-request-id") == "" {
		t.Error("no request id")
	}
}

func TestErrorTable(t *testing.T) {
	for _, r := range fault.Reasons() {
		if status, code := keyvault.Row(r); status == 0 || code == "" && status != 304 {
			t.Errorf("%s has no row", r)
		}
	}
	if n := keyvault.RowCount(); n != len(fault.Reasons()) {
		t.Errorf("%d rows for %d reasons", n, len(fault.Reasons()))
	}
}

// A poll over the wire ends when a key is disabled, and not before.
func TestChangesOverTheWire(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	s := serve(t, f)
	w := wire{t, s, f.Officer}
	type feed struct {
		Cursor  string
		Reset   bool
		Changes []struct{ Key, Kind string }
	}
	poll := func(since string) (f feed) {
		res, body := w.send("GET", kv1, "/changes?wait=300&since="+since, "")
		if res.StatusCode != 200 || json.Unmarshal([]byte(body), &f) != nil {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		return f
	}
	start := poll("")
	if !start.Reset || start.Cursor == "" {
		t.Fatalf("first poll: %+v", start)
	}
	told := make(chan feed, 1)
	go func() { told <- poll(start.Cursor) }()
	if r, body := w.send("PATCH", kv1, "/keys/k?api-version=7.4", `{"attributes":{"enabled":false}}`); r.StatusCode != 200 {
		t.Fatal(body)
	}
	got := <-told
	if len(got.Changes) != 1 || got.Changes[0].Key != "k" || got.Changes[0].Kind != "keyDisabled" || got.Reset {
		t.Errorf("told %+v", got)
	}
}
