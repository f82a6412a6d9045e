package identity

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// TokenLife is how long a token of the embedded issuer lives.
const TokenLife = time.Hour

// An IssuerConfig is what an [Issuer] needs to know.
type IssuerConfig struct {
	Base      string        // https origin of the authority, without a slash at the end
	Instance  string        // id of the installation: signing keys are bound to it
	Root      *envelope.Key // seals the signing keys; derived from the party's root for this only
	Audiences []string      // what tokens may be asked for, in the form that they will state; a "*" stands for one label of a host
	Clients   []Client      // to which people may sign in
}

// An Issuer hands out tokens to the principals of a [Directory]: to applications by
// OAuth 2.0 client credentials (RFC 6749 §4.4) and as managed identities, to users by
// OpenID Connect. It is safe for concurrent use and starts no goroutine.
type Issuer struct {
	directory *Directory
	config    IssuerConfig
	ring      *keyring
	tickets   []byte // key of codes, refresh tokens and what is counted of sign-ins
	hashing   hashing
}

// NewIssuer opens the issuer of a directory, and makes its first signing key if
// it has none.
func NewIssuer(ctx context.Context, d *Directory, c IssuerConfig) (*Issuer, error) {
	i := &Issuer{
		directory: d, config: c, ring: newKeyring(d.store, c.Instance, c.Root), tickets: ticketKey(c.Root), hashing: make(hashing, hashers),
	}
	keys, err := i.ring.current(ctx, d.now(), "")
	if err != nil || len(keys) > 0 {
		return i, err
	}
	first, err := i.ring.generate(d.time())
	if err != nil {
		return nil, err
	}
	err = d.store.Update(ctx, func(tx Tx) error {
		if there, err := tx.SigningKeys(); err != nil || len(there) > 0 {
			return err // another replica was faster
		}
		if err := tx.PutSigningKey(first); err != nil {
			return err
		}
		return appendAudit(tx, audit.Entry{
			Operation: "identity/signingkeys/create", Outcome: audit.Allowed, Resource: "/signingkeys/" + first.ID,
		})
	})
	if err != nil {
		return nil, err
	}
	i.ring.forget()
	_, err = i.ring.current(ctx, d.now(), "")
	return i, err
}

// Name returns the issuer's name for a tenant: iss in its tokens.
func (i *Issuer) Name(tenant TenantID) string { return i.config.Base + "/" + string(tenant) + "/v2.0" }

// Trust returns what a verifier in the same process needs to accept this issuer's
// tokens for a tenant.
func (i *Issuer) Trust(tenant TenantID) TrustedIssuer {
	return TrustedIssuer{Issuer: i.Name(tenant), Tenant: tenant, Keys: i, Standing: i.directory}
}

// Keys implements [KeySource].
func (i *Issuer) Keys(ctx context.Context, kid string) ([]PublicKey, error) {
	keys, err := i.ring.current(ctx, i.directory.now(), kid)
	if err != nil {
		return nil, err
	}
	public := make([]PublicKey, len(keys))
	for n, k := range keys {
		public[n] = PublicKey{ID: k.id, Algorithm: jose.RS256, Key: &k.key.PublicKey}
	}
	return public, nil
}

// KeySet returns the public keys as a JSON Web Key Set (RFC 7517).
func (i *Issuer) KeySet(ctx context.Context) ([]byte, error) {
	keys, err := i.Keys(ctx, "")
	if err != nil {
		return nil, err
	}
	var set jose.JSONWebKeySet
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Key, KeyID: k.ID, Algorithm: string(k.Algorithm), Use: "sig"})
	}
	return json.Marshal(set)
}

// HasTenant fails with [fault.TenantNotFound] unless the directory has the
// tenant.
func (i *Issuer) HasTenant(ctx context.Context, t TenantID) error {
	return i.directory.store.View(ctx, func(tx Tx) error {
		_, err := tx.DirectoryTenant(t)
		return err
	})
}

// A TokenRequest asks for a token by client credentials.
type TokenRequest struct {
	Tenant TenantID
	Client string // client id
	Secret string
	Scope  string // scopes, separated by spaces; exactly one ends in "/.default"
	From   Caller // what is known of the request: its ids and address
	// Challenges says that the client can answer a claims challenge: its token will
	// say so to those who void it.
	Challenges bool
}

// A Token is what the issuer hands out.
type Token struct {
	Text     string // a JWT, signed with RS256
	Audience string
	Expires  time.Time
	Life     time.Duration
}

var errInvalidClient = fault.New(fault.InvalidClient, "The client is unknown, or its secret is wrong.")

// ClientCredentials gives a token to a client that knows its secret. An unknown
// client and a wrong secret cost the same and fail alike, with
// [fault.InvalidClient]; an unknown audience with [fault.InvalidScope].
func (i *Issuer) ClientCredentials(ctx context.Context, r TokenRequest) (Token, error) {
	return i.issue(ctx, r, "identity/tokens/issue", func(p Principal, secrets []StoredSecret, now time.Time) error {
		if !matches(r.Secret, secrets, now) {
			return errInvalidClient
		}
		return nil
	})
}

func (i *Issuer) issue(ctx context.Context, r TokenRequest, operation string, authenticate func(Principal, []StoredSecret, time.Time) error) (Token, error) {
	d := i.directory
	client, wellFormed := parseUUID(r.Client)
	from := r.From
	from.Tenant = r.Tenant
	from.Application = client
	entry := from.Entry(operation, "/tenants/"+string(r.Tenant)+"/tokens")

	now := d.now()
	p, secrets, err := i.client(ctx, r.Tenant, client)
	if err == nil {
		err = authenticate(p, secrets, now)
	}
	if err == nil && (!wellFormed || p.ID == "") {
		err = errInvalidClient
	}
	if err == nil && !p.Enabled {
		err = fault.New(fault.InvalidClient, "The principal is disabled.")
	}
	audience := ""
	if err == nil {
		audience, err = i.audience(r.Scope, "/.default")
	}
	if err != nil {
		return Token{}, d.refuse(ctx, entry, err)
	}
	entry.Principal = string(p.ID)
	what := issued{id: uuid.NewString(), audience: audience, application: p.Application, challenges: r.Challenges}
	token, err := i.sign(ctx, p, what, now)
	if err != nil {
		return Token{}, d.refuse(ctx, entry, err)
	}
	entry.Detail = map[string]string{"token": what.id, "audience": audience}
	if err := record(ctx, d.recorder, entry); err != nil {
		return Token{}, err
	}
	return token, nil
}

// client reads a client and its secrets. For one that is unknown it asks the same
// questions, and returns nothing.
func (i *Issuer) client(ctx context.Context, tenant TenantID, client string) (p Principal, secrets []StoredSecret, err error) {
	err = i.directory.store.View(ctx, func(tx Tx) error {
		if _, err := tx.DirectoryTenant(tenant); err != nil {
			return err
		}
		if client == "" {
			client = "-"
		}
		found, err := tx.Principals(tenant, Filter{Type: ServicePrincipal, Application: client}, 1)
		if err != nil {
			return err
		}
		if len(found) == 1 {
			p = found[0]
		}
		secrets, err = tx.ClientSecrets(tenant, p.ID)
		return err
	})
	return p, secrets, err
}

// askedAudience returns the one audience that the scopes name before one of the
// suffixes, "" if they name none. Those that OpenID Connect defines are for users, and
// clients send them regardless.
func askedAudience(scope string, suffixes ...string) (asked string, err error) {
	for s := range strings.FieldsSeq(scope) {
		switch s {
		case "openid", "offline_access", "profile", "email":
			continue
		}
		resource, ok := s, false
		for _, suffix := range suffixes {
			if resource, ok = strings.CutSuffix(s, suffix); ok {
				break
			}
		}
		if !ok || asked != "" {
			return "", fault.New(fault.InvalidScope, "The scope is not one audience followed by /.default.")
		}
		asked = resource
	}
	return asked, nil
}

// audience returns the registered audience that the scopes name.
func (i *Issuer) audience(scope string, suffixes ...string) (string, error) {
	asked, err := askedAudience(scope, suffixes...)
	if err != nil {
		return "", err
	}
	for _, a := range i.config.Audiences {
		if asked != "" && sameAudience(a, asked) {
			return a, nil
		}
		if one, ok := oneOf(a, asked); ok {
			return one, nil
		}
	}
	return "", fault.New(fault.InvalidScope, "The audience is not one that this issuer serves.").
		WithMend("Ask for the vault, Fabric, storage, management or Graph address of this installation, followed by /.default.")
}

// oneOf reports whether an audience is one of those that a pattern stands for, and
// returns it in the form that a token states.
func oneOf(pattern, asked string) (string, bool) {
	before, after, ok := strings.Cut(pattern, "*")
	if !ok {
		return "", false
	}
	asked = strings.TrimRight(asked, "/")
	rest, ok := strings.CutPrefix(asked, before)
	label, ok2 := strings.CutSuffix(rest, after)
	return asked, ok && ok2 && label != "" && strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
