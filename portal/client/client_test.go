package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/portal/client"
)

type tokens struct{}

func (tokens) Refused(string, string) {}

func (tokens) Token(_ context.Context, audience string) (string, error) {
	return "for " + audience, nil
}

// TestVault checks that a key's URL, which is another party's word, leads a user's token
// only to vaults that the portal knows.
func TestVault(t *testing.T) {
	c := client.New(client.Parties{
		VaultSuffix: "vault.example.com:8443", HSMSuffix: "managedhsm.example.com:8443",
		Keys: client.Party{Audience: "vault"}, HSMs: client.Party{Audience: "hsm"},
	}, http.DefaultClient, tokens{})
	for url, want := range map[string][2]string{
		"https://a.vault.example.com:8443/keys/k/1":       {"https://a.vault.example.com:8443", "vault"},
		"https://A.Vault.Example.com:8443/keys/k":         {"https://a.vault.example.com:8443", "vault"},
		"https://h.managedhsm.example.com:8443/keys/k":    {"https://h.managedhsm.example.com:8443", "hsm"},
		"https://a.vault.azure.net/keys/k":                {"https://a.vault.azure.net", "vault"},
		"https://h.managedhsm.azure.net/keys/k":           {"https://h.managedhsm.azure.net", "hsm"},
		"http://a.vault.example.com:8443/keys/k":          {},
		"https://a.vault.example.com/keys/k":              {}, // another port
		"https://vault.example.com:8443/keys/k":           {},
		"https://evil.example/keys/k":                     {},
		"https://evilvault.example.com:8443/keys/k":       {},
		"https://a.vault.example.com:8443@evil.example/k": {},
		"https://u:p@a.vault.example.com:8443/keys/k":     {},
		"https://a.vault.azure.net.evil.example/keys/k":   {},
		"": {},
	} {
		address, audience, err := c.Vault(url)
		if address != want[0] || audience != want[1] || (err == nil) != (want[0] != "") {
			t.Errorf("%q: %q, %q, %v", url, address, audience, err)
		}
	}
	if _, _, err := client.New(client.Parties{}, nil, tokens{}).Vault("https://a.b/keys/k"); err == nil {
		t.Error("a portal that knows no vault knows this one")
	}
}

// TestRefusals reads the errors of each of the parties' shapes, and those of an SDK.
func TestRefusals(t *testing.T) {
	var body, header string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer for a" && got != "" { // an SDK asks without one first
			t.Errorf("the token is %q", got)
		}
		w.Header().Set("x-ms-request-id", "r")
		if header != "" {
			w.Header().Set("x-ms-error-code", header)
		}
		w.WriteHeader(403)
		w.Write([]byte(body))
	}))
	defer s.Close()
	party := client.Party{Name: "p", Address: s.URL, Audience: "a"}
	c := client.New(client.Parties{}, s.Client(), tokens{})
	for _, x := range []struct{ body, header, code, message string }{
		{`{"errorCode":"C","message":"m"}`, "", "C", "m"},
		{`{"error":{"code":"C","message":"one\r\ntwo"}}`, "", "C", "one two"},
		{`<Error/>`, "H", "H", "Forbidden."},
		{``, "", "", "Forbidden."},
		{`{"error":"invalid_grant"}`, "", "", "Forbidden."},
	} {
		body, header = x.body, x.header
		var e *client.Error
		if err := c.Call(t.Context(), party, "GET", "/", nil, nil); !errors.As(err, &e) {
			t.Fatalf("%s: %v", x.body, err)
		}
		if e.Code != x.code || e.Message != x.message || e.RequestID != "r" || e.Absent() || e.Unreachable() {
			t.Errorf("%s: %+v", x.body, e)
		}
	}

	body, header = `{"error":{"code":"Forbidden","message":"no\r\nmore"}}`, ""
	keys, err := azkeys.NewClient(s.URL, c.Credential("a"), &azkeys.ClientOptions{ClientOptions: c.Options(), DisableChallengeResourceVerification: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = keys.GetKey(t.Context(), "k", "", nil)
	var e *client.Error
	if !errors.As(client.FromSDK(party, err), &e) || e.Code != "Forbidden" || e.Message != "no more" {
		t.Errorf("%v", client.FromSDK(party, err))
	}
}

// TestPages checks that a listing is followed to its end in either shape, and at its own
// party only.
func TestPages(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RequestURI() {
		case "/a":
			w.Write([]byte(`{"value":[1],"continuationToken":"x/y"}`))
		case "/a?continuationToken=x%2Fy":
			w.Write([]byte(`{"value":[2],"nextLink":"https://elsewhere.example/b?n=1"}`))
		case "/b?n=1":
			w.Write([]byte(`{"value":[3]}`))
		default:
			t.Errorf("asked for %s", r.URL)
		}
	}))
	defer s.Close()
	c := client.New(client.Parties{}, http.DefaultClient, tokens{})
	all, more, err := client.List[int](t.Context(), c, client.Party{Address: s.URL}, "/a", 0)
	if err != nil || more || len(all) != 3 {
		t.Errorf("%v, %t, %v", all, more, err)
	}
	all, more, err = client.List[int](t.Context(), c, client.Party{Address: s.URL}, "/a", 2)
	if err != nil || !more || len(all) != 2 {
		t.Errorf("with a limit: %v, %t, %v", all, more, err)
	}
}

// renewed gives another token when one was refused.
type renewed struct{ n *int }

func (r renewed) Token(context.Context, string) (string, error) { return string(rune('a' + *r.n)), nil }
func (r renewed) Refused(_, token string) {
	if token == string(rune('a'+*r.n)) {
		*r.n++
	}
}

// TestRefusedToken checks that a token that is void before its time is not shown for long,
// and that nobody asks for ever.
func TestRefusedToken(t *testing.T) {
	for holds, want := range map[string]int{"b": 200, "z": 401} {
		asked := 0
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			if r.Header.Get("Authorization") != "Bearer "+holds {
				w.WriteHeader(http.StatusUnauthorized)
			}
		}))
		defer s.Close()
		c := client.New(client.Parties{Fabric: client.Party{Name: "platform", Address: s.URL}}, s.Client(), renewed{new(int)})
		err := c.Call(t.Context(), c.Fabric, http.MethodPost, "/", map[string]string{"a": "b"}, nil)
		got := http.StatusOK
		if e, ok := errors.AsType[*client.Error](err); ok {
			got = e.Status
		}
		if got != want || asked != 2 {
			t.Errorf("%s: %v, asked %d times", holds, err, asked)
		}
	}
}
