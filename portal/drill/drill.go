// Package drill is the portal's part for revocation drills: a workspace's key is taken
// away and given back, and a clock shows how long it takes until nothing can be read,
// written, listed or restored any more, and until everything can again.
//
// Whoever may change the key and use the data runs a drill alone. Where two people do,
// one watches here while the other acts at the vault.
//
// If the portal dies while a drill has a key away, the key's own mark tells of it: who
// may see the key finds the drill here and on the overview, and gives the key back.
package drill

import (
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	revocation "github.com/kluis-io/kluis/drill"
	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	return portal.Section{
		Name: "drill", Title: "Drill", Group: "Platform", Icon: "watch", Templates: templates,
		Routes: map[string]portal.Handler{
			"GET /drill":                list,
			"GET /drill/{id}":           show,
			"POST /drill/{id}":          run,
			"POST /drill/{id}/evidence": evidence,
			"POST /drill/restore":       restore,
		},
		Visible: func(ctx context.Context, c *client.Clients) bool {
			p, err := c.Workspaces(ctx, "Admin", "")
			return err == nil && len(p.Value) > 0
		},
	}
}

// candidate is a workspace that can be drilled.
type candidate struct {
	client.Workspace
	E    client.Encryption
	Left *revocation.Away // nil if no drill has its key away, as far as the user may see
}

// leftAway tells of a drill that has a key away, nil if there is none. It fails where
// the user may not see the key.
func leftAway(ctx context.Context, c *client.Clients, kid string) (*revocation.Away, error) {
	k, err := key(c, kid)
	if err != nil {
		return nil, err
	}
	all, err := k.Left(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// mostCandidates bounds the workspaces that are offered.
const mostCandidates = 50

// list shows the workspaces under a customer's key of which the user is admin.
func list(c *portal.Call) error {
	page, err := c.Parties.Workspaces(c.Context(), "Admin", "")
	if err != nil {
		return err
	}
	all := make([]candidate, min(len(page.Value), mostCandidates))
	var asking sync.WaitGroup
	for i := range all {
		asking.Go(func() {
			all[i].Workspace = page.Value[i]
			all[i].E, _ = c.Parties.Encryption(c.Context(), client.WorkspaceScope(page.Value[i].ID)) // one that is gone is not offered
			if e := all[i].E; e.KeyVersion != "" && e.Serving.State == "Revoked" {
				all[i].Left, _ = leftAway(c.Context(), c.Parties, e.KeyVersion)
			}
		})
	}
	asking.Wait()
	var ready []candidate
	for _, w := range all {
		if w.E.KeyVersion != "" && w.E.Detail.Status != "Disabled" {
			ready = append(ready, w)
		}
	}
	return c.Render(portal.View{Title: "Drill", Subtitle: "Take a key away, give it back, and measure what happens in between.", Template: "drill/list", Data: ready})
}

// stage is what the page of one drill shows.
type stage struct {
	ID        string
	Workspace client.Workspace
	E         client.Encryption
	Impact    client.Impact
	Takes     bool             // the user may change the key himself
	Left      *revocation.Away // nil if no drill has the key away
	Why       *portal.Problem
	State     *state // of a drill that was run; nil before
	Steps     []string
}

func read(c *portal.Call) (stage, error) {
	s := stage{ID: c.R.PathValue("id")}
	var err error
	if s.E, err = c.Parties.Encryption(c.Context(), client.WorkspaceScope(s.ID)); err != nil {
		return s, err
	}
	if s.E.KeyVersion == "" {
		return s, &portal.Problem{Status: http.StatusConflict, Title: "There is no key to take away", Detail: "The workspace is under platform-managed keys.",
			Mend: "Apply a customer-managed key first."}
	}
	if s.Workspace, err = c.Parties.Workspace(c.Context(), s.ID); err != nil {
		return s, err
	}
	if s.Impact, err = c.Parties.Impact(c.Context(), s.E.Detail.KeyIdentifier); err != nil {
		return s, err
	}
	s.Left, err = leftAway(c.Context(), c.Parties, s.E.KeyVersion)
	if s.Takes = err == nil; !s.Takes {
		s.Why = c.Explain(client.FromSDK(c.Parties.Keys, err))
	}
	return s, nil
}

func (s stage) view() portal.View {
	return portal.View{Title: "Drill of " + s.Workspace.DisplayName, Template: "drill/drill", Crumbs: []portal.Crumb{{Title: s.Workspace.DisplayName}}, Data: s}
}

func show(c *portal.Call) error {
	s, err := read(c)
	if err != nil {
		return err
	}
	return c.Render(s.view())
}

// run runs a drill to its end, and tells an open page how it goes. One that takes the key
// away itself goes on when the page is closed: it is measured, the key is given back, and
// the platform's log has it. If the portal stops, the key is given back at once.
func run(c *portal.Call) error {
	s, err := read(c)
	if err != nil {
		return err
	}
	if strings.TrimSpace(c.R.PostFormValue("name")) != s.Workspace.DisplayName {
		return &portal.Problem{Status: http.StatusBadRequest, Title: "Nothing was done", Detail: "What was typed is not the workspace's name.",
			Mend: fmt.Sprintf("Type %q to go on.", s.Workspace.DisplayName)}
	}
	d := &drill{Clients: c.Parties, stage: s, takes: s.Takes && c.R.PostFormValue("watch") == ""}
	ctx := c.Context()
	if d.takes {
		lasting, cancel := c.Outlasting()
		defer cancel()
		ctx = lasting
	}
	if !c.Partial() {
		err := d.run(ctx, func(state) error { return nil })
		s.State = &d.state
		if err != nil {
			s.State.Problem = c.Explain(client.FromSDK(c.Parties.Keys, err))
		}
		return c.Render(s.view())
	}
	return c.Stream(func(reader context.Context, out *portal.Stream) error {
		if !d.takes {
			ctx = reader
		}
		tell := func(now state) error {
			if err := out.Fragment("drill/drill", "clock", now); err != nil && !d.takes {
				return err
			}
			return nil
		}
		if err := d.run(ctx, tell); err != nil {
			d.state.Problem = c.Explain(client.FromSDK(c.Parties.Keys, err))
			return tell(d.state)
		}
		return nil
	})
}

// restore gives back a key that a drill has left away.
func restore(c *portal.Call) error {
	kid := c.R.PostFormValue("kid")
	k, err := key(c.Parties, kid)
	if err != nil {
		return err
	}
	versions, err := k.Restore(c.Context())
	if err != nil {
		return problem(client.FromSDK(c.Parties.Keys, err))
	}
	text := "The key is back. Access returns by itself."
	if len(versions) == 0 {
		text = "No drill has this key away any more."
	}
	return c.Done(cmp.Or(c.R.PostFormValue("return"), "/drill"), "%s", text)
}

// evidence hands a finished drill's evidence back as a file.
func evidence(c *portal.Call) error {
	text := c.R.PostFormValue("evidence")
	if !json.Valid([]byte(text)) || len(text) > 1<<20 {
		return &portal.Problem{Status: http.StatusBadRequest, Title: "This is no evidence of a drill"}
	}
	h := c.W.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Disposition", `attachment; filename="kluis-drill.json"`)
	c.W.Write([]byte(text))
	return nil
}
