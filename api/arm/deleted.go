package arm

import (
	"net/http"
	"net/url"
	"time"

	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// Soft-deleted vaults and managed HSMs. Their answers differ in names only.

// deletedNames are the names of what is deleted: its type, and what its own id is
// called.
func deletedNames(f vault.Flavour) (typ rbac.Scope, id string) {
	if f == vault.ManagedHSM {
		return "deletedManagedHSMs", "mhsmId"
	}
	return "deletedVaults", "vaultId"
}

func deletedResource(v vault.Vault) resource {
	typ, id := deletedNames(v.Flavour)
	return resource{
		ID:   vault.Subscription{ID: v.Subscription}.Scope() + "/providers/Microsoft.KeyVault/locations/" + rbac.Scope(v.Location) + "/" + typ + "/" + rbac.Scope(v.Name),
		Name: v.Name, Type: "Microsoft.KeyVault/" + string(typ),
		Properties: map[string]any{
			id: v.Scope(), "location": v.Location, "tags": tags(v.Tags), "deletionDate": v.Deleted,
			"scheduledPurgeDate": v.PurgeAt, "purgeProtectionEnabled": v.PurgeProtection,
			"requireApproval": v.RequireApproval, // kluis's own, as of what lives
		},
	}
}

func (c *call) listDeleted() error {
	list := c.vaults.DeletedVaults
	if c.flavour() == vault.ManagedHSM {
		list = c.vaults.DeletedManagedHSMs
	}
	all, err := list(c.ctx, c.caller, c.seg[1])
	if err != nil {
		return err
	}
	out := []any{}
	for _, v := range all {
		out = append(out, deletedResource(v))
	}
	return c.list(out)
}

func (c *call) getDeleted() error {
	name, err := vault.ParseName(c.seg[7])
	if err != nil {
		return err
	}
	get := c.vaults.DeletedVault
	if c.flavour() == vault.ManagedHSM {
		get = c.vaults.DeletedManagedHSM
	}
	v, err := get(c.ctx, c.caller, c.seg[1], name)
	return c.write(http.StatusOK, deletedResource(v), err)
}

// A usageItem is what one principal has done with one version of a key, as at
// /keys/{name}/usage of the vault while it lived.
type usageItem struct {
	KID       string          `json:"kid"`
	Principal string          `json:"principalId"`
	Operation vault.Operation `json:"operation"`
	Count     int64           `json:"count"`
	First     time.Time       `json:"first"`
	Last      time.Time       `json:"last"`
}

// deletedUsage tells who has used the keys of what is deleted: kluis's own.
func (c *call) deletedUsage() error {
	name, err := vault.ParseName(c.seg[7])
	if err != nil {
		return err
	}
	f := c.flavour()
	all, err := c.vaults.DeletedVaultUsage(c.ctx, c.caller, f, c.seg[1], name)
	if err != nil {
		return err
	}
	out := []usageItem{}
	for _, u := range all {
		out = append(out, usageItem{
			KID: c.kid(f, name, u.Key) + "/" + string(u.Version), Principal: string(u.Principal), Operation: u.Operation,
			Count: u.Count, First: u.First, Last: u.Last,
		})
	}
	return c.list(out)
}

func (c *call) purge() error {
	name, err := vault.ParseName(c.seg[7])
	if err != nil {
		return err
	}
	if c.flavour() == vault.ManagedHSM {
		return c.purgeHSM(name)
	}
	if err := c.vaults.PurgeVault(c.ctx, c.caller, c.seg[1], name); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// purgeHSM answers as Azure's, which takes its time: clients know no other answer, and
// ask at Location until that says that it is done.
func (c *call) purgeHSM(name vault.Name) error {
	if err := c.vaults.PurgeManagedHSM(c.ctx, c.caller, c.seg[1], name); err != nil {
		return err
	}
	at := url.URL{Scheme: "https", Host: c.r.Host, Path: "/subscriptions/" + c.seg[1] + "/providers/Microsoft.KeyVault/locations/" + c.seg[5] + "/managedHsmOperationResults/purged",
		RawQuery: "api-version=" + url.QueryEscape(c.r.URL.Query().Get("api-version"))}
	c.w.Header().Set("Location", at.String())
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// done answers for an operation that was over before it was asked about.
func (c *call) done() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
