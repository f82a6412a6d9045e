package vault_test

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// A right is one data action under each of the three names that it has: in Azure's
// roles, in a managed HSM's own and in an access policy.
type right struct {
	azure, local rbac.Action
	policy       string
}

var (
	modelRights = []right{
		{"Microsoft.KeyVault/vaults/keys/unwrap/action", "Microsoft.KeyVault/managedHsm/keys/unwrap/action", "unwrapKey"},
		{"Microsoft.KeyVault/vaults/keys/wrap/action", "Microsoft.KeyVault/managedHsm/keys/wrap/action", "wrapKey"},
		{"Microsoft.KeyVault/vaults/keys/sign/action", "Microsoft.KeyVault/managedHsm/keys/sign/action", "sign"},
		{"Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/managedHsm/keys/read/action", "get"},
		{"Microsoft.KeyVault/vaults/keys/create/action", "Microsoft.KeyVault/managedHsm/keys/create", "create"},
		{"Microsoft.KeyVault/vaults/keys/delete", "Microsoft.KeyVault/managedHsm/keys/delete", "delete"},
		{"Microsoft.KeyVault/vaults/keys/purge/action", "Microsoft.KeyVault/managedHsm/keys/deletedKeys/delete", "purge"},
		{"Microsoft.KeyVault/vaults/keyrotationpolicies/write", "Microsoft.KeyVault/managedHsm/keys/write/action", "setrotationpolicy"},
	}
	modelNetworks  = []string{"192.0.2.0/24", "192.0.2.128/25", "198.51.100.7/32", "2001:db8::/32", "0.0.0.0/0"}
	modelAddresses = []string{"192.0.2.1", "192.0.2.200", "198.51.100.7", "198.51.100.8", "2001:db8::1", "::1", "::ffff:192.0.2.1", ""}
	modelApps      = []string{"", "app-1", "app-2"}
)

// modelVaults are one of each flavour, and one in another tenant. Each history begins
// with them as they are here.
var modelVaults = []vault.Vault{
	modelVault(vault.Vault{Name: "kv1", Tenant: "t1", RBAC: true}),
	modelVault(vault.Vault{Name: "kv10", Tenant: "t2", RBAC: true}),
	modelVault(vault.Vault{Name: "hsm1", Tenant: "t1", RBAC: true, Flavour: vault.ManagedHSM, Activated: time.Unix(1, 0)}),
}

func modelVault(v vault.Vault) vault.Vault {
	v.ID, v.Subscription, v.ResourceGroup = vault.ID(v.Name), "s1", "g"
	return v
}

// some picks each of a list with one chance in n.
func some[T any](h *history, n int, all []T) (out []T) {
	for _, x := range all {
		if h.rnd.IntN(n) == 0 {
			out = append(out, x)
		}
	}
	return out
}

// furnish changes a vault's access policies and network.
func (h *history) furnish(tx vault.Tx) error {
	v := &h.vaults[h.rnd.IntN(len(h.vaults))]
	v.RBAC = h.rnd.IntN(3) == 0
	v.AccessPolicies = nil
	for range h.rnd.IntN(3) {
		p := vault.AccessPolicy{
			Tenant: string(h.tenant()), Object: string(pick(h.rnd, append(modelGroups, modelPeople...))), Application: pick(h.rnd, modelApps),
		}
		for _, r := range some(h, 2, modelRights) {
			p.Keys = append(p.Keys, r.policy)
		}
		v.AccessPolicies = append(v.AccessPolicies, p)
	}
	v.Network = vault.Network{Closed: h.rnd.IntN(8) == 0, Deny: h.rnd.IntN(3) == 0, Bypass: h.rnd.IntN(2) == 0}
	for _, n := range some(h, 3, modelNetworks) {
		v.Network.Allowed = append(v.Network.Allowed, netip.MustParsePrefix(n))
	}
	v.TrustedServices = some(h, 4, []string{"alice", "bob", "app-1", "ops"})
	h.note("%s: rbac %t, policies %+v, network %+v, trusted %v", v.Name, v.RBAC, v.AccessPolicies, v.Network, v.TrustedServices)
	return tx.PutVault(*v)
}

// enter asks whether a caller comes in at a vault's key.
func (h *history) enter(tx vault.Tx) error {
	v, r, key := pick(h.rnd, h.vaults), pick(h.rnd, modelRights), pick(h.rnd, []vault.KeyName{"", "k", "K", "k1"})
	c := h.caller()
	c.Application = pick(h.rnd, modelApps)
	c.Type = pick(h.rnd, []identity.PrincipalType{identity.User, identity.ServicePrincipal})
	c.Address, _ = netip.ParseAddr(pick(h.rnd, modelAddresses))
	h.note("may %+v do %s at key %q of %s", c, r.azure, key, v.Name)
	err := vault.Enter(h.service, tx, c, v.Name, key, r.azure)
	switch fault.ReasonOf(err) {
	case fault.Denied, fault.AccessPolicyDenied, fault.FirewallDenied, fault.ConnectionDenied:
		return h.agree(false, h.comesIn(v, c, r, key), nil)
	}
	return h.agree(err == nil, h.comesIn(v, c, r, key), err)
}

// comesIn is the model's answer: the network, and then whichever of the three models
// of access the vault has.
func (h *history) comesIn(v vault.Vault, c identity.Caller, r right, key vault.KeyName) bool {
	if c.Tenant != v.Tenant {
		return false
	}
	n := v.Network
	trusted := slices.Contains(v.TrustedServices, string(c.Principal)) ||
		c.Type == identity.ServicePrincipal && slices.Contains(v.TrustedServices, c.Application)
	inside := slices.ContainsFunc(n.Allowed, func(p netip.Prefix) bool { return within(p, c.Address) })
	if (n.Closed || n.Deny && !inside) && !(n.Bypass && trusted) {
		return false
	}
	at := "/subscriptions/s1/resourceGroups/g/providers/Microsoft.KeyVault/vaults/"
	if v.Flavour == vault.ManagedHSM {
		at = strings.Replace(at, "vaults", "managedHSMs", 1)
	}
	at += string(v.Name)
	if key != "" {
		at += "/keys/" + string(key)
	}
	switch {
	case v.Flavour == vault.ManagedHSM:
		return h.may(rbac.HSMRoles.All(), c, r.local, true, at)
	case v.RBAC:
		return h.may(rbac.VaultRoles.All(), c, r.azure, true, at)
	}
	for _, p := range v.AccessPolicies {
		mine := p.Object == string(c.Principal) || slices.Contains(c.Groups, identity.PrincipalID(p.Object))
		if mine && p.Tenant == string(c.Tenant) && (p.Application == "" || p.Application == c.Application) && slices.Contains(p.Keys, r.policy) {
			return true
		}
	}
	return false
}

// within compares an address with a prefix bit by bit. One that IPv6 carries for
// IPv4 is that.
func within(p netip.Prefix, a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	x, y := p.Addr().AsSlice(), a.Unmap().AsSlice()
	if len(x) != len(y) {
		return false
	}
	for bit := range p.Bits() {
		if (x[bit/8]^y[bit/8])>>(7-bit%8)&1 != 0 {
			return false
		}
	}
	return true
}
