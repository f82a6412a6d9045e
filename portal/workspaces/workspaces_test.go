package workspaces_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/uuid"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal/portaltest"
	"github.com/kluis-io/kluis/portal/workspaces"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// estate is a server with a workspace, and a key that could hold it.
type estate struct {
	testing.TB
	clients   *sdk.Clients
	officer   *sdk.Officer
	engineer  *sdk.Engineer
	workspace string // its id
	keys      *azkeys.Client
	key       string // its versionless identifier
}

func furnish(t *testing.T) *estate {
	t.Helper()
	target := portaltest.Serve(t)
	c, err := sdk.New(target)
	if err != nil {
		t.Fatal(err)
	}
	e := &estate{TB: t, clients: c}
	if e.officer, err = c.Officer(); err != nil {
		t.Fatal(err)
	}
	if e.engineer, err = c.Engineer(); err != nil {
		t.Fatal(err)
	}
	e.workspace = e.make("/workspaces", map[string]string{"displayName": "Sales", "description": "Orders, and who placed them"})
	for name, kind := range map[string]string{"orders": "Lakehouse", "clean": "Notebook"} {
		e.make("/workspaces/"+e.workspace+"/items", map[string]string{"displayName": name, "type": kind})
	}
	if e.keys, err = e.officer.Keys(target.VaultURI("default")); err != nil {
		t.Fatal(err)
	}
	made, err := e.keys.CreateKey(t.Context(), "sales", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](2048)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.key = strings.TrimSuffix(string(*made.Key.KID), "/"+made.Key.KID.Version())
	return e
}

func (e *estate) make(path string, body any) string {
	e.Helper()
	var made struct {
		ID string `json:"id"`
	}
	if err := e.engineer.Fabric.Call(e.Context(), http.MethodPost, path, body, &made); err != nil {
		e.Fatal(err)
	}
	return made.ID
}

// grant lets the platform use the vault's keys.
func (e *estate) grant() {
	e.Helper()
	target := e.clients.Target
	scope := "/subscriptions/" + target.SubscriptionID + "/resourceGroups/kluis/providers/Microsoft.KeyVault/vaults/default"
	_, err := e.officer.Roles.Create(context.Background(), scope, uuid.NewString(), armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
		RoleDefinitionID: to.Ptr("/subscriptions/" + target.SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/e147488a-f6f5-4113-8e2d-b22465e65bf6"),
		PrincipalID:      to.Ptr(target.Platform.ObjectID), PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
	}}, nil)
	if err != nil {
		e.Fatal(err)
	}
}

func (e *estate) enable(on bool) {
	e.Helper()
	if _, err := e.keys.UpdateKey(e.Context(), "sales", "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil); err != nil {
		e.Fatal(err)
	}
}

// TestEncryptionPane puts a workspace under a customer's key in a browser, sees it cut
// off and back, and resets it; and checks that whoever may not is not asked to.
func TestEncryptionPane(t *testing.T) {
	portaltest.Slow(t)
	e := furnish(t)
	b := portaltest.NewBrowser(t, portaltest.Open(t, e.clients, portaltest.Parties(e.clients.Target), workspaces.Section()))
	page := "/workspaces/" + e.workspace + "/encryption"

	b.SignIn("engineer")
	b.Go("/workspaces")
	b.WaitFor("Sales")
	b.Inspect("workspaces")
	b.Go(page)
	b.WaitFor("Apply customer-managed keys")
	b.Inspect("encryption-platform-managed")

	b.Fill("#key", e.key)
	b.Click("button[formaction$=preview]")
	b.WaitFor("against this key")
	b.Picture("encryption-blocked")
	e.grant()
	b.Click("button[formaction$=preview]")
	b.WaitFor("This key would be accepted")
	b.Inspect("encryption-preview")
	b.Click("#apply button.primary")
	b.WaitFor("The key is applied")
	b.WaitFor("Key versions in use")
	b.WaitFor("2 active")
	b.Inspect("encryption-active")

	e.enable(false)
	b.WaitFor("the data is dark") // without loading the page again
	b.Inspect("encryption-revoked")
	e.enable(true)
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
	b.Inspect("workspaces-none")
	b.Go(page)
	b.WaitFor("refused")
	b.Inspect("encryption-refused")
}
