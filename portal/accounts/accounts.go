// Package accounts is the portal's part for storage accounts: under which key each is,
// to see and to change.
package accounts

import (
	"context"
	"embed"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	return portal.Section{
		Name: "accounts", Title: "Storage accounts", Group: "Platform", Icon: "storage", Templates: templates,
		Routes: map[string]portal.Handler{
			"GET /accounts":                        list,
			"GET /accounts/{group}/{name}":         show,
			"POST /accounts/{group}/{name}/assign": assign,
			"GET /accounts/{group}/{name}/reset":   confirm,
			"POST /accounts/{group}/{name}/reset":  reset,
		},
		Visible: func(ctx context.Context, c *client.Clients) bool {
			all, err := c.Accounts(ctx)
			return err == nil && len(all) > 0
		},
	}
}

// listing is the page of accounts.
type listing struct {
	Query, Status string
	Rows          []client.Account
	Any           bool // there are accounts, whatever the filter leaves
}

func list(c *portal.Call) error {
	q := c.R.URL.Query()
	l := listing{Query: strings.TrimSpace(q.Get("q")), Status: q.Get("status")}
	all, err := c.Parties.Accounts(c.Context())
	if err != nil {
		return err
	}
	l.Any = len(all) > 0
	l.Rows = slices.DeleteFunc(all, func(a client.Account) bool {
		text := strings.ToLower(a.Name + " " + a.Properties.Encryption.Key.Vault + " " + a.Properties.Encryption.Key.Name)
		wrong := l.Status == "customer" && !a.Managed() || l.Status == "platform" && a.Managed() || l.Status == "Revoked" && a.Serving() != "Revoked"
		return wrong || !strings.Contains(text, strings.ToLower(l.Query))
	})
	if c.Partial() {
		return c.Fragment("accounts/list", "rows", l)
	}
	return c.Render(portal.View{Title: "Storage accounts", Template: "accounts/list", Data: l})
}

// pane is what the page of one account shows.
type pane struct {
	A       client.Account
	Key     string // that the form holds
	Problem *portal.Problem
}

// At is the page's path.
func (p pane) At() string { return at(p.A.Group(), p.A.Name) }

func at(group, name string) string {
	return "/accounts/" + url.PathEscape(group) + "/" + url.PathEscape(name)
}

func read(c *portal.Call) (p pane, err error) {
	p.A, err = c.Parties.Account(c.Context(), c.R.PathValue("group"), c.R.PathValue("name"))
	return p, err
}

func (p pane) view(template string, crumbs ...portal.Crumb) portal.View {
	way := []portal.Crumb{{Title: p.A.Name}}
	if len(crumbs) > 0 {
		way = append([]portal.Crumb{{Title: p.A.Name, Path: p.At()}}, crumbs...)
	}
	return portal.View{Title: p.A.Name, Subtitle: "Storage account in " + p.A.Group() + ", " + p.A.Location, Template: "accounts/" + template, Crumbs: way, Data: p}
}

func show(c *portal.Call) error {
	p, err := read(c)
	if err != nil {
		return err
	}
	return c.Render(p.view("account"))
}

// assign puts the account under the key that the form names by its identifier.
func assign(c *portal.Call) error {
	p, err := read(c)
	if err != nil {
		return err
	}
	p.Key = strings.TrimSpace(c.R.PostFormValue("key"))
	vault, name, found := strings.Cut(p.Key, "/keys/")
	name, version, _ := strings.Cut(strings.TrimSuffix(name, "/"), "/")
	if !found || name == "" || version != "" {
		err = &portal.Problem{Status: http.StatusBadRequest, Title: "This is no key identifier", Detail: "It has the form https://VAULT/keys/NAME, without a version."}
	} else {
		err = c.Parties.AccountKey(c.Context(), p.A.Group(), p.A.Name, vault, name)
	}
	if err != nil {
		p.Problem = c.Explain(err)
		v := p.view("account")
		v.Status = p.Problem.Status
		return c.Render(v)
	}
	return c.Done(p.At(), "The account is put under the key.")
}

func confirm(c *portal.Call) error {
	p, err := read(c)
	if err != nil {
		return err
	}
	return c.Render(p.view("reset", portal.Crumb{Title: "Reset"}))
}

func reset(c *portal.Call) error {
	group, name := c.R.PathValue("group"), c.R.PathValue("name")
	if strings.TrimSpace(c.R.PostFormValue("name")) != name {
		return &portal.Problem{Status: http.StatusBadRequest, Title: "Nothing was done", Detail: "What was typed is not the account's name.", Mend: fmt.Sprintf("Go back and type %q to go on.", name)}
	}
	if err := c.Parties.ResetAccount(c.Context(), group, name); err != nil {
		return err
	}
	return c.Done(at(group, name), "The account goes back to platform-managed keys.")
}
