package client

import (
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// azureSuffixes are the hosts of Azure's own vaults and managed HSMs.
var azureSuffixes = []string{".vault.azure.net", ".vault.azure.cn", ".vault.usgovcloudapi.net", ".managedhsm.azure.net", ".managedhsm.azure.cn", ".managedhsm.usgovcloudapi.net"}

// Vault returns the address of the vault that a key's URL names, and the audience of
// tokens for it. It fails unless the vault is one that this portal knows, by its host:
// the URL is another party's word, and a user's token goes to where it says.
func (c *Clients) Vault(keyURL string) (address, audience string, err error) {
	u, err := url.Parse(keyURL)
	if err == nil && u.Scheme == "https" && u.User == nil {
		host := strings.ToLower(u.Host)
		under := func(suffix string) bool {
			return suffix != "" && strings.HasSuffix(host, "."+strings.TrimPrefix(suffix, "."))
		}
		switch {
		case under(c.HSMSuffix), slices.ContainsFunc(azureSuffixes[3:], under):
			return "https://" + host, c.HSMs.Audience, nil
		case under(c.VaultSuffix), slices.ContainsFunc(azureSuffixes[:3], under):
			return "https://" + host, c.Keys.Audience, nil
		}
	}
	return "", "", &Error{Party: "vault", Status: 403, Code: "UnknownVault", Message: "The key lies in a vault that this portal does not know, and gives no token to. Name its host's suffix in the server's configuration, under portal."}
}

// KeysOf returns the official client of the vault that a key's URL names.
func (c *Clients) KeysOf(keyURL string) (*azkeys.Client, error) {
	address, audience, err := c.Vault(keyURL)
	if err != nil {
		return nil, err
	}
	return azkeys.NewClient(address, c.Credential(audience), &azkeys.ClientOptions{ClientOptions: c.Options()})
}
