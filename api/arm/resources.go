package arm

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// metadata describes the cloud, in the shape of 2015 and, as a list of one, in that
// of 2019 and later.
func (h *handler) metadata(w http.ResponseWriter, r *http.Request) {
	e := h.config.Endpoints
	if r.URL.Query().Get("api-version") < "2019" {
		api.WriteJSON(w, http.StatusOK, map[string]any{
			"galleryEndpoint": e.Portal, "graphEndpoint": e.Graph, "portalEndpoint": e.Portal,
			"authentication": map[string]any{"loginEndpoint": e.ADFS, "audiences": h.config.Audiences},
		})
		return
	}
	api.WriteJSON(w, http.StatusOK, []any{map[string]any{
		"name": "kluis", "portal": e.Portal, "graph": e.Graph, "graphAudience": e.Graph, "microsoftGraphResourceId": e.Graph,
		"resourceManager": e.ResourceManager, "gallery": e.Portal,
		"authentication": map[string]any{
			"loginEndpoint": e.ADFS, "audiences": h.config.Audiences, "tenant": "adfs", "identityProvider": "ADFS",
		},
		"suffixes": map[string]string{"keyVaultDns": h.config.VaultSuffix},
	}})
}

func (c *call) subscription(s vault.Subscription) map[string]any {
	return map[string]any{
		"id": s.Scope(), "subscriptionId": s.ID, "tenantId": s.Tenant, "displayName": s.Name, "state": "Enabled",
		"subscriptionPolicies": map[string]any{}, "managedByTenants": []any{},
	}
}

func (c *call) listSubscriptions() error {
	all, err := c.subscriptions()
	if err != nil {
		return err
	}
	out := []any{}
	for _, s := range all {
		out = append(out, c.subscription(s))
	}
	return c.list(out)
}

func (c *call) getSubscription() error {
	all, err := c.subscriptions()
	if err != nil {
		return err
	}
	for _, s := range all {
		if strings.EqualFold(s.ID, c.seg[1]) {
			return c.write(http.StatusOK, c.subscription(s), nil)
		}
	}
	return fault.New(fault.SubscriptionNotFound, "The subscription could not be found in the token's tenant.")
}

var resourceType = regexp.MustCompile(`^(?i:resourceType)\s+eq\s+'([^']*)'$`)

// listResources lists the vaults, managed HSMs and storage accounts: there are no other
// resources.
func (c *call) listResources() error {
	only := ""
	if f := c.r.URL.Query().Get("$filter"); f != "" {
		m := resourceType.FindStringSubmatch(strings.TrimSpace(f))
		switch {
		case m == nil:
			return fault.New(fault.NotSupported, "The only $filter supported is resourceType eq 'TYPE'.")
		default:
			only = m[1]
		}
	}
	wanted := func(t string) bool { return only == "" || strings.EqualFold(only, t) }
	out := []any{}
	if wanted(accountType) {
		accounts, err := c.accountResources()
		if err != nil {
			return err
		}
		out = append(out, accounts...)
	}
	for _, kind := range []struct {
		typ  string
		list func() ([]vault.Vault, error)
	}{{vaultType, c.vaultsHere}, {vault.ManagedHSM.ResourceType(), c.hsmsHere}} {
		if c.vaults == nil || !wanted(kind.typ) {
			continue
		}
		all, err := kind.list()
		if err != nil {
			return err
		}
		for _, v := range all {
			out = append(out, resource{ID: v.Scope(), Name: v.Name, Type: kind.typ, Location: v.Location, Tags: tags(v.Tags)})
		}
	}
	return c.list(out)
}

func group(g vault.ResourceGroup) resource {
	return resource{
		ID: g.Scope(), Name: g.Name, Type: "Microsoft.Resources/resourceGroups", Location: g.Location, Tags: tags(g.Tags),
		Properties: map[string]string{"provisioningState": "Succeeded"},
	}
}

func (c *call) listGroups() error {
	all, err := c.vaults.ResourceGroups(c.ctx, c.caller, c.seg[1])
	if err != nil {
		return err
	}
	out := []any{}
	for _, g := range all {
		out = append(out, group(g))
	}
	return c.list(out)
}

func (c *call) getGroup() error {
	g, err := c.vaults.ResourceGroup(c.ctx, c.caller, c.seg[1], c.seg[3])
	return c.write(http.StatusOK, group(g), err)
}

func (c *call) putGroup() error {
	var body struct {
		Location string            `json:"location"`
		Tags     map[string]string `json:"tags"`
	}
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	g, created, err := c.vaults.PutResourceGroup(c.ctx, c.caller, vault.ResourceGroup{
		Subscription: c.seg[1], Name: c.seg[3], Location: body.Location, Tags: body.Tags,
	})
	return c.write(madeOr200(created), group(g), err)
}

func (c *call) deleteGroup() error {
	err := c.vaults.DeleteResourceGroup(c.ctx, c.caller, c.seg[1], c.seg[3])
	if err == nil {
		c.w.WriteHeader(http.StatusOK)
	}
	return err
}
