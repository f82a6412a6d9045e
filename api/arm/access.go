package arm

import (
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// rbacByDefault is the api-version from which a new vault authorises by roles unless
// it says otherwise; before, by access policies
// (learn.microsoft.com/azure/key-vault/general/access-control-default).
const rbacByDefault = "2026-02-01"

type (
	accessPolicy struct {
		Tenant      string      `json:"tenantId"`
		Object      string      `json:"objectId"`
		Application string      `json:"applicationId,omitempty"`
		Permissions permissions `json:"permissions"`
	}
	permissions struct {
		Keys         []string `json:"keys,omitempty"`
		Secrets      []string `json:"secrets,omitempty"`
		Certificates []string `json:"certificates,omitempty"`
		Storage      []string `json:"storage,omitempty"`
	}
	networkACLs struct {
		Bypass        string   `json:"bypass"`
		DefaultAction string   `json:"defaultAction"`
		IPRules       []ipRule `json:"ipRules"`
		NetworkRules  []any    `json:"virtualNetworkRules"`
	}
	ipRule struct {
		Value string `json:"value"`
	}
)

func policiesOf(all []accessPolicy) []vault.AccessPolicy {
	out := []vault.AccessPolicy{}
	for _, a := range all {
		out = append(out, vault.AccessPolicy{
			Tenant: a.Tenant, Object: a.Object, Application: a.Application, Keys: a.Permissions.Keys,
			Secrets: a.Permissions.Secrets, Certificates: a.Permissions.Certificates, Storage: a.Permissions.Storage,
		})
	}
	return out
}

func showPolicies(all []vault.AccessPolicy) []accessPolicy {
	out := []accessPolicy{}
	for _, a := range all {
		out = append(out, accessPolicy{
			Tenant: a.Tenant, Object: a.Object, Application: a.Application,
			Permissions: permissions{Keys: a.Keys, Secrets: a.Secrets, Certificates: a.Certificates, Storage: a.Storage},
		})
	}
	return out
}

// network reads the two gates of a vault's network.
func (p vaultProperties) network(s *vault.Spec) error {
	switch strings.ToLower(p.PublicAccess) {
	case "":
	case "enabled", "disabled":
		s.PublicAccess = new(strings.EqualFold(p.PublicAccess, "Enabled"))
	default:
		return fault.New(fault.InvalidArgument, "publicNetworkAccess must be Enabled or Disabled.")
	}
	acls := p.NetworkACLs
	if acls == nil {
		return nil
	}
	n := vault.Network{}
	switch strings.ToLower(acls.Bypass) {
	case "", "azureservices":
		n.Bypass = true
	case "none":
	default:
		return fault.New(fault.InvalidArgument, "networkAcls.bypass must be AzureServices or None.")
	}
	switch strings.ToLower(acls.DefaultAction) {
	case "allow":
	case "deny":
		n.Deny = true
	default:
		return fault.New(fault.InvalidArgument, "networkAcls.defaultAction must be Allow or Deny.")
	}
	if len(acls.NetworkRules) > 0 {
		return fault.New(fault.NotSupported, "Virtual network rules are not supported: kluis sees addresses, and no virtual networks.").
			WithMend("Give the networks' address ranges as IP rules.")
	}
	for _, r := range acls.IPRules {
		rule, err := vault.ParseIPRule(r.Value)
		if err != nil {
			return err
		}
		n.Allowed = append(n.Allowed, rule)
	}
	s.Network = &n
	return nil
}

func publicAccess(n vault.Network) string {
	if n.Closed {
		return "Disabled"
	}
	return "Enabled"
}

func showNetwork(n vault.Network) networkACLs {
	out := networkACLs{Bypass: "None", DefaultAction: "Allow", IPRules: []ipRule{}, NetworkRules: []any{}}
	if n.Bypass {
		out.Bypass = "AzureServices"
	}
	if n.Deny {
		out.DefaultAction = "Deny"
	}
	for _, p := range n.Allowed {
		out.IPRules = append(out.IPRules, ipRule{p.String()})
	}
	return out
}

// changePolicies serves PUT …/accessPolicies/{add, replace or remove}.
func (c *call) changePolicies() error {
	p, err := c.at()
	if err != nil {
		return err
	}
	var body struct {
		Properties struct {
			AccessPolicies []accessPolicy `json:"accessPolicies"`
		} `json:"properties"`
	}
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	v, err := c.vaults.ChangePolicies(c.ctx, c.caller, p, vault.PolicyChange(fold(c.seg[9])), policiesOf(body.Properties.AccessPolicies))
	return c.write(http.StatusOK, map[string]any{
		"id": v.Scope() + "/accessPolicies/", "type": vaultType + "/accessPolicies", "location": v.Location,
		"properties": map[string]any{"accessPolicies": showPolicies(v.AccessPolicies)},
	}, err)
}
