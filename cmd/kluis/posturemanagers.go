package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/posture/azure"
)

// managers are the two sides of an estate, and its address.
type managers struct {
	data, keys, fabric *azure.Manager
	vault              vaults
	endpoint           string
	actor              string
	principal          string // Fabric Platform CMK, where that is known
}

// Audiences of tokens for what is not Resource Manager.
const (
	vaultAudience = "https://vault.azure.net"
	hsmAudience   = "https://managedhsm.azure.net"
	fabricAPI     = "https://api.fabric.microsoft.com"
)

// managers connects to the one source that can be changed.
func (s *scanFlags) managers(r remedyFlags) (m managers, err error) {
	if len(s.sources) == 0 {
		s.sources = []string{"profile"}
	}
	switch strings.Join(s.sources, " ") {
	case "azure":
		cred, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return m, err
		}
		m.endpoint, m.actor = orDefault(s.endpoint, azurePublic), "azidentity's default credential"
		m.data = azure.NewManager(azure.Config{Endpoint: m.endpoint, Credential: cred})
		m.keys = m.data
		m.vault = vaultsAs(cred, policy.ClientOptions{})
		m.fabric = azure.NewManager(azure.Config{Endpoint: fabricAPI, Credential: cred})
		return m, nil
	case "profile":
		t, err := s.server.target()
		if err != nil {
			return m, fmt.Errorf("%w\nStart a server with 'kluis serve --dev', or name its bootstrap.json with --profile", err)
		}
		c, err := sdk.New(t)
		if err != nil {
			return m, err
		}
		m.endpoint, m.actor, m.principal = t.Endpoints["arm"], r.dataAs+" and "+r.keysAs, t.Platform.ObjectID
		data, err := c.Credential(r.dataAs)
		if err != nil {
			return m, err
		}
		keys, err := c.Credential(r.keysAs)
		if err != nil {
			return m, err
		}
		m.data = azure.NewManager(azure.Config{Endpoint: orDefault(t.Endpoints["accounts"], m.endpoint), Audience: azurePublic, Credential: data, Client: c.Options()})
		m.keys = azure.NewManager(azure.Config{Endpoint: m.endpoint, Audience: azurePublic, Credential: keys, Client: c.Options()})
		m.vault = vaultsAs(keys, c.Options())
		m.fabric = azure.NewManager(azure.Config{Endpoint: t.Endpoints["fabric"], Audience: fabricAPI, Credential: data, Client: c.Options()})
		return m, nil
	}
	return m, usageError{errors.New("--source is profile or azure, and one of them: nothing else can be changed")}
}

// vaults calls vaults and managed HSMs at their own hosts, which a token names the kind of.
type vaults struct{ vault, hsm *azure.Manager }

func vaultsAs(cred azcore.TokenCredential, options policy.ClientOptions) vaults {
	return vaults{
		vault: azure.NewManager(azure.Config{Audience: vaultAudience, Credential: cred, Client: options}),
		hsm:   azure.NewManager(azure.Config{Audience: hsmAudience, Credential: cred, Client: options}),
	}
}

// Call calls a URL, which has to be a vault's.
func (v vaults) Call(ctx context.Context, method, address string, in, out any) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" {
		return fmt.Errorf("%q is no vault's address", address)
	}
	if strings.Contains(u.Host, ".managedhsm.") {
		return v.hsm.Call(ctx, method, address, in, out)
	}
	return v.vault.Call(ctx, method, address, in, out)
}
