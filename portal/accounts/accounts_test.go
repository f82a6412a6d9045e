package accounts_test

import (
	"testing"

	"github.com/kluis-io/kluis/portal/accounts"
	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/portaltest"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// TestAccount puts a storage account under a customer's key in a browser and resets it,
// and checks who is let.
func TestAccount(t *testing.T) {
	portaltest.Slow(t)
	e := portaltest.Furnish(t)
	parties := portaltest.Parties(e.Clients.Target)
	engineer := client.New(parties, e.Clients.HTTP, portaltest.Tokens(e.Clients, "engineer"))
	at := "/subscriptions/" + parties.Subscription + "/resourceGroups/data/providers/Microsoft.Storage/storageAccounts/kluissales?api-version=2024-01-01"
	if err := engineer.Call(t.Context(), parties.Storage, "PUT", at, map[string]any{"location": "local", "kind": "StorageV2", "sku": map[string]string{"name": "Standard_LRS"}}, nil); err != nil {
		t.Fatal(err)
	}
	b := portaltest.NewBrowser(t, portaltest.Open(t, e.Clients, parties, accounts.Section()))
	b.SignIn("engineer")
	b.Go("/accounts")
	b.WaitFor("kluissales")
	b.Inspect("accounts")
	b.Go("/accounts/data/kluissales")
	b.Inspect("account-platform-managed")
	b.Fill("#key", e.Key)
	b.Click("main button.primary")
	b.WaitFor("did not accept") // the platform may not use the key yet
	b.Picture("account-blocked")
	e.Grant(e.Clients.Target.Platform.ObjectID, portaltest.EncryptionUser)
	b.Click("main button.primary")
	b.WaitFor("The account is put under the key")
	b.Inspect("account-customer-managed")

	b.SignIn("auditor")
	b.Go("/accounts/data/kluissales")
	b.WaitFor("Customer-managed")
	if b.Has("main form") {
		t.Error("an auditor is offered to change the key")
	}
	b.SignIn("engineer")
	b.Go("/accounts/data/kluissales/reset")
	b.Inspect("account-reset")
	b.Fill("#name", "kluissales")
	b.Click("button.danger")
	b.WaitFor("goes back to platform-managed keys")
}
