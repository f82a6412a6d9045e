package graph

import (
	"net/http"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// user is Graph's view of a principal that is one.
type user struct {
	ID                identity.PrincipalID `json:"id"`
	UserPrincipalName string               `json:"userPrincipalName"`
	DisplayName       string               `json:"displayName"`
	AccountEnabled    bool                 `json:"accountEnabled"`
	UserType          string               `json:"userType"`
	CreatedDateTime   time.Time            `json:"createdDateTime"`
}

func viewUser(p identity.Principal) user {
	return user{
		ID: p.ID, UserPrincipalName: p.UserName, DisplayName: p.Name, AccountEnabled: p.Enabled, UserType: "Member", CreatedDateTime: p.Created,
	}
}

// me is the user who asks. An application is none: az takes the 400 as the sign to look
// up its service principal instead.
func (g *graph) me(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	if caller.Type != identity.User {
		return fault.New(fault.InvalidArgument, "/me request is only valid with delegated authentication flow.")
	}
	p, err := g.directory.Principal(r.Context(), caller, caller.Principal)
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, viewUser(p))
	return nil
}

func (g *graph) users(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	filter, err := parseFilter(r.URL.Query().Get("$filter"), userFilters)
	if err != nil {
		return err
	}
	filter.Type = identity.User
	found, err := g.directory.Principals(r.Context(), caller, filter)
	if err != nil {
		return err
	}
	value := make([]user, len(found))
	for i, p := range found {
		value[i] = viewUser(p)
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"@odata.context": "https://" + r.Host + "/v1.0/$metadata#users", "value": value})
	return nil
}

func (g *graph) user(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	p, err := g.principal(r, caller, identity.User)
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, viewUser(p))
	return nil
}

// A userChange is what can be said of a user.
type userChange struct {
	UserPrincipalName string `json:"userPrincipalName"`
	DisplayName       string `json:"displayName"`
	AccountEnabled    *bool  `json:"accountEnabled"`
	PasswordProfile   *struct {
		Password string `json:"password"`
		Force    bool   `json:"forceChangePasswordNextSignIn"`
	} `json:"passwordProfile"`
}

func readUser(r *http.Request) (userChange, error) {
	var body userChange
	if err := api.ReadJSON(r, maxBody, &body); err != nil {
		return body, err
	}
	if body.PasswordProfile != nil && body.PasswordProfile.Force {
		return body, fault.New(fault.NotSupported, "A password cannot be made to be changed at the next sign-in here.")
	}
	return body, nil
}

func (g *graph) createUser(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	body, err := readUser(r)
	switch {
	case err != nil:
		return err
	case body.PasswordProfile == nil:
		return fault.New(fault.InvalidArgument, "The request lacks passwordProfile.")
	case body.AccountEnabled != nil && !*body.AccountEnabled:
		return fault.New(fault.NotSupported, "A user is made enabled, and can be disabled then.")
	}
	p, err := g.directory.CreateUser(r.Context(), caller, body.UserPrincipalName, body.DisplayName, body.PasswordProfile.Password)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "https://"+r.Host+"/v1.0/users/"+string(p.ID))
	api.WriteJSON(w, http.StatusCreated, viewUser(p))
	return nil
}

// updateUser does one thing at a time, so that it is done or not done.
func (g *graph) updateUser(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	p, err := g.principal(r, caller, identity.User)
	if err != nil {
		return err
	}
	body, err := readUser(r)
	switch {
	case err != nil:
		return err
	case body.UserPrincipalName != "" || body.DisplayName != "" || (body.AccountEnabled == nil) == (body.PasswordProfile == nil):
		return fault.New(fault.NotSupported, "Of a user, accountEnabled or passwordProfile can be changed here, one at a time.")
	case body.AccountEnabled != nil:
		err = g.directory.SetEnabled(r.Context(), caller, p.ID, *body.AccountEnabled)
	default:
		err = g.directory.ResetPassword(r.Context(), caller, p.ID, body.PasswordProfile.Password)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// changePassword is a user's own
// (https://learn.microsoft.com/graph/api/user-changepassword).
func (g *graph) changePassword(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	var body struct {
		Current string `json:"currentPassword"`
		New     string `json:"newPassword"`
	}
	if err := api.ReadJSON(r, maxBody, &body); err != nil {
		return err
	}
	if err := g.passwords.ChangePassword(r.Context(), caller, body.Current, body.New); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// maxIDs bounds how many principals are looked up at once.
const maxIDs = 100

// byIDs returns those of the principals that there are.
func (g *graph) byIDs(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	var body struct {
		IDs []string `json:"ids"`
	}
	if err := api.ReadJSON(r, maxBody, &body); err != nil {
		return err
	}
	if len(body.IDs) > maxIDs {
		return fault.New(fault.InvalidArgument, "At most 100 ids can be looked up at once.")
	}
	value := []any{}
	for _, text := range body.IDs {
		id, err := identity.ParsePrincipalID(text)
		if err != nil {
			return err
		}
		p, err := g.directory.Principal(r.Context(), caller, id)
		switch {
		case fault.ReasonOf(err) == fault.PrincipalNotFound:
		case err != nil:
			return err
		case p.Type == identity.User:
			value = append(value, struct {
				Type string `json:"@odata.type"`
				user
			}{"#microsoft.graph.user", viewUser(p)})
		default:
			value = append(value, struct {
				Type string `json:"@odata.type"`
				servicePrincipal
			}{"#microsoft.graph.servicePrincipal", view(p)})
		}
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"@odata.context": "https://" + r.Host + "/v1.0/$metadata#directoryObjects", "value": value})
	return nil
}
