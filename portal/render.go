package portal

import (
	"context"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/portal/client"
)

// The layout, what pages share, and the frame's own pages.
//
//go:embed templates/*.html
var templateFiles embed.FS

// parse reads the templates of the frame and of all sections.
func (p *Portal) parse() error {
	p.templates = map[string]*template.Template{}
	own, err := fs.Sub(templateFiles, "templates")
	if err != nil {
		return err
	}
	base, err := template.New("").Funcs(functions).Funcs(template.FuncMap{"asset": p.assets.path}).ParseFS(own, "_*.html")
	if err != nil {
		return fmt.Errorf("portal: the layout: %w", err)
	}
	for _, s := range append([]Section{{Name: "portal", Templates: own}}, p.sections...) {
		if s.Templates == nil {
			continue
		}
		if err := p.parseSection(base, s); err != nil {
			return fmt.Errorf("portal: section %s: %w", s.Name, err)
		}
	}
	return nil
}

func (p *Portal) parseSection(base *template.Template, s Section) error {
	shared, err := base.Clone()
	if err != nil {
		return err
	}
	shared.Funcs(s.Funcs)
	type file struct {
		in   fs.FS
		name string
	}
	var pages []file
	for _, in := range []fs.FS{s.Shared, s.Templates} {
		if in == nil {
			continue
		}
		names, err := fs.Glob(in, "*.html")
		if err != nil {
			return err
		}
		for _, name := range names {
			if !strings.HasPrefix(name, "_") {
				pages = append(pages, file{in, name})
			} else if s.Name == "portal" { // the layout, which the base has already
				continue
			} else if shared, err = shared.ParseFS(in, name); err != nil {
				return err
			}
		}
	}
	for _, f := range pages {
		t, err := shared.Clone()
		if err != nil {
			return err
		}
		if t, err = t.ParseFS(f.in, f.name); err != nil {
			return err
		}
		p.templates[s.Name+"/"+strings.TrimSuffix(path.Base(f.name), ".html")] = t
	}
	return nil
}

// A page is what the layout is given.
type page struct {
	View
	User    User
	Theme   string // light, dark, or "" for the system's
	At      string // the page's own path and query
	Notice  string
	Nav     []navGroup
	Section *navEntry // nil of pages of no section
	Version string
	Joined  string
}

type navGroup struct {
	Title   string
	Entries []navEntry
}

type navEntry struct {
	Title, Path, Icon string
	Current           bool
}

func (c *Call) page(v View, section string) page {
	p := page{
		View: v, User: c.User, Theme: themeOf(c.R), Notice: c.notice(), Version: c.portal.config.Version, Joined: c.portal.config.Joined,
	}
	p.At = "/"
	if c.R.Method == "GET" {
		p.At = c.R.URL.RequestURI()
	}
	if c.Parties == nil {
		return p
	}
	seen := c.portal.seen.by(c, c.portal.sections)
	for i, s := range c.portal.sections {
		e := navEntry{Title: s.Title, Path: s.path(), Icon: s.Icon, Current: s.Name == section}
		if e.Current {
			p.Section = &e
		}
		if s.Title == "" || !seen[i] {
			continue
		}
		if n := len(p.Nav); n == 0 || p.Nav[n-1].Title != s.Group {
			p.Nav = append(p.Nav, navGroup{Title: s.Group})
		}
		g := &p.Nav[len(p.Nav)-1]
		g.Entries = append(g.Entries, e)
	}
	return p
}

func (s Section) path() string {
	if s.Path != "" {
		return s.Path
	}
	return "/" + s.Name
}

// visibility remembers for a while which sections users see, so that not every page
// asks every party.
type visibility struct {
	mu    sync.Mutex
	users map[string]seenSections
}

type seenSections struct {
	until    time.Time
	sections []bool
}

const (
	seenFor  = time.Minute
	mostSeen = 1000 // users, of whom all are forgotten when there are more
)

func (v *visibility) by(c *Call, sections []Section) []bool {
	key := c.User.Tenant + "/" + c.User.ID
	now := time.Now()
	v.mu.Lock()
	known, ok := v.users[key]
	v.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.sections
	}
	known = seenSections{now.Add(seenFor), look(c.Context(), c.Parties, sections)}
	if c.ended.Load() { // it says nothing of what he may see
		return known.sections
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.users == nil || len(v.users) >= mostSeen {
		v.users = map[string]seenSections{}
	}
	v.users[key] = known
	return known.sections
}

func look(ctx context.Context, parties *client.Clients, sections []Section) []bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out := make([]bool, len(sections))
	var all sync.WaitGroup
	for i, s := range sections {
		if out[i] = s.Visible == nil; !out[i] {
			all.Go(func() { out[i] = s.Visible(ctx, parties) })
		}
	}
	all.Wait()
	return out
}
