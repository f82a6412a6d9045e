// Package accounts is the portal's part for storage accounts: under which key each is,
// to see and to change.
package accounts

import (
	"context"
	"embed"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/scope"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	kind := scope.Kind{
		Section: "accounts", Noun: "account", Item: "container", Find: find, Assign: assign,
		Retry: func(c *portal.Call, s scope.Subject) error {
			return c.Parties.ChangeEncryption(c.Context(), s.Scope, "retry", nil, nil)
		},
		Reset: func(c *portal.Call, s scope.Subject) error {
			return c.Parties.ResetAccount(c.Context(), c.R.PathValue("group"), c.R.PathValue("name"))
		},
	}
	return kind.Extend(portal.Section{
		Name: "accounts", Title: "Storage accounts", Group: "Platform", Icon: "storage", Templates: templates,
		Routes: map[string]portal.Handler{"GET /accounts": list},
		Visible: func(ctx context.Context, c *client.Clients) bool {
			all, err := c.Accounts(ctx)
			return err == nil && len(all) > 0
		},
	}, "/accounts/{group}/{name}")
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

// find returns the account that a path names.
func find(c *portal.Call) (scope.Subject, error) {
	a, err := c.Parties.Account(c.Context(), c.R.PathValue("group"), c.R.PathValue("name"))
	at := "/accounts/" + url.PathEscape(a.Group()) + "/" + url.PathEscape(a.Name)
	return scope.Subject{
		Scope: client.AccountScope(a.Name), At: at, Name: a.Name, Subtitle: "Storage account, in the resource group " + a.Group() + ", " + a.Location,
		Crumbs: []portal.Crumb{{Title: a.Name, Path: at}}, Own: a,
	}, err
}

// assign puts the account under the key that the form names by its identifier, by
// Resource Manager, which gives it an identity too.
func assign(c *portal.Call, s scope.Subject, key string, _ bool) error {
	vault, name, found := strings.Cut(key, "/keys/")
	name, version, _ := strings.Cut(strings.TrimSuffix(name, "/"), "/")
	if !found || name == "" || version != "" {
		return &portal.Problem{Status: http.StatusBadRequest, Title: "This is no key identifier", Detail: "It has the form https://VAULT/keys/NAME, without a version."}
	}
	return c.Parties.AccountKey(c.Context(), c.R.PathValue("group"), c.R.PathValue("name"), vault, name)
}
