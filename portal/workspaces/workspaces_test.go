package workspaces_test

import (
	"testing"

	"github.com/kluis-io/kluis/portal/portaltest"
	"github.com/kluis-io/kluis/portal/workspaces"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// TestEncryptionPane puts a workspace under a customer's key in a browser, sees it cut
// off and back, and resets it; and checks that whoever may not is not asked to.
func TestEncryptionPane(t *testing.T) {
	portaltest.Slow(t)
	e := portaltest.Furnish(t)
	b := portaltest.NewBrowser(t, portaltest.Open(t, e.Clients, portaltest.Parties(e.Clients.Target), workspaces.Section()))
	page := "/workspaces/" + e.Workspace + "/encryption"

	b.SignIn("engineer")
	b.Go("/workspaces")
	b.WaitFor("Sales")
	b.Inspect("workspaces")
	b.Click("a[href='/workspaces/new']")
	b.Fill("#name", "Finance")
	b.Inspect("workspace-new")
	b.Click("main button.primary")
	b.WaitFor("Finance was made")
	b.Go(page)
	b.WaitFor("Apply customer-managed keys")
	b.Inspect("encryption-platform-managed")

	b.Fill("#key", e.Key)
	b.Click("button[formaction$=preview]")
	b.WaitFor("against this key")
	b.Picture("encryption-blocked")
	e.Grant(e.Clients.Target.Platform.ObjectID, portaltest.EncryptionUser)
	b.Click("button[formaction$=preview]")
	b.WaitFor("This key would be accepted")
	b.Inspect("encryption-preview")
	b.Click("#apply button.primary")
	b.WaitFor("The key is applied")
	b.WaitFor("Key versions in use")
	b.WaitFor("2 active")
	b.Inspect("encryption-active")

	e.Enable(false)
	b.WaitFor("the data is dark") // without loading the page again
	b.Inspect("encryption-revoked")
	e.Enable(true)
	b.WaitFor("Serving")

	b.SignIn("auditor")
	b.Go(page)
	b.WaitFor("Key versions in use")
	for _, forbidden := range []string{"#apply", "form[action$=rotate]", "form[action$=bound]", "a[href$=reset]"} {
		if b.Has(forbidden) {
			t.Errorf("an auditor is offered %s", forbidden)
		}
	}
	b.Inspect("encryption-auditor")
	b.Go(page + "/coverage")
	b.Inspect("encryption-coverage")

	b.SignIn("engineer")
	b.Go(page + "/impact")
	b.WaitFor("Sales")
	b.Inspect("encryption-impact")
	b.Go(page + "/reset")
	b.Inspect("encryption-reset")
	b.Fill("#name", "Sales")
	b.Click("button.danger")
	b.WaitFor("goes back to platform-managed keys")
	b.WaitFor("Apply customer-managed keys")

	b.SignIn("custodian")
	b.Go("/workspaces")
	b.WaitFor("You have a role in no workspace")
	if b.Has("a[href='/workspaces/new']") {
		t.Error("a custodian is offered to make workspaces")
	}
	b.Inspect("workspaces-none")
	b.Go(page)
	b.WaitFor("refused")
	b.Inspect("encryption-refused")
}
