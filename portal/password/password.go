// Package password is the portal's part for a person's own password, where the directory
// keeps one: whom another issuer signs in changes his there.
package password

import (
	"context"
	"embed"
	"errors"
	"net/http"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	return portal.Section{
		Name: "password", Title: "Password", Group: "You", Icon: "lock", Templates: templates,
		Routes: map[string]portal.Handler{"GET /password": show, "POST /password": change},
		Visible: func(ctx context.Context, c *client.Clients) bool {
			_, err := c.Me(ctx)
			return err == nil
		},
	}
}

// data is what the page shows.
type data struct {
	Name    string // to sign in with
	Problem *portal.Problem
	Changed bool
}

func view(d data) portal.View {
	v := portal.View{Title: "Password", Subtitle: "Yours, by which you sign in.", Template: "password/password", Data: d}
	if d.Problem != nil {
		v.Status = d.Problem.Status
	}
	return v
}

func show(c *portal.Call) error {
	me, err := c.Parties.Me(c.Context())
	if err != nil {
		return err
	}
	return c.Render(view(data{Name: me.UserName}))
}

// change changes the password, after which the person signs in anew.
func change(c *portal.Call) error {
	me, err := c.Parties.Me(c.Context())
	if err != nil {
		return err
	}
	d := data{Name: me.UserName}
	field := c.R.PostFormValue
	if field("new") != field("again") {
		d.Problem = &portal.Problem{Status: http.StatusBadRequest, Title: "Nothing was changed", Detail: "The new password was not typed twice alike."}
		return c.Render(view(d))
	}
	err = c.Parties.ChangePassword(c.Context(), field("current"), field("new"))
	var refused *client.Error
	switch {
	case errors.As(err, &refused) && (refused.Status == http.StatusBadRequest || refused.Status == http.StatusTooManyRequests):
		d.Problem = c.Explain(err)
		d.Problem.Title = "Nothing was changed"
	case err != nil:
		return err
	default:
		d.Changed = true
	}
	return c.Render(view(d))
}
