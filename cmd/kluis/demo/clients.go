package demo

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/directory"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"

	"github.com/kluis-io/kluis/internal/localca"
)

// A Target is the server that the story is told on: what its bootstrap.json says.
type Target struct {
	TenantID       string
	SubscriptionID string
	Authority      string
	CAFile         string
	Domain         string
	Endpoints      map[string]string // arm, fabric, blob and dfs
	VaultHost      string            // what follows a vault's name in its host, with the port
	Custodian      Principal
	Engineer       Principal
	Auditor        Principal
	Platform       Principal // without a secret: the tenant's Fabric Platform CMK
}

// A Principal is one who acts in the story.
type Principal struct{ ClientID, ClientSecret, ObjectID string }

// clients makes the official SDKs' clients, set up through their public options
// only: a transport that trusts the server's authority and dials loopback.
type clients struct {
	target Target
	http   *http.Client
	cloud  cloud.Configuration
}

func newClients(t Target) (*clients, error) {
	text, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", t.CAFile)
	}
	return &clients{
		target: t,
		http:   &http.Client{Transport: localca.Transport(roots, t.Domain)},
		cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: t.Authority + "/",
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: t.Endpoints["arm"], Audience: t.Endpoints["arm"]},
			},
		},
	}, nil
}

func (c *clients) options() policy.ClientOptions {
	return policy.ClientOptions{
		Cloud:     c.cloud,
		Transport: c.http,
		Retry:     policy.RetryOptions{MaxRetries: 2, RetryDelay: 100 * time.Millisecond, MaxRetryDelay: time.Second},
	}
}

func (c *clients) credential(p Principal) (azcore.TokenCredential, error) {
	return azidentity.NewClientSecretCredential(c.target.TenantID, p.ClientID, p.ClientSecret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions:            c.options(),
		DisableInstanceDiscovery: true,
	})
}

// An officer is the custodian's client: vaults, keys and roles.
type officer struct {
	target Target
	groups *clients
	cred   azcore.TokenCredential
	vaults *armkeyvault.VaultsClient
	roles  *armauthorization.RoleAssignmentsClient
	keys   *azkeys.Client
}

func (c *clients) officer() (*officer, error) {
	cred, err := c.credential(c.target.Custodian)
	if err != nil {
		return nil, err
	}
	o := &officer{target: c.target, groups: c, cred: cred}
	options := &arm.ClientOptions{ClientOptions: c.options()}
	if o.vaults, err = armkeyvault.NewVaultsClient(c.target.SubscriptionID, cred, options); err != nil {
		return nil, err
	}
	o.roles, err = armauthorization.NewRoleAssignmentsClient(c.target.SubscriptionID, cred, options)
	return o, err
}

// open makes the keys client of a vault.
func (o *officer) open(vaultURI string) (err error) {
	o.keys, err = azkeys.NewClient(vaultURI, o.cred, &azkeys.ClientOptions{ClientOptions: o.groups.options()})
	return err
}

// An engineer is a data engineer's client: Fabric and OneLake.
type engineer struct {
	target Target
	fabric *fabric
	blobs  *azblob.Client
	cred   azcore.TokenCredential
	all    *clients
}

func (c *clients) engineer() (*engineer, error) {
	cred, err := c.credential(c.target.Engineer)
	if err != nil {
		return nil, err
	}
	e := &engineer{target: c.target, cred: cred, all: c, fabric: &fabric{base: c.target.Endpoints["fabric"], http: c.http, cred: cred}}
	e.blobs, err = azblob.NewClient(c.target.Endpoints["blob"]+"/", cred, &azblob.ClientOptions{ClientOptions: c.options()})
	return e, err
}

// blob returns the client of one blob of a container.
func (e *engineer) blob(container, name string) *blob.Client {
	return e.blobs.ServiceClient().NewContainerClient(container).NewBlobClient(name)
}

func (e *engineer) filesystem(container string) (*filesystem.Client, error) {
	return filesystem.NewClient(e.target.Endpoints["dfs"]+"/"+container, e.cred, &filesystem.ClientOptions{ClientOptions: e.all.options()})
}

func (e *engineer) directory(container, path string) (*directory.Client, error) {
	return directory.NewClient(e.target.Endpoints["dfs"]+"/"+container+"/"+path, e.cred, &directory.ClientOptions{ClientOptions: e.all.options()})
}

// fabric speaks the few calls of Fabric's REST API that the story needs.
type fabric struct {
	base string
	http *http.Client
	cred azcore.TokenCredential
}

// A fabricError is Fabric's error body.
type fabricError struct {
	Status  int
	Code    string `json:"errorCode"`
	Message string `json:"message"`
}

func (e *fabricError) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Message) }

func (f *fabric) call(ctx context.Context, method, path string, in, out any) error {
	token, err := f.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://api.fabric.microsoft.com/.default"}})
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, f.base+"/v1"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token.Token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		fe := &fabricError{Status: resp.StatusCode}
		if json.Unmarshal(text, fe) != nil || fe.Code == "" {
			return errors.New(resp.Status + ": " + string(text))
		}
		return fe
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, out)
}
