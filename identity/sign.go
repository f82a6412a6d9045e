package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kluis-io/kluis/fault"
)

// An issued is what one access token says beside its principal.
type issued struct {
	id          string // jti, a UUID
	audience    string
	application string
	delegated   bool // to an application, by a user who signed in to it
	challenges  bool
}

func (i *Issuer) sign(ctx context.Context, p Principal, what issued, now time.Time) (Token, error) {
	at := now.Truncate(time.Second)
	var capabilities []string
	if what.challenges {
		capabilities = []string{"CP1"}
	}
	kind, scope := "app", ""
	if what.delegated {
		kind, scope = "user", "user_impersonation"
	}
	text, err := i.signClaims(ctx, now, struct {
		Issuer      string      `json:"iss"`
		Audience    string      `json:"aud"`
		Subject     PrincipalID `json:"sub"`
		Tenant      TenantID    `json:"tid"`
		Object      PrincipalID `json:"oid"`
		Application string      `json:"appid"`
		Authorized  string      `json:"azp"`
		Type        string      `json:"idtyp"`
		Scope       string      `json:"scp,omitempty"`
		Version     string      `json:"ver"`
		IssuedAt    int64       `json:"iat"`
		NotBefore   int64       `json:"nbf"`
		Expires     int64       `json:"exp"`
		ID          string      `json:"jti"`
		Generation  int64       `json:"kluis_gen"`

		Capabilities []string `json:"xms_cc,omitempty"`
	}{
		i.Name(p.Tenant), what.audience, p.ID, p.Tenant, p.ID, what.application, what.application, kind, scope, "2.0",
		at.Unix(), at.Unix(), at.Add(TokenLife).Unix(), what.id, p.Generation, capabilities,
	})
	return Token{Text: text, Audience: what.audience, Expires: at.Add(TokenLife), Life: TokenLife}, err
}

// signID makes the ID token (OpenID Connect Core §2) of a sign-in.
func (i *Issuer) signID(ctx context.Context, p Principal, s StoredSignIn, now time.Time) (string, error) {
	at := now.Truncate(time.Second)
	return i.signClaims(ctx, now, struct {
		Issuer    string      `json:"iss"`
		Audience  string      `json:"aud"`
		Subject   PrincipalID `json:"sub"`
		Tenant    TenantID    `json:"tid"`
		Object    PrincipalID `json:"oid"`
		Name      string      `json:"name"`
		UserName  string      `json:"preferred_username"`
		UPN       string      `json:"upn"` // what AD FS calls it
		Nonce     string      `json:"nonce,omitempty"`
		SignIn    string      `json:"sid"`
		Version   string      `json:"ver"`
		Signed    int64       `json:"auth_time"`
		IssuedAt  int64       `json:"iat"`
		NotBefore int64       `json:"nbf"`
		Expires   int64       `json:"exp"`
	}{
		i.Name(p.Tenant), s.Client, p.ID, p.Tenant, p.ID, p.Name, p.UserName, p.UserName, s.Nonce, s.ID, "2.0",
		s.Created.Unix(), at.Unix(), at.Unix(), at.Add(TokenLife).Unix(),
	})
}

func (i *Issuer) signClaims(ctx context.Context, now time.Time, claims any) (string, error) {
	keys, err := i.ring.current(ctx, now, "")
	if err != nil {
		return "", err
	}
	signing := slices.IndexFunc(keys, func(k signingKey) bool { return k.end.IsZero() })
	if signing < 0 {
		return "", fault.New(fault.Internal, "The issuer has no signing key.")
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	jws, err := keys[signing].signer.Sign(body)
	if err != nil {
		return "", fmt.Errorf("identity: sign: %w", err)
	}
	return jws.CompactSerialize()
}

// An idToken is what is read of an ID token that comes back.
type idToken struct {
	Issuer   string       `json:"iss"`
	Audience jwt.Audience `json:"aud"`
	Tenant   string       `json:"tid"`
	Object   string       `json:"oid"`
	SignIn   string       `json:"sid"`
}

// parseID reads an ID token that this issuer has made for a tenant, expired or not.
func (i *Issuer) parseID(ctx context.Context, tenant TenantID, text string) (idToken, error) {
	refused := func(err error) (idToken, error) {
		return idToken{}, fault.Wrap(fault.InvalidArgument, err, "The id_token_hint is no ID token of this issuer.")
	}
	jws, err := parseToken(text)
	if err != nil {
		return refused(err)
	}
	keys, err := i.Keys(ctx, jws.Signatures[0].Protected.KeyID)
	if err != nil {
		return idToken{}, err
	}
	payload, err := verifySignature(jws, keys)
	if err != nil {
		return refused(err)
	}
	var t idToken
	if err := json.Unmarshal(payload, &t); err != nil {
		return refused(err)
	}
	if t.Issuer != i.Name(tenant) || TenantID(t.Tenant) != tenant || t.SignIn == "" || len(t.Audience) != 1 {
		return refused(errors.New("identity: another kind of token, or another tenant's"))
	}
	return t, nil
}
