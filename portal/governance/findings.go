package governance

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// pageSize is how many findings a page shows.
const pageSize = "50"

// listing is the page of findings.
type listing struct {
	pane
	Resource, Control, Standing, AtLeast, Order string
	Rows                                        []client.Span
	Total                                       int
	Next, First                                 string // addresses of pages
}

func findings(c *portal.Call) error {
	q := c.R.URL.Query()
	l := listing{Resource: strings.TrimSpace(q.Get("resource")), Control: q.Get("control"), Standing: q.Get("standing"), AtLeast: q.Get("atLeast"), Order: q.Get("order")}
	if l.Standing == "" {
		l.Standing = "open"
	}
	if l.Order == "" {
		l.Order = "worst"
	}
	ask := url.Values{"top": {pageSize}}
	for name, v := range map[string]string{"resource": l.Resource, "control": l.Control, "standing": l.Standing, "atLeast": l.AtLeast, "order": l.Order, "after": q.Get("after")} {
		if v != "" {
			ask.Set(name, v)
		}
	}
	var err error
	if l.pane, err = open(c, "findings"); err != nil {
		return err
	}
	page, err := c.Parties.Findings(c.Context(), ask)
	if err != nil {
		return err
	}
	l.Rows, l.Total = page.Value, page.Total
	ask.Del("top")
	if ask.Has("after") {
		ask.Del("after")
		l.First = "/governance/findings?" + ask.Encode()
	}
	if next, err := url.Parse(page.Next); err == nil && page.Next != "" {
		ask.Set("after", next.Query().Get("after"))
		l.Next = "/governance/findings?" + ask.Encode()
	}
	if c.Partial() {
		return c.Fragment("governance/findings", "rows", l)
	}
	return c.Render(portal.View{Title: "Findings", Template: "governance/findings", Data: l})
}

// detail is the page of one finding.
type detail struct {
	pane
	client.Chain
	Own       *client.Exception // that was made here, and so can be withdrawn here
	Workspace string            // the page on which it is mended
	Plan      *client.Plan
	PlanKey   string
	Problem   *portal.Problem
	Owner     string // that the form holds
	Reason    string
	Until     string
}

func read(c *portal.Call) (d detail, err error) {
	if d.pane, err = open(c, "findings"); err != nil {
		return d, err
	}
	if d.Chain, err = c.Parties.Finding(c.Context(), c.R.PathValue("id")); err != nil {
		return d, err
	}
	f := d.Finding
	if f.Type == "Microsoft.Fabric/workspaces" && f.Control == "CMK/"+f.Type && d.Resolved.IsZero() {
		d.Workspace = "/workspaces/" + url.PathEscape(f.Resource) + "/encryption"
	}
	if f.Exception == nil || !d.May.May("exceptions/write") {
		return d, nil
	}
	all, err := c.Parties.Exceptions(c.Context())
	for i, x := range all {
		if x.Finding == f.ID && x.ID != "" {
			d.Own = &all[i]
		}
	}
	return d, err
}

func (d detail) view(status int) portal.View {
	holds := "does not hold"
	switch {
	case !d.Resolved.IsZero():
		holds = "holds again"
	case d.Finding.State == "unknown":
		holds = "cannot be told"
	}
	return portal.View{
		Title: d.Finding.Title, Subtitle: "Control " + d.Finding.Control + " " + holds + " for " + cmp.Or(d.Finding.Name, tail(d.Finding.Resource)), Template: "governance/finding", Data: d, Status: status,
		Crumbs: []portal.Crumb{{Title: "Findings", Path: "/governance/findings"}, {Title: short(d.Finding.ID)}},
	}
}

func finding(c *portal.Call) error {
	d, err := read(c)
	if err != nil {
		return err
	}
	return c.Render(d.view(0))
}

// plan shows how a finding is mended and taken back.
func plan(c *portal.Call) error {
	d, err := read(c)
	if err != nil {
		return err
	}
	d.PlanKey = strings.TrimSpace(c.R.PostFormValue("key"))
	p, err := c.Parties.Plan(c.Context(), d.Finding.ID, d.PlanKey)
	if err != nil {
		d.Problem = c.Explain(err)
	} else {
		d.Plan = &p
	}
	if c.Partial() {
		return c.Fragment("governance/finding", "plan", d)
	}
	return c.Render(d.view(0))
}

func except(c *portal.Call) error {
	id, form := c.R.PathValue("id"), func(name string) string { return strings.TrimSpace(c.R.PostFormValue(name)) }
	_, err := c.Parties.Except(c.Context(), id, form("owner"), form("reason"), form("until"))
	if err == nil {
		return c.Done("/governance/findings/"+url.PathEscape(id), "The finding is excepted until %s.", form("until"))
	}
	d, e := read(c)
	if e != nil {
		return err
	}
	// The form keeps what was typed, and says why it was not taken.
	d.Owner, d.Reason, d.Until, d.Problem = form("owner"), form("reason"), form("until"), c.Explain(err)
	return c.Render(d.view(max(d.Problem.Status, http.StatusBadRequest)))
}

func exceptions(c *portal.Call) error {
	p, err := open(c, "exceptions")
	if err != nil {
		return err
	}
	all, err := c.Parties.Exceptions(c.Context())
	if err != nil {
		return err
	}
	d := struct {
		pane
		Rows []client.Exception
	}{p, all}
	return c.Render(portal.View{Title: "Exceptions", Template: "governance/exceptions", Data: d})
}

func withdraw(c *portal.Call) error {
	if err := c.Parties.Withdraw(c.Context(), c.R.PathValue("id")); err != nil {
		return err
	}
	return c.Done("/governance/exceptions", "The exception is withdrawn: its finding fails again.")
}
