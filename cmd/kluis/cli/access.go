package cli

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

// vaultsVersion is the api-version of Resource Manager's Key Vault provider.
const vaultsVersion = "2023-07-01"

// What is read and written of a vault or managed HSM beyond what the official
// clients know: kluis's own properties.
type (
	vaultState struct {
		ID         string          `json:"id,omitempty"`
		Name       string          `json:"name,omitempty"`
		Location   string          `json:"location,omitempty"`
		Properties vaultProperties `json:"properties"`
	}
	vaultProperties struct {
		TenantID        string         `json:"tenantId,omitempty"`
		Admins          []string       `json:"initialAdminObjectIds,omitempty"`
		CreateMode      string         `json:"createMode,omitempty"`
		HSMURI          string         `json:"hsmUri,omitempty"`
		RetentionDays   int            `json:"softDeleteRetentionInDays,omitempty"`
		PurgeProtection *bool          `json:"enablePurgeProtection,omitempty"`
		RBAC            *bool          `json:"enableRbacAuthorization,omitempty"`
		Policies        []accessPolicy `json:"accessPolicies,omitempty"`
		PublicAccess    string         `json:"publicNetworkAccess,omitempty"`
		Network         *networkACLs   `json:"networkAcls,omitempty"`
		Trusted         *[]string      `json:"trustedServices,omitempty"`
		RequireApproval *bool          `json:"requireApproval,omitempty"`
		SeparateDuties  *bool          `json:"separationOfDuties,omitempty"`
		Domain          *domainState   `json:"securityDomainProperties,omitempty"`
	}
	domainState struct {
		Activation string `json:"activationStatus,omitempty"`
	}
	networkACLs struct {
		Bypass        string   `json:"bypass"`
		DefaultAction string   `json:"defaultAction"`
		IPRules       []ipRule `json:"ipRules"`
	}
	ipRule struct {
		Value string `json:"value"`
	}
	accessPolicy struct {
		TenantID    string      `json:"tenantId"`
		ObjectID    string      `json:"objectId"`
		Permissions permissions `json:"permissions"`
	}
	permissions struct {
		Keys []string `json:"keys"`
	}
)

// resourceID returns the id of a vault, or managed HSM.
func (s *session) resourceID(o *sdk.Officer, group, name string) string {
	kind := "vaults"
	if s.hsm {
		kind = "managedHSMs"
	}
	return "/subscriptions/" + o.Target().SubscriptionID + "/resourceGroups/" + group + "/providers/Microsoft.KeyVault/" + kind + "/" + name
}

func (s *session) vaultState(ctx context.Context, o *sdk.Officer, group, name string) (v vaultState, err error) {
	err = o.Manage(ctx, http.MethodGet, s.resourceID(o, group, name), vaultsVersion, nil, &v)
	return v, err
}

func (s *session) patchVault(ctx context.Context, o *sdk.Officer, group, name string, p vaultProperties) (v vaultState, err error) {
	err = o.Manage(ctx, http.MethodPatch, s.resourceID(o, group, name), vaultsVersion, vaultState{Properties: p}, &v)
	return v, err
}

func (s *session) showSettings(v vaultState) error {
	p := v.Properties
	model := "access policies"
	switch {
	case s.hsm:
		model = "the HSM's own roles"
	case value(p.RBAC):
		model = "roles"
	}
	return s.show(v, "NAME,ACCESS BY,PURGE PROTECTION,APPROVALS,SEPARATE DUTIES", [][]string{{
		v.Name, model, yes(value(p.PurgeProtection)), yes(value(p.RequireApproval)), yes(value(p.SeparateDuties)),
	}})
}

// onVault makes a command on one vault in its resource group, with more arguments.
func (s *session) onVault(use, short string, more int, run func(ctx context.Context, o *sdk.Officer, group, name string, args []string) error) *cobra.Command {
	var group string
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1 + more),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			return run(ctx, o, group, args[0], args[1:])
		}),
	}
	groupFlag(c, &group)
	return c
}

func vaultUpdate(s *session) *cobra.Command {
	var protect, roles, policies, approve, separate bool
	var trusted []string
	var c *cobra.Command
	c = s.onVault("update NAME", "Change a vault's settings", 0, func(ctx context.Context, o *sdk.Officer, group, name string, _ []string) error {
		var p vaultProperties
		changed := c.Flags().Changed
		if protect {
			p.PurgeProtection = &protect
		}
		if roles || policies {
			p.RBAC = &roles
		}
		if changed("require-approval") {
			p.RequireApproval = &approve
		}
		if changed("separate-duties") {
			p.SeparateDuties = &separate
		}
		if changed("trust") {
			p.Trusted = &trusted
		}
		if p.PurgeProtection == nil && p.RBAC == nil && p.RequireApproval == nil && p.SeparateDuties == nil && p.Trusted == nil {
			return usage("say what to change; see kluis vault update --help")
		}
		if protect {
			if err := s.confirm("Purge protection of vault "+name+" can never be taken off.", name); err != nil {
				return err
			}
		}
		v, err := s.patchVault(ctx, o, group, name, p)
		if err != nil {
			return err
		}
		return s.showSettings(v)
	})
	f := c.Flags()
	f.BoolVar(&protect, "purge-protection", false, "nobody purges a deleted key before its retention is over; never taken off")
	f.BoolVar(&roles, "rbac", false, "authorise by role assignments")
	f.BoolVar(&policies, "access-policies", false, "authorise by access policies")
	f.BoolVar(&approve, "require-approval", false, "what destroys or weakens takes a second person")
	f.BoolVar(&separate, "separate-duties", false, "who manages keys may not use them")
	f.StringSliceVar(&trusted, "trust", nil, "the trusted services, by object or application `ID`: all of them")
	c.MarkFlagsMutuallyExclusive("rbac", "access-policies")
	s.confirmFlag(c)
	return c
}

func (s *session) showNetwork(v vaultState) error {
	n := value(v.Properties.Network)
	var from []string
	for _, r := range n.IPRules {
		from = append(from, r.Value)
	}
	if len(from) == 0 {
		from = []string{"-"}
	}
	return s.show(v.Properties, "PUBLIC ACCESS,DEFAULT,ALLOWED,TRUSTED SERVICES", [][]string{{
		strings.ToLower(v.Properties.PublicAccess), strings.ToLower(n.DefaultAction), strings.Join(from, " "), strings.ToLower(n.Bypass),
	}})
}

// changeNetwork reads a vault's network rules, changes them and writes them.
func (s *session) changeNetwork(ctx context.Context, o *sdk.Officer, group, name string, change func(*networkACLs) error) error {
	v, err := s.vaultState(ctx, o, group, name)
	if err != nil {
		return err
	}
	n := value(v.Properties.Network)
	if err := change(&n); err != nil {
		return err
	}
	if v, err = s.patchVault(ctx, o, group, name, vaultProperties{Network: &n}); err != nil {
		return err
	}
	return s.showNetwork(v)
}

func networkShow(s *session) *cobra.Command {
	return s.onVault("show NAME", "Show a vault's network rules", 0, func(ctx context.Context, o *sdk.Officer, group, name string, _ []string) error {
		v, err := s.vaultState(ctx, o, group, name)
		if err != nil {
			return err
		}
		return s.showNetwork(v)
	})
}

// parseRange reads an address or a range as the server shows it.
func parseRange(text string) (string, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked().String(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return "", usage("%q is no address and no range in CIDR notation, such as 192.0.2.0/24", text)
	}
	return netip.PrefixFrom(a, a.BitLen()).String(), nil
}

func networkAllow(s *session) *cobra.Command {
	return s.onVault("allow NAME CIDR", "Let a range in, where the default is to deny", 1, func(ctx context.Context, o *sdk.Officer, group, name string, args []string) error {
		cidr, err := parseRange(args[0])
		if err != nil {
			return err
		}
		return s.changeNetwork(ctx, o, group, name, func(n *networkACLs) error {
			if !slices.Contains(n.IPRules, ipRule{cidr}) {
				n.IPRules = append(n.IPRules, ipRule{cidr})
			}
			return nil
		})
	})
}

func networkDeny(s *session) *cobra.Command {
	return s.onVault("deny NAME CIDR", "Take a range off those that are let in", 1, func(ctx context.Context, o *sdk.Officer, group, name string, args []string) error {
		cidr, err := parseRange(args[0])
		if err != nil {
			return err
		}
		return s.changeNetwork(ctx, o, group, name, func(n *networkACLs) error {
			i := slices.Index(n.IPRules, ipRule{cidr})
			if i < 0 {
				return usage("%s is not among the ranges that vault %s lets in; to shut all others out: kluis vault network default %s deny", cidr, name, name)
			}
			n.IPRules = slices.Delete(n.IPRules, i, i+1)
			return nil
		})
	})
}

func networkDefault(s *session) *cobra.Command {
	return s.onVault("default NAME allow|deny", "Say what becomes of callers from other ranges", 1, func(ctx context.Context, o *sdk.Officer, group, name string, args []string) error {
		action, ok := map[string]string{"allow": "Allow", "deny": "Deny"}[strings.ToLower(args[0])]
		if !ok {
			return usage("the default is allow or deny, not %q", args[0])
		}
		return s.changeNetwork(ctx, o, group, name, func(n *networkACLs) error {
			n.DefaultAction = action
			return nil
		})
	})
}

func (s *session) showPolicies(o *sdk.Officer, all []accessPolicy) error {
	var rows [][]string
	for _, p := range all {
		rows = append(rows, []string{nameOf(o, p.ObjectID), p.ObjectID, strings.Join(p.Permissions.Keys, " ")})
	}
	if all == nil {
		all = []accessPolicy{}
	}
	return s.show(all, "WHO,PRINCIPAL,KEYS", rows)
}

// changePolicies changes one principal's access policy at a vault.
func (s *session) changePolicies(ctx context.Context, o *sdk.Officer, group, name, how string, p accessPolicy) error {
	var in vaultState
	in.Properties.Policies = []accessPolicy{p}
	err := o.Manage(ctx, http.MethodPut, s.resourceID(o, group, name)+"/accessPolicies/"+how, vaultsVersion, in, &in)
	if err != nil {
		return err
	}
	return s.showPolicies(o, in.Properties.Policies)
}

func accessList(s *session) *cobra.Command {
	return s.onVault("list NAME", "List a vault's access policies", 0, func(ctx context.Context, o *sdk.Officer, group, name string, _ []string) error {
		v, err := s.vaultState(ctx, o, group, name)
		if err != nil {
			return err
		}
		return s.showPolicies(o, v.Properties.Policies)
	})
}

func accessSet(s *session) *cobra.Command {
	var keys []string
	c := s.onVault("set NAME OBJECT-ID", "Give a principal permissions on keys, in place of those that it has", 1, func(ctx context.Context, o *sdk.Officer, group, name string, args []string) error {
		return s.changePolicies(ctx, o, group, name, "replace", accessPolicy{o.Target().TenantID, args[0], permissions{keys}})
	})
	c.Flags().StringSliceVar(&keys, "permissions", nil, "get,wrapKey,unwrapKey, …; all is all but purge")
	c.MarkFlagRequired("permissions")
	return c
}

func accessDelete(s *session) *cobra.Command {
	return s.onVault("delete NAME OBJECT-ID", "Take all permissions on keys from a principal", 1, func(ctx context.Context, o *sdk.Officer, group, name string, args []string) error {
		v, err := s.vaultState(ctx, o, group, name)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(v.Properties.Policies, func(p accessPolicy) bool { return strings.EqualFold(p.ObjectID, args[0]) })
		if i < 0 {
			return usage("vault %s has no access policy of %s", name, args[0])
		}
		return s.changePolicies(ctx, o, group, name, "remove", v.Properties.Policies[i])
	})
}
