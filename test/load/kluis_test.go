package load_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/sdk"
)

// startKluis starts a server, and returns it with a workspace whose data is under
// a customer's key. KLUIS_PPROF in the environment reaches it.
func startKluis(t testing.TB) *target {
	clients, pid := launch(t)
	site := clients.Target
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	furnish(ctx, t, clients)
	token := storageToken(ctx, t, clients)
	return &target{
		name: "kluis", pid: pid, client: client(t, site.CAFile),
		address: func(name string) string {
			return site.Endpoints["blob"] + "/" + container + "/lake.Lakehouse/Files/" + (&url.URL{Path: name}).EscapedPath()
		},
		prepare: func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set("x-ms-version", "2025-11-05")
			if r.Method == http.MethodPut {
				r.Header.Set("x-ms-blob-type", "BlockBlob")
			}
		},
	}
}

// launch starts a server with further arguments, and returns its clients and its
// process's id.
func launch(t testing.TB, args ...string) (*sdk.Clients, int) {
	site, pid := devtest.Serve(t, args...)
	clients, err := sdk.New(site)
	must(t, err)
	return clients, pid
}

const container = "load-lab"

func storageToken(ctx context.Context, t testing.TB, clients *sdk.Clients) string {
	cred, err := clients.Credential("engineer")
	must(t, err)
	token, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
	must(t, err)
	return token.Token
}

// encryptionUser is Azure's role Key Vault Crypto Service Encryption User.
const encryptionUser = "e147488a-f6f5-4113-8e2d-b22465e65bf6"

// furnish makes a vault with a key that the platform may use, and a workspace under
// it with a lakehouse.
func furnish(ctx context.Context, t testing.TB, clients *sdk.Clients) {
	site := clients.Target
	officer, err := clients.Officer()
	must(t, err)
	engineer, err := clients.Engineer()
	must(t, err)
	poller, err := officer.Vaults.BeginCreateOrUpdate(ctx, "kluis", "custody", armkeyvault.VaultCreateOrUpdateParameters{
		Location: to.Ptr("local"),
		Properties: &armkeyvault.VaultProperties{
			TenantID:                &site.TenantID,
			SKU:                     &armkeyvault.SKU{Family: to.Ptr(armkeyvault.SKUFamilyA), Name: to.Ptr(armkeyvault.SKUNameStandard)},
			EnableRbacAuthorization: to.Ptr(true),
			EnablePurgeProtection:   to.Ptr(true),
		},
	}, nil)
	must(t, err)
	vault, err := poller.PollUntilDone(ctx, nil)
	must(t, err)
	keys, err := officer.Keys(site.VaultURI("custody"))
	must(t, err)
	key, err := keys.CreateKey(ctx, "kek", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](2048)}, nil)
	must(t, err)
	_, err = officer.Roles.Create(ctx, *vault.ID+"/keys/kek", "11111111-2222-4333-8444-555555555555", armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{
			RoleDefinitionID: to.Ptr("/subscriptions/" + site.SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + encryptionUser),
			PrincipalID:      &site.Platform.ObjectID,
			PrincipalType:    to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
		},
	}, nil)
	must(t, err)

	var workspace, lakehouse struct {
		ID string `json:"id"`
	}
	must(t, engineer.Fabric.Call(ctx, "POST", "/workspaces", map[string]string{"displayName": container}, &workspace))
	must(t, engineer.Fabric.Call(ctx, "POST", "/workspaces/"+workspace.ID+"/items", map[string]string{"displayName": "lake", "type": "Lakehouse"}, &lakehouse))
	identifier := strings.TrimSuffix(string(*key.Key.KID), "/"+key.Key.KID.Version())
	must(t, engineer.Fabric.Call(ctx, "POST", "/workspaces/"+workspace.ID+"/encryption/assign", map[string]string{"keyIdentifier": identifier}, nil))
	for {
		status, err := engineer.Fabric.Encryption(ctx, workspace.ID)
		must(t, err)
		if status.Detail.Status == "Active" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
