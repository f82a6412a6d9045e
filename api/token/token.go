// Package token speaks OAuth 2.0 and OpenID Connect for the embedded issuer, in
// the three forms that Azure's clients know: tenant-style
// (/{tenant}/oauth2/v2.0/token), AD FS (/adfs/oauth2/token), and the managed
// identities of App Service.
//
// It knows the protocol's shapes and nothing about who may have a token: that is
// package identity. Of OAuth's grants it offers client credentials with a secret, and
// the authorization code with PKCE and refresh tokens for people, who sign in on the
// pages of this package.
package token

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// An Issuer hands out tokens.
type Issuer interface {
	ClientCredentials(ctx context.Context, r identity.TokenRequest) (identity.Token, error)

	Registered(client, redirect string) (identity.Client, error)
	CheckSignIn(r identity.SignInRequest) error
	SignIn(ctx context.Context, r identity.SignInRequest, name, password string) (code string, err error)
	Device(tenant identity.TenantID, name string) string
	Redeem(ctx context.Context, r identity.GrantRequest) (identity.Grant, error)
	Refresh(ctx context.Context, r identity.GrantRequest) (identity.Grant, error)
	SignOut(ctx context.Context, tenant identity.TenantID, idToken string, from identity.Caller) (identity.Client, error)

	Name(t identity.TenantID) string
	KeySet(ctx context.Context) ([]byte, error)
	HasTenant(ctx context.Context, t identity.TenantID) error
}

// maxBody bounds a token request. Client assertions, the largest thing in one,
// stay below 16 KiB.
const maxBody = 64 << 10

// adfs is the tenant in the path of the AD FS form.
const adfs = "adfs"

// New returns the handler of an authority at the root of its host. The AD FS form
// names no tenant and speaks for defaultTenant.
func New(issuer Issuer, defaultTenant identity.TenantID) http.Handler {
	return &authority{issuer: issuer, defaultTenant: defaultTenant}
}

// Serves reports whether a path belongs to the authority, for listeners that
// share one host among protocols.
func Serves(path string) bool {
	_, _, ok := route(path)
	return ok
}

type authority struct {
	issuer        Issuer
	defaultTenant identity.TenantID
}

// A document is what a path of the authority stands for.
type document int

const (
	configuration document = iota
	keySet
	tokenEndpoint
	instanceDiscovery
	authorization
	endSession
	styleSheet
)

// methods are what a document takes; GET if it is not in here.
var methods = map[document][]string{
	tokenEndpoint: {http.MethodPost},
	authorization: {http.MethodGet, http.MethodPost},
	endSession:    {http.MethodGet, http.MethodPost},
}

// documents lists the paths below a tenant.
var documents = map[string]document{
	"/v2.0/.well-known/openid-configuration": configuration,
	"/.well-known/openid-configuration":      configuration,
	"/discovery/v2.0/keys":                   keySet,
	"/discovery/keys":                        keySet,
	"/oauth2/v2.0/token":                     tokenEndpoint,
	"/oauth2/token":                          tokenEndpoint,
	"/oauth2/v2.0/authorize":                 authorization,
	"/oauth2/authorize":                      authorization,
	"/oauth2/v2.0/logout":                    endSession,
	"/oauth2/logout":                         endSession,
	"/signin/style.css":                      styleSheet,
}

// route splits a path into tenant and document. Only AD FS, a UUID, and "common"
// for instance discovery are tenants.
func route(path string) (tenant string, doc document, ok bool) {
	if path == "/common/discovery/instance" {
		return "", instanceDiscovery, true
	}
	tenant, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok {
		return "", 0, false
	}
	if _, err := identity.ParseTenantID(tenant); err != nil && tenant != adfs {
		return "", 0, false
	}
	doc, ok = documents["/"+rest]
	return tenant, doc, ok
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Nothing here may be kept by anybody (RFC 6749 §5.1).
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	if err := a.serve(w, r); err != nil {
		writeError(w, r, err)
	}
}

func (a *authority) serve(w http.ResponseWriter, r *http.Request) error {
	segment, doc, ok := route(r.URL.Path)
	if !ok {
		return fault.New(fault.NotFound, "The authority has no such address.")
	}
	allowed := methods[doc]
	if allowed == nil {
		allowed = []string{http.MethodGet}
	}
	if !slices.Contains(allowed, r.Method) {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return fault.New(fault.MethodNotAllowed, "The address takes "+strings.Join(allowed, " and ")+".")
	}
	if doc == instanceDiscovery {
		return a.instance(w, r)
	}
	tenant := a.defaultTenant
	if segment != adfs {
		tenant, _ = identity.ParseTenantID(segment)
	}
	switch doc {
	case tokenEndpoint:
		return a.token(w, r, tenant)
	case authorization:
		a.authorize(w, r, segment, tenant)
		return nil
	case endSession:
		a.logout(w, r, segment, tenant)
		return nil
	case styleSheet:
		writeStyle(w)
		return nil
	}
	if err := a.issuer.HasTenant(r.Context(), tenant); err != nil {
		return err
	}
	if doc == configuration {
		api.WriteJSON(w, http.StatusOK, describe(r, segment, tenant))
		return nil
	}
	set, err := a.issuer.KeySet(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Write(set)
	return nil
}

// origin is the authority as the client addressed it. Clients refuse metadata
// that leads to another host than the one they asked.
func origin(r *http.Request) string { return (&url.URL{Scheme: "https", Host: r.Host}).String() }

// metadata is an OpenID provider's description of itself, as far as clients read
// it: https://openid.net/specs/openid-connect-discovery-1_0.html
type metadata struct {
	Issuer                 string   `json:"issuer"`
	AuthorizationEndpoint  string   `json:"authorization_endpoint"`
	TokenEndpoint          string   `json:"token_endpoint"`
	EndSessionEndpoint     string   `json:"end_session_endpoint"`
	KeySet                 string   `json:"jwks_uri"`
	GrantTypes             []string `json:"grant_types_supported"`
	ResponseTypes          []string `json:"response_types_supported"`
	SubjectTypes           []string `json:"subject_types_supported"`
	Algorithms             []string `json:"id_token_signing_alg_values_supported"`
	TokenEndpointAuthTypes []string `json:"token_endpoint_auth_methods_supported"`
	ResponseModes          []string `json:"response_modes_supported"`
	ChallengeMethods       []string `json:"code_challenge_methods_supported"`
	Scopes                 []string `json:"scopes_supported"`
	Claims                 []string `json:"claims_supported"`
	StatesIssuer           bool     `json:"authorization_response_iss_parameter_supported"`
}

func describe(r *http.Request, segment string, tenant identity.TenantID) metadata {
	base := origin(r) + "/" + segment
	m := metadata{
		Issuer:                 origin(r) + "/" + string(tenant) + "/v2.0",
		AuthorizationEndpoint:  base + "/oauth2/v2.0/authorize",
		TokenEndpoint:          base + "/oauth2/v2.0/token",
		KeySet:                 base + "/discovery/v2.0/keys",
		EndSessionEndpoint:     base + "/oauth2/v2.0/logout",
		GrantTypes:             []string{clientCredentials, authorizationCode, refreshToken},
		ResponseTypes:          []string{"code"},
		ResponseModes:          []string{"query"},
		SubjectTypes:           []string{"public"},
		Algorithms:             []string{"RS256"},
		TokenEndpointAuthTypes: []string{"client_secret_post", "client_secret_basic", "none"},
		ChallengeMethods:       []string{"S256"},
		Scopes:                 []string{"openid", "profile", "offline_access"},
		Claims:                 []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "sid", "oid", "tid", "name", "preferred_username"},
		StatesIssuer:           true,
	}
	if segment == adfs { // az asks for these very addresses
		m.Issuer = base
		m.AuthorizationEndpoint = base + "/oauth2/authorize"
		m.TokenEndpoint = base + "/oauth2/token"
		m.EndSessionEndpoint = base + "/oauth2/logout"
		m.KeySet = base + "/discovery/keys"
	}
	return m
}

// challenges reads the claims that a client asks for (OpenID Connect Core §5.5),
// and reports whether they announce that it can answer a claims challenge. Others
// change nothing: every token is made anew.
func challenges(requested string) (announced, ok bool) {
	if requested == "" {
		return false, true
	}
	var c struct {
		AccessToken struct {
			Capabilities struct {
				Values []string `json:"values"`
			} `json:"xms_cc"`
		} `json:"access_token"`
	}
	if json.Unmarshal([]byte(requested), &c) != nil {
		return false, false
	}
	return slices.ContainsFunc(c.AccessToken.Capabilities.Values, func(s string) bool { return strings.EqualFold(s, "cp1") }), true
}

// instance answers clients that verify the authority before they use it: it
// vouches for itself only.
func (a *authority) instance(w http.ResponseWriter, r *http.Request) error {
	asked, err := url.Parse(r.URL.Query().Get("authorization_endpoint"))
	if err != nil || asked.Host != r.Host {
		return fault.New(fault.InvalidArgument, "This authority answers for its own host only.")
	}
	tenant, _, _ := strings.Cut(strings.TrimPrefix(asked.Path, "/"), "/")
	if _, err := identity.ParseTenantID(tenant); err != nil && tenant != adfs {
		return fault.New(fault.InvalidArgument, "The authorization_endpoint names no tenant.")
	}
	discovery := origin(r) + "/" + tenant + "/v2.0/.well-known/openid-configuration"
	api.WriteJSON(w, http.StatusOK, map[string]any{
		"api-version":               "1.1",
		"tenant_discovery_endpoint": discovery,
		"metadata": []map[string]any{{
			"preferred_network": r.Host, "preferred_cache": r.Host, "aliases": []string{r.Host},
		}},
	})
	return nil
}
