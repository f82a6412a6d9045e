package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// maxTokenBytes bounds what is parsed before anything is known about it. Entra's
// tokens with 200 groups stay below 12 KiB.
const maxTokenBytes = 16 << 10

var errMalformed = errors.New("identity: malformed token")

// parseToken reads a JWS in compact serialisation (RFC 7515 §7.1) as strictly as
// the specification allows: one reading, no critical extension, an algorithm of
// the list. Nothing in the header is followed: jku, x5u, jwk and x5c do not
// choose keys.
func parseToken(token string) (*jose.JSONWebSignature, error) {
	if len(token) > maxTokenBytes {
		return nil, errMalformed
	}
	for _, c := range []byte(token) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return nil, errMalformed
		}
	}
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errMalformed
	}
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := jws.Signatures[0].Protected.ExtraHeaders[name]; ok {
			return nil, errMalformed
		}
	}
	return jws, nil
}

// verifySignature returns the payload of a token that one of the keys has
// signed. A token that names a key is held to it; one that names none holds only
// where the issuer has a single key.
func verifySignature(jws *jose.JSONWebSignature, keys []PublicKey) ([]byte, error) {
	header := jws.Signatures[0].Protected
	alg := jose.SignatureAlgorithm(header.Algorithm)
	var candidates []PublicKey
	for _, k := range keys {
		named := header.KeyID == k.ID
		if header.KeyID == "" {
			named = len(keys) == 1
		}
		if named && k.serves(alg) {
			candidates = append(candidates, k)
		}
	}
	if len(candidates) != 1 {
		return nil, errors.New("identity: no such signing key")
	}
	return jws.Verify(candidates[0].Key)
}

// claims are what kluis reads of a token. Names are matched exactly and may not
// appear twice: go-jose's JSON sees to it.
type claims struct {
	Issuer      string       `json:"iss"`
	Audience    jwt.Audience `json:"aud"`
	Subject     string       `json:"sub"`
	Tenant      string       `json:"tid"`
	Object      string       `json:"oid"`
	Application string       `json:"appid,omitempty"`
	Authorized  string       `json:"azp,omitempty"`
	Type        string       `json:"idtyp,omitempty"`
	Version     string       `json:"ver,omitempty"`
	IssuedAt    *unixTime    `json:"iat,omitempty"`
	NotBefore   *unixTime    `json:"nbf"`
	Expires     *unixTime    `json:"exp"`
	ID          string       `json:"jti,omitempty"`
	Groups      []string     `json:"groups,omitempty"`
	Generation  int64        `json:"kluis_gen,omitempty"` // see Principal.Generation

	Capabilities capabilities `json:"xms_cc,omitempty"` // what the client understands
}

// capabilities are a client's: a list, or the one.
type capabilities []string

// UnmarshalJSON reads either form.
func (c *capabilities) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		*c = capabilities{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(c))
}

// claimsChallenges is the capability of clients that get a new token when told why
// theirs was voided
// (learn.microsoft.com/entra/identity-platform/claims-challenge#client-capabilities).
const claimsChallenges = "cp1"

func (c capabilities) has(name string) bool {
	return slices.ContainsFunc(c, func(s string) bool { return strings.EqualFold(s, name) })
}

// A unixTime is a NumericDate (RFC 7519 §2), in whole seconds.
type unixTime int64

// UnmarshalJSON reads a NumericDate; fractions are dropped.
func (t *unixTime) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if !(f >= 0 && f < 1<<40) { // NaN included
		return errMalformed
	}
	*t = unixTime(f)
	return nil
}

func (t unixTime) time() time.Time { return time.Unix(int64(t), 0) }

func parseClaims(payload []byte) (*claims, error) {
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, errMalformed
	}
	return &c, nil
}

// complete fills in what tokens of an OpenID Connect issuer need not have.
func (c *claims) complete(issuer TrustedIssuer) {
	if c.Tenant == "" {
		c.Tenant = string(issuer.Tenant)
	}
	if c.Object == "" && c.Subject != "" {
		c.Object = string(SubjectID(issuer.Issuer, c.Subject))
		if c.Type == "" {
			c.Type = "user"
		}
	}
	if c.NotBefore == nil {
		c.NotBefore = c.IssuedAt
	}
}

// SubjectID returns the object id of an OpenID Connect issuer's subject: the
// subject itself if it is a UUID, otherwise one made from both names (RFC 9562,
// version 8, SHA-256).
func SubjectID(issuer, subject string) PrincipalID {
	if id, ok := parseUUID(subject); ok {
		return PrincipalID(id)
	}
	sum := sha256.Sum256([]byte("kluis/v1/subject\x00" + issuer + "\x00" + subject))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return PrincipalID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

// principalType says what the token's subject is. Entra states idtyp only where
// it was configured to; without it an application's subject is its own object.
func (c *claims) principalType() PrincipalType {
	switch c.Type {
	case "app":
		return ServicePrincipal
	case "":
		if c.Subject == c.Object {
			return ServicePrincipal
		}
	}
	return User
}

// sameAudience compares two audiences. A slash at the end makes no difference,
// since clients cannot agree on it.
func sameAudience(a, b string) bool {
	return strings.TrimRight(a, "/") == strings.TrimRight(b, "/")
}
