// Package vaults is the portal's part for the custodian's side: vaults with what
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
	"sync"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	return portal.Section{
		Name: "vaults", Title: "Vaults and keys", Group: "Custodian", Icon: "vault", Templates: templates,
		Routes: map[string]portal.Handler{
			"GET /vaults":                                        list,
			"GET /vaults/new":                                    newForm,
			"POST /vaults/new":                                   create,
			"POST /vaults/{group}/{vault}/recover":               recoverVault,
			"GET /vaults/{group}/{vault}":                        showKeys,
			"GET /vaults/{group}/{vault}/settings":               showSettings,
			"POST /vaults/{group}/{vault}/settings":              changeSettings,
			"GET /vaults/{group}/{vault}/delete":                 confirmDeleteVault,
			"POST /vaults/{group}/{vault}/delete":                deleteVault,
			"GET /vaults/{group}/{vault}/access":                 showAccess,
			"GET /vaults/{group}/{vault}/access/new":             assignSteps,
			"POST /vaults/{group}/{vault}/access/new":            assign,
			"GET /vaults/{group}/{vault}/access/remove":          confirmRemove,
			"POST /vaults/{group}/{vault}/access/remove":         remove,
			"GET /vaults/{group}/{vault}/approvals":              showApprovals,
			"POST /vaults/{group}/{vault}/approvals/{id}":        decide,
			"GET /vaults/{group}/{vault}/keys/new":               newKey,
			"POST /vaults/{group}/{vault}/keys/new":              createKey,
			"GET /vaults/{group}/{vault}/keys/{key}":             showKey,
			"POST /vaults/{group}/{vault}/keys/{key}/rotate":     rotate,
			"POST /vaults/{group}/{vault}/keys/{key}/enable":     enable,
			"GET /vaults/{group}/{vault}/keys/{key}/disable":     confirmDisable,
			"POST /vaults/{group}/{vault}/keys/{key}/disable":    disable,
			"GET /vaults/{group}/{vault}/keys/{key}/delete":      confirmDelete,
			"POST /vaults/{group}/{vault}/keys/{key}/delete":     deleteKey,
			"GET /vaults/{group}/{vault}/keys/{key}/policy":      showPolicy,
			"POST /vaults/{group}/{vault}/keys/{key}/policy":     setPolicy,
			"POST /vaults/{group}/{vault}/deleted/{key}/recover": recoverKey,
			"GET /vaults/{group}/{vault}/deleted/{key}/purge":    confirmPurge,
			"POST /vaults/{group}/{vault}/deleted/{key}/purge":   purge,
		},
		Visible: func(_ context.Context, c *client.Clients) bool { return c.Vaults.Address != "" },
	}
}

// listing is the page of vaults.
type listing struct {
	Vaults  []client.Vault
	Deleted []client.DeletedVault
	Rights  rights
}

func list(c *portal.Call) error {
	var d listing
	var err error
	if d.Vaults, err = c.Parties.AllVaults(c.Context()); err != nil {
		return err
	}
	var all sync.WaitGroup
	all.Go(func() { d.Deleted, _ = c.Parties.DeletedVaults(c.Context()) }) // whoever may not see them sees none
	all.Go(func() { d.Rights = rightsAt(c, "/subscriptions/"+c.Parties.Subscription, nil) })
	all.Wait()
	return c.Render(portal.View{Title: "Vaults and keys", Template: "vaults/list", Data: d})
}

// A draft is the form of a vault that is to be.
type draft struct {
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
		Name: field("name"), Group: field("group"), Location: field("location"), Days: field("days"), Network: field("network"), Ranges: field("ranges"),
		Purge: field("purge") != "", Approval: field("approval") != "", Duties: field("duties") != "",
	}
	days, err := strconv.Atoi(d.Days)
	if err != nil {
		d.Problem = invalid("The days are not a whole number.")
		return c.Render(newView(d))
	}
	properties := map[string]any{
		"enableRbacAuthorization": true, "enableSoftDelete": true, "softDeleteRetentionInDays": days,
		"networkAcls": network(d.Network, d.Ranges), "requireApproval": d.Approval, "separationOfDuties": d.Duties,
	}
	if d.Purge {
		properties["enablePurgeProtection"] = true
	}
	err = c.Parties.PutGroup(c.Context(), d.Group, d.Location)
	if err == nil {
		err = c.Parties.PutVault(c.Context(), c.User.Tenant, d.Group, d.Name, d.Location, properties)
	}
	if err != nil {
		d.Problem = c.Explain(err)
		return c.Render(newView(d))
	}
	return c.Done(at(d.Group, d.Name), "The vault %s is made. Give the platform its role next.", d.Name)
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

func recoverVault(c *portal.Call) error {
	group, name := c.R.PathValue("group"), c.R.PathValue("vault")
	if err := c.Parties.RecoverVault(c.Context(), c.User.Tenant, group, name, c.R.PostFormValue("location")); err != nil {
		return err
	}
	return c.Done(at(group, name), "The vault %s is back, with its keys as they were.", name)
}

// at is the path of a vault's pages.
func at(group, vault string) string {
	return "/vaults/" + url.PathEscape(group) + "/" + url.PathEscape(vault)
}

// pane is what all pages of a vault have.
type pane struct {
	Vault   client.Vault
	Base    string // path of the vault's pages
	Scope   string // resource id
	Rights  rights
	Problem *portal.Problem
}

// open reads the vault that a path names, and what the user may do there.
func open(c *portal.Call) (p pane, err error) {
	group, name := c.R.PathValue("group"), c.R.PathValue("vault")
	p.Base, p.Scope = at(group, name), c.Parties.VaultID(group, name)
	if p.Vault, err = c.Parties.VaultNamed(c.Context(), group, name); err != nil {
		return p, err
	}
	p.Rights = rightsAt(c, p.Scope, &p.Vault)
	return p, nil
}

func (p pane) view(template, title string, data any, crumbs ...portal.Crumb) portal.View {
	v := portal.View{Title: title, Template: "vaults/" + template, Data: data, Crumbs: append([]portal.Crumb{{Title: p.Vault.Name, Path: p.Base}}, crumbs...)}
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
