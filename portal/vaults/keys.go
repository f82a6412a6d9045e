package vaults

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// pageSize is how many keys a page shows, and mostDeleted how many deleted ones.
const (
	pageSize    = 100
	mostDeleted = 200
)

// keys is a vault's first page.
type keys struct {
	pane
	Query   string
	Rows    []client.KeyItem
	First   string // the first page's address, of later ones
	Next    string // the next page's
	Many    bool   // there are more than a page of them, or some are looked for
	Deleted []client.KeyItem
	NoKeys  *portal.Problem // why none are shown
}

func showKeys(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	q := c.R.URL.Query()
	d := keys{pane: p, Query: strings.TrimSpace(q.Get("q"))}
	var all sync.WaitGroup
	all.Go(func() {
		rows, next, err := c.Parties.FindKeys(c.Context(), p.Place, d.Query, q.Get("token"), pageSize)
		if d.Rows = rows; err != nil {
			d.NoKeys = c.Explain(err)
		}
		if next != "" {
			d.Next = p.Base + "?" + url.Values{"q": {d.Query}, "token": {next}}.Encode()
		}
		if q.Get("token") != "" {
			d.First = p.Base + "?" + url.Values{"q": {d.Query}}.Encode()
		}
		d.Many = d.Query != "" || d.Next != "" || d.First != ""
	})
	if !c.Partial() {
		all.Go(func() { d.Deleted, _, _ = c.Parties.ListKeys(c.Context(), p.Place, "/deletedkeys", mostDeleted) })
	}
	all.Wait()
	if c.Partial() {
		return c.Fragment("vaults/keys", "rows", d)
	}
	return c.Render(p.view("keys", p.Vault.Name, d))
}

// keyDraft is the form of a key that is to be.
type keyDraft struct {
	pane
	Name, Bits, Expires string
}

func newKey(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	return c.Render(p.view("newkey", "New key", keyDraft{pane: p, Bits: "3072"}, portal.Crumb{Title: "New key"}))
}

func createKey(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	d := keyDraft{pane: p, Name: strings.TrimSpace(c.R.PostFormValue("name")), Bits: c.R.PostFormValue("bits"), Expires: c.R.PostFormValue("expires")}
	bits, _ := strconv.Atoi(d.Bits)
	kind := "RSA"
	switch {
	case p.Place.HSM && d.Bits == "oct":
		kind, bits = "oct-HSM", 256
	case p.Place.HSM:
		kind = "RSA-HSM"
	}
	attributes := map[string]any{"enabled": true}
	if d.Expires != "" {
		day, err := time.Parse(time.DateOnly, d.Expires)
		if err != nil {
			return invalid("The day of expiry is not a day.")
		}
		attributes["exp"] = day.Unix()
	}
	_, err = c.Parties.Key(c.Context(), p.Place, http.MethodPost, keyPath(d.Name)+"/create",
		map[string]any{"kty": kind, "key_size": bits, "key_ops": []string{"wrapKey", "unwrapKey"}, "attributes": attributes}, nil)
	if err != nil {
		d.Problem = c.Explain(err)
		v := p.view("newkey", "New key", d, portal.Crumb{Title: "New key"})
		v.Status = d.Problem.Status
		return c.Render(v)
	}
	return c.Done(p.Base+"/keys/"+url.PathEscape(d.Name), "The key %s is made.", d.Name)
}

// keyPath is a key's path in the keys API.
func keyPath(name string) string { return "/keys/" + url.PathEscape(name) }

// keyPage is the page of one key.
type keyPage struct {
	pane
	Name     string
	At       string // the page's path
	Key      client.Key
	Versions []client.KeyItem
	Live     int // versions that are enabled
	Policy   policyForm
	Usage    []usage
	Holders  []keyHolder
	Timeline []event
	NoUsage  *portal.Problem
	NoWho    *portal.Problem
}

type usage struct {
	client.Usage
	Who client.Person
}

type keyHolder struct {
	Who  client.Person
	Role string
	At   string
	May  []string
}

// An event is one thing in a key's life.
type event struct {
	When    time.Time
	Icon    string
	Tone    string
	Text    string
	Version string
}

// openKey reads a key with its versions.
func openKey(c *portal.Call) (d keyPage, err error) {
	if d.pane, err = open(c); err != nil {
		return d, err
	}
	d.Name = c.R.PathValue("key")
	d.At = d.Base + "/keys/" + url.PathEscape(d.Name)
	if _, err = c.Parties.Key(c.Context(), d.Place, http.MethodGet, keyPath(d.Name), nil, &d.Key); err != nil {
		return d, err
	}
	d.Versions, _, err = c.Parties.ListKeys(c.Context(), d.Place, keyPath(d.Name)+"/versions", 0)
	slices.SortStableFunc(d.Versions, func(a, b client.KeyItem) int { return cmp.Compare(b.Attributes.Created, a.Attributes.Created) })
	for _, v := range d.Versions {
		if v.Attributes.Enabled {
			d.Live++
		}
	}
	return d, err
}

func (d keyPage) crumb() portal.Crumb { return portal.Crumb{Title: d.Name, Path: d.At} }

func showKey(c *portal.Call) error {
	d, err := openKey(c)
	if err != nil {
		return err
	}
	var used []client.Usage
	holders := map[string][]client.KeyHolder{}
	var roles []client.Role
	var lock sync.Mutex
	var all sync.WaitGroup
	all.Go(func() {
		var page client.Page[client.Usage]
		if _, err := c.Parties.Key(c.Context(), d.Place, http.MethodGet, keyPath(d.Name)+"/usage", nil, &page); err != nil {
			d.NoUsage = c.Explain(err)
		}
		used = page.Value
	})
	for _, permission := range []string{"unwrapKey", "update"} {
		all.Go(func() {
			found, err := c.Parties.WhoCan(c.Context(), d.Place, d.Name, permission)
			lock.Lock()
			defer lock.Unlock()
			if holders[permission] = found; err != nil {
				d.NoWho = c.Explain(err)
			}
		})
	}
	all.Go(func() {
		var p client.RotationPolicy
		if _, err := c.Parties.Key(c.Context(), d.Place, http.MethodGet, keyPath(d.Name)+"/rotationpolicy", nil, &p); err == nil {
			d.Policy = policyOf(p)
		}
	})
	all.Go(func() { roles, _ = c.Parties.Roles(c.Context(), d.Place, d.Scope) })
	all.Wait()
	var ids []string
	for _, u := range used {
		ids = append(ids, u.Principal)
	}
	for _, some := range holders {
		for _, h := range some {
			ids = append(ids, h.Principal)
		}
	}
	names := named(c, ids...)
	for _, u := range used {
		d.Usage = append(d.Usage, usage{u, names(u.Principal)})
	}
	slices.SortFunc(d.Usage, func(a, b usage) int { return b.Last.Compare(a.Last) })
	for permission, some := range holders {
		what := map[string]string{"unwrapKey": "use", "update": "manage"}[permission]
		for _, h := range some {
			d.hold(names(h.Principal), roleName(roles, h.Role), d.scopeName(h.Scope), what)
		}
	}
	slices.SortFunc(d.Holders, func(a, b keyHolder) int {
		return strings.Compare(a.Who.DisplayName+a.Role, b.Who.DisplayName+b.Role)
	})
	d.timeline()
	return c.Render(d.view("key", d.Name, d, portal.Crumb{Title: d.Name}))
}

// hold adds what somebody may do by a role, beside what else he may by it.
func (d *keyPage) hold(who client.Person, role, at, may string) {
	if role == "" {
		role = "access policy"
	}
	for i, h := range d.Holders {
		if h.Who.ID == who.ID && h.Role == role && h.At == at {
			d.Holders[i].May = append(h.May, may)
			slices.Sort(d.Holders[i].May)
			return
		}
	}
	d.Holders = append(d.Holders, keyHolder{who, role, at, []string{may}})
}

// timeline tells the key's life, the newest first: what its versions' dates say, and who
// has used it.
func (d *keyPage) timeline() {
	for i, v := range d.Versions {
		e := event{When: v.Attributes.Created.Time(), Icon: "rotate", Tone: "busy", Text: "Rotated: a new version", Version: v.Version()}
		if i == len(d.Versions)-1 {
			e.Icon, e.Tone, e.Text = "plus", "good", "Created"
		}
		d.Timeline = append(d.Timeline, e)
		if !v.Attributes.Enabled {
			d.Timeline = append(d.Timeline, event{When: v.Attributes.Updated.Time(), Icon: "lock", Tone: "bad", Text: "Disabled", Version: v.Version()})
		} else if v.Attributes.Updated > v.Attributes.Created {
			d.Timeline = append(d.Timeline, event{When: v.Attributes.Updated.Time(), Icon: "settings", Tone: "plain", Text: "Changed or enabled", Version: v.Version()})
		}
		if at := v.Attributes.Expires.Time(); !at.IsZero() {
			d.Timeline = append(d.Timeline, event{When: at, Icon: "watch", Tone: "warn", Text: "Expires", Version: v.Version()})
		}
	}
	for _, u := range d.Usage {
		d.Timeline = append(d.Timeline, event{When: u.Last, Icon: "key", Tone: "plain",
			Text: "Last " + u.Operation + " by " + u.Who.DisplayName + ", " + strconv.FormatInt(u.Count, 10) + " in all", Version: u.Version()})
		if u.Count > 1 {
			d.Timeline = append(d.Timeline, event{When: u.First, Icon: "key", Tone: "plain", Text: "First " + u.Operation + " by " + u.Who.DisplayName, Version: u.Version()})
		}
	}
	slices.SortStableFunc(d.Timeline, func(a, b event) int { return b.When.Compare(a.When) })
}
