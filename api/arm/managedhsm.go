package arm

import (
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/vault"
)

// What clients send of a managed HSM (learn.microsoft.com/rest/api/keyvault/managedhsm).
type (
	hsmBody struct {
		Location *string            `json:"location"`
		Tags     *map[string]string `json:"tags"`
		SKU      *struct {
			Family string `json:"family"`
			Name   string `json:"name"`
		} `json:"sku"`
		Properties hsmProperties `json:"properties"`
	}
	hsmProperties struct {
		TenantID        *string                 `json:"tenantId"`
		Admins          *[]identity.PrincipalID `json:"initialAdminObjectIds"`
		CreateMode      string                  `json:"createMode"`
		SoftDelete      *bool                   `json:"enableSoftDelete"`
		RetentionDays   *int                    `json:"softDeleteRetentionInDays"`
		PurgeProtection *bool                   `json:"enablePurgeProtection"`
		PublicAccess    string                  `json:"publicNetworkAccess"`
		NetworkACLs     *networkACLs            `json:"networkAcls"`

		// kluis's own.
		TrustedServices *[]string `json:"trustedServices"`
		RequireApproval *bool     `json:"requireApproval"`
		SeparateDuties  *bool     `json:"separationOfDuties"`
	}
	hsmResource struct {
		resource
		SKU map[string]string `json:"sku"`
	}
)

// spec reads the body. A PUT replaces tags even if it has none.
func (b hsmBody) spec(put bool) (vault.Spec, error) {
	p := b.Properties
	s := vault.Spec{
		Location: b.Location, Tags: b.Tags, SoftDelete: p.SoftDelete, RetentionDays: p.RetentionDays,
		PurgeProtection: p.PurgeProtection, Admins: p.Admins, TrustedServices: p.TrustedServices, RequireApproval: p.RequireApproval,
		SeparateDuties: p.SeparateDuties,
	}
	if err := (vaultProperties{PublicAccess: p.PublicAccess, NetworkACLs: p.NetworkACLs}).network(&s); err != nil {
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
	if put && s.Tags == nil {
		s.Tags = &map[string]string{}
	}
	return s, nil
}

func (c *call) hsm(v vault.Vault) hsmResource {
	p := map[string]any{
		"tenantId":                  v.Tenant,
		"initialAdminObjectIds":     v.Admins,
		"hsmUri":                    "https://" + string(v.Name) + "." + c.config.HSMSuffix + "/",
		"enableSoftDelete":          true,
		"softDeleteRetentionInDays": v.RetentionDays,
		"enablePurgeProtection":     v.PurgeProtection,
		"provisioningState":         "Succeeded",
		"statusMessage":             "The Managed HSM is provisioned and ready to use.",
		"publicNetworkAccess":       publicAccess(v.Network),
		"networkAcls":               showNetwork(v.Network),
		"trustedServices":           v.TrustedServices,
		"requireApproval":           v.RequireApproval,
		"separationOfDuties":        v.SeparateDuties,
	}
	p["securityDomainProperties"] = map[string]string{"activationStatus": "Active", "activationStatusMessage": "The Managed HSM is activated."}
	if v.Activated.IsZero() {
		p["securityDomainProperties"] = map[string]string{
			"activationStatus":        "NotActivated",
			"activationStatusMessage": "The Managed HSM does no key operation until its security domain is downloaded or restored.",
		}
	}
	return hsmResource{
		resource: resource{
			ID: v.Scope(), Name: v.Name, Type: vault.ManagedHSM.ResourceType(), Location: v.Location, Tags: tags(v.Tags),
			System: &systemData{Created: v.Created, Modified: v.Updated}, Properties: p,
		},
		SKU: map[string]string{"family": "B", "name": "Standard_B1"},
	}
}

func (c *call) hsmsHere() ([]vault.Vault, error) {
	group := ""
	if fold(c.seg[2]) == "resourcegroups" {
		group = c.seg[3]
	}
	return c.vaults.ManagedHSMs(c.ctx, c.caller, c.seg[1], group)
}

func (c *call) listHSMs() error {
	all, err := c.hsmsHere()
	if err != nil {
		return err
	}
	out := []any{}
	for _, v := range all {
		out = append(out, c.hsm(v))
	}
	return c.list(out)
}

func (c *call) getHSM() error {
	p, err := c.at()
	if err != nil {
		return err
	}
	v, err := c.vaults.Vault(c.ctx, c.caller, p)
	return c.write(http.StatusOK, c.hsm(v), err)
}

func (c *call) hsmBody(put bool) (vault.Path, vault.Spec, error) {
	p, err := c.at()
	if err != nil {
		return p, vault.Spec{}, err
	}
	var body hsmBody
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return p, vault.Spec{}, err
	}
	s, err := body.spec(put)
	return p, s, err
}

func (c *call) putHSM() error {
	p, s, err := c.hsmBody(true)
	if err != nil {
		return err
	}
	v, _, err := c.vaults.PutVault(c.ctx, c.caller, p, s)
	return c.write(http.StatusOK, c.hsm(v), err) // Azure's knows 200 and 202 only
}

func (c *call) patchHSM() error {
	p, s, err := c.hsmBody(false)
	if err != nil {
		return err
	}
	v, err := c.vaults.PatchVault(c.ctx, c.caller, p, s)
	return c.write(http.StatusOK, c.hsm(v), err)
}
