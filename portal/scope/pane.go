package scope

import (
	"context"
	"fmt"
	"time"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// pane is what the page of a scope's encryption shows.
type pane struct {
	Kind
	Subject
	E        client.Encryption
	Items    items
	Moving   []client.EncryptedItem // failed ones and some in progress, of which the page shows progress
	Live     bool                   // sent as an event: the page has the rest already
	Preview  *client.Preview
	Key      string // that the form holds
	Resealed bool
	Problem  *portal.Problem
	Impact   client.Impact
}

// Managed reports whether the scope is under a customer's key, or on its way.
func (p pane) Managed() bool { return p.E.Detail.Status != "Disabled" }

// Total is how many items there are.
func (p pane) Total() (n int) {
	for _, count := range p.E.Counts {
		n += count
	}
	return n
}

// mostMoving bounds the items whose progress is shown.
const mostMoving = 12

// read finds the scope that the request names, and how it is encrypted.
func (k Kind) read(c *portal.Call) (p pane, err error) {
	if p, err = k.find(c); err == nil {
		err = p.ask(c.Context(), c.Parties)
	}
	return p, err
}

func (k Kind) find(c *portal.Call) (p pane, err error) {
	p.Kind = k
	p.Subject, err = k.Find(c)
	return p, err
}

// ask reads how the scope is encrypted: counts, and the few items that are on their way.
func (p *pane) ask(ctx context.Context, parties *client.Clients) (err error) {
	if p.E, err = parties.Encryption(ctx, p.Scope); err != nil {
		return err
	}
	p.Moving = nil
	for _, status := range []string{"Failed", "EnableInProgress", "DisableInProgress"} {
		room := mostMoving - len(p.Moving)
		if status == "Failed" && p.E.Counts["EnableInProgress"]+p.E.Counts["DisableInProgress"] > 0 {
			room /= 2 // for some that are on their way
		}
		if p.E.Counts[status] == 0 || room == 0 {
			continue
		}
		page, err := parties.EncryptedItems(ctx, p.Scope, client.ItemFilter{Status: status, Top: room})
		if err != nil {
			return err
		}
		p.Moving = append(p.Moving, page.Value...)
	}
	return nil
}

// Elsewhere is how many items have failed or are on their way beside those that are shown.
func (p pane) Elsewhere() int {
	return p.E.Counts["Failed"] + p.E.Counts["EnableInProgress"] + p.E.Counts["DisableInProgress"] - len(p.Moving)
}

// Form is what decides which parts the page has beside its live one: an open page whose
// form is another is loaded again.
func (p pane) Form() string { return fmt.Sprint(p.Managed()) }

// Said is what a reader who does not see the page is told of how it goes.
func (p pane) Said() string {
	switch {
	case p.E.Serving.State != "Serving":
		return "The " + p.Noun + " is " + portal.Label(p.E.Serving.State) + "."
	case p.E.Changing() && p.E.Percent != nil:
		return fmt.Sprintf("%d per cent done.", *p.E.Percent/10*10)
	}
	return "Encryption is " + portal.Label(p.E.Detail.Status) + "."
}

func (p pane) view(template string, crumbs ...portal.Crumb) portal.View {
	way := append([]portal.Crumb{}, p.Crumbs...)
	if n := len(way); len(crumbs) == 0 && n > 0 {
		way[n-1].Path = "" // the page itself
	}
	v := portal.View{Title: p.Name, Subtitle: p.Subtitle, Template: p.Section + "/" + template, Crumbs: append(way, crumbs...), Data: p}
	if p.Problem != nil {
		v.Status = p.Problem.Status
	}
	return v
}

func (k Kind) show(c *portal.Call) error {
	p, err := k.read(c)
	if err != nil {
		return err
	}
	p.Key = c.R.URL.Query().Get("key")
	return p.render(c)
}

// render answers with the whole page, its items with it.
func (p pane) render(c *portal.Call) (err error) {
	if p.Managed() {
		if p.Items, err = p.selectItems(c); err != nil {
			return err
		}
	}
	return c.Render(p.view("encryption"))
}

// itemsChanged is the event on which an open page asks for its items again.
const itemsChanged = "items-changed"

// watch tells an open page what changes: twice a second while something is on its way, and
// otherwise every two. Whoever's items stand otherwise is told to ask for them.
func (k Kind) watch(c *portal.Call) error {
	p, err := k.find(c)
	if err != nil {
		return err
	}
	p.Live = true
	form, counted := c.R.URL.Query().Get("form"), ""
	return c.Stream(func(ctx context.Context, s *portal.Stream) error {
		for {
			if err := p.ask(ctx, c.Parties); err != nil {
				return err
			}
			if p.Form() != form {
				return s.Stale()
			}
			if err := s.Fragment(p.Section+"/encryption", "live", p); err != nil {
				return err
			}
			now := fmt.Sprint(p.E.Counts)
			if now != counted { // at first too: they may have changed since the page was read
				if err := s.Event(itemsChanged); err != nil {
					return nil
				}
			}
			counted = now
			pause := 2 * time.Second
			if p.E.Changing() {
				pause = 500 * time.Millisecond
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			if err := s.Beat(); err != nil {
				return nil
			}
		}
	})
}
