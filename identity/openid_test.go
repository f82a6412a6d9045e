package identity_test

import (
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// An issuer that is none of Entra's kind speaks for one tenant, by configuration.
func TestOpenIDIssuer(t *testing.T) {
	const realm = "https://sso.example/realms/data"
	k := keys()
	v, err := identity.NewVerifier(func() time.Time { return epoch },
		identity.TrustedIssuer{Issuer: realm, Tenant: tenantA, OpenID: true, Audience: "kluis", Keys: identity.StaticKeys{{ID: "rsa", Key: &k.rsa.PublicKey}}},
		identity.TrustedIssuer{Issuer: issuerB, Tenant: tenantB, Keys: identity.StaticKeys{{ID: "rsa", Key: &k.rsa.PublicKey}}})
	if err != nil {
		t.Fatal(err)
	}
	plain := func() fields {
		return fields{"iss": realm, "aud": "kluis", "sub": "alice", "azp": "portal", "iat": epoch.Unix(), "exp": epoch.Add(time.Hour).Unix()}
	}
	for name, c := range map[string]struct {
		change func(fields)
		want   fault.Reason
		who    identity.PrincipalID
	}{
		"as it is":           {func(fields) {}, "", identity.SubjectID(realm, "alice")},
		"a UUID":             {func(c fields) { c["sub"] = object }, "", object},
		"the service's name": {func(c fields) { c["aud"] = audience }, "", identity.SubjectID(realm, "alice")},
		"its own object":     {func(c fields) { c["oid"] = object }, "", object},
		"the tenant":         {func(c fields) { c["tid"] = tenantA }, "", identity.SubjectID(realm, "alice")},
		"another tenant":     {func(c fields) { c["tid"] = tenantB }, fault.Unauthenticated, ""},
		"another audience":   {func(c fields) { c["aud"] = "account" }, fault.Unauthenticated, ""},
		"no audience":        {func(c fields) { c["aud"] = "" }, fault.Unauthenticated, ""},
		"no subject":         {func(c fields) { delete(c, "sub") }, fault.Unauthenticated, ""},
		"no times":           {func(c fields) { delete(c, "iat") }, fault.Unauthenticated, ""},
		"no end":             {func(c fields) { delete(c, "exp") }, fault.Unauthenticated, ""},
		"an end that passed": {func(c fields) { c["exp"] = epoch.Add(-time.Hour).Unix() }, fault.Unauthenticated, ""},
		"the other issuer":   {func(c fields) { c["iss"] = issuerB }, fault.Unauthenticated, ""},
		"the other's shared audience": {func(c fields) {
			c["iss"], c["tid"], c["oid"], c["nbf"] = issuerB, tenantB, object, epoch.Unix()
		}, fault.Unauthenticated, ""},
	} {
		claims := plain()
		c.change(claims)
		got, err := v.Verify(t.Context(), sign(t, jose.RS256, k.rsa, fields{"kid": "rsa"}, claims), audience)
		if fault.ReasonOf(err) != c.want || got.Principal != c.who {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err == nil && (got.Tenant != tenantA || got.Application != "portal") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if a, b := identity.SubjectID(realm, "alice"), identity.SubjectID("https://other.example", "alice"); a == b {
		t.Error("two issuers' subjects are one principal")
	}
	if _, err := identity.ParsePrincipalID(string(identity.SubjectID(realm, "alice"))); err != nil {
		t.Error(err)
	}
}
