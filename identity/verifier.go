package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// Skew is how far the clocks of an issuer and of this host may differ.
const Skew = 60 * time.Second

// A TrustedIssuer is an issuer whose tokens a party accepts, by the party's own
// configuration.
type TrustedIssuer struct {
	Issuer   string    // iss, compared byte for byte
	Tenant   TenantID  // the only tid that it may state
	Keys     KeySource // never named by a token
	Standing Standing  // nil if nobody can say more than the token

	// Audience, if not "", stands for every service of the party: it is for issuers
	// that know one audience for all of it.
	Audience string
	// OpenID says that the issuer is none of Entra's kind: a token may lack tid, which
	// is then the tenant above; oid, which is then made from sub by [SubjectID]; and
	// nbf, which is then iat.
	OpenID bool
}

// A Standing knows what became of a principal after its token was issued.
type Standing interface {
	// Stands fails with [fault.Unauthenticated] if the token no longer holds, and
	// with [fault.Unavailable] if that cannot be known.
	Stands(ctx context.Context, t IssuedToken) error
	// Generation returns that of tokens that would stand now. It fails as Stands does.
	Generation(ctx context.Context, t TenantID, p PrincipalID) (int64, error)
}

// An IssuedToken is what a [Standing] needs to know of a token.
type IssuedToken struct {
	Tenant     TenantID
	Principal  PrincipalID
	Generation int64 // the principal's when the token was issued; see [Principal]
}

// A Verifier turns bearer tokens into callers. It holds a party's whole trust in
// issuers: a token of any other issuer, of another tenant of an issuer, or for
// another audience does not hold. It is safe for concurrent use and starts no
// goroutine.
type Verifier struct {
	issuers map[string]TrustedIssuer
	cache   *tokenCache
	now     func() time.Time
}

// NewVerifier returns a verifier that trusts exactly the issuers given. now may
// be nil.
func NewVerifier(now func() time.Time, issuers ...TrustedIssuer) (*Verifier, error) {
	if now == nil {
		now = time.Now
	}
	v := &Verifier{issuers: map[string]TrustedIssuer{}, cache: newTokenCache(cacheSize), now: now}
	for _, i := range issuers {
		if _, twice := v.issuers[i.Issuer]; twice || i.Issuer == "" || i.Keys == nil {
			return nil, fmt.Errorf("identity: the issuer %q is configured twice, or has no name or keys", i.Issuer)
		}
		if id, err := ParseTenantID(string(i.Tenant)); err != nil || id != i.Tenant {
			return nil, fmt.Errorf("identity: the tenant of issuer %q is not a lower-case UUID", i.Issuer)
		}
		v.issuers[i.Issuer] = i
	}
	return v, nil
}

// Verify returns the caller that the token speaks for. It fails with
// [fault.Unauthenticated] unless the token is in force, made by a trusted issuer
// for that issuer's tenant, and meant for one of the audiences. A token that was
// voided before its end, and whose client announced that it can answer a claims
// challenge, fails with [fault.TokenRevoked] instead.
func (v *Verifier) Verify(ctx context.Context, token string, audiences ...string) (Caller, error) {
	sum := sha256.Sum256([]byte(token))
	now := v.now()
	t, ok := v.cache.get(sum, now)
	if !ok {
		var err error
		if t, err = v.verify(ctx, token); err != nil {
			return Caller{}, err
		}
	}
	if err := t.timely(now); err != nil {
		return Caller{}, err
	}
	meant := slices.ContainsFunc(t.audiences, func(a string) bool {
		return a != "" && a == t.issuer.Audience ||
			slices.ContainsFunc(audiences, func(b string) bool { return b != "" && sameAudience(a, b) })
	})
	if !meant {
		return Caller{}, fault.New(fault.Unauthenticated, "The token is meant for another audience.")
	}
	if t.issuer.Standing != nil {
		err := t.issuer.Standing.Stands(ctx, IssuedToken{t.caller.Tenant, t.caller.Principal, t.generation})
		if fault.ReasonOf(err) == fault.Unauthenticated && t.challenges {
			e := *fault.As(err)
			e.Reason = fault.TokenRevoked
			return Caller{}, &e
		}
		if err != nil {
			return Caller{}, err
		}
	}
	if !ok {
		v.cache.put(sum, t, now)
	}
	c := t.caller
	c.Groups = slices.Clone(c.Groups)
	return c, nil
}

// Issuances returns what a token of the principal may say now of where it is from, for
// who has to know whether one of an earlier day would still hold. An issuer that knows
// the principal to be disabled or gone has none.
func (v *Verifier) Issuances(ctx context.Context, tenant TenantID, p PrincipalID) (out []Issuance, err error) {
	for _, i := range v.issuers {
		if i.Tenant != tenant {
			continue
		}
		if i.Standing == nil {
			out = append(out, Issuance{Issuer: i.Issuer})
			continue
		}
		g, err := i.Standing.Generation(ctx, tenant, p)
		switch fault.ReasonOf(err) {
		case "":
			out = append(out, Issuance{i.Issuer, g})
		case fault.Unauthenticated:
		default:
			return nil, err
		}
	}
	return out, nil
}

// A verifiedToken is a token whose signature and issuer hold. Time, audience and
// standing are looked at on each use.
type verifiedToken struct {
	issuer     TrustedIssuer
	caller     Caller
	audiences  []string
	notBefore  time.Time
	expires    time.Time
	generation int64
	challenges bool // its client can answer a claims challenge
}

func (t *verifiedToken) timely(now time.Time) error {
	switch {
	case !now.Before(t.expires.Add(Skew)):
		return fault.New(fault.Unauthenticated, "The token has expired.")
	case now.Before(t.notBefore.Add(-Skew)):
		return fault.New(fault.Unauthenticated, "The token is not valid yet.")
	}
	return nil
}

var errNotHolding = fault.New(fault.Unauthenticated, "The token does not hold.")

func notHolding(err error) error { return fault.Wrap(errNotHolding.Reason, err, errNotHolding.Detail) }

func (v *Verifier) verify(ctx context.Context, token string) (*verifiedToken, error) {
	jws, err := parseToken(token)
	if err != nil {
		return nil, notHolding(err)
	}
	stated, err := parseClaims(jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, notHolding(err)
	}
	issuer, ok := v.issuers[stated.Issuer]
	if !ok {
		return nil, notHolding(errors.New("identity: the issuer is not trusted"))
	}
	keys, err := issuer.Keys.Keys(ctx, jws.Signatures[0].Protected.KeyID)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The issuer's keys cannot be had.")
	}
	payload, err := verifySignature(jws, keys)
	if err != nil {
		return nil, notHolding(err)
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, notHolding(err)
	}
	return holds(issuer, c)
}

// holds checks the claims of a signed token, but for those that depend on the
// moment and on the use.
func holds(issuer TrustedIssuer, c *claims) (*verifiedToken, error) {
	if issuer.OpenID {
		c.complete(issuer)
	}
	tenant, tenantOK := parseUUID(c.Tenant)
	object, objectOK := parseUUID(c.Object)
	switch {
	case c.Issuer != issuer.Issuer, !tenantOK, TenantID(tenant) != issuer.Tenant:
		return nil, notHolding(errors.New("identity: the issuer may not speak for this tenant"))
	case !objectOK:
		return nil, notHolding(errors.New("identity: the token has no oid"))
	case c.Expires == nil || c.NotBefore == nil || len(c.Audience) == 0:
		return nil, notHolding(errors.New("identity: the token lacks exp, nbf or aud"))
	}
	t := &verifiedToken{
		issuer:     issuer,
		audiences:  c.Audience,
		notBefore:  c.NotBefore.time(),
		expires:    c.Expires.time(),
		generation: c.Generation,
		challenges: c.Capabilities.has(claimsChallenges),
		caller: Caller{
			Tenant:      TenantID(tenant),
			Principal:   PrincipalID(object),
			Application: c.Application,
			Type:        c.principalType(),
			Expires:     c.Expires.time(),
			Issuance:    Issuance{issuer.Issuer, c.Generation},
		},
	}
	if t.caller.Application == "" {
		t.caller.Application = c.Authorized
	}
	for _, g := range c.Groups {
		if id, ok := parseUUID(g); ok {
			t.caller.Groups = append(t.caller.Groups, PrincipalID(id))
		}
	}
	return t, nil
}
