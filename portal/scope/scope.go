// Package scope is what the portal's pages of workspaces and of storage accounts have in
// common: under which key a scope is, to see, change, rotate and reset it, with what each
// act would do before it is done.
//
// The section gives a [Kind]: how its scopes are found, and what differs between the two.
// Items are counted, filtered and cut into pages by the platform, so that a scope of ten
// thousand is as fast to look at as one of ten.
package scope

import (
	"embed"
	"strings"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

//go:embed *.html
var templates embed.FS

// A Kind is one of the two kinds of scopes. Beside the pages of this package its section
// has a template "facts", which shows what is the kind's own.
type Kind struct {
	Section string // whose pages these are
	Noun    string // "workspace"
	Item    string // "item"
	ReSeal  bool   // whether data may be left as it is encrypted

	Find   func(*portal.Call) (Subject, error)
	Assign func(c *portal.Call, s Subject, key string, reSeal bool) error
	Retry  func(*portal.Call, Subject) error
	Reset  func(*portal.Call, Subject) error
}

// A Subject is one scope.
type Subject struct {
	Scope    client.Scope
	At       string // path of its page
	Name     string
	Subtitle string
	Crumbs   []portal.Crumb
	Links    []Link // to what else there is of it
	Own      any    // for the section's own template
}

// A Link leads to another page.
type Link struct{ Title, Path string }

// Extend adds the pages of the kind's scopes to a section, whose routes' pattern of the
// page is at.
func (k Kind) Extend(s portal.Section, at string) portal.Section {
	s.Shared = templates
	funcs := map[string]any{"version": version, "finding": finding}
	for name, f := range s.Funcs {
		funcs[name] = f
	}
	s.Funcs = funcs
	routes := map[string]portal.Handler{
		"GET " + at:                  k.show,
		"GET " + at + "/items":       k.listItems,
		"GET " + at + "/events":      k.watch,
		"POST " + at + "/preview":    k.preview,
		"POST " + at + "/assign":     k.assign,
		"POST " + at + "/retry":      k.retry,
		"GET " + at + "/reset":       k.confirmReset,
		"POST " + at + "/reset":      k.reset,
		"POST " + at + "/rotate":     k.rotate,
		"POST " + at + "/revalidate": k.revalidate,
		"POST " + at + "/bound":      k.setBound,
		"GET " + at + "/keylost":     k.confirmLost,
		"POST " + at + "/keylost":    k.declareLost,
		"GET " + at + "/impact":      k.impact,
	}
	for pattern, h := range s.Routes {
		routes[pattern] = h
	}
	s.Routes = routes
	return s
}

// version returns the version that a kid names, shortened.
func version(kid string) string {
	v := kid[strings.LastIndex(kid, "/")+1:]
	return v[:min(len(v), 12)]
}

// findings say what is wrong with a key, for people.
var findings = map[string][2]string{
	"RecoveryNotProtected": {"The vault no longer states both soft delete and purge protection", "Ask the custodian to switch purge protection on: without it a deleted key is gone for good, and the data with it."},
	"VersionNotUsable":     {"The newest version of the key cannot wrap", "The version before it stays in use. Ask the custodian to enable the newest one and allow it to wrap."},
	"KeyExpired":           {"The key has expired", "What lies under it can still be opened, and nothing new can be wrapped. Ask the custodian to rotate it."},
	"KeyExpiresSoon":       {"The key expires within 30 days", "Ask the custodian to rotate it, or to give it a rotation policy."},
	"BoundTagUnreadable":   {"The key's kill-switch tag cannot be read", "The strictest bound is taken. Ask the custodian to write a whole number of seconds."},
}

func finding(name string) [2]string {
	if f, ok := findings[name]; ok {
		return f
	}
	return [2]string{name, ""}
}
