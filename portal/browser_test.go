package portal_test

import (
	"strings"
	"testing"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal/portaltest"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// TestPortal signs each of dev mode's people in on the issuer's own page, and goes
// through the portal that 'kluis serve' has: what one may not do is not offered, every
// page that is offered opens, and its weight and its sources are as promised.
func TestPortal(t *testing.T) {
	portaltest.Slow(t)
	target := portaltest.Serve(t)
	for name, sees := range map[string]struct{ some, none []string }{
		"admin":     {[]string{"/workspaces", "/settings"}, []string{"/drill"}},
		"custodian": {[]string{"/workspaces"}, []string{"/settings", "/drill"}},
		"engineer":  {[]string{"/workspaces"}, []string{"/settings"}},
		"auditor":   {[]string{"/workspaces", "/settings"}, []string{"/drill"}},
	} {
		t.Run(name, func(t *testing.T) { visit(t, target, name, sees.some, sees.none) })
	}
}

func visit(t *testing.T, target sdk.Target, name string, some, none []string) {
	b := portaltest.NewBrowser(t, target.Endpoints["portal"])
	b.SignInAs(target.Users[name].Name, target.Users[name].Password)
	b.WaitFor("Overview")
	links := strings.Fields(portaltest.Eval[string](b, `[...document.querySelectorAll("nav.side li a")].map(a => a.getAttribute("href")).join(" ")`))
	has := func(path string) bool { return b.Has(`nav.side a[href="` + path + `"]`) }
	for _, path := range some {
		if !has(path) {
			t.Errorf("%s is not offered: %v", path, links)
		}
	}
	for _, path := range none {
		if has(path) {
			t.Errorf("%s is offered", path)
		}
	}
	w := b.Weigh("/")
	t.Logf("the first view takes %d bytes", w.Bytes)
	if w.Bytes == 0 || w.Bytes > 200<<10 || w.Shift > 0.01 || w.Others != "" {
		t.Errorf("the first view: %+v", w)
	}
	b.Inspect("portal-" + name)
	for _, path := range links {
		b.Go(path)
		if text := b.Text(); b.Has("main > .notice.bad .fine") || strings.Contains(text, "The portal has failed") {
			t.Errorf("%s:\n%s", path, text)
		}
	}
	b.Go("/nothing/here")
	b.WaitFor("There is no such page")
	if name == "admin" {
		b.Inspect("portal-nothing")
	}

	b.Go("/")
	b.Press("\t") // the first thing that the keyboard reaches leads past the navigation
	if at := portaltest.Eval[string](b, `document.activeElement.getAttribute("href")`); at != "#main" {
		t.Errorf("the keyboard reaches %q first", at)
	}
	b.Click("button[value=dark]")
	b.WaitUntil("html[data-theme=dark]")
	b.Click("form[action='/session/signout'] button")
	b.WaitUntil("body:not(:has(header.top .who))")
	b.Go("/workspaces") // which leads to the sign-in page again
	b.WaitUntil("#username")
}
