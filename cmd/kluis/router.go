package main

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/graph"
	"github.com/kluis-io/kluis/api/posture"
	"github.com/kluis-io/kluis/api/token"
)

// A router is the one listener's handler: the host's name picks the protocol,
// and on a bare host the path does, since the URL spaces do not meet. A protocol
// that this process does not serve is nil.
type router struct {
	domain string

	vault, fabric, arm, token, graph, posture http.Handler
	blob, dfs, storage                        http.Handler // storage takes path-style requests of either
	health                                    http.Handler
	portal, auditlog                          http.Handler
	portalAt                                  string // its origin, to which a bare host's "/" leads

	account func(name string, dialect storageDialect) http.Handler // a storage account's; nil for a name that none can have
	exists  func(ctx context.Context, name string) bool            // whether there is such an account
}

// A storageDialect says which of the storage protocols an address speaks.
type storageDialect int

const (
	blobDialect storageDialect = iota
	dfsDialect
	eitherDialect // path-style
)

// storageAccount is OneLake's account name, whose containers are workspaces.
const storageAccount = "onelake"

// wrap puts something around the protocols that this process serves, each of which has
// its service's name.
func (rt *router) wrap(around func(service string, h http.Handler) http.Handler) {
	for service, h := range map[string]*http.Handler{
		"vault": &rt.vault, "fabric": &rt.fabric, "arm": &rt.arm, "login": &rt.token, "graph": &rt.graph, "governance": &rt.posture,
		"blob": &rt.blob, "dfs": &rt.dfs, "storage": &rt.storage,
	} {
		if *h != nil {
			*h = around(service, *h)
		}
	}
	if account := rt.account; account != nil {
		rt.account = func(name string, dialect storageDialect) http.Handler {
			h := account(name, dialect)
			if h == nil {
				return nil
			}
			return around("account", h)
		}
	}
}

func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, path := rt.route(r)
	if h == nil {
		api.WriteJSON(w, http.StatusNotFound, map[string]any{
			"error": map[string]string{"code": "NotFound", "message": "Nothing is served at this address."},
		})
		return
	}
	if path != r.URL.EscapedPath() {
		r = withPath(r, path)
	}
	h.ServeHTTP(w, r)
}

// route returns the handler of a request, and the escaped path that it is to see.
func (rt *router) route(r *http.Request) (http.Handler, string) {
	path := r.URL.EscapedPath()
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	switch name, ok := strings.CutSuffix(strings.ToLower(host), "."+rt.domain); {
	case !ok:
		if h := rt.bare(path); h != nil {
			return h, stripAccount(path, storageAccount)
		}
		return rt.pathStyle(r, path)
	case strings.HasSuffix(name, ".vault"), strings.HasSuffix(name, ".managedhsm"):
		return rt.vault, path
	case name == "api.fabric":
		return rt.fabric, path
	case name == storageAccount+".blob":
		return rt.blob, path
	case name == storageAccount+".dfs":
		return rt.dfs, path
	case rt.account != nil && strings.HasSuffix(name, ".blob"):
		return rt.account(strings.TrimSuffix(name, ".blob"), blobDialect), path
	case rt.account != nil && strings.HasSuffix(name, ".dfs"):
		return rt.account(strings.TrimSuffix(name, ".dfs"), dfsDialect), path
	case name == "management":
		return rt.arm, path
	case name == "login":
		return rt.token, path
	case name == "graph":
		return rt.graph, path
	case name == "posture":
		return rt.posture, path
	case name == "portal":
		return rt.portal, path
	case name == "audit":
		return rt.auditlog, path
	}
	return nil, path
}

// bare picks the handler of a bare host's path.
func (rt *router) bare(path string) http.Handler {
	first, _, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
	switch first = strings.ToLower(first); {
	case path == "/healthz" || path == "/readyz":
		return rt.health
	case path == "/" && rt.portal != nil:
		return http.RedirectHandler(rt.portalAt+"/", http.StatusFound) // one origin, for its cookies' and its issuer's sake
	case first == storageAccount:
		return rt.storage
	case slices.Contains([]string{"keys", "deletedkeys", "rng", "changes", "approvals", "access"}, first):
		return rt.vault
	case first == "v1":
		return rt.fabric
	case first == "subscriptions" || first == "providers" || first == "metadata":
		return rt.arm
	case first == "audit":
		return rt.auditlog
	case posture.Serves(path):
		return rt.posture
	case graph.Serves(path):
		return rt.graph
	case token.Serves(path):
		return rt.token
	}
	return nil
}

// pathStyle returns the handler of a storage account that a bare host's path begins
// with.
func (rt *router) pathStyle(r *http.Request, path string) (http.Handler, string) {
	name, _, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
	if rt.account == nil || !rt.exists(r.Context(), name) {
		return nil, path
	}
	return rt.account(name, eitherDialect), stripAccount(path, name)
}

// stripAccount takes the account's name off a path-style storage path.
func stripAccount(path, account string) string {
	rest := strings.TrimLeft(path, "/")
	if len(rest) >= len(account) && strings.EqualFold(rest[:len(account)], account) {
		if rest = rest[len(account):]; rest == "" {
			return "/"
		} else if rest[0] == '/' {
			return rest
		}
	}
	return path
}

// withPath returns the request with another escaped path.
func withPath(r *http.Request, path string) *http.Request {
	r2 := r.Clone(r.Context())
	if u, err := r.URL.Parse(path); err == nil {
		r2.URL.Path, r2.URL.RawPath = u.Path, u.RawPath
	}
	return r2
}
