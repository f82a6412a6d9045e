package token

import (
	"net/http"
	"net/url"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// The grant types that the issuer offers.
const (
	clientCredentials = "client_credentials"
	authorizationCode = "authorization_code"
	refreshToken      = "refresh_token"
)

// token is the token endpoint (RFC 6749 §3.2).
func (a *authority) token(w http.ResponseWriter, r *http.Request, tenant identity.TenantID) error {
	form, err := parameters(w, r) // never of the address: those end up in logs
	if err != nil {
		return err
	}
	announced, ok := challenges(form.Get("claims"))
	if !ok {
		return fault.New(fault.InvalidArgument, "The parameter claims is not a JSON object of requested claims.")
	}
	switch grant := form.Get("grant_type"); {
	case grant == "":
		return fault.New(fault.InvalidArgument, "The parameter grant_type is missing.")
	case grant != clientCredentials && grant != authorizationCode && grant != refreshToken:
		return fault.New(fault.UnsupportedGrant, "This issuer offers the grant types client_credentials, authorization_code and refresh_token.")
	case form.Has("client_assertion"):
		return fault.New(fault.NotSupported, "This issuer does not take client assertions.").WithMend("Use a client secret.")
	case grant == clientCredentials:
		return a.clientCredentials(w, r, form, tenant, announced)
	default:
		return a.delegated(w, r, form, tenant, announced)
	}
}

func (a *authority) clientCredentials(w http.ResponseWriter, r *http.Request, form url.Values, tenant identity.TenantID, announced bool) error {
	req := identity.TokenRequest{
		Tenant: tenant, Client: form.Get("client_id"), Secret: form.Get("client_secret"), Scope: form.Get("scope"),
		From: api.Describe(r, identity.Caller{}), Challenges: announced,
	}
	if req.Scope == "" && form.Get("resource") != "" { // the older form of the same
		req.Scope = form.Get("resource") + "/.default"
	}
	if id, secret, ok := r.BasicAuth(); ok { // RFC 6749 §2.3.1
		if form.Has("client_secret") {
			return fault.New(fault.InvalidArgument, "The client authenticates in two ways at once.")
		}
		req.Client, _ = url.QueryUnescape(id)
		req.Secret, _ = url.QueryUnescape(secret)
	}
	t, err := a.issuer.ClientCredentials(r.Context(), req)
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, bearer(t))
	return nil
}

// delegated gives a client tokens of a user who has signed in to it.
func (a *authority) delegated(w http.ResponseWriter, r *http.Request, form url.Values, tenant identity.TenantID, announced bool) error {
	req := identity.GrantRequest{
		Tenant: tenant, Client: form.Get("client_id"), Scope: form.Get("scope"),
		From: api.Describe(r, identity.Caller{}), Challenges: announced,
	}
	if id, _, ok := r.BasicAuth(); ok && req.Client == "" {
		req.Client, _ = url.QueryUnescape(id)
	}
	var g identity.Grant
	var err error
	if form.Get("grant_type") == refreshToken {
		req.Text = form.Get("refresh_token")
		g, err = a.issuer.Refresh(r.Context(), req)
	} else {
		req.Text, req.Redirect, req.Verifier = form.Get("code"), form.Get("redirect_uri"), form.Get("code_verifier")
		g, err = a.issuer.Redeem(r.Context(), req)
	}
	if err != nil {
		return err
	}
	body := bearer(g.Access)
	body["id_token"], body["scope"] = g.ID, g.Scope
	if g.Refresh != "" {
		body["refresh_token"] = g.Refresh
	}
	api.WriteJSON(w, http.StatusOK, body)
	return nil
}

func bearer(t identity.Token) map[string]any {
	seconds := int64(t.Life.Seconds())
	return map[string]any{"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": t.Text}
}
