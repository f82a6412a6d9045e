package kek_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type tokenFunc func(policy.TokenRequestOptions) string

func (f tokenFunc) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: f(o), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// FuzzReply lets a vault say anything: in its challenge, and then in an answer with
// any status, Retry-After and body. It must not crash us, get a token for anything
// else, pass for a yes about another key, or have a no read out of anything but 401,
// 403 and 404.
func FuzzReply(f *testing.F) {
	const (
		audience = "https://vault.azure.net"
		kid      = kek.KID("https://contoso.vault.azure.net/keys/k/" + version)
	)
	good := fmt.Sprintf(`Bearer authorization="https://login.example/%s", resource="%s"`, kektest.Tenant, audience)
	f.Add(good, 200, "", fmt.Sprintf(`{"kid":%q,"value":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}`, kid))
	f.Add(good, 200, "", fmt.Sprintf(`{"key":{"kid":%q,"kty":"RSA","n":"AQAB","e":"AQAB"},"attributes":{"nbf":1e99}}`, kid))
	f.Add(good, 403, "", `{"error":{"code":"Forbidden","innererror":{"code":"KeyDisabled"}}}`)
	f.Add(good, 429, "Wed, 21 Oct 2099 07:28:00 GMT", `{"error":null}`)
	f.Add(good+`, error="insufficient_claims", claims="e30="`, 401, "", "")
	f.Add(good, 200, "", `{"cursor":"1","changes":[{}]}`)
	f.Add(`Bearer authorization="https://x", resource="https://vault.azure.net"`, 200, "", "")
	f.Add(`Bearer authorization="https://login/a=b/c", resource="https://vault.azure.net"`, 401, "-1", "[")
	f.Fuzz(func(t *testing.T, challenge string, status int, retry, body string) {
		tokens := 0
		c := kek.NewClient(kek.Config{
			Policy: kek.Policy{Suffixes: kek.AzureSuffixes()},
			Credential: func(tenant string) (azcore.TokenCredential, error) {
				return tokenFunc(func(o policy.TokenRequestOptions) string {
					tokens++
					if tenant != kektest.Tenant || o.TenantID != tenant || len(o.Scopes) != 1 || o.Scopes[0] != audience+"/.default" {
						t.Fatalf("challenge %q: token asked for %+v in %s", challenge, o, tenant)
					}
					return "token"
				}), nil
			},
		})
		c.Via(roundTrip(func(r *http.Request) (*http.Response, error) {
			res := &http.Response{StatusCode: status, Header: make(http.Header), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
				Body: io.NopCloser(strings.NewReader(body))}
			res.Header.Set("Retry-After", retry)
			if r.Header.Get("Authorization") == "" {
				res.StatusCode = http.StatusUnauthorized
				res.Body = http.NoBody
			}
			if res.StatusCode == http.StatusUnauthorized {
				res.Header.Set("WWW-Authenticate", challenge)
			}
			return res, nil
		}))
		check := func(err error) {
			if err == nil {
				if status != http.StatusOK {
					t.Fatalf("%d taken for a yes", status)
				}
				return
			}
			reason := fault.ReasonOf(err)
			if reason.RefusedByVault() && (tokens == 0 || status != 401 && status != 403 && status != 404) {
				t.Fatalf("%d after %d tokens taken for a no: %v", status, tokens, err)
			}
			if a := kek.AnswerOf(err); a == nil || a.RetryAfter < 0 || a.RetryAfter > time.Hour {
				t.Fatalf("answer %+v of %v", a, err)
			}
			if len(err.Error()) > 1000 {
				t.Fatalf("error of %d bytes", len(err.Error()))
			}
		}
		got, err := c.Unwrap(t.Context(), kektest.Tenant, kid, kek.A256KW, make([]byte, 40))
		check(err)
		if err == nil && (len(got) != kek.ShareSize || !bytes.Contains([]byte(body), []byte("kid"))) && !strings.Contains(body, `\u`) {
			t.Fatalf("Unwrap = %d bytes of %q", len(got), body)
		}
		info, err := c.Get(t.Context(), kektest.Tenant, kid)
		check(err)
		if err == nil && info.KID != kid {
			t.Fatalf("Get = %v", info.KID)
		}
		_ = info.Usable(time.Now())
		id, err := kek.ParseKeyIdentifier(kid.Key(), c.Policy())
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Changes(t.Context(), kektest.Tenant, id, "1", 0)
		check(err)
		if err != nil && fault.ReasonOf(err).RefusedByVault() {
			t.Fatalf("the feed revoked: %v", err)
		}
	})
}
