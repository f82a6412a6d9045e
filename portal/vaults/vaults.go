// Package vaults is the portal's part for the custodian's side: vaults and managed HSMs with what
// protects them, who may do what in them, and the keys with their lives.
//
// What would cut somebody off from data is shown before it is done. What the user may
// not do is not offered: his rights are reckoned from his roles as the vault tells them,
// and decide nothing here but what a page shows.
package vaults

import (
	"context"
	"embed"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	s := portal.Section{
		Name: "vaults", Title: "Vaults and keys", Group: "Custodian", Icon: "vault", Templates: templates, Funcs: map[string]any{"lengthof": lengthOf},
		Routes: map[string]portal.Handler{
			"GET /vaults":      list,
			"GET /vaults/new":  newForm,
			"POST /vaults/new": create,
		},
		Visible: func(_ context.Context, c *client.Clients) bool { return c.Vaults.Address != "" },
	}
	// A managed HSM has the pages of a vault, at a path of its own.
	for pattern, h := range map[string]portal.Handler{
		"POST /recover":               recoverVault,
		"GET /purge":                  confirmPurgeVault,
		"POST /purge":                 purgeVault,
		"GET ":                        showKeys,
		"GET /settings":               showSettings,
		"POST /settings":              changeSettings,
		"GET /delete":                 confirmDeleteVault,
		"POST /delete":                deleteVault,
		"GET /access":                 showAccess,
		"GET /access/new":             assignSteps,
		"POST /access/new":            assign,
		"GET /access/remove":          confirmRemove,
		"POST /access/remove":         remove,
		"GET /approvals":              showApprovals,
		"POST /approvals/{id}":        decide,
		"GET /keys/new":               newKey,
		"POST /keys/new":              createKey,
		"GET /keys/{key}":             showKey,
		"POST /keys/{key}/rotate":     rotate,
		"POST /keys/{key}/enable":     enable,
		"GET /keys/{key}/disable":     confirmDisable,
		"POST /keys/{key}/disable":    disable,
		"GET /keys/{key}/delete":      confirmDelete,
		"POST /keys/{key}/delete":     deleteKey,
		"GET /keys/{key}/policy":      showPolicy,
		"POST /keys/{key}/policy":     setPolicy,
		"POST /deleted/{key}/recover": recoverKey,
		"GET /deleted/{key}/purge":    confirmPurge,
		"POST /deleted/{key}/purge":   purge,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		for _, base := range []string{vaultsAt, hsmsAt} {
			s.Routes[method+" "+base+"/{group}/{vault}"+path] = h
		}
	}
	return s
}

// The paths below which vaults' pages are, and managed HSMs'.
const (
	vaultsAt = "/vaults"
	hsmsAt   = "/hsms"
)

// place returns the vault or managed HSM that a request's path names.
func place(c *portal.Call) client.Place {
	return client.Place{Name: c.R.PathValue("vault"), HSM: strings.HasPrefix(c.R.URL.Path, hsmsAt+"/")}
}

// listing is the page of vaults.
type listing struct {
	Vaults  []client.Vault
	HSMs    []client.Vault
	Deleted []gone
	Create  bool // is offered to the user
}

func list(c *portal.Call) error {
	var d listing
	var err error
	if d.Vaults, err = c.Parties.AllVaults(c.Context(), false); err != nil {
		return err
	}
	if d.HSMs, err = c.Parties.AllVaults(c.Context(), true); err != nil {
		return err
	}
	roles := held(c, client.Place{}, subscription(c))
	d.Create = manages(roles, writes(client.Place{})) || manages(roles, writes(client.Place{HSM: true}))
	d.Deleted = listGone(c, roles)
	return c.Render(portal.View{Title: "Vaults and keys", Template: "vaults/list", Data: d})
}

// A draft is the form of a vault or managed HSM that is to be.
type draft struct {
	HSM                                          bool
	Name, Group, Location, Days, Network, Ranges string
	Purge, Approval, Duties                      bool
	Problem                                      *portal.Problem
}

func newForm(c *portal.Call) error {
	return c.Render(newView(draft{Group: "kluis", Location: "local", Days: "90", Purge: true, Network: "Allow"}))
}

func newView(d draft) portal.View {
	v := portal.View{Title: "New vault", Template: "vaults/new", Crumbs: []portal.Crumb{{Title: "New vault"}}, Data: d}
	if d.Problem != nil {
		v.Status = d.Problem.Status
	}
	return v
}

func create(c *portal.Call) error {
	field := func(name string) string { return strings.TrimSpace(c.R.PostFormValue(name)) }
	d := draft{
		HSM: field("kind") == "hsm", Name: field("name"), Group: field("group"), Location: field("location"), Days: field("days"), Network: field("network"), Ranges: field("ranges"),
		Purge: field("purge") != "", Approval: field("approval") != "", Duties: field("duties") != "",
	}
	days, err := strconv.Atoi(d.Days)
	if err != nil {
		d.Problem = invalid("The days are not a whole number.")
		return c.Render(newView(d))
	}
	p := client.Place{Name: d.Name, HSM: d.HSM}
	properties := map[string]any{
		"enableSoftDelete": true, "softDeleteRetentionInDays": days,
		"networkAcls": network(d.Network, d.Ranges), "requireApproval": d.Approval, "separationOfDuties": d.Duties,
	}
	if d.Purge {
		properties["enablePurgeProtection"] = true
	}
	if d.HSM {
		properties["initialAdminObjectIds"] = []string{c.User.ID}
	} else {
		properties["enableRbacAuthorization"] = true
	}
	err = c.Parties.PutGroup(c.Context(), d.Group, d.Location)
	if err == nil {
		err = c.Parties.PutVault(c.Context(), c.User.Tenant, d.Group, p, d.Location, properties)
	}
	if err != nil {
		d.Problem = c.Explain(err)
		return c.Render(newView(d))
	}
	if d.HSM {
		return c.Done(at(d.Group, p), "The managed HSM %s is made. It does no key operation until it is activated.", d.Name)
	}
	return c.Done(at(d.Group, p), "The vault %s is made. Give the platform its role next.", d.Name)
}

func invalid(detail string) *portal.Problem {
	return &portal.Problem{Status: http.StatusBadRequest, Title: "Nothing was done", Detail: detail}
}

// network reads the form's rules: a range a line.
func network(action, ranges string) client.NetworkRules {
	n := client.NetworkRules{Default: "Allow", Bypass: "AzureServices", Ranges: []client.IPRule{}}
	if action == "Deny" {
		n.Default = "Deny"
		for _, line := range strings.Fields(ranges) {
			n.Ranges = append(n.Ranges, client.IPRule{Value: line})
		}
	}
	return n
}

// at is the path of a vault's pages, or of a managed HSM's.
func at(group string, p client.Place) string {
	base := vaultsAt
	if p.HSM {
		base = hsmsAt
	}
	return base + "/" + url.PathEscape(group) + "/" + url.PathEscape(p.Name)
}

// pane is what all pages of a vault have.
type pane struct {
	Vault    client.Vault
	Gone     *client.DeletedVault // if it is soft-deleted: of the vault only what that tells is known then
	Place    client.Place
	Base     string // path of the vault's pages
	Resource string // its resource id
	Scope    string // at which its roles are given: its resource id, or "/" in a managed HSM
	Rights   rights
	Problem  *portal.Problem
}

// Noun says what it is.
func (p pane) Noun() string {
	if p.Place.HSM {
		return "managed HSM"
	}
	return "vault"
}

// Folder is what stands before the name in its resource id.
func (p pane) Folder() string {
	if p.Place.HSM {
		return "/managedHSMs/"
	}
	return "/vaults/"
}

// KeyScope is where a role at one key is given.
func (p pane) KeyScope(key string) string {
	return strings.TrimSuffix(p.Scope, "/") + "/keys/" + url.PathEscape(key)
}

// open reads the vault that a path names, and what the user may do there.
func open(c *portal.Call) (p pane, err error) {
	group := c.R.PathValue("group")
	p.Place = place(c)
	p.Base, p.Resource = at(group, p.Place), c.Parties.VaultID(group, p.Place)
	if p.Scope = p.Resource; p.Place.HSM {
		p.Scope = "/"
	}
	if p.Vault, err = c.Parties.VaultNamed(c.Context(), group, p.Place); err != nil {
		return p, err
	}
	p.Rights = rightsAt(c, p)
	return p, nil
}

func (p pane) view(template, title string, data any, crumbs ...portal.Crumb) portal.View {
	up := portal.Crumb{Title: p.Vault.Name, Path: p.Base}
	if p.Gone != nil {
		up.Path = "/vaults#deleted"
	}
	v := portal.View{Title: title, Template: "vaults/" + template, Data: data, Crumbs: append([]portal.Crumb{up}, crumbs...)}
	if p.Place.HSM {
		v.Subtitle = "Managed HSM in " + p.Vault.Group()
	}
	if p.Problem != nil {
		v.Status = p.Problem.Status
	}
	return v
}

// finish ends an act: with the next page, with the request for a second person's
// consent that it has made, or with why not.
func (p pane) finish(c *portal.Call, h http.Header, err error, next, format string, args ...any) error {
	if err != nil && h.Get("x-kluis-approval") != "" {
		return c.Done(p.Base+"/approvals", "Nothing was done yet: a second person has to agree. The request stands here; when it is approved, do the same again.")
	}
	if err != nil {
		return err
	}
	return c.Done(next, format, args...)
}
