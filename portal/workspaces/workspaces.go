// Package workspaces is the portal's part for the operator's side: the list of
// workspaces, and of each the page of package scope.
package workspaces

import (
	"context"
	"embed"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/scope"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	kind := scope.Kind{
		Section: "workspaces", Noun: "workspace", Item: "item", ReSeal: true, Find: find,
		Assign: func(c *portal.Call, s scope.Subject, key string, reSeal bool) error {
			return c.Parties.ChangeEncryption(c.Context(), s.Scope, "assign", map[string]any{"keyIdentifier": key, "reSealOnly": reSeal}, nil)
		},
		Retry: retry,
		Reset: func(c *portal.Call, s scope.Subject) error {
			return c.Parties.ChangeEncryption(c.Context(), s.Scope, "reset", nil, nil)
		},
	}
	return kind.Extend(portal.Section{
		Name: "workspaces", Title: "Workspaces", Group: "Platform", Icon: "grid", Templates: templates,
		Funcs: map[string]any{"keyname": keyName, "vaultname": vaultName, "less": func(a, b int) int { return a - b }},
		Routes: map[string]portal.Handler{
			"GET /workspaces":                          list,
			"POST /workspaces":                         create,
			"GET /workspaces/new":                      newForm,
			"GET /workspaces/{id}":                     first,
			"GET /workspaces/{id}/encryption/coverage": coverage,
		},
		Visible: func(_ context.Context, c *client.Clients) bool { return c.Fabric.Address != "" },
	}, "/workspaces/{id}/encryption")
}

// pageSize is how many rows a page shows.
const pageSize = 50

// listing is the page of workspaces.
type listing struct {
	Query, Status string
	Rows          []client.Workspace
	Next          string // the next page's address
	First         string // the first page's, of later ones
	All           bool   // all of the tenant's, not the user's own
	MayCreate     bool
}

// list shows a page of workspaces: all of the tenant's to who may see them, and
// everybody else those in which he has a role.
func list(c *portal.Call) error {
	q := c.R.URL.Query()
	l := listing{Query: strings.TrimSpace(q.Get("q")), Status: q.Get("status"), All: true}
	token := q.Get("token")
	own := strings.HasPrefix(token, "own.")
	var err error
	var next string
	if !own {
		l.Rows, next, err = l.collect(c, strings.TrimPrefix(token, "all."), c.Parties.AdminWorkspaces)
		var e *client.Error
		if own = errors.As(err, &e) && e.Status == http.StatusForbidden; own {
			token = ""
		}
	}
	if own {
		l.All = false
		l.Rows, next, err = l.collect(c, strings.TrimPrefix(token, "own."), func(ctx context.Context, token string) (client.Page[client.Workspace], error) {
			p, err := c.Parties.Workspaces(ctx, "", token)
			if err == nil {
				mark(ctx, c.Parties, p.Value)
			}
			return p, err
		})
	}
	if err != nil {
		return err
	}
	if next != "" {
		kind := map[bool]string{true: "all.", false: "own."}[l.All]
		l.Next = "/workspaces?" + url.Values{"q": {l.Query}, "status": {l.Status}, "token": {kind + next}}.Encode()
	}
	if token != "" {
		l.First = "/workspaces?" + url.Values{"q": {l.Query}, "status": {l.Status}}.Encode()
	}
	if c.Partial() {
		return c.Fragment("workspaces/list", "rows", l)
	}
	if l.MayCreate, err = c.Parties.MayCreateWorkspaces(c.Context()); err != nil {
		return err
	}
	return c.Render(portal.View{Title: "Workspaces", Template: "workspaces/list", Data: l})
}

// mostPages bounds how many pages of the platform one page of ours reads for a filter
// that little matches.
const mostPages = 40

// collect reads pages until there is something to show, and returns where to go on.
func (l listing) collect(c *portal.Call, token string, page func(context.Context, string) (client.Page[client.Workspace], error)) (rows []client.Workspace, next string, err error) {
	for range mostPages {
		p, err := page(c.Context(), token)
		if err != nil {
			return nil, "", err
		}
		for _, w := range p.Value {
			if l.matches(w) {
				rows = append(rows, w)
			}
		}
		if token = p.Token; token == "" || len(rows) >= pageSize {
			break
		}
	}
	return rows, token, nil
}

func (l listing) matches(w client.Workspace) bool {
	text := strings.ToLower(w.DisplayName + " " + w.ID)
	if w.Encryption != nil {
		text += " " + strings.ToLower(w.Encryption.KeyIdentifier)
	}
	if !strings.Contains(text, strings.ToLower(l.Query)) {
		return false
	}
	if l.Status == "" || w.Encryption == nil {
		return l.Status == ""
	}
	return w.Encryption.Status == l.Status || w.Encryption.Serving.State == l.Status
}

// mark asks how each of the workspaces is encrypted, several at once.
func mark(ctx context.Context, p *client.Clients, rows []client.Workspace) {
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range rows {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if e, err := p.Encryption(ctx, client.WorkspaceScope(rows[i].ID)); err == nil { // the list is worth showing without
				rows[i].Encryption = &client.EncryptionMark{Status: e.Detail.Status, KeyIdentifier: e.Detail.KeyIdentifier, Serving: e.Serving}
			}
		})
	}
	all.Wait()
}

func newForm(c *portal.Call) error {
	return c.Render(portal.View{Title: "New workspace", Template: "workspaces/new", Crumbs: []portal.Crumb{{Title: "New"}}})
}

func create(c *portal.Call) error {
	w, err := c.Parties.CreateWorkspace(c.Context(), c.R.PostFormValue("name"), c.R.PostFormValue("description"))
	if err != nil {
		return err
	}
	return c.Done("/workspaces/"+w.ID+"/encryption", "%s was made. It is under platform-managed keys until you apply a key of your own.", w.DisplayName)
}

func first(c *portal.Call) error {
	return c.Redirect("/workspaces/" + c.R.PathValue("id") + "/encryption")
}

// keyName returns the name of the key that an identifier names.
func keyName(identifier string) string {
	_, rest, _ := strings.Cut(identifier, "/keys/")
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// vaultName returns the name of its vault.
func vaultName(identifier string) string {
	u, err := url.Parse(identifier)
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(u.Hostname(), ".")
	return name
}
