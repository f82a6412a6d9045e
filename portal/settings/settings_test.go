package settings_test

import (
	"testing"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal/portaltest"
	"github.com/kluis-io/kluis/portal/settings"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// TestSettings changes the tenant's settings in a browser, and checks who is let.
func TestSettings(t *testing.T) {
	portaltest.Slow(t)
	target := portaltest.Serve(t)
	c, err := sdk.New(target)
	if err != nil {
		t.Fatal(err)
	}
	b := portaltest.NewBrowser(t, portaltest.Open(t, c, portaltest.Parties(target), settings.Section()))
	b.SignIn("admin")
	b.Go("/settings")
	b.WaitFor("Apply customer-managed keys")
	b.Inspect("settings")
	b.Click("form[action$=ApplyCustomerManagedKeys] button")
	b.WaitFor("The setting is changed")
	if !b.Has("form[action$=ApplyCustomerManagedKeys] button.primary") {
		t.Errorf("the setting is not off:\n%s", b.Text())
	}
	b.Fill("#seconds", "45")
	b.Click("form[action$=KillSwitchBound] button")
	b.WaitFor("On, 45 s")

	b.SignIn("auditor")
	b.Go("/settings")
	b.WaitFor("On, 45 s")
	if b.Has("main form") {
		t.Error("an auditor is offered to change settings")
	}
	b.SignIn("engineer")
	b.Go("/settings")
	b.WaitFor("refused")
	if b.Has("nav.side a[href='/settings']") {
		t.Error("an engineer sees the settings in the navigation")
	}
}
