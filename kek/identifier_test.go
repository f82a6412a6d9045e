package kek_test

import (
	"errors"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

const version = "0123456789abcdef0123456789abcdef"

var allowed = kek.Policy{
	Suffixes: append(kek.AzureSuffixes(), ".vault.localhost:8443"),
	Hosts:    []string{"localhost:8443", "keys.example.org"},
}

func TestParseKeyIdentifier(t *testing.T) {
	for _, tc := range []struct{ given, vault, name, url string }{
		{"https://contoso.vault.azure.net/keys/orders", "contoso.vault.azure.net", "orders", "https://contoso.vault.azure.net/keys/orders"},
		{"https://contoso.vault.azure.net/keys/orders/", "contoso.vault.azure.net", "orders", "https://contoso.vault.azure.net/keys/orders"},
		{"HTTPS://Contoso.Vault.Azure.NET/keys/Orders", "contoso.vault.azure.net", "Orders", "https://contoso.vault.azure.net/keys/Orders"},
		{"https://contoso.vault.azure.net:443/keys/orders", "contoso.vault.azure.net", "orders", "https://contoso.vault.azure.net/keys/orders"},
		{"https://hsm-1.managedhsm.azure.net/keys/a-b-9", "hsm-1.managedhsm.azure.net", "a-b-9", "https://hsm-1.managedhsm.azure.net/keys/a-b-9"},
		{"https://acme.vault.localhost:8443/keys/k", "acme.vault.localhost:8443", "k", "https://acme.vault.localhost:8443/keys/k"},
		{"https://localhost:8443/keys/k", "localhost:8443", "k", "https://localhost:8443/keys/k"},
		{"https://keys.example.org/keys/k", "keys.example.org", "k", "https://keys.example.org/keys/k"},
		{"https://c.vault.azure.net/keys/" + strings.Repeat("k", 127), "c.vault.azure.net", strings.Repeat("k", 127), "https://c.vault.azure.net/keys/" + strings.Repeat("k", 127)},
	} {
		id, err := kek.ParseKeyIdentifier(tc.given, allowed)
		if err != nil {
			t.Errorf("%s: %v", tc.given, err)
			continue
		}
		if id.String() != tc.given || id.Vault() != tc.vault || id.Name() != tc.name || id.URL() != tc.url || id.IsZero() {
			t.Errorf("%s: String %q, Vault %q, Name %q, URL %q", tc.given, id, id.Vault(), id.Name(), id.URL())
		}
		again, err := kek.ParseKeyIdentifier(id.URL(), allowed)
		if err != nil || !again.Equal(id) {
			t.Errorf("%s: canonical form gives %v, %v", tc.given, again, err)
		}
		kid, err := kek.ParseKID(id.URL()+"/"+version, allowed)
		if err != nil || kid.Version() != version || kid.Key() != tc.url || kid.Vault() != tc.vault || kid.Name() != tc.name {
			t.Errorf("%s: versioned %q, %v", tc.given, kid, err)
		}
	}
}

func TestVersionedIdentifierIsRefusedWithTheVersionlessForm(t *testing.T) {
	_, err := kek.ParseKeyIdentifier("https://contoso.vault.azure.net/keys/orders/"+version, allowed)
	if f := fault.As(err); f.Reason != fault.InvalidKeyID || !strings.Contains(f.Public(), "version") ||
		!strings.Contains(f.Mend, "https://contoso.vault.azure.net/keys/orders,") {
		t.Errorf("%v: %q", err, f.Public())
	}
	for _, s := range []string{"", "/" + version[:31], "/" + strings.ToUpper(version), "/" + version + "0", "/latest", "/" + version + "/"} {
		if kid, err := kek.ParseKID("https://contoso.vault.azure.net/keys/orders"+s, allowed); err == nil {
			t.Errorf("ParseKID took %q", kid)
		}
	}
	if kid := kek.KID("nonsense"); kid.Version()+kid.Name()+kid.Vault()+kid.Key() != "" {
		t.Error("a malformed KID has parts")
	}
}

// TestHostileIdentifiers reads testdata/hostile.txt: one Go string literal's inside
// a line.
func TestHostileIdentifiers(t *testing.T) {
	lines := hostile(t)
	if len(lines) < 200 {
		t.Errorf("only %d hostile identifiers", len(lines))
	}
	for _, s := range lines {
		if id, err := kek.ParseKeyIdentifier(s, allowed); !errors.Is(err, fault.InvalidKeyID) {
			t.Errorf("%q: %q, %v", s, id.URL(), err)
		} else if f := fault.As(err); f.Detail == "" || f.Mend == "" {
			t.Errorf("%q: no help in %v", s, err)
		}
		if kid, err := kek.ParseKID(s+"/"+version, allowed); err == nil {
			t.Errorf("%q: taken with a version as %q", s, kid)
		}
	}
	sorted := slices.Clone(lines)
	slices.Sort(sorted)
	if n := len(slices.Compact(sorted)); n != len(lines) {
		t.Errorf("%d of %d are there twice", len(lines)-n, len(lines))
	}
}

func TestNoPolicyAllowsNothing(t *testing.T) {
	for _, p := range []kek.Policy{{}, {Suffixes: []string{"", ".", "vault.azure.net"}}, {Suffixes: []string{".net"}}} {
		if id, err := kek.ParseKeyIdentifier("https://contoso.vault.azure.net/keys/orders", p); err == nil {
			t.Errorf("%v allows %v", p, id)
		}
	}
}

func TestAudience(t *testing.T) {
	for host, want := range map[string]string{
		"contoso.vault.azure.net":       "https://vault.azure.net",
		"hsm.managedhsm.azure.net":      "https://managedhsm.azure.net",
		"ACME.vault.localhost:8443":     "https://vault.localhost:8443",
		"localhost:8443":                "https://localhost:8443",
		"vault.azure.net":               "",
		"a.b.vault.azure.net":           "",
		"contoso.vault.azure.net.":      "",
		"contoso.vault.azure.net:8443":  "",
		"acme.vault.localhost":          "",
		"xn--bcher-kva.vault.azure.net": "",
	} {
		if got, ok := allowed.Audience(host); got != want || ok != (want != "") {
			t.Errorf("Audience(%q) = %q, %v; want %q", host, got, ok, want)
		}
	}
}

func FuzzParseKeyIdentifier(f *testing.F) {
	for _, s := range hostile(f) {
		f.Add(s)
	}
	f.Add("https://contoso.vault.azure.net/keys/orders")
	f.Add("HTTPS://Contoso.vault.azure.net:443/keys/orders/" + version)
	f.Fuzz(func(t *testing.T, s string) {
		id, err := kek.ParseKeyIdentifier(s, allowed)
		kid, kidErr := kek.ParseKID(s, allowed)
		if err == nil && kidErr == nil {
			t.Fatalf("%q is both versioned and versionless", s)
		}
		if kidErr == nil {
			if string(kid) != s || len(kid.Version()) != 32 {
				t.Fatalf("%q: KID %q", s, kid)
			}
			id, err = kek.ParseKeyIdentifier(kid.Key(), allowed)
		}
		if err != nil {
			if !errors.Is(err, fault.InvalidKeyID) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		// An independent reader sees the same host, and nothing beside host and path.
		u, err := url.Parse(id.URL())
		if err != nil || u.Host != id.Vault() || u.Path != "/keys/"+id.Name() || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("%q: %+v, %v", s, u, err)
		}
		if _, ok := allowed.Audience(u.Host); !ok {
			t.Fatalf("%q: host %q is not allowed", s, u.Host)
		}
	})
}

func hostile(t testing.TB) []string {
	b, err := os.ReadFile("testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		s, err := unescape(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, s)
	}
	return append(all, "")
}

// unescape reads \n, \t, \x00, \u3002 and the like, and leaves other bytes alone.
func unescape(s string) (string, error) {
	var b strings.Builder
	for s != "" {
		r, _, rest, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			return "", err
		}
		if r < 0x80 || !strings.HasPrefix(s, `\x`) {
			b.WriteRune(r)
		} else {
			b.WriteByte(byte(r))
		}
		s = rest
	}
	return b.String(), nil
}
