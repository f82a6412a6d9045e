// Package graph speaks the few parts of Microsoft Graph v1.0 that managing vaults
// and customer-managed keys needs: a tenant's service principals and users, their state
// and their passwords.
//
// It holds no rule of its own: who may do what is package identity's.
package graph

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// A Directory keeps principals.
type Directory interface {
	Create(ctx context.Context, caller identity.Caller, application, name string) (identity.Principal, error)
	CreateUser(ctx context.Context, caller identity.Caller, name, display, password string) (identity.Principal, error)
	ResetPassword(ctx context.Context, caller identity.Caller, id identity.PrincipalID, password string) error
	Principal(ctx context.Context, caller identity.Caller, id identity.PrincipalID) (identity.Principal, error)
	Principals(ctx context.Context, caller identity.Caller, f identity.Filter) ([]identity.Principal, error)
	SetEnabled(ctx context.Context, caller identity.Caller, id identity.PrincipalID, enabled bool) error
	AddSecret(ctx context.Context, caller identity.Caller, id identity.PrincipalID, name string, life time.Duration) (identity.Secret, error)
	RemoveSecret(ctx context.Context, caller identity.Caller, id identity.PrincipalID, secret string) error
}

// Passwords are what users change themselves.
type Passwords interface {
	ChangePassword(ctx context.Context, caller identity.Caller, current, password string) error
}

const maxBody = 64 << 10

// New returns the handler. Tokens must be meant for one of the audiences.
func New(directory Directory, passwords Passwords, tokens api.Tokens, audiences ...string) http.Handler {
	g := &graph{directory: directory, passwords: passwords, tokens: tokens, audiences: audiences}
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(http.ResponseWriter, *http.Request, identity.Caller) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { g.authenticated(w, r, fn) })
	}
	handle("GET /v1.0/me", g.me)
	handle("POST /v1.0/me/changePassword", g.changePassword)
	handle("GET /v1.0/servicePrincipals", g.list)
	handle("POST /v1.0/servicePrincipals", g.create)
	handle("GET /v1.0/servicePrincipals/{id}", g.get)
	handle("PATCH /v1.0/servicePrincipals/{id}", g.update)
	handle("POST /v1.0/servicePrincipals/{id}/addPassword", g.addPassword)
	handle("POST /v1.0/servicePrincipals/{id}/removePassword", g.removePassword)
	handle("GET /v1.0/users", g.users)
	handle("POST /v1.0/users", g.createUser)
	handle("GET /v1.0/users/{id}", g.user)
	handle("PATCH /v1.0/users/{id}", g.updateUser)
	handle("POST /v1.0/directoryObjects/getByIds", g.byIDs)
	handle("/", func(http.ResponseWriter, *http.Request, identity.Caller) error {
		return fault.New(fault.NotSupported, "Of Microsoft Graph, only service principals and users are served here.")
	})
	return mux
}

// Serves reports whether a path belongs to Graph, for listeners that share one
// host among protocols. Fabric's /v1/ does not meet it.
func Serves(path string) bool { return strings.HasPrefix(path, "/v1.0/") }

type graph struct {
	directory Directory
	passwords Passwords
	tokens    api.Tokens
	audiences []string
}

func (g *graph) authenticated(w http.ResponseWriter, r *http.Request, fn func(http.ResponseWriter, *http.Request, identity.Caller) error) {
	w.Header().Set("Cache-Control", "no-store")
	caller, err := api.Authenticate(r, g.tokens, g.audiences...)
	if err == nil {
		err = fn(w, r, caller)
	}
	if err != nil {
		writeError(w, r, err)
	}
}

// servicePrincipal is Graph's view of a principal.
type servicePrincipal struct {
	ID                     identity.PrincipalID `json:"id"`
	AppID                  string               `json:"appId"`
	DisplayName            string               `json:"displayName"`
	AppDisplayName         string               `json:"appDisplayName"`
	AccountEnabled         bool                 `json:"accountEnabled"`
	ServicePrincipalType   string               `json:"servicePrincipalType"`
	ServicePrincipalNames  []string             `json:"servicePrincipalNames"`
	AppOwnerOrganizationID identity.TenantID    `json:"appOwnerOrganizationId"`
	CreatedDateTime        time.Time            `json:"createdDateTime"`
}

func view(p identity.Principal) servicePrincipal {
	return servicePrincipal{
		ID: p.ID, AppID: p.Application, DisplayName: p.Name, AppDisplayName: p.Name, AccountEnabled: p.Enabled,
		ServicePrincipalType: "Application", ServicePrincipalNames: []string{p.Application}, AppOwnerOrganizationID: p.Tenant,
		CreatedDateTime: p.Created,
	}
}

func (g *graph) list(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	filter, err := parseFilter(r.URL.Query().Get("$filter"), applicationFilters)
	if err != nil {
		return err
	}
	filter.Type = identity.ServicePrincipal
	found, err := g.directory.Principals(r.Context(), caller, filter)
	if err != nil {
		return err
	}
	value := make([]servicePrincipal, len(found))
	for i, p := range found {
		value[i] = view(p)
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{
		"@odata.context": "https://" + r.Host + "/v1.0/$metadata#servicePrincipals", "value": value,
	})
	return nil
}

func (g *graph) create(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	var body struct {
		AppID       string `json:"appId"`
		DisplayName string `json:"displayName"`
	}
	if err := api.ReadJSON(r, maxBody, &body); err != nil {
		return err
	}
	p, err := g.directory.Create(r.Context(), caller, body.AppID, body.DisplayName)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "https://"+r.Host+"/v1.0/servicePrincipals/"+string(p.ID))
	api.WriteJSON(w, http.StatusCreated, view(p))
	return nil
}

func (g *graph) get(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	p, err := g.principal(r, caller, identity.ServicePrincipal)
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, view(p))
	return nil
}

// principal returns the one that a path names by its id, if it is of the kind.
func (g *graph) principal(r *http.Request, caller identity.Caller, kind identity.PrincipalType) (identity.Principal, error) {
	id, err := identity.ParsePrincipalID(r.PathValue("id"))
	if err != nil {
		return identity.Principal{}, err
	}
	p, err := g.directory.Principal(r.Context(), caller, id)
	if err == nil && p.Type != kind {
		err = fault.New(fault.PrincipalNotFound, "The directory's principal of this id is of another kind.").About(string(id))
	}
	return p, err
}

func (g *graph) update(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	id, err := identity.ParsePrincipalID(r.PathValue("id"))
	if err != nil {
		return err
	}
	var body struct {
		AccountEnabled *bool `json:"accountEnabled"`
	}
	if err := api.ReadJSON(r, maxBody, &body); err != nil {
		return err
	}
	if body.AccountEnabled == nil {
		return fault.New(fault.NotSupported, "Of a service principal, only accountEnabled can be changed here.")
	}
	if err := g.directory.SetEnabled(r.Context(), caller, id, *body.AccountEnabled); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (g *graph) addPassword(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	id, err := identity.ParsePrincipalID(r.PathValue("id"))
	if err != nil {
		return err
	}
	var body struct {
		Credential struct {
			DisplayName string     `json:"displayName"`
			EndDateTime *time.Time `json:"endDateTime"`
		} `json:"passwordCredential"`
	}
	if r.ContentLength != 0 { // Graph takes the request without a body, too
		if err := api.ReadJSON(r, maxBody, &body); err != nil {
			return err
		}
	}
	var life time.Duration
	if end := body.Credential.EndDateTime; end != nil {
		if life = time.Until(*end); life <= 0 {
			return fault.New(fault.InvalidArgument, "The endDateTime has passed.")
		}
	}
	s, err := g.directory.AddSecret(r.Context(), caller, id, body.Credential.DisplayName, life)
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{
		"@odata.context": "https://" + r.Host + "/v1.0/$metadata#microsoft.graph.passwordCredential",
		"keyId":          s.ID, "secretText": s.Text, "displayName": s.Name,
		"startDateTime": s.Created, "endDateTime": s.Expires,
	})
	return nil
}

func (g *graph) removePassword(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	id, err := identity.ParsePrincipalID(r.PathValue("id"))
	if err != nil {
		return err
	}
	var body struct {
		KeyID string `json:"keyId"`
	}
	if err := api.ReadJSON(r, maxBody, &body); err != nil {
		return err
	}
	if err := g.directory.RemoveSecret(r.Context(), caller, id, strings.ToLower(body.KeyID)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
