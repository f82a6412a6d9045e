// Package sdk sets the official Azure SDKs for Go up for a kluis server, as an
// unmodified user of theirs would: through their public options only, with a
// transport that trusts the server's own authority and dials loopback. The demo
// and the whole-system tests speak to a server through it.
package sdk

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"

	"github.com/kluis-io/kluis/internal/localca"
)

// A Target is a server: what its bootstrap.json says.
type Target struct {
	TenantID       string               `json:"tenantId"`
	SubscriptionID string               `json:"subscriptionId"`
	Authority      string               `json:"authority"`
	CAFile         string               `json:"caFile"`
	Domain         string               `json:"domain"`
	Endpoints      map[string]string    `json:"endpoints"`
	Principals     map[string]Principal `json:"principals"`
	Users          map[string]User      `json:"users"`
	Platform       Principal            `json:"platform"` // without a secret: the tenant's Fabric Platform CMK
}

// A Principal is one who acts.
type Principal struct {
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
	ObjectID     string `json:"objectId"`
}

// A User is a person who signs in with a name and a password.
type User struct {
	Name     string `json:"name"`
	Password string `json:"password"`
	ObjectID string `json:"objectId"`
}

// ReadTarget reads the bootstrap.json of a dev mode server's data directory.
func ReadTarget(data string) (Target, error) {
	return ReadProfile(filepath.Join(data, "bootstrap.json"))
}

// ReadProfile reads a file of bootstrap.json's form, which may hold fewer
// principals.
func ReadProfile(path string) (t Target, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(text, &t); err != nil {
		return t, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// VaultURI returns the address of one of the server's vaults.
func (t Target) VaultURI(name string) string {
	u, err := url.Parse(t.Endpoints["vault"])
	if err != nil {
		return ""
	}
	host := name + ".vault." + t.Domain
	if p := u.Port(); p != "" {
		host += ":" + p
	}
	return "https://" + host + "/"
}

// ResourceManager returns the origin of the Resource Manager that a resource is managed
// at: that of storage accounts is the platform's, which may be another than the vaults'.
func (t Target) ResourceManager(id string) string {
	if accounts := t.Endpoints["accounts"]; accounts != "" && strings.Contains(strings.ToLower(id), "/providers/microsoft.storage/") {
		return accounts
	}
	return t.Endpoints["arm"]
}

// ResourceManagers are the origins of all.
func (t Target) ResourceManagers() []string {
	all := []string{t.Endpoints["arm"], t.Endpoints["accounts"]}
	return slices.DeleteFunc(all, func(one string) bool { return one == "" })
}

// Clients makes clients of a server.
type Clients struct {
	Target Target
	HTTP   *http.Client
	cloud  cloud.Configuration
}

// New returns the clients of a server.
func New(t Target) (*Clients, error) {
	text, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", t.CAFile)
	}
	return &Clients{
		Target: t,
		HTTP:   &http.Client{Transport: localca.Transport(roots, t.Domain)},
		cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: t.Authority + "/",
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: t.Endpoints["arm"], Audience: t.Endpoints["arm"]},
			},
		},
	}, nil
}

// Options are the options that every client of the SDKs takes.
func (c *Clients) Options() policy.ClientOptions {
	return policy.ClientOptions{
		Cloud:     c.cloud,
		Transport: c.HTTP,
		Retry:     policy.RetryOptions{MaxRetries: 2, RetryDelay: 100 * time.Millisecond, MaxRetryDelay: time.Second},
	}
}

// ARM are the options that every Resource Manager client of the SDKs takes.
func (c *Clients) ARM() *arm.ClientOptions { return &arm.ClientOptions{ClientOptions: c.Options()} }

// Credential returns a principal's way to tokens.
func (c *Clients) Credential(principal string) (azcore.TokenCredential, error) {
	p, ok := c.Target.Principals[principal]
	if !ok {
		return nil, fmt.Errorf("the server has no principal %q", principal)
	}
	return azidentity.NewClientSecretCredential(c.Target.TenantID, p.ClientID, p.ClientSecret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions:            c.Options(),
		DisableInstanceDiscovery: true,
	})
}

// An Officer is the custodian's clients: vaults, roles and keys.
type Officer struct {
	Vaults *armkeyvault.VaultsClient
	Roles  *armauthorization.RoleAssignmentsClient

	clients *Clients
	cred    azcore.TokenCredential
}

// Target returns the server.
func (o *Officer) Target() Target { return o.clients.Target }

// Officer returns the clients of the principal "custodian".
func (c *Clients) Officer() (*Officer, error) { return c.OfficerAs("custodian") }

// OfficerAs returns the same of another principal.
func (c *Clients) OfficerAs(principal string) (*Officer, error) {
	cred, err := c.Credential(principal)
	if err != nil {
		return nil, err
	}
	o := &Officer{clients: c, cred: cred}
	options := c.ARM()
	if o.Vaults, err = armkeyvault.NewVaultsClient(c.Target.SubscriptionID, cred, options); err != nil {
		return nil, err
	}
	o.Roles, err = armauthorization.NewRoleAssignmentsClient(c.Target.SubscriptionID, cred, options)
	return o, err
}

// Keys returns the client of a vault's keys.
func (o *Officer) Keys(vaultURI string) (*azkeys.Client, error) {
	return azkeys.NewClient(vaultURI, o.cred, &azkeys.ClientOptions{ClientOptions: o.clients.Options()})
}

// An Engineer is a data engineer's clients: Fabric and OneLake.
type Engineer struct {
	Fabric *Fabric
	Blobs  *azblob.Client

	clients *Clients
	cred    azcore.TokenCredential
}

// Engineer returns the clients of the principal "engineer".
func (c *Clients) Engineer() (*Engineer, error) { return c.EngineerAs("engineer") }

// EngineerAs returns the same of another principal.
func (c *Clients) EngineerAs(principal string) (*Engineer, error) {
	cred, err := c.Credential(principal)
	if err != nil {
		return nil, err
	}
	e := &Engineer{clients: c, cred: cred, Fabric: &Fabric{base: c.Target.Endpoints["fabric"], http: c.HTTP, cred: cred}}
	e.Blobs, err = azblob.NewClient(c.Target.Endpoints["blob"]+"/", cred, &azblob.ClientOptions{ClientOptions: c.Options()})
	return e, err
}

// FileSystem returns the ADLS Gen2 client of a workspace.
func (e *Engineer) FileSystem(workspace string) (*filesystem.Client, error) {
	return filesystem.NewClient(e.clients.Target.Endpoints["dfs"]+"/"+workspace, e.cred, &filesystem.ClientOptions{ClientOptions: e.clients.Options()})
}
