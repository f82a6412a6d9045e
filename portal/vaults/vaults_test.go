package vaults_test

import (
	"strings"
	"testing"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal/portaltest"
	"github.com/kluis-io/kluis/portal/vaults"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// open opens the portal's vaults in a browser, of a server of its own.
func open(t *testing.T) (*portaltest.Browser, *sdk.Clients) {
	t.Helper()
	portaltest.Slow(t)
	c, err := sdk.New(portaltest.Serve(t))
	if err != nil {
		t.Fatal(err)
	}
	return portaltest.NewBrowser(t, portaltest.Open(t, c, portaltest.Parties(c.Target), vaults.Section())), c
}

// TestCustodian sets a vault up as Fabric's documents tell a security officer to (soft
// delete, purge protection, the role Key Vault Crypto Service Encryption User for Fabric
// Platform CMK), makes a key and leads it through its life, in a browser; and checks
// that whoever may not is not asked to, and is refused.
func TestCustodian(t *testing.T) {
	b, _ := open(t)
	const vault, key = "/vaults/keys/contoso-keys", "/vaults/keys/contoso-keys/keys/sales"

	b.SignIn("custodian")
	b.Go("/vaults")
	b.WaitFor("default")
	b.Click(`a[href="/vaults/new"]`)
	b.WaitFor("Purge protection")
	b.Inspect("vault-new")
	b.Fill("#name", "contoso-keys")
	b.Fill("#group", "keys")
	b.Fill("#days", "30")
	b.Click("main button.primary")
	b.WaitFor("The vault contoso-keys is made")
	b.Go("/vaults")
	b.WaitFor("30 days")
	b.Inspect("vaults")
	b.Go(vault)
	b.WaitFor("No keys yet")
	b.Inspect("vault-empty")
	b.Go(vault + "/settings")
	b.WaitFor("for good")
	b.Inspect("vault-protection")

	b.Go(vault + "/access/new")
	b.WaitFor("Who")
	b.Inspect("access-find")
	b.Go(vault + "/access/new?q=fabric+platform")
	b.WaitFor("Fabric Platform CMK")
	b.Inspect("access-found")
	b.Click("#found a.button")
	b.WaitFor("Key Vault Crypto Service Encryption User")
	b.Inspect("access-role")
	b.Click("main button.primary")
	b.WaitFor("It holds at once")
	b.Inspect("access-review")
	b.Click("main button.primary")
	b.WaitFor("Fabric Platform CMK has the role Key Vault Crypto Service Encryption User")
	b.Go(vault + "/access")
	b.WaitFor("this vault")
	b.Inspect("access")

	b.Go(vault + "/keys/new")
	b.WaitFor("RSA, 3072 bits")
	b.Inspect("key-new")
	b.Fill("#name", "sales")
	b.Click("main button.primary")
	b.WaitFor("The key sales is made")
	b.Click(`form[action$="/rotate"] button`)
	b.WaitFor("Rotated: a new version")
	b.Go(key + "/policy")
	b.WaitFor("What is left empty")
	b.Inspect("key-policy")
	b.Fill("#rotate", "90")
	b.Fill("#expiry", "P2Y")
	b.Fill("#notify", "P30D")
	b.Click("main button.primary")
	b.WaitFor("The rotation policy is set")
	b.WaitFor("90 days after a version was made")
	b.WaitFor("Fabric Platform CMK")
	b.Inspect("key")

	b.Click(`.heading a[href$="/disable"]`)
	b.WaitFor("What it does")
	b.Inspect("key-disable")
	b.Click("main button.danger")
	b.WaitFor("2 versions are disabled")
	b.WaitFor("The key is disabled")
	b.Inspect("key-disabled")
	b.Click(`.heading form[action$="/enable"] button`)
	b.WaitFor("2 versions are enabled")

	b.Go(key + "/delete")
	b.WaitFor("Type sales to go on")
	b.Inspect("key-delete")
	b.Fill("#name", "other")
	b.Click("main button.danger")
	b.WaitFor("What was typed is not the key’s name")
	b.Go(key + "/delete")
	b.Fill("#name", "sales")
	b.Click("main button.danger")
	b.WaitFor("The key sales is deleted")
	b.Inspect("vault-deleted-key")
	if b.Has(`a[href$="/purge"]`) {
		t.Error("purging is offered in a vault with purge protection")
	}
	b.Click(`form[action$="/recover"] button`)
	b.WaitFor("The key sales is back")

	// Who reads only is offered nothing, and refused when he asks all the same.
	b.SignIn("auditor")
	b.Go("/vaults")
	b.WaitFor("contoso-keys")
	if b.Has(`a[href="/vaults/new"]`) {
		t.Error("an auditor is offered to make a vault")
	}
	b.Go(key)
	b.WaitFor("Versions")
	if b.Has("main form") || b.Has(".heading a.button") {
		t.Errorf("an auditor is offered to change a key:\n%s", b.Text())
	}
	b.Inspect("key-auditor")
	b.Go(vault + "/keys/new")
	b.Fill("#name", "mine")
	b.Click("main button.primary")
	b.WaitFor("refused")
	b.Go(vault + "/settings")
	b.WaitFor("Second person")
	if b.Has("main form") {
		t.Error("an auditor is offered to change a vault")
	}
	// The platform's engineer has no business with the vault.
	b.SignIn("engineer")
	b.Go(vault)
	b.WaitFor("refused")
	if strings.Contains(b.Text(), "sales") {
		t.Error("the engineer sees the vault's keys")
	}
}

// TestApproval has two people agree to what destroys: the second signs in to the
// server's own portal with a name and a password. Before it, each sees what hangs on the
// key, as far as he may.
func TestApproval(t *testing.T) {
	portaltest.Slow(t)
	e := portaltest.Furnish(t)
	e.Assign()
	target := e.Clients.Target
	b := portaltest.NewBrowser(t, portaltest.Open(t, e.Clients, portaltest.Parties(target), vaults.Section()))
	const vault, key = "/vaults/kluis/default", "/vaults/kluis/default/keys/sales"

	// The auditor sees workspaces and keys, and so what goes dark; the button is the
	// custodian's alone.
	b.SignIn("auditor")
	b.Go(key)
	b.WaitFor("unwrapKey by Fabric Platform CMK")
	b.Inspect("key-used")
	b.Go(key + "/disable")
	b.WaitFor("1 workspace that you may see goes dark")
	b.WaitFor("Sales")
	if b.Has("main form") {
		t.Error("an auditor is offered to disable a key")
	}
	b.Inspect("key-disable-dark-workspace")

	b.SignIn("custodian")
	b.Go(vault + "/settings")
	b.Click("#approval")
	b.Click("main button.primary")
	b.WaitFor("The vault’s protection is changed")
	b.Go(key + "/delete")
	b.WaitFor("Used in the last 30 days by")
	b.Fill("#name", "sales")
	b.Click("main button.danger")
	b.WaitFor("a second person has to agree")
	b.WaitFor("KeyDelete")
	if b.Has(`button[value="approve"]`) || !b.Has(`button[value="reject"]`) {
		t.Error("one's own request can be approved, or not withdrawn")
	}
	b.Inspect("approvals")
	b.Go(key)
	b.WaitFor("Enabled") // nothing was done

	second := portaltest.NewBrowser(t, target.Endpoints["portal"])
	second.Go(vault + "/approvals")
	second.WaitFor("Sign in")
	second.Fill("#username", "custodian")
	second.Fill("#password", target.Users["custodian"].Password)
	second.Click("button[type=submit]")
	second.WaitFor("KeyDelete")
	second.Inspect("approvals-second")
	second.Click(`button[value="approve"]`)
	second.WaitFor("Approved. Who has asked can do it now.")

	b.Go(key + "/delete")
	b.Fill("#name", "sales")
	b.Click("main button.danger")
	b.WaitFor("The key sales is deleted")
	b.Click(`form[action$="/recover"] button`)
	b.WaitFor("The key sales is back")
}
