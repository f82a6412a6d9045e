package workspaces

import (
	"context"
	"fmt"
	"time"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// pane is what the page of a workspace's encryption shows.
type pane struct {
	ID        string
	Workspace client.Workspace
	E         client.Encryption
	Items     items
	Moving    []client.EncryptedItem // in progress and failed ones, of which the page shows progress
	Counts    map[string]int         // of items by status
	Total     int
	Live      bool // sent as an event: the page has the rest already
	Preview   *client.Preview
	Key       string // that the form holds
	ReSeal    bool
	Problem   *portal.Problem
}

// Managed reports whether the workspace is under a customer's key, or on its way.
func (p pane) Managed() bool { return p.E.Detail.Status != "Disabled" }

// mostMoving bounds the items whose progress is shown.
const mostMoving = 12

func read(c *portal.Call) (pane, error) {
	p := pane{ID: c.R.PathValue("id")}
	e, err := c.Parties.WorkspaceEncryption(c.Context(), p.ID)
	if err != nil {
		return p, err
	}
	// Whoever may see the encryption may not always see the workspace: auditors may not.
	if p.Workspace, err = c.Parties.Workspace(c.Context(), p.ID); err != nil {
		p.Workspace = client.Workspace{ID: p.ID, DisplayName: "Workspace " + p.ID[:min(8, len(p.ID))]}
	}
	p.set(e)
	return p, nil
}

func (p *pane) set(e client.Encryption) {
	p.E, p.Counts, p.Moving, p.Total = e, map[string]int{}, nil, 0
	for _, g := range e.Groups {
		p.Counts[g.Status] += len(g.Items)
		p.Total += len(g.Items)
	}
	for _, i := range e.Items() {
		if i.Status != "Active" && i.Status != "Disabled" && len(p.Moving) < mostMoving {
			p.Moving = append(p.Moving, i)
		}
	}
}

// Form is what decides which parts the page has beside its live one: an open page whose
// form is another is loaded again.
func (p pane) Form() string {
	return fmt.Sprintf("%t-%t-%d", p.Managed(), p.E.Changing(), len(p.E.Versions))
}

// Said is what a reader who does not see the page is told of how it goes.
func (p pane) Said() string {
	switch {
	case p.E.Serving.State != "Serving":
		return "The workspace is " + portal.Label(p.E.Serving.State) + "."
	case p.E.Changing() && p.E.Percent != nil:
		return fmt.Sprintf("%d per cent done.", *p.E.Percent/10*10)
	}
	return "Encryption is " + portal.Label(p.E.Detail.Status) + "."
}

func (p pane) view(template string, crumbs ...portal.Crumb) portal.View {
	at := []portal.Crumb{{Title: p.Workspace.DisplayName, Path: "/workspaces/" + p.ID + "/encryption"}}
	if len(crumbs) == 0 {
		at = append(at, portal.Crumb{Title: "Encryption"})
	}
	return portal.View{Title: p.Workspace.DisplayName, Subtitle: p.Workspace.Description, Template: "workspaces/" + template, Crumbs: append(at, crumbs...), Data: p}
}

func show(c *portal.Call) error {
	p, err := read(c)
	if err != nil {
		return err
	}
	p.Key = c.R.URL.Query().Get("key")
	p.Items = selectItems(c, p)
	return c.Render(p.view("encryption"))
}

// watch tells an open page what changes: every second while something is on its way,
// and otherwise every two. Of many items it asks less often.
func watch(c *portal.Call) error {
	id, form := c.R.PathValue("id"), c.R.URL.Query().Get("form")
	p := pane{ID: id, Live: true}
	return c.Stream(func(ctx context.Context, s *portal.Stream) error {
		for {
			e, err := c.Parties.WorkspaceEncryption(ctx, id)
			if err != nil {
				return err
			}
			p.set(e)
			if p.Form() != form {
				return s.Stale()
			}
			if err := s.Fragment("workspaces/encryption", "live", p); err != nil {
				return err
			}
			pause := 2 * time.Second
			if e.Changing() {
				pause = 500 * time.Millisecond
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause + time.Duration(p.Total)*time.Millisecond/2):
			}
			if err := s.Beat(); err != nil {
				return nil
			}
		}
	})
}
