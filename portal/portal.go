// Package portal is the web portal: what officers, engineers and auditors see and do
// in a browser.
//
// It holds no right of its own. Every page calls the parties' HTTP interfaces as the
// user who has signed in, with his own tokens, so that what he may do is decided, and
// recorded, where it always is. It keeps nothing between two requests: any replica
// answers any of them. A party that is not there, or not in this process, is only an
// address: pages say what they cannot see for want of it.
//
// This package is the frame: routing, layout, sessions as an interface, and what
// protects a browser. The pages lie in folders of their own, each a [Section]; package
// client speaks to the parties, and package chart draws.
//
// Pages are rendered here and work without script; script makes forms and progress
// smoother. Nothing is loaded from another host, and nothing is written inline: the
// Content-Security-Policy forbids both.
package portal

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/kluis-io/kluis/portal/client"
)

// Config says where the parties are, and who signs people in.
type Config struct {
	Parties  client.Parties
	HTTP     *http.Client // that trusts the parties' certificates
	Sessions Sessions

	// SignInHosts are the origins, such as "https://login.example.com", to which signing
	// in and out leads.
	SignInHosts []string

	Version string
	// Joined says why custodian and operator are not separated here; "" if they are.
	Joined string
}

// A Section is a part of the portal: an entry of the navigation, and the pages below it.
type Section struct {
	Name  string // of the path's first segment, and of the templates: "workspaces"
	Title string // in the navigation; none if empty
	Group string // the heading of the navigation under which it stands
	Icon  string // of [icons]
	Path  string // of its first page; "/" + Name if empty

	// Templates are the files of its pages. Each NAME.html defines "content", and can
	// define fragments that are sent alone; files whose name begins with _ are shared by
	// all of them.
	Templates fs.FS
	Shared    fs.FS            // those that it has in common with another section, as if they lay beside them
	Funcs     template.FuncMap // of its templates, beside the frame's own

	// Routes are its handlers by pattern, as [http.ServeMux] takes them:
	// "GET /workspaces/{id}".
	Routes map[string]Handler

	// Visible says whether the user sees it in the navigation: he who may do nothing
	// there does not. Nil means always. What it says is remembered for a minute; it
	// protects nothing.
	Visible func(ctx context.Context, c *client.Clients) bool
}

// A Handler answers a request of somebody who has signed in, or returns why not before
// anything is written. A [client.Error] is shown as what a party has answered.
type Handler func(*Call) error

// A Portal is the handler of everything on the portal's host.
type Portal struct {
	config    Config
	sections  []Section
	mux       *http.ServeMux
	assets    assets
	templates map[string]*template.Template
	seen      visibility
	closed    chan struct{}
	closing   sync.Once
}

// New returns the portal of its sections, in the order of the navigation. It fails if
// their templates or routes are wrong.
func New(c Config, sections ...Section) (*Portal, error) {
	if c.HTTP == nil {
		c.HTTP = http.DefaultClient
	}
	p := &Portal{config: c, sections: sections, mux: http.NewServeMux(), assets: loadAssets(), closed: make(chan struct{})}
	if err := p.parse(); err != nil {
		return nil, err
	}
	p.mux.Handle("GET /assets/", p.assets)
	p.mux.HandleFunc("POST /theme", p.theme)
	if c.Sessions != nil {
		p.mux.Handle(SessionPath, c.Sessions)
	}
	p.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, notFound) })
	for _, s := range sections {
		for pattern, h := range s.Routes {
			if !strings.Contains(pattern, " /") {
				return nil, fmt.Errorf("portal: section %s: the route %q has no method and path", s.Name, pattern)
			}
			p.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, h) })
		}
	}
	return p, nil
}

// Close ends the streams of pages that are open, for a server that stops.
func (p *Portal) Close() { p.closing.Do(func() { close(p.closed) }) }

func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler {
				panic(v)
			}
			slog.ErrorContext(r.Context(), "panic", "protocol", "portal", "panic", v, "stack", string(debug.Stack()))
			panic(http.ErrAbortHandler)
		}
	}()
	p.protect(w, r.WithContext(context.WithValue(r.Context(), portalKey{}, p)), p.mux)
}

// serve answers a request of a page, for whoever has signed in.
func (p *Portal) serve(w http.ResponseWriter, r *http.Request, h Handler) {
	w.Header().Set("Cache-Control", "no-store")
	c := &Call{W: w, R: r, portal: p}
	var s Session
	if p.config.Sessions != nil {
		s = p.config.Sessions.Session(w, r)
	}
	if s == nil {
		c.begin()
		return
	}
	c.User = s.User()
	c.Parties = client.New(p.config.Parties, p.config.HTTP, watched{s, c})
	err := h(c)
	switch {
	case err == nil:
	case errors.Is(err, ErrSignIn), c.ended.Load():
		c.begin()
	default:
		c.fail(err)
	}
}

// begin sends somebody who has not signed in on his way.
func (c *Call) begin() {
	if c.portal.config.Sessions == nil {
		c.fail(&Problem{Status: http.StatusServiceUnavailable, Title: "Nobody can sign in here",
			Detail: "This portal has been told no issuer of tokens.", Mend: "Name one in the server's configuration, under portal."})
		return
	}
	to := "/"
	if c.R.Method == http.MethodGet && c.R.Header.Get("HX-Request") == "" && c.R.Header.Get("Accept") != "text/event-stream" {
		to = c.R.URL.RequestURI()
	}
	if c.R.Header.Get("HX-Request") != "" { // the whole page has to go, not a part of it
		c.W.Header().Set("HX-Refresh", "true")
		c.W.WriteHeader(http.StatusNoContent)
		return
	}
	c.portal.config.Sessions.Begin(c.W, c.R, to)
}

func notFound(*Call) error {
	return &Problem{Status: http.StatusNotFound, Title: "There is no such page",
		Detail: "The address may be mistyped, or what it named is gone."}
}
