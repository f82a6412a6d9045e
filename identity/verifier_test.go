package identity_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

const (
	tenantA  identity.TenantID = "11111111-1111-4111-8111-111111111111"
	tenantB  identity.TenantID = "22222222-2222-4222-8222-222222222222"
	object                     = "33333333-3333-4333-8333-333333333333"
	app                        = "44444444-4444-4444-8444-444444444444"
	issuerA                    = "https://login.example/a/v2.0"
	issuerB                    = "https://login.example/b/v2.0"
	audience                   = "https://vault.example:8443"
)

var epoch = time.Unix(1_800_000_000, 0)

// keys are shared by all tests: making RSA keys is slow.
var keys = sync.OnceValue(func() (k struct {
	rsa, other, small *rsa.PrivateKey
	ec, ec384         *ecdsa.PrivateKey
}) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.other, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.small, err = rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	k.ec384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	return k
})

// fields are those of a token's header or body.
type fields = map[string]any

func goodClaims() fields {
	return fields{
		"iss": issuerA, "aud": audience, "tid": tenantA, "oid": object, "sub": object, "appid": app, "idtyp": "app",
		"iat": epoch.Unix(), "nbf": epoch.Unix(), "exp": epoch.Add(time.Hour).Unix(), "jti": "x",
	}
}

// sign makes a token with any header and claims: it must be able to make bad ones.
func sign(t testing.TB, alg jose.SignatureAlgorithm, key any, header, claims fields) string {
	t.Helper()
	h := fields{"alg": alg, "typ": "JWT"}
	maps.Copy(h, header)
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	input := part(h) + "." + part(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(signature(t, alg, key, []byte(input)))
}

func signature(t testing.TB, alg jose.SignatureAlgorithm, key any, input []byte) []byte {
	t.Helper()
	sum := crypto.SHA256.New()
	sum.Write(input)
	digest := sum.Sum(nil)
	var sig []byte
	var err error
	switch alg {
	case jose.RS256:
		sig, err = rsa.SignPKCS1v15(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA256, digest)
	case jose.PS256:
		sig, err = rsa.SignPSS(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: 32})
	case jose.ES256:
		r, s, e := ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), digest)
		err = e
		if err == nil {
			sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	case jose.HS256:
		signer, e := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: key}, nil)
		if e != nil {
			t.Fatal(e)
		}
		jws, e := signer.Sign(input)
		if err = e; e == nil {
			sig = jws.Signatures[0].Signature
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func newVerifier(t testing.TB, now func() time.Time, standing identity.Standing) *identity.Verifier {
	t.Helper()
	k := keys()
	v, err := identity.NewVerifier(now,
		identity.TrustedIssuer{Issuer: issuerA, Tenant: tenantA, Standing: standing, Keys: identity.StaticKeys{
			{ID: "rsa", Key: &k.rsa.PublicKey}, {ID: "bound", Algorithm: jose.PS256, Key: &k.rsa.PublicKey},
			{ID: "ec", Key: &k.ec.PublicKey}, {ID: "small", Key: &k.small.PublicKey}, {ID: "ec384", Key: &k.ec384.PublicKey},
		}},
		identity.TrustedIssuer{Issuer: issuerB, Tenant: tenantB, Keys: identity.StaticKeys{{ID: "other", Key: &k.other.PublicKey}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerify(t *testing.T) {
	k := keys()
	v := newVerifier(t, func() time.Time { return epoch }, nil)
	token := sign(t, jose.RS256, k.rsa, fields{"kid": "rsa"}, goodClaims())
	got, err := v.Verify(t.Context(), token, "https://other", audience+"/")
	want := identity.Caller{
		Tenant: tenantA, Principal: object, Application: app, Type: identity.ServicePrincipal, Expires: epoch.Add(time.Hour),
		Issuance: identity.Issuance{Issuer: issuerA},
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	for _, c := range []struct {
		alg jose.SignatureAlgorithm
		key any
		kid string
	}{{jose.PS256, k.rsa, "rsa"}, {jose.PS256, k.rsa, "bound"}, {jose.ES256, k.ec, "ec"}} {
		if _, err := v.Verify(t.Context(), sign(t, c.alg, c.key, fields{"kid": c.kid}, goodClaims()), audience); err != nil {
			t.Errorf("%s under %s: %v", c.alg, c.kid, err)
		}
	}
	user := goodClaims()
	delete(user, "idtyp")
	user["sub"], user["groups"], user["aud"] = "pairwise", []string{app, "not an id"}, []string{"x", audience}
	got, err = v.Verify(t.Context(), sign(t, jose.RS256, k.rsa, fields{"kid": "rsa"}, user), audience)
	if err != nil || got.Type != identity.User || !cmp.Equal(got.Subjects(), []identity.PrincipalID{object, app}) {
		t.Errorf("a user's token: %+v, %v", got, err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	k := keys()
	v := newVerifier(t, func() time.Time { return epoch }, nil)
	with := func(changes fields) fields {
		c := goodClaims()
		for name, value := range changes {
			if value == nil {
				delete(c, name)
			} else {
				c[name] = value
			}
		}
		return c
	}
	rs := func(header, claims fields) string { return sign(t, jose.RS256, k.rsa, header, claims) }
	kid := fields{"kid": "rsa"}
	good := rs(kid, goodClaims())
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	der, _ := json.Marshal(jose.JSONWebKey{Key: &k.rsa.PublicKey})
	foreign := jose.JSONWebKey{Key: &k.other.PublicKey, KeyID: "rsa"}
	twice := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"` + issuerA + `","iss":"` + issuerA + `"}`))
	input := parts[0] + "." + twice

	for name, token := range map[string]string{
		"empty":                    "",
		"garbage":                  "a.b.c",
		"no signature":             parts[0] + "." + parts[1] + ".",
		"two parts":                parts[0] + "." + parts[1],
		"JSON serialisation":       `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"newline inside":           good[:20] + "\n" + good[20:],
		"too large":                good + strings.Repeat("A", 20000),
		"flipped":                  good[:len(good)-2] + "AA",
		"alg none":                 none + "." + parts[1] + ".",
		"alg none with signature":  none + "." + parts[1] + "." + parts[2],
		"HMAC with the public key": sign(t, jose.HS256, der, kid, goodClaims()),
		"another's key":            sign(t, jose.RS256, k.other, kid, goodClaims()),
		"another's key and name":   sign(t, jose.RS256, k.other, fields{"kid": "other"}, goodClaims()),
		"unknown key":              rs(fields{"kid": "nobody"}, goodClaims()),
		"no key named, several":    rs(nil, goodClaims()),
		"key bound to PS256":       rs(fields{"kid": "bound"}, goodClaims()),
		"RSA 1024":                 sign(t, jose.RS256, k.small, fields{"kid": "small"}, goodClaims()),
		"algorithm of another key": rs(fields{"kid": "ec"}, goodClaims()),
		"crit":                     rs(fields{"kid": "rsa", "crit": []string{"x"}, "x": 1}, goodClaims()),
		"crit of b64":              rs(fields{"kid": "rsa", "crit": []string{"b64"}, "b64": true}, goodClaims()),
		"embedded jwk":             sign(t, jose.RS256, k.other, fields{"kid": "rsa", "jwk": foreign}, goodClaims()),
		"jku":                      sign(t, jose.RS256, k.other, fields{"kid": "rsa", "jku": "https://evil.example/keys"}, goodClaims()),
		"x5u":                      sign(t, jose.RS256, k.other, fields{"kid": "rsa", "x5u": "https://evil.example/cert"}, goodClaims()),
		"claim twice":              input + "." + base64.RawURLEncoding.EncodeToString(signature(t, jose.RS256, k.rsa, []byte(input))),
		"unknown issuer":           rs(kid, with(fields{"iss": "https://evil.example"})),
		"issuer with a slash":      rs(kid, with(fields{"iss": issuerA + "/"})),
		"issuer of another tenant": rs(kid, with(fields{"iss": issuerB, "tid": tenantB})),
		"another tenant":           rs(kid, with(fields{"tid": tenantB})),
		"no tenant":                rs(kid, with(fields{"tid": nil})),
		"no object":                rs(kid, with(fields{"oid": nil})),
		"object not an id":         rs(kid, with(fields{"oid": "admin"})),
		"other audience":           rs(kid, with(fields{"aud": "https://fabric.example"})),
		"audience as a prefix":     rs(kid, with(fields{"aud": audience + "/x"})),
		"no audience":              rs(kid, with(fields{"aud": nil})),
		"empty audience":           rs(kid, with(fields{"aud": ""})),
		"AUD instead of aud":       rs(kid, with(fields{"aud": nil, "AUD": audience})),
		"no exp":                   rs(kid, with(fields{"exp": nil})),
		"no nbf":                   rs(kid, with(fields{"nbf": nil})),
		"exp as text":              rs(kid, with(fields{"exp": "never"})),
		"exp beyond time":          rs(kid, with(fields{"exp": 1e300})),
		"expired":                  rs(kid, with(fields{"exp": epoch.Add(-identity.Skew).Unix()})),
		"not yet valid":            rs(kid, with(fields{"nbf": epoch.Add(identity.Skew + time.Second).Unix()})),
	} {
		c, err := v.Verify(t.Context(), token, audience, "")
		if fault.ReasonOf(err) != fault.Unauthenticated || c.Principal != "" {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		if err != nil && len(token) > 20 && strings.Contains(err.Error(), token[:20]) {
			t.Errorf("%s: the error repeats the token", name)
		}
	}
	if _, err := v.Verify(t.Context(), good, audience); err != nil {
		t.Errorf("the token that all of these were made from: %v", err)
	}
	if _, err := v.Verify(t.Context(), good); fault.ReasonOf(err) != fault.Unauthenticated {
		t.Errorf("for no audience at all: %v", err)
	}
	for name, changes := range map[string]fields{
		"expired within the skew":       {"exp": epoch.Add(-identity.Skew + time.Second).Unix()},
		"not yet valid within the skew": {"nbf": epoch.Add(identity.Skew).Unix()},
	} {
		if _, err := v.Verify(t.Context(), rs(kid, with(changes)), audience); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whoever asks later, without a token, hears from the issuers of the tenant: all that
// the one knows who counts, and always the one who does not.
func TestIssuances(t *testing.T) {
	var standing error
	v := newVerifier(t, nil, standingFunc(func(identity.IssuedToken) error { return standing }))
	if got, err := v.Issuances(t.Context(), tenantA, object); err != nil || len(got) != 1 || got[0] != (identity.Issuance{Issuer: issuerA, Generation: 1}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := v.Issuances(t.Context(), tenantB, object); err != nil || len(got) != 1 || got[0] != (identity.Issuance{Issuer: issuerB}) {
		t.Errorf("where nobody counts: %v, %v", got, err)
	}
	standing = fault.New(fault.Unauthenticated, "disabled")
	if got, err := v.Issuances(t.Context(), tenantA, object); err != nil || len(got) != 0 {
		t.Errorf("of a disabled principal: %v, %v", got, err)
	}
	standing = fault.New(fault.Unavailable, "no answer")
	if _, err := v.Issuances(t.Context(), tenantA, object); fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("without an answer: %v", err)
	}
}

func TestVerifierConfiguration(t *testing.T) {
	good := identity.TrustedIssuer{Issuer: issuerA, Tenant: tenantA, Keys: identity.StaticKeys{}}
	for name, issuers := range map[string][]identity.TrustedIssuer{
		"twice":     {good, good},
		"no name":   {{Tenant: tenantA, Keys: identity.StaticKeys{}}},
		"no keys":   {{Issuer: issuerA, Tenant: tenantA}},
		"no tenant": {{Issuer: issuerA, Keys: identity.StaticKeys{}}},
	} {
		if _, err := identity.NewVerifier(nil, issuers...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A standing that says what it is told to.
type standingFunc func(identity.IssuedToken) error

func (f standingFunc) Stands(_ context.Context, t identity.IssuedToken) error { return f(t) }

func (f standingFunc) Generation(_ context.Context, t identity.TenantID, p identity.PrincipalID) (int64, error) {
	return 1, f(identity.IssuedToken{Tenant: t, Principal: p})
}

func TestCachedTokens(t *testing.T) {
	now := epoch
	var standing error
	v := newVerifier(t, func() time.Time { return now }, standingFunc(func(identity.IssuedToken) error { return standing }))
	token := sign(t, jose.RS256, keys().rsa, fields{"kid": "rsa"}, goodClaims())
	verify := func(audiences ...string) fault.Reason {
		_, err := v.Verify(t.Context(), token, audiences...)
		return fault.ReasonOf(err)
	}
	for range 2 {
		if r := verify(audience); r != "" {
			t.Fatal(r)
		}
	}
	if v.Cached() != 1 {
		t.Errorf("%d tokens cached", v.Cached())
	}
	if r := verify("https://fabric.example"); r != fault.Unauthenticated {
		t.Errorf("a cached token for another audience: %q", r)
	}
	standing = fault.New(fault.Unauthenticated, "disabled")
	if r := verify(audience); r != fault.Unauthenticated {
		t.Errorf("a cached token of a disabled principal: %q", r)
	}
	for _, announced := range []any{"cp1", []string{"x", "CP1"}} {
		c := goodClaims()
		c["xms_cc"] = announced
		_, err := v.Verify(t.Context(), sign(t, jose.RS256, keys().rsa, fields{"kid": "rsa"}, c), audience)
		if fault.ReasonOf(err) != fault.TokenRevoked {
			t.Errorf("a voided token of a client that announced %v: %v", announced, err)
		}
	}
	standing = fault.New(fault.Unavailable, "no answer")
	if r := verify(audience); r != fault.Unavailable {
		t.Errorf("nobody knows whether it stands: %q", r)
	}
	standing = nil
	now = epoch.Add(time.Hour + identity.Skew)
	if r := verify(audience); r != fault.Unauthenticated {
		t.Errorf("a cached token after its end: %q", r)
	}
	now = epoch
	v.Limit(16)
	for i := range 100 {
		c := goodClaims()
		c["jti"] = strings.Repeat("x", i)
		if _, err := v.Verify(t.Context(), sign(t, jose.ES256, keys().ec, fields{"kid": "ec"}, c), audience); err != nil {
			t.Fatal(err)
		}
		if v.Cached() > 16 {
			t.Fatalf("%d tokens cached, the limit is 16", v.Cached())
		}
	}
}

type brokenKeys struct{}

func (brokenKeys) Keys(context.Context, string) ([]identity.PublicKey, error) {
	return nil, errors.New("no route to host")
}

func TestNoKeysIsNoAnswer(t *testing.T) {
	v, err := identity.NewVerifier(func() time.Time { return epoch }, identity.TrustedIssuer{Issuer: issuerA, Tenant: tenantA, Keys: brokenKeys{}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(t.Context(), sign(t, jose.RS256, keys().rsa, fields{"kid": "rsa"}, goodClaims()), audience)
	if fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("%v", err)
	}
}

func FuzzVerify(f *testing.F) {
	k := keys()
	good := sign(f, jose.ES256, k.ec, fields{"kid": "ec"}, goodClaims())
	f.Add(good)
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(strings.Replace(good, ".", "..", 1))
	v := newVerifier(f, func() time.Time { return epoch }, nil)
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Verify(t.Context(), token, audience)
		if err == nil && !strings.HasPrefix(token, good[:strings.LastIndex(good, ".")]) {
			t.Fatalf("a token that nobody signed holds for %+v", c)
		}
		if err != nil && fault.ReasonOf(err) != fault.Unauthenticated {
			t.Fatal(err)
		}
	})
}

func FuzzParseKeySet(f *testing.F) {
	k := keys()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &k.rsa.PublicKey, KeyID: "a"}, {Key: &k.ec.PublicKey, KeyID: "b"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(set)
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		parsed, err := identity.ParseKeySet(b)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, p := range parsed {
			switch p.Key.(type) {
			case *rsa.PublicKey, *ecdsa.PublicKey:
			default:
				t.Fatalf("a key of type %T", p.Key)
			}
			if p.ID != "" && seen[p.ID] {
				t.Fatalf("two keys named %q", p.ID)
			}
			seen[p.ID] = true
		}
	})
}

// What validating a token costs: once, with its signature, and while it is remembered.
func BenchmarkVerify(b *testing.B) {
	for _, remembered := range []bool{false, true} {
		b.Run(fmt.Sprintf("remembered=%t", remembered), func(b *testing.B) {
			v := newVerifier(b, func() time.Time { return epoch }, nil)
			tokens := make([]string, 512)
			for i := range tokens {
				claims := goodClaims()
				claims["jti"] = fmt.Sprint(i)
				tokens[i] = sign(b, jose.RS256, keys().rsa, fields{"kid": "rsa"}, claims)
			}
			if !remembered {
				v.Limit(1) // the next token drives it out
			}
			for i := 0; b.Loop(); i++ {
				if _, err := v.Verify(b.Context(), tokens[i%len(tokens)], audience); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
