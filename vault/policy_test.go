package vault_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

func policy(c identity.Caller, keys ...string) vault.AccessPolicy {
	return vault.AccessPolicy{Tenant: string(c.Tenant), Object: string(c.Principal), Keys: keys}
}

// policyVault makes kv1 with these access policies.
func policyVault(t *testing.T, f *vaulttest.Fixture, policies ...vault.AccessPolicy) vault.Vault {
	return f.Vault(t, "kv1", func(s *vault.Spec) { s.RBAC, s.AccessPolicies = new(false), &policies })
}

func patch(t *testing.T, f *vaulttest.Fixture, s vault.Spec) vault.Vault {
	t.Helper()
	v, err := f.Vaults.PatchVault(t.Context(), f.Officer, vaulttest.Path("kv1"), s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAccessPolicies(t *testing.T) {
	f := vaulttest.New(t)
	service, group, user := vaulttest.Caller(2), vaulttest.Caller(3), vaulttest.Caller(4)
	member := vaulttest.Caller(5)
	member.Groups = []identity.PrincipalID{group.Principal}
	compound := policy(user, "get")
	compound.Application = vaulttest.ID(90)
	v := policyVault(t, f, policy(f.Officer, "All"), policy(service, "UNWRAPKEY", "wrapkey", "wrapKey"), policy(group, "list"), compound)
	if keys := v.AccessPolicies[0].Keys; slices.Contains(keys, "purge") || !slices.Contains(keys, "unwrapKey") || slices.Contains(keys, "all") {
		t.Errorf(`"all" became %q`, keys)
	}
	if keys := v.AccessPolicies[1].Keys; !slices.Equal(keys, []string{"unwrapKey", "wrapKey"}) {
		t.Errorf("permissions became %q", keys)
	}
	f.Key(t, "kv1", "k")
	_, wrapped, err := wrap(t, f, service, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unwrap(t.Context(), f, service, "", wrapped); err != nil {
		t.Fatal(err)
	}

	// Roles do not count here, and get is not list.
	_, err = f.Vaults.Key(t.Context(), service, "kv1", "k", "")
	wantReason(t, err, fault.AccessPolicyDenied)
	if fe := fault.As(err); !strings.HasPrefix(fe.Detail, "The user, group or application 'appid=app;oid="+vaulttest.ID(2)+"' does not have keys get permission on key vault 'kv1;") {
		t.Errorf("message %q", fe.Detail)
	}
	f.Grant(t, service, rbac.KeyVaultAdministrator, v.Scope())
	_, err = f.Vaults.Key(t.Context(), service, "kv1", "k", "")
	wantReason(t, err, fault.AccessPolicyDenied)
	if all, _, err := f.Vaults.Keys(t.Context(), member, "kv1", vault.Page{}); err != nil || len(all) != 1 {
		t.Errorf("list by a group's policy: %v", err)
	}
	_, err = f.Vaults.Key(t.Context(), member, "kv1", "k", "")
	wantReason(t, err, fault.AccessPolicyDenied)
	_, err = f.Vaults.Key(t.Context(), user, "kv1", "k", "")
	wantReason(t, err, fault.AccessPolicyDenied)
	user.Application = strings.ToUpper(vaulttest.ID(90))
	if _, err := f.Vaults.Key(t.Context(), user, "kv1", "k", ""); err != nil {
		t.Errorf("a user through the policy's application: %v", err)
	}
	foreign := f.Officer
	foreign.Tenant = vaulttest.OtherTenant
	_, err = f.Vaults.Key(t.Context(), foreign, "kv1", "k", "")
	wantReason(t, err, fault.Denied)

	// "all" is not purge.
	if _, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	wantReason(t, f.Vaults.PurgeKey(t.Context(), f.Officer, "kv1", "k"), fault.AccessPolicyDenied)
	if e := f.Entries(t, "KeyPurge"); e[0].Outcome != "denied" || e[0].Reason != fault.AccessPolicyDenied {
		t.Errorf("recorded %+v", e[0])
	}
}

// Whoever's rights a change concerns is told, even if he can read nothing any more.
func TestAccessPolicyChanges(t *testing.T) {
	f := vaulttest.New(t)
	service, other, stranger := vaulttest.Caller(2), vaulttest.Caller(3), vaulttest.Caller(9)
	v := policyVault(t, f, policy(f.Officer, "all"), policy(service, "get", "unwrapKey"), policy(other, "get"))
	f.Key(t, "kv1", "k")
	f.Grant(t, other, rbac.KeyVaultReader, v.Scope())
	mine, others, nobody := follow(t, f, service), follow(t, f, other), follow(t, f, stranger)
	change := func(how vault.PolicyChange, p vault.AccessPolicy) {
		t.Helper()
		if _, err := f.Vaults.ChangePolicies(t.Context(), f.Officer, vaulttest.Path("kv1"), how, []vault.AccessPolicy{p}); err != nil {
			t.Fatal(err)
		}
	}
	change(vault.RemovePolicies, policy(service, "unwrapkey", "get"))
	mine.want(t, " accessPolicyChanged")
	others.want(t, " vaultUpdated", " accessPolicyChanged")
	_, err := f.Vaults.Key(t.Context(), service, "kv1", "k", "")
	wantReason(t, err, fault.AccessPolicyDenied)
	change(vault.AddPolicies, policy(service, "get"))
	mine.want(t, " vaultUpdated", " accessPolicyChanged", " accessPolicyChanged")
	change(vault.ReplacePolicies, policy(service, "list"))
	if v, err := f.Vaults.Vault(t.Context(), f.Officer, vaulttest.Path("kv1")); err != nil || !slices.Equal(v.AccessPolicies[2].Keys, []string{"list"}) {
		t.Errorf("replaced: %+v, %v", v.AccessPolicies, err)
	}
	mine.next(t, 0)
	others.next(t, 0)

	patch(t, f, vault.Spec{RBAC: new(true)})
	mine.want(t, " accessPolicyChanged") // he holds no role, and reads nothing now
	others.want(t, " vaultUpdated", " accessPolicyChanged", " accessPolicyChanged")
	if _, err := f.Vaults.Key(t.Context(), other, "kv1", "k", ""); err != nil {
		t.Errorf("the role after the switch: %v", err)
	}
	patch(t, f, vault.Spec{Tags: &map[string]string{"a": "b"}})
	mine.want(t)
	others.want(t, " vaultUpdated")
	nobody.want(t)
}

func from(c identity.Caller, addr string) identity.Caller {
	c.Address = netip.MustParseAddr(addr)
	return c
}

func TestNetworkRules(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	platform := vaulttest.Caller(2)
	platform.Application = strings.ToUpper(identity.FabricPlatformCMK)
	f.Grant(t, platform, rbac.KeyVaultCryptoServiceEncryption, vault.Subscription{ID: vaulttest.Subscription}.Scope())
	rules := func(closed, deny, bypass bool, ranges ...string) vault.Spec {
		n := vault.Network{Deny: deny, Bypass: bypass}
		for _, r := range ranges {
			p, err := vault.ParseIPRule(r)
			if err != nil {
				t.Fatal(err)
			}
			n.Allowed = append(n.Allowed, p)
		}
		return vault.Spec{Network: &n, PublicAccess: new(!closed)}
	}
	delegated := platform
	delegated.Type = identity.User
	for name, c := range map[string]struct {
		spec   vault.Spec
		caller identity.Caller
		want   fault.Reason
	}{
		"open":                        {rules(false, false, true), from(f.Officer, "203.0.113.1"), ""},
		"open with rules":             {rules(false, false, true, "192.0.2.0/24"), from(f.Officer, "203.0.113.1"), ""},
		"inside":                      {rules(false, true, true, "198.51.100.7", "192.0.2.0/24"), from(f.Officer, "192.0.2.255"), ""},
		"one address":                 {rules(false, true, true, "198.51.100.7", "192.0.2.0/24"), from(f.Officer, "198.51.100.7"), ""},
		"mapped":                      {rules(false, true, true, "192.0.2.0/24"), from(f.Officer, "::ffff:192.0.2.9"), ""},
		"IPv6":                        {rules(false, true, true, "2001:db8::/32"), from(f.Officer, "2001:db8:1::9"), ""},
		"outside":                     {rules(false, true, true, "192.0.2.0/24"), from(f.Officer, "192.0.3.0"), fault.FirewallDenied},
		"no address":                  {rules(false, true, true, "0.0.0.0/0", "::/0"), f.Officer, fault.FirewallDenied},
		"trusted":                     {rules(false, true, true), from(platform, "203.0.113.1"), ""},
		"trusted but a user's":        {rules(false, true, true), from(delegated, "203.0.113.1"), fault.FirewallDenied},
		"trusted without bypass":      {rules(false, true, false), from(platform, "203.0.113.1"), fault.FirewallDenied},
		"closed":                      {rules(true, false, false), from(f.Officer, "203.0.113.1"), fault.ConnectionDenied},
		"closed, inside":              {rules(true, true, true, "0.0.0.0/0"), from(f.Officer, "203.0.113.1"), fault.ConnectionDenied},
		"closed, trusted":             {rules(true, true, true), from(platform, "203.0.113.1"), ""},
		"closed, trusted, no bypass":  {rules(true, true, false), from(platform, "203.0.113.1"), fault.ConnectionDenied},
		"outside and without a right": {rules(false, true, true), from(vaulttest.Caller(9), "203.0.113.1"), fault.FirewallDenied},
	} {
		t.Run(name, func(t *testing.T) {
			patch(t, f, c.spec)
			_, err := f.Vaults.Key(t.Context(), c.caller, "kv1", "k", "")
			wantReason(t, err, c.want)
		})
	}
	patch(t, f, vault.Spec{TrustedServices: &[]string{}, Network: &vault.Network{Deny: true, Bypass: true}, PublicAccess: new(true)})
	_, err := f.Vaults.Key(t.Context(), from(platform, "203.0.113.1"), "kv1", "k", "")
	wantReason(t, err, fault.FirewallDenied)
	patch(t, f, vault.Spec{TrustedServices: &[]string{strings.ToUpper(string(delegated.Principal))}})
	if _, err := f.Vaults.Key(t.Context(), from(delegated, "203.0.113.1"), "kv1", "k", ""); err != nil {
		t.Errorf("trusted by object id: %v", err)
	}
	// The vault's management stays in reach, and says so in the log.
	if e := f.Entries(t, "KeyGet"); e[len(e)-2].Outcome != "denied" || e[len(e)-2].Address != "203.0.113.1" {
		t.Errorf("recorded %+v", e[len(e)-2])
	}
}

// Who is shut out hears of it, and of no key from then on.
func TestNetworkRulesOnTheFeed(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	service := from(vaulttest.Caller(2), "203.0.113.1")
	f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.Scope())
	r := follow(t, f, service)
	patch(t, f, vault.Spec{Network: &vault.Network{Deny: true}})
	r.want(t, " vaultUpdated", " networkRulesChanged")
	officer := f.Officer
	patch(t, f, vault.Spec{TrustedServices: &[]string{string(officer.Principal)}, Network: &vault.Network{Deny: true, Bypass: true}})
	r.next(t, 0)
	f.Key(t, "kv1", "secret")
	r.want(t)
	patch(t, f, vault.Spec{Network: &vault.Network{Bypass: true}})
	r.want(t, " vaultUpdated", " networkRulesChanged")
}

func FuzzParseIPRule(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "192.0.2.0/24", "::1/128", "::ffff:1.2.3.4", "1.2.3.4/33", "fe80::1%eth0", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := vault.ParseIPRule(s)
		if err != nil {
			return
		}
		if again, err := vault.ParseIPRule(p.String()); err != nil || again != p || !p.Contains(p.Addr()) {
			t.Fatalf("%q: %v, %v", s, p, again)
		}
	})
}
