package client

import (
	"context"
	"net/http"
)

// Me is the user, as the directory knows him.
type Me struct {
	ID       string `json:"id"`
	UserName string `json:"userPrincipalName"` // to sign in with
}

// Me asks the directory for the user. It fails if it is not the directory that signs him in.
func (c *Clients) Me(ctx context.Context) (m Me, err error) {
	err = c.Call(ctx, c.Graph, http.MethodGet, "/v1.0/me", nil, &m)
	return m, err
}

// ChangePassword gives the user another password, and ends where he is signed in.
func (c *Clients) ChangePassword(ctx context.Context, current, password string) error {
	return c.Call(ctx, c.Graph, http.MethodPost, "/v1.0/me/changePassword", map[string]string{"currentPassword": current, "newPassword": password}, nil)
}
