package vault

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// A Network says from where a vault's keys can be reached. The zero value is from
// everywhere. It does not concern the vault's management, as in Azure
// (learn.microsoft.com/azure/key-vault/general/network-security).
type Network struct {
	Closed  bool           `json:"closed,omitempty"`  // publicNetworkAccess: Disabled
	Deny    bool           `json:"deny,omitempty"`    // defaultAction: Deny
	Allowed []netip.Prefix `json:"allowed,omitempty"` // ipRules; they matter where the default is Deny
	Bypass  bool           `json:"bypass,omitempty"`  // AzureServices: trusted services come in from everywhere
}

// The bounds of a vault's access settings.
const (
	maxIPRules         = 1000
	maxTrustedServices = 64
)

// defaultTrusted are the trusted services of a new vault, by application: the
// platform that its keys are made for.
func defaultTrusted() []string { return []string{identity.FabricPlatformCMK} }

// ParseIPRule reads an address or a CIDR range. Bits beyond the range's length do
// not matter, and are dropped.
func ParseIPRule(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err == nil {
			p, err = a.Prefix(a.BitLen())
		}
	}
	if err != nil || p.Addr().Is4In6() || p.Addr().Zone() != "" {
		return netip.Prefix{}, fault.New(fault.InvalidArgument, "An IP rule is an address or a range in CIDR notation, such as 192.0.2.0/24.").About(s)
	}
	return p.Masked(), nil
}

func (n Network) check() error {
	if len(n.Allowed) > maxIPRules {
		return fault.New(fault.InvalidArgument, fmt.Sprintf("A vault has at most %d IP rules.", maxIPRules))
	}
	return nil
}

// equal reports whether two networks let the same callers in, in the same words.
func (n Network) equal(o Network) bool {
	return n.Closed == o.Closed && n.Deny == o.Deny && n.Bypass == o.Bypass && slices.Equal(n.Allowed, o.Allowed)
}

// widens reports whether o may let in a caller that n does not.
func (n Network) widens(o Network) bool {
	if n.Closed && !o.Closed || n.Deny && !o.Deny || !n.Bypass && o.Bypass {
		return true
	}
	return n.Deny && o.Deny && slices.ContainsFunc(o.Allowed, func(p netip.Prefix) bool {
		return !slices.ContainsFunc(n.Allowed, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
	})
}

// checkTrusted returns the ids of trusted services in their canonical form.
func checkTrusted(ids []string) ([]string, error) {
	if len(ids) > maxTrustedServices {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("A vault has at most %d trusted services.", maxTrustedServices))
	}
	out := []string{}
	for _, id := range ids {
		if id = strings.ToLower(id); !uuidPattern.MatchString(id) {
			return nil, fault.New(fault.InvalidArgument, "A trusted service is named by its object id or application id, a UUID.")
		}
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out, nil
}

// trusts reports whether the caller is one of the services that the custodian
// lists. An application id stands for the application itself, not for users who
// come through it.
func (v Vault) trusts(c identity.Caller) bool {
	return slices.Contains(v.TrustedServices, string(c.Principal)) ||
		c.Type == identity.ServicePrincipal && c.Application != "" && slices.Contains(v.TrustedServices, strings.ToLower(c.Application))
}

// admits is [Vault.admits] for a caller who has come by a connection that is his: a
// service of [Config.Clients] by one that has shown its certificate, so that its token is
// worth nothing to others (RFC 8705 has the reasons).
func (v *Vaults) admits(vault Vault, c identity.Caller) error {
	for _, id := range []string{string(c.Principal), c.Application} {
		if name, ok := v.clients[strings.ToLower(id)]; ok && id != "" && !strings.EqualFold(name, c.Certificate) {
			return fault.New(fault.ConnectionDenied, "The caller is a service that may reach keys over a connection with its own certificate only.").
				WithMend("Give the service the certificate for " + name + ", and have it shown to the vault.")
		}
	}
	return vault.admits(c)
}

// admits checks whether the caller may reach the vault's keys from where it is,
// whatever its rights. A caller whose address is not known is nowhere.
func (v Vault) admits(c identity.Caller) error {
	n := v.Network
	if !n.Closed && !n.Deny || n.Bypass && v.trusts(c) {
		return nil
	}
	if n.Closed {
		return fault.New(fault.ConnectionDenied,
			"Connection is not an approved private link and caller was ignored because bypass is not set to 'AzureServices' and PublicNetworkAccess is set to 'Disabled'.").
			WithMend("Enable public network access, or list the caller among the vault's trusted services.")
	}
	addr := c.Address.Unmap().WithZone("")
	if addr.IsValid() && slices.ContainsFunc(n.Allowed, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return nil
	}
	return fault.New(fault.FirewallDenied, fmt.Sprintf(
		"Client address is not authorized and caller is not a trusted service.\r\nClient address: %s\r\nCaller: appid=%s;oid=%s\r\nVault: %s;location=%s",
		addr, c.Application, c.Principal, v.Name, v.Location))
}
