package portaltest

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
)

// Roles at the vault.
const (
	EncryptionUser = "e147488a-f6f5-4113-8e2d-b22465e65bf6" // Key Vault Crypto Service Encryption User
	CryptoOfficer  = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603" // Key Vault Crypto Officer
)

// An Estate is a server with the workspace "Sales", which has a lakehouse and a notebook,
// and the key "sales" in the default vault, which the platform may not use yet.
type Estate struct {
	testing.TB
	Clients   *sdk.Clients
	Officer   *sdk.Officer
	Engineer  *sdk.Engineer
	Keys      *azkeys.Client // of the default vault, as the custodian
	Workspace string         // its id
	Key       string         // its versionless identifier
}

// Furnish starts a server and makes an estate of it.
func Furnish(t testing.TB) *Estate {
	t.Helper()
	target := Serve(t)
	c, err := sdk.New(target)
	if err != nil {
		t.Fatal(err)
	}
	e := &Estate{TB: t, Clients: c}
	if e.Officer, err = c.Officer(); err != nil {
		t.Fatal(err)
	}
	if e.Engineer, err = c.Engineer(); err != nil {
		t.Fatal(err)
	}
	e.Workspace = e.Make("/workspaces", map[string]string{"displayName": "Sales", "description": "Orders, and who placed them"})
	for name, kind := range map[string]string{"orders": "Lakehouse", "clean": "Notebook"} {
		e.Make("/workspaces/"+e.Workspace+"/items", map[string]string{"displayName": name, "type": kind})
	}
	if e.Keys, err = e.Officer.Keys(target.VaultURI("default")); err != nil {
		t.Fatal(err)
	}
	made, err := e.Keys.CreateKey(t.Context(), "sales", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](2048)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.Key = strings.TrimSuffix(string(*made.Key.KID), "/"+made.Key.KID.Version())
	return e
}

// Make posts to the platform as the engineer, and returns the id of what was made.
func (e *Estate) Make(path string, body any) string {
	e.Helper()
	var made struct {
		ID string `json:"id"`
	}
	if err := e.Engineer.Fabric.Call(e.Context(), http.MethodPost, path, body, &made); err != nil {
		e.Fatal(err)
	}
	return made.ID
}

// Grant gives a principal a role at the default vault, as the custodian.
func (e *Estate) Grant(principal, role string) {
	e.Helper()
	target := e.Clients.Target
	scope := "/subscriptions/" + target.SubscriptionID + "/resourceGroups/kluis/providers/Microsoft.KeyVault/vaults/default"
	_, err := e.Officer.Roles.Create(context.Background(), scope, uuid.NewString(), armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
		RoleDefinitionID: to.Ptr("/subscriptions/" + target.SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + role),
		PrincipalID:      to.Ptr(principal), PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
	}}, nil)
	if err != nil {
		e.Fatal(err)
	}
}

// Assign puts the workspace under the key, and waits until it is.
func (e *Estate) Assign() {
	e.Helper()
	e.Grant(e.Clients.Target.Platform.ObjectID, EncryptionUser)
	at := "/workspaces/" + e.Workspace + "/encryption"
	if err := e.Engineer.Fabric.Call(e.Context(), http.MethodPost, at+"/assign", map[string]string{"keyIdentifier": e.Key}, nil); err != nil {
		e.Fatal(err)
	}
	for {
		s, err := e.Engineer.Fabric.Encryption(e.Context(), e.Workspace)
		if err != nil {
			e.Fatal(err)
		}
		if s.Detail.Status == "Active" {
			return
		}
	}
}

// Enable switches the key on or off, as the custodian.
func (e *Estate) Enable(on bool) {
	e.Helper()
	if _, err := e.Keys.UpdateKey(e.Context(), "sales", "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil); err != nil {
		e.Fatal(err)
	}
}
