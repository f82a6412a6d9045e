package arm

import (
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

const vaultType = "Microsoft.KeyVault/vaults"

// A resource is what all resources have.
type resource struct {
	ID         rbac.Scope        `json:"id"`
	Name       any               `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location,omitempty"`
	Tags       map[string]string `json:"tags,omitzero"`
	System     *systemData       `json:"systemData,omitempty"`
	Properties any               `json:"properties,omitempty"`
}

type systemData struct {
	Created  time.Time `json:"createdAt"`
	Modified time.Time `json:"lastModifiedAt"`
}

func tags(t map[string]string) map[string]string {
	if t == nil {
		return map[string]string{}
	}
	return t
}

// What clients send of a vault. Fields that are not here are read-only, or concern
// secrets and virtual machines, which kluis has not.
type (
	vaultBody struct {
		Location   *string            `json:"location"`
		Tags       *map[string]string `json:"tags"`
		Properties vaultProperties    `json:"properties"`
	}
	vaultProperties struct {
		SKU *struct {
			Name string `json:"name"`
		} `json:"sku"`
		TenantID        *string         `json:"tenantId"`
		CreateMode      string          `json:"createMode"`
		SoftDelete      *bool           `json:"enableSoftDelete"`
		RetentionDays   *int            `json:"softDeleteRetentionInDays"`
		PurgeProtection *bool           `json:"enablePurgeProtection"`
		RBAC            *bool           `json:"enableRbacAuthorization"`
		AccessPolicies  *[]accessPolicy `json:"accessPolicies"`
		PublicAccess    string          `json:"publicNetworkAccess"`
		NetworkACLs     *networkACLs    `json:"networkAcls"`

		// kluis's own.
		TrustedServices *[]string `json:"trustedServices"`
		RequireApproval *bool     `json:"requireApproval"`
		SeparateDuties  *bool     `json:"separationOfDuties"`
	}
)

// spec reads the body. A PUT replaces tags and access policies even if it has none.
// What a vault is that says nothing of its permission model depends on the
// api-version.
func (b vaultBody) spec(put bool, apiVersion string) (vault.Spec, error) {
	p := b.Properties
	s := vault.Spec{
		Location: b.Location, Tags: b.Tags, SoftDelete: p.SoftDelete, RetentionDays: p.RetentionDays,
		PurgeProtection: p.PurgeProtection, RBAC: p.RBAC, PolicyModel: apiVersion < rbacByDefault,
		TrustedServices: p.TrustedServices, RequireApproval: p.RequireApproval, SeparateDuties: p.SeparateDuties,
	}
	if p.SKU != nil && p.SKU.Name != "" && !strings.EqualFold(p.SKU.Name, "standard") {
		return s, fault.New(fault.NotSupported, "The only SKU supported is standard: keys are protected by software.")
	}
	if err := p.network(&s); err != nil {
		return s, err
	}
	switch strings.ToLower(p.CreateMode) {
	case "", "default":
	case "recover":
		s.Recover = true
	default:
		return s, fault.New(fault.InvalidArgument, "createMode must be default or recover.")
	}
	if p.TenantID != nil {
		s.Tenant = new(identity.TenantID(strings.ToLower(*p.TenantID)))
	}
	if p.AccessPolicies != nil {
		s.AccessPolicies = new(policiesOf(*p.AccessPolicies))
	}
	if put {
		if s.Tags == nil {
			s.Tags = &map[string]string{}
		}
		if s.AccessPolicies == nil {
			s.AccessPolicies = &[]vault.AccessPolicy{}
		}
	}
	return s, nil
}

func (c *call) vault(v vault.Vault) resource {
	p := map[string]any{
		"sku":                          map[string]string{"family": "A", "name": "standard"},
		"tenantId":                     v.Tenant,
		"accessPolicies":               showPolicies(v.AccessPolicies),
		"enabledForDeployment":         false,
		"enabledForDiskEncryption":     false,
		"enabledForTemplateDeployment": false,
		"enableSoftDelete":             true,
		"softDeleteRetentionInDays":    v.RetentionDays,
		"enableRbacAuthorization":      v.RBAC,
		"vaultUri":                     "https://" + string(v.Name) + "." + c.config.VaultSuffix + "/",
		"provisioningState":            "Succeeded",
		"publicNetworkAccess":          publicAccess(v.Network),
		"networkAcls":                  showNetwork(v.Network),
		"trustedServices":              v.TrustedServices,
		"requireApproval":              v.RequireApproval,
		"separationOfDuties":           v.SeparateDuties,
	}
	if v.PurgeProtection { // Azure leaves it out rather than say false
		p["enablePurgeProtection"] = true
	}
	return resource{
		ID: v.Scope(), Name: v.Name, Type: vaultType, Location: v.Location, Tags: tags(v.Tags),
		System: &systemData{Created: v.Created, Modified: v.Updated}, Properties: p,
	}
}

// at returns where the path's vault or managed HSM lies.
func (c *call) at() (vault.Path, error) {
	name, err := vault.ParseName(c.seg[7])
	return vault.Path{Flavour: c.flavour(), Subscription: c.seg[1], ResourceGroup: c.seg[3], Name: name}, err
}

// flavour is which of the two the path's resource type is of.
func (c *call) flavour() vault.Flavour {
	for _, i := range []int{4, 6} { // below the provider, and below a resource group's or a location's
		if len(c.seg) > i && (fold(c.seg[i]) == "managedhsms" || fold(c.seg[i]) == "deletedmanagedhsms") {
			return vault.ManagedHSM
		}
	}
	return vault.Standard
}

func (c *call) vaultsHere() ([]vault.Vault, error) {
	group := ""
	if fold(c.seg[2]) == "resourcegroups" {
		group = c.seg[3]
	}
	return c.vaults.Vaults(c.ctx, c.caller, c.seg[1], group)
}

func (c *call) listVaults() error {
	all, err := c.vaultsHere()
	if err != nil {
		return err
	}
	out := []any{}
	for _, v := range all {
		out = append(out, c.vault(v))
	}
	return c.list(out)
}

func (c *call) getVault() error {
	p, err := c.at()
	if err != nil {
		return err
	}
	v, err := c.vaults.Vault(c.ctx, c.caller, p)
	return c.write(http.StatusOK, c.vault(v), err)
}

func (c *call) body(put bool) (vault.Path, vault.Spec, error) {
	p, err := c.at()
	if err != nil {
		return p, vault.Spec{}, err
	}
	var body vaultBody
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return p, vault.Spec{}, err
	}
	s, err := body.spec(put, c.r.URL.Query().Get("api-version"))
	return p, s, err
}

func (c *call) putVault() error {
	p, s, err := c.body(true)
	if err != nil {
		return err
	}
	v, created, err := c.vaults.PutVault(c.ctx, c.caller, p, s)
	return c.write(madeOr200(created), c.vault(v), err)
}

func (c *call) patchVault() error {
	p, s, err := c.body(false)
	if err != nil {
		return err
	}
	v, err := c.vaults.PatchVault(c.ctx, c.caller, p, s)
	return c.write(http.StatusOK, c.vault(v), err)
}

func (c *call) deleteVault() error {
	p, err := c.at()
	if err != nil {
		return err
	}
	_, err = c.vaults.DeleteVault(c.ctx, c.caller, p)
	return c.gone(err, fault.ResourceNotFound)
}

// gone answers a DELETE: 204 if there was nothing to delete.
func (c *call) gone(err error, missing fault.Reason) error {
	switch fault.ReasonOf(err) {
	case "":
		c.w.WriteHeader(http.StatusOK)
		return nil
	case missing:
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return err
}

func (c *call) checkName() error {
	var body struct {
		Name string `json:"name"`
	}
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	free, reason, err := c.vaults.NameFree(c.ctx, c.caller, body.Name)
	out := map[string]any{"nameAvailable": free}
	switch reason {
	case fault.InvalidArgument:
		out["reason"], out["message"] = "AccountNameInvalid", "The vault name is invalid."
	case fault.VaultExists:
		out["reason"], out["message"] = "AlreadyExists", "The vault name is already in use. Vault names are globally unique."
	case fault.VaultDeleted:
		out["reason"], out["message"] = "AlreadyExists", "The vault name is held by a soft-deleted vault: recover or purge that one."
	}
	return c.write(http.StatusOK, out, err)
}
