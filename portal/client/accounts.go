package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// storageAPI is the version of Microsoft.Storage that is spoken.
const storageAPI = "2024-01-01"

// An Account is a storage account.
type Account struct {
	ID       string `json:"id"` // its path in Resource Manager
	Name     string `json:"name"`
	Location string `json:"location"`
	Kind     string `json:"kind"`
	SKU      struct {
		Name string `json:"name"`
	} `json:"sku"`
	Identity *struct {
		Type      string `json:"type"`
		Principal string `json:"principalId"`
	} `json:"identity"`
	Properties struct {
		Created    time.Time         `json:"creationTime"`
		Endpoints  map[string]string `json:"primaryEndpoints"`
		SharedKey  bool              `json:"allowSharedKeyAccess"`
		Encryption struct {
			Source string `json:"keySource"`
			Key    struct {
				Name    string    `json:"keyname"`
				Vault   string    `json:"keyvaulturi"`
				Current string    `json:"currentVersionedKeyIdentifier"`
				Rotated time.Time `json:"lastKeyRotationTimestamp"`
			} `json:"keyvaultproperties"`
			Kluis struct {
				State     string `json:"state"`
				Serving   string `json:"serving"`
				MayChange bool   `json:"mayChange"`
			} `json:"kluis"`
		} `json:"encryption"`
	} `json:"properties"`
}

// Managed reports whether the account is under a customer's key.
func (a Account) Managed() bool {
	return strings.EqualFold(a.Properties.Encryption.Source, "Microsoft.Keyvault")
}

// Group is the resource group in which the account lies.
func (a Account) Group() string {
	if parts := strings.Split(a.ID, "/"); len(parts) > 4 {
		return parts[4]
	}
	return ""
}

// Serving is how the account's data can be used: Serving, Revoked or Unreachable.
func (a Account) Serving() string {
	switch s := a.Properties.Encryption.Kluis.Serving; s {
	case "", "Serves":
		return "Serving"
	default:
		return s
	}
}

func (c *Clients) accountPath(group, name string) string {
	return "/subscriptions/" + c.Subscription + "/resourceGroups/" + url.PathEscape(group) + "/providers/Microsoft.Storage/storageAccounts/" + url.PathEscape(name) + "?api-version=" + storageAPI
}

// Accounts returns the storage accounts that the user may see.
func (c *Clients) Accounts(ctx context.Context) ([]Account, error) {
	all, _, err := List[Account](ctx, c, c.Storage, "/subscriptions/"+c.Subscription+"/providers/Microsoft.Storage/storageAccounts?api-version="+storageAPI, 0)
	return all, err
}

// Account returns one storage account.
func (c *Clients) Account(ctx context.Context, group, name string) (a Account, err error) {
	err = c.Call(ctx, c.Storage, http.MethodGet, c.accountPath(group, name), nil, &a)
	return a, err
}

// AccountKey puts an account under a customer's key, named by its vault and name.
func (c *Clients) AccountKey(ctx context.Context, group, name, vault, key string) error {
	return c.Call(ctx, c.Storage, http.MethodPatch, c.accountPath(group, name), map[string]any{
		"identity": map[string]string{"type": "SystemAssigned"},
		"properties": map[string]any{"encryption": map[string]any{
			"keySource": "Microsoft.Keyvault", "keyvaultproperties": map[string]string{"keyname": key, "keyvaulturi": vault, "keyversion": ""},
		}},
	}, nil)
}

// ResetAccount puts an account back under platform-managed keys.
func (c *Clients) ResetAccount(ctx context.Context, group, name string) error {
	return c.Call(ctx, c.Storage, http.MethodPatch, c.accountPath(group, name), map[string]any{
		"properties": map[string]any{"encryption": map[string]any{"keySource": "Microsoft.Storage"}},
	}, nil)
}
