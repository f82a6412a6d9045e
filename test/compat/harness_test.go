// Package compat drives a kluis server with Microsoft's own Go module for Fabric,
// unmodified and in a module of its own, so that none of its dependencies become
// kluis's.
package compat

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/microsoft/fabric-sdk-go/fabric"
)

// A target is a server: what its bootstrap.json says.
type target struct {
	TenantID       string               `json:"tenantId"`
	SubscriptionID string               `json:"subscriptionId"`
	Authority      string               `json:"authority"`
	CAFile         string               `json:"caFile"`
	Domain         string               `json:"domain"`
	Endpoints      map[string]string    `json:"endpoints"`
	Principals     map[string]principal `json:"principals"`
	Platform       principal            `json:"platform"`

	http *http.Client
}

type principal struct {
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
	ObjectID     string `json:"objectId"`
}

// serve builds kluis, starts it on a fresh data directory and returns what it
// says of itself.
func serve(t *testing.T) *target {
	t.Helper()
	dir := t.TempDir()
	binary, data := filepath.Join(dir, "kluis"), filepath.Join(dir, "data")
	build := exec.Command("go", "build", "-o", binary, "./cmd/kluis")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building kluis: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, "serve", "--dev", "--data", data, "--listen", "127.0.0.1:"+freePort(t))
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	ready, gone := make(chan struct{}), make(chan struct{})
	var log bytes.Buffer
	go func() {
		defer close(gone)
		s := bufio.NewScanner(stderr)
		s.Buffer(nil, 1<<20)
		for begun := false; s.Scan(); {
			log.Write(append(s.Bytes(), '\n'))
			if !begun && strings.Contains(s.Text(), `"msg":"serving"`) {
				begun = true
				close(ready)
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		<-gone
		if err := cmd.Wait(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", &log)
		}
	})
	select {
	case <-ready:
	case <-gone:
		t.Fatalf("the server did not start:\n%s", &log)
	case <-time.After(30 * time.Second):
		t.Fatal("the server did not get ready")
	}
	text, err := os.ReadFile(filepath.Join(data, "bootstrap.json"))
	must(t, err)
	var k target
	must(t, json.Unmarshal(text, &k))
	k.http = &http.Client{Transport: transport(t, k)}
	return &k
}

// transport trusts the server's authority and finds its hosts on loopback.
func transport(t *testing.T, k target) http.RoundTripper {
	pem, err := os.ReadFile(k.CAFile)
	must(t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", k.CAFile)
	}
	var d net.Dialer
	return &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func (k *target) options() policy.ClientOptions {
	return policy.ClientOptions{
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: k.Authority + "/",
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: k.Endpoints["arm"], Audience: k.Endpoints["arm"]},
			},
		},
		Transport: k.http,
		Retry:     policy.RetryOptions{MaxRetries: 1, RetryDelay: 100 * time.Millisecond},
	}
}

func (k *target) credential(t *testing.T, name string) azcore.TokenCredential {
	t.Helper()
	p := k.Principals[name]
	c, err := azidentity.NewClientSecretCredential(k.TenantID, p.ClientID, p.ClientSecret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: k.options(), DisableInstanceDiscovery: true,
	})
	must(t, err)
	return c
}

// fabric returns Microsoft's client, signed in as one of the principals.
func (k *target) fabric(t *testing.T, name string) fabric.Client {
	t.Helper()
	c, err := fabric.NewClient(k.credential(t, name), to.Ptr(k.Endpoints["fabric"]), &fabric.ClientOptions{ClientOptions: k.options()})
	must(t, err)
	return *c
}

// encryptionUser is Azure's role Key Vault Crypto Service Encryption User.
const encryptionUser = "e147488a-f6f5-4113-8e2d-b22465e65bf6"

// key makes a key that the platform may use in the default vault, and returns its
// identifier.
func (k *target) key(t *testing.T, name string) string {
	t.Helper()
	ctx, cred := t.Context(), k.credential(t, "custodian")
	keys, err := azkeys.NewClient(k.Endpoints["vault"], cred, &azkeys.ClientOptions{ClientOptions: k.options()})
	must(t, err)
	_, err = keys.CreateKey(ctx, name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](2048)}, nil)
	must(t, err)
	roles, err := armauthorization.NewRoleAssignmentsClient(k.SubscriptionID, cred, &arm.ClientOptions{ClientOptions: k.options()})
	must(t, err)
	scope := "/subscriptions/" + k.SubscriptionID + "/resourceGroups/kluis/providers/Microsoft.KeyVault/vaults/default/keys/" + name
	_, err = roles.Create(ctx, scope, fmt.Sprintf("%08x-0000-4000-8000-000000000000", len(name)), armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{
			RoleDefinitionID: to.Ptr("/subscriptions/" + k.SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + encryptionUser),
			PrincipalID:      to.Ptr(k.Platform.ObjectID),
			PrincipalType:    to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
		},
	}, nil)
	must(t, err)
	id, err := url.JoinPath(k.Endpoints["vault"], "keys", name)
	must(t, err)
	return id + "/" // as Fabric's own examples write it
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
