package accounts_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

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
	cred, err := e.Clients.Credential("engineer")
	if err != nil {
		t.Fatal(err)
	}
	suffix := strings.TrimPrefix(parties.VaultSuffix, "vault.")
	blobs, err := azblob.NewClient("https://kluissales.blob."+suffix, cred, &azblob.ClientOptions{ClientOptions: e.Clients.Options()})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"orders", "returns"} {
		if _, err := blobs.CreateContainer(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	b := portaltest.NewBrowser(t, portaltest.Open(t, e.Clients, parties, accounts.Section()))
	const page = "/accounts/data/kluissales"
	b.SignIn("engineer")
	b.Go("/accounts")
	b.WaitFor("kluissales")
	b.Inspect("accounts")
	b.Go(page)
	b.WaitFor("Apply customer-managed keys")
	b.Inspect("account-platform-managed")
	b.Fill("#key", e.Key)
	b.Click("button[formaction$=preview]")
	b.WaitFor("against this key") // the platform may not use it yet
	e.Grant(e.Clients.Target.Platform.ObjectID, portaltest.EncryptionUser)
	b.Click("button[formaction$=preview]")
	b.WaitFor("This key would be accepted")
	b.WaitFor("2 containers would be")
	b.Inspect("account-preview")
	b.Click("#apply button.primary")
	b.WaitFor("The key is applied")
	b.WaitFor("2 active")
	b.WaitFor("returns")
	b.WaitFor("Safe to disable")
	b.Inspect("account-customer-managed")

	e.Enable(false)
	b.WaitFor("the data is dark") // without loading the page again
	b.Inspect("account-revoked")
	b.Click("a[href$=keylost]")
	b.WaitFor("Declare the key of kluissales lost")
	b.Inspect("account-key-lost")
	e.Enable(true)
	b.Go(page)
	b.WaitFor("Serving")
	b.Go(page + "/impact")
	b.WaitFor("Storage account")
	b.Inspect("account-impact")

	b.SignIn("auditor")
	b.Go(page)
	b.WaitFor("Key versions in use")
	if b.Has("main form[method=post]") {
		t.Error("an auditor is offered to change the key")
	}
	b.Inspect("account-auditor")
	for _, act := range []string{"/rotate", "/reset", "/assign", "/keylost", "/bound", "/retry"} {
		form := url.Values{"name": {"kluissales"}, "key": {e.Key}, "lost": {"true"}, "seconds": {"60"}}
		if got := b.Fetch("POST", page+act, form); got.Status != http.StatusForbidden {
			t.Errorf("the auditor's POST of %s: %d", act, got.Status)
		}
	}
	b.SignIn("engineer")
	b.Go(page + "/reset")
	b.WaitFor("Kill switch")
	b.Inspect("account-reset")
	b.Fill("#name", "kluissales")
	b.Click("button.danger")
	b.WaitFor("goes back to platform-managed keys")
}
