package identity

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

const (
	// CodeLife is how long an authorization code can be redeemed.
	CodeLife = time.Minute
	// SignInLife is how long refresh tokens give access tokens, however often they are
	// exchanged: a working day.
	SignInLife = 12 * time.Hour
	// reuseTime is how long a refresh token may still be used after its first use, by
	// requests that were under way together. After it, use means theft.
	reuseTime = 30 * time.Second
)

// maxSignInText bounds the scope and the nonce of a request to sign in, in bytes.
const maxSignInText = 2048

// A StoredSignIn is what the directory keeps of a user's sign-in at a client.
type StoredSignIn struct {
	ID         string // UUID
	Tenant     TenantID
	Principal  PrincipalID
	Client     string
	Generation int64 // the principal's
	Redirect   string
	Scope      string
	Challenge  string
	Nonce      string
	Created    time.Time
	Expires    time.Time
	Serial     uint32    // of the refresh token in force; 0 while the code is unused
	Rotated    time.Time // when that one was made
}

// A SignInRequest asks for a person to sign in to a client: OpenID Connect's
// authorization code flow with PKCE (RFC 7636), S256 alone.
type SignInRequest struct {
	Tenant    TenantID
	Client    string
	Redirect  string
	Scope     string // OpenID Connect's, and at most one audience followed by /.default
	Challenge string // code_challenge
	Method    string // code_challenge_method
	Nonce     string
	Device    string // what [Issuer.Device] gave the browser, "" if nothing
	From      Caller // what is known of the request: its ids and address
}

// CheckSignIn fails if a client that is registered asks for what it cannot have, with
// [fault.InvalidArgument] or [fault.InvalidScope]. It may be told why.
func (i *Issuer) CheckSignIn(r SignInRequest) error {
	challenge, err := base64.RawURLEncoding.Strict().DecodeString(r.Challenge)
	switch {
	case r.Method != "S256" || err != nil || len(challenge) != sha256.Size:
		return fault.New(fault.InvalidArgument, "The request lacks code_challenge, with code_challenge_method S256.")
	case len(r.Scope) > maxSignInText || len(r.Nonce) > maxSignInText || !printable(r.Nonce):
		return fault.New(fault.InvalidArgument, "The scope or nonce is too long.")
	case !has(r.Scope, "openid"):
		return fault.New(fault.InvalidScope, "The scope lacks openid.")
	}
	_, err = i.delegatedAudience(r.Tenant, r.Scope)
	return err
}

func has(scope, one string) bool {
	for s := range strings.FieldsSeq(scope) {
		if s == one {
			return true
		}
	}
	return false
}

// delegatedAudience returns what an access token is for: the issuer itself where the
// scope names no service.
func (i *Issuer) delegatedAudience(tenant TenantID, scope string) (string, error) {
	if asked, err := askedAudience(scope, "/.default", "/user_impersonation"); err != nil || asked == "" {
		return i.Name(tenant), err
	}
	return i.audience(scope, "/.default", "/user_impersonation")
}

var errSignIn = fault.New(fault.Unauthenticated, "The name or the password is wrong.")

// SignIn checks a person's name and password, and returns the code that the client
// redeems. An unknown name, a wrong password and a disabled user fail alike, with
// [fault.Unauthenticated], and cost the same; too many failures with
// [fault.Throttled].
func (i *Issuer) SignIn(ctx context.Context, r SignInRequest, name, password string) (code string, err error) {
	d := i.directory
	from := r.From
	from.Tenant = r.Tenant
	entry := from.Entry("identity/users/signin", "/tenants/"+string(r.Tenant)+"/signins")
	client, err := i.Registered(r.Client, r.Redirect)
	if err == nil {
		err = i.CheckSignIn(r)
	}
	entry.Application = client.ID
	if err != nil {
		return "", d.refuse(ctx, entry, err)
	}
	now := d.time()
	user, attempt, err := i.authenticate(ctx, r.Tenant, name, password, r.Device, r.From.Address, now)
	if user.ID != "" { // failures tell the owner of the account, and never what was typed
		entry.Resource = d.path(from, user.ID)
	}
	if err != nil {
		return "", d.refuse(ctx, entry, err)
	}
	s := StoredSignIn{
		ID: uuid.NewString(), Tenant: r.Tenant, Principal: user.ID, Client: r.Client, Generation: user.Generation, Redirect: r.Redirect,
		Scope: r.Scope, Challenge: r.Challenge, Nonce: r.Nonce, Created: now, Expires: now.Add(SignInLife), Rotated: now,
	}
	entry.Principal = string(user.ID)
	entry.Detail = map[string]string{"signIn": s.ID}
	err = d.store.Update(ctx, func(tx Tx) error {
		if p, err := tx.Principal(r.Tenant, user.ID); err != nil || !s.stands(p, now) {
			return errSignIn
		}
		if err := attempt.succeeded(tx); err != nil {
			return err
		}
		if err := tx.DeleteSignIns(now); err != nil {
			return err
		}
		if err := tx.PutSignIn(s); err != nil {
			return err
		}
		return appendAudit(tx, entry)
	})
	if err != nil {
		return "", d.refuse(ctx, entry, err)
	}
	return ticket{codeTicket, s.ID, 0}.text(i.tickets), nil
}

// authenticate returns the user whom name and password speak for, and the attempt, which
// counts until it is said to have succeeded. With an error, the user is the one whose name
// was given, if there is one.
func (i *Issuer) authenticate(ctx context.Context, tenant TenantID, name, password, device string, from netip.Addr, now time.Time) (user Principal, a attempt, err error) {
	if a, err = i.begin(ctx, tenant, name, device, from, now); err != nil {
		return Principal{}, nil, err
	}
	hash := standIn()
	name, unusable := ParseUserName(name)
	err = i.directory.store.View(ctx, func(tx Tx) error {
		if _, err := tx.DirectoryTenant(tenant); err != nil {
			return err
		}
		if name == "" {
			name = "-"
		}
		found, err := tx.Principals(tenant, Filter{Type: User, UserName: name}, 1)
		if err != nil {
			return err
		}
		if len(found) == 1 {
			user = found[0]
		}
		stored, err := tx.Password(tenant, user.ID)
		if stored.Hash != "" {
			hash = stored.Hash
		}
		return err
	})
	if err != nil {
		return Principal{}, nil, err
	}
	done, err := i.hashing.take(ctx)
	if err != nil {
		return user, nil, err
	}
	right, err := matchesPassword(password[:min(len(password), 4*MaxPassword)], hash)
	done()
	if err != nil {
		return user, nil, err
	}
	if !right || unusable != nil || user.ID == "" || !user.Enabled {
		return user, nil, errSignIn
	}
	return user, a, nil
}

// stands reports whether a sign-in of a principal still gives tokens.
func (s StoredSignIn) stands(p Principal, now time.Time) bool {
	return p.Enabled && p.Generation == s.Generation && now.Before(s.Expires)
}

// verifies reports whether the verifier is the one of the challenge (RFC 7636 §4.6).
func (s StoredSignIn) verifies(verifier string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return len(verifier) >= 43 && len(verifier) <= 128 &&
		subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(s.Challenge)) == 1
}

// A GrantRequest asks for tokens by a code or by a refresh token.
type GrantRequest struct {
	Tenant   TenantID
	Client   string
	Text     string // the code, or the refresh token
	Redirect string // with a code: as it was in the request to sign in
	Verifier string // with a code
	Scope    string // names the audience of the access token; that of the sign-in if empty
	From     Caller
	// Challenges says that the client can answer a claims challenge.
	Challenges bool
}

// A Grant is what a client gets for a code or a refresh token.
type Grant struct {
	Access  Token
	ID      string // an ID token
	Refresh string // "" unless offline_access was asked for
	Scope   string
}

var errGrant = fault.New(fault.InvalidGrant, "The code or refresh token does not hold any more.").WithMend("Sign in again.")

// Redeem exchanges a code for tokens, once. A second use of a code, and a wrong
// verifier, end the sign-in: somebody else holds the code.
func (i *Issuer) Redeem(ctx context.Context, r GrantRequest) (Grant, error) {
	return i.grant(ctx, r, codeTicket, func(s *StoredSignIn, t ticket, now time.Time) verdict {
		switch {
		case s.Serial != 0 || !s.verifies(r.Verifier) || s.Redirect != r.Redirect:
			return stolen
		case !now.Before(s.Created.Add(CodeLife)):
			return spent
		}
		s.Serial, s.Rotated = 1, now
		return good
	})
}

// Refresh exchanges a refresh token for an access token, for any audience of the
// issuer's, and for the next refresh token. The use of one that was exchanged before
// ends the sign-in: one of its two holders is a thief.
func (i *Issuer) Refresh(ctx context.Context, r GrantRequest) (Grant, error) {
	return i.grant(ctx, r, refreshTicket, func(s *StoredSignIn, t ticket, now time.Time) verdict {
		switch {
		case t.serial == s.Serial:
			s.Serial, s.Rotated = s.Serial+1, now
		case t.serial+1 == s.Serial && now.Before(s.Rotated.Add(reuseTime)):
		case t.serial < s.Serial:
			return stolen
		default:
			return spent
		}
		return good
	})
}

// A verdict is what becomes of a sign-in whose ticket was shown.
type verdict int

const (
	spent  verdict = iota // the ticket gives nothing
	good                  // it gives tokens
	stolen                // it gives nothing, and the sign-in ends
)

func (i *Issuer) grant(ctx context.Context, r GrantRequest, kind ticketKind, use func(*StoredSignIn, ticket, time.Time) verdict) (Grant, error) {
	d := i.directory
	from := r.From
	from.Tenant, from.Application = r.Tenant, r.Client
	entry := from.Entry("identity/tokens/issue", "/tenants/"+string(r.Tenant)+"/tokens")
	if !i.isClient(r.Client) {
		entry.Application = ""
		return Grant{}, d.refuse(ctx, entry, errInvalidClient)
	}
	t, genuine := parseTicket(kind, r.Text, i.tickets)
	if !genuine {
		return Grant{}, d.refuse(ctx, entry, errGrant)
	}
	if r.Scope != "" {
		if _, err := i.delegatedAudience(r.Tenant, r.Scope); err != nil { // before anything is used up
			return Grant{}, d.refuse(ctx, entry, err)
		}
	}
	var s StoredSignIn
	var p Principal
	var access issued
	now := d.time()
	given := false
	err := d.store.Update(ctx, func(tx Tx) (err error) {
		given = false
		if s, err = tx.SignIn(r.Tenant, t.signIn); fault.ReasonOf(err) == fault.NotFound {
			return errGrant
		} else if err != nil {
			return err
		}
		if p, err = tx.Principal(r.Tenant, s.Principal); err != nil {
			return err
		}
		if !s.stands(p, now) || s.Client != r.Client {
			return errGrant
		}
		audience, err := i.delegatedAudience(r.Tenant, scopeOf(r, s))
		if err != nil {
			return err
		}
		entry.Principal = string(p.ID)
		switch use(&s, t, now) {
		case spent:
			return errGrant
		case stolen:
			if err := tx.DeleteSignIn(r.Tenant, s.ID); err != nil {
				return err
			}
			ended := entry
			ended.Operation, ended.Outcome, ended.Reason = "identity/signins/end", audit.Denied, errGrant.Reason
			ended.Detail = map[string]string{"signIn": s.ID, "because": "reuse"}
			return appendAudit(tx, ended)
		}
		given = true
		if err := tx.SetSignIn(s); err != nil {
			return err
		}
		access = issued{id: uuid.NewString(), audience: audience}
		entry.Detail = map[string]string{"token": access.id, "audience": audience, "signIn": s.ID}
		return appendAudit(tx, entry)
	})
	if err != nil {
		return Grant{}, d.refuse(ctx, entry, err)
	}
	if !given {
		return Grant{}, errGrant
	}
	return i.signGrant(ctx, r, s, p, access, now)
}

// scopeOf returns the scope that says what the access token is for.
func scopeOf(r GrantRequest, s StoredSignIn) string {
	if asked, err := askedAudience(r.Scope, "/.default", "/user_impersonation"); err == nil && asked != "" {
		return r.Scope
	}
	return s.Scope
}

func (i *Issuer) signGrant(ctx context.Context, r GrantRequest, s StoredSignIn, p Principal, access issued, now time.Time) (g Grant, err error) {
	access.application, access.delegated, access.challenges = s.Client, true, r.Challenges
	if g.Access, err = i.sign(ctx, p, access, now); err != nil {
		return Grant{}, err
	}
	if g.ID, err = i.signID(ctx, p, s, now); err != nil {
		return Grant{}, err
	}
	g.Scope = scopeOf(r, s)
	if has(s.Scope, "offline_access") {
		g.Refresh = ticket{refreshTicket, s.ID, s.Serial}.text(i.tickets)
	}
	return g, nil
}

// SignOut ends the sign-in that an ID token of this issuer's tells of, expired or not,
// and returns the client that it was at. Access tokens live on to their end. One whose
// sign-in has ended already is no error.
func (i *Issuer) SignOut(ctx context.Context, tenant TenantID, idToken string, from Caller) (Client, error) {
	d := i.directory
	hint, err := i.parseID(ctx, tenant, idToken)
	from.Tenant = tenant
	entry := from.Entry("identity/signins/end", "/tenants/"+string(tenant)+"/signins")
	if err != nil {
		return Client{}, d.refuse(ctx, entry, err)
	}
	entry.Principal, entry.Application = hint.Object, hint.Audience[0]
	entry.Detail = map[string]string{"signIn": hint.SignIn, "because": "sign-out"}
	err = d.store.Update(ctx, func(tx Tx) error {
		if err := tx.DeleteSignIn(tenant, hint.SignIn); err != nil {
			return err
		}
		return appendAudit(tx, entry)
	})
	if err != nil {
		return Client{}, d.refuse(ctx, entry, err)
	}
	for _, c := range i.config.Clients {
		if c.ID == hint.Audience[0] {
			return c, nil
		}
	}
	return Client{}, nil
}
