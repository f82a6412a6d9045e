package password_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal/portaltest"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// TestPassword changes somebody's own password in a browser, and checks that nobody is
// signed in any more with the old one.
func TestPassword(t *testing.T) {
	portaltest.Slow(t)
	target := portaltest.Serve(t)
	clients, err := sdk.New(target)
	if err != nil {
		t.Fatal(err)
	}
	const fresh = "seven green bottles on a wall"
	who := target.Users["engineer"]
	elsewhere := portaltest.NewVisitor(t, clients.HTTP.Transport, target.Endpoints["portal"])
	if at := elsewhere.SignIn(who.Name, who.Password); at.Status != 200 || !strings.Contains(at.Body, `href="/password"`) {
		t.Fatalf("%d at %s:\n%s", at.Status, at.URL, at.Body)
	}
	for name, c := range map[string]struct{ current, new, again, want string }{
		"a typing error":   {who.Password, fresh, fresh + "!", "not typed twice alike"},
		"a wrong password": {"wrong", fresh, fresh, "The current password is wrong"},
		"too short":        {who.Password, "short", "short", "15 to 256 characters"},
	} {
		at := elsewhere.Post("/password", url.Values{"current": {c.current}, "new": {c.new}, "again": {c.again}})
		if at.Status != 400 || !strings.Contains(at.Body, c.want) || strings.Contains(at.Body, fresh) || strings.Contains(at.Body, who.Password) {
			t.Errorf("%s: %d\n%s", name, at.Status, at.Body)
		}
	}

	b := portaltest.NewBrowser(t, target.Endpoints["portal"])
	b.SignInAs(who.Name, who.Password)
	b.Go("/password")
	b.WaitFor("Current password")
	if !b.Has("nav.side a[href='/password']") {
		t.Error("the navigation does not lead there")
	}
	b.Inspect("password")
	b.Fill("#current", who.Password)
	b.Fill("#new", fresh)
	b.Fill("#again", fresh)
	b.Click("main button.primary")
	b.WaitFor("Your password is changed")
	b.Inspect("password-changed")
	b.Click("main button.primary")
	b.WaitUntil("body:not(:has(header.top .who))")
	b.SignInAs(who.Name, fresh)

	if at := elsewhere.Get("/workspaces"); !strings.Contains(at.Body, `name="password"`) {
		t.Errorf("who was signed in elsewhere still is: %d at %s", at.Status, at.URL)
	}
	if at := elsewhere.SignIn(who.Name, who.Password); at.Status != 401 && at.Status != 400 || !strings.Contains(at.Body, "wrong") {
		t.Errorf("with the old password: %d\n%s", at.Status, at.Body)
	}
}
