package load_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/sdk"
)

// folder is where the binary was built, "" if it was not.
var folder string

// build builds the binary as it is released, once for all.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kluis-load-")
	if err != nil {
		return "", err
	}
	folder = dir
	binary := filepath.Join(dir, "kluis")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/kluis-io/kluis/cmd/kluis")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return binary, errors.New("building kluis: " + string(out))
	}
	return binary, nil
})

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
	binary, err := build()
	must(t, err)
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(binary, append([]string{"serve", "--dev", "--data", data, "--listen", "127.0.0.1:0"}, args...)...)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	ready, exited := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(exited)
		var once sync.Once
		s := bufio.NewScanner(stderr)
		for s.Scan() {
			switch line := s.Text(); {
			case strings.Contains(line, `"msg":"serving"`):
				once.Do(func() { close(ready) })
			case strings.Contains(line, `"level":"ERROR"`):
				fmt.Fprintln(os.Stderr, line)
			}
		}
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			cmd.Process.Kill()
			<-exited
		}
	})
	select {
	case <-ready:
	case <-exited:
		t.Fatal("the server did not start")
	case <-time.After(time.Minute):
		t.Fatal("the server did not start in a minute")
	}

	site, err := sdk.ReadTarget(data)
	must(t, err)
	clients, err := sdk.New(site)
	must(t, err)
	return clients, cmd.Process.Pid
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
