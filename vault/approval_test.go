package vault_test

import (
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// asked returns the id of the approval that an act was refused for.
func asked(t *testing.T, err error) string {
	t.Helper()
	wantReason(t, err, fault.ApprovalRequired)
	return fault.As(err).Subject
}

func decide(t *testing.T, f *vaulttest.Fixture, c identity.Caller, id string, agree bool) {
	t.Helper()
	if _, err := f.Vaults.DecideApproval(t.Context(), c, "kv1", id, agree); err != nil {
		t.Fatal(err)
	}
}

func TestApprovals(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1", func(s *vault.Spec) { s.RequireApproval = new(true) })
	f.Key(t, "kv1", "k")
	f.Key(t, "kv1", "l")
	second, other := vaulttest.Caller(2), vaulttest.Caller(3)
	f.Grant(t, second, rbac.KeyVaultCryptoOfficer, v.Scope())
	f.Grant(t, other, rbac.KeyVaultReader, v.Scope())
	remove := func(c identity.Caller, name vault.KeyName) error {
		_, err := f.Vaults.DeleteKey(t.Context(), c, "kv1", name)
		return err
	}

	id := asked(t, remove(f.Officer, "k"))
	if again := asked(t, remove(f.Officer, "k")); again != id {
		t.Errorf("asked again under another id: %s, %s", id, again)
	}
	_, err := f.Vaults.DecideApproval(t.Context(), f.Officer, "kv1", id, true)
	wantReason(t, err, fault.Denied)
	_, err = f.Vaults.DecideApproval(t.Context(), other, "kv1", id, true)
	wantReason(t, err, fault.Denied)
	_, err = f.Vaults.DecideApproval(t.Context(), second, "kv1", vaulttest.ID(404), true)
	wantReason(t, err, fault.ApprovalNotFound)
	foreign := second
	foreign.Tenant = vaulttest.OtherTenant
	_, err = f.Vaults.DecideApproval(t.Context(), foreign, "kv1", id, true)
	wantReason(t, err, fault.Denied)
	for _, c := range []struct {
		who  identity.Caller
		want int
	}{{f.Officer, 1}, {second, 1}, {other, 0}} {
		if all, err := f.Vaults.Approvals(t.Context(), c.who, "kv1"); err != nil || len(all) != c.want {
			t.Errorf("%s sees %d approvals: %v", c.who.Principal, len(all), err)
		}
	}

	// It holds for this act, of who asked, and once.
	decide(t, f, second, id, true)
	if got := asked(t, remove(f.Officer, "l")); got == id {
		t.Error("approved for another key")
	}
	if got := asked(t, remove(second, "k")); got == id {
		t.Error("approved for another principal")
	}
	if err := remove(f.Officer, "k"); err != nil {
		t.Fatal(err)
	}
	if e := f.Entries(t, "KeyDelete"); e[len(e)-1].Detail["approval"] != id || e[len(e)-1].Detail["approvedBy"] != string(second.Principal) {
		t.Errorf("recorded %+v", e[len(e)-1])
	}
	if _, err := f.Vaults.RecoverKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	next := asked(t, remove(f.Officer, "k"))
	if next == id {
		t.Error("approved twice")
	}

	// A rejection, a withdrawal and the end of its time stop it.
	decide(t, f, second, next, false)
	_, err = f.Vaults.DecideApproval(t.Context(), second, "kv1", next, true)
	wantReason(t, err, fault.Conflict)
	next = asked(t, remove(f.Officer, "k"))
	decide(t, f, second, next, true)
	decide(t, f, f.Officer, next, false)
	next = asked(t, remove(f.Officer, "k"))
	decide(t, f, second, next, true)
	f.Advance(rbac.ApprovalLife + time.Minute)
	if got := asked(t, remove(f.Officer, "k")); got == next {
		t.Error("approved after the end")
	}
	if e := f.Entries(t, "ApprovalApprove"); len(e) != 8 || e[len(e)-1].Outcome != "allowed" || e[len(e)-1].Detail["operation"] != "KeyDelete" {
		t.Errorf("recorded %d decisions, last %+v", len(e), e[len(e)-1])
	}

	// What revokes never waits.
	if _, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", vault.KeyUpdate{Enabled: new(false)}); err != nil {
		t.Errorf("disabling: %v", err)
	}
}

// Settings are not weakened by one person, and tightened by any.
func TestApprovalOfSettings(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1", func(s *vault.Spec) { s.RequireApproval = new(true) })
	second := vaulttest.Caller(2)
	f.Grant(t, second, rbac.Contributor, vault.Subscription{ID: vaulttest.Subscription}.Scope())
	set := func(c identity.Caller, s vault.Spec) error {
		_, err := f.Vaults.PatchVault(t.Context(), c, vaulttest.Path("kv1"), s)
		return err
	}
	lan, _ := vault.ParseIPRule("192.0.2.0/24")
	host, _ := vault.ParseIPRule("192.0.2.7")
	deny := func(bypass bool, allowed ...string) *vault.Network {
		n := &vault.Network{Deny: true, Bypass: bypass}
		for _, a := range allowed {
			p, _ := vault.ParseIPRule(a)
			n.Allowed = append(n.Allowed, p)
		}
		return n
	}
	for _, s := range []vault.Spec{ // each tightens
		{Network: deny(true, lan.String())}, {Network: deny(false, lan.String())}, {Network: deny(false, host.String())},
		{PublicAccess: new(false)}, {TrustedServices: &[]string{}}, {SeparateDuties: new(true)}, {Tags: &map[string]string{"a": "b"}},
	} {
		if err := set(f.Officer, s); err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
	}
	for name, s := range map[string]vault.Spec{
		"approval": {RequireApproval: new(false)}, "duties": {SeparateDuties: new(false)}, "model": {RBAC: new(false)},
		"public": {PublicAccess: new(true)}, "range": {Network: deny(false, lan.String())}, "bypass": {Network: deny(true, host.String())},
		"default": {Network: &vault.Network{}}, "trusted": {TrustedServices: &[]string{vaulttest.ID(7)}},
	} {
		asked(t, set(f.Officer, s))
		_ = name
	}
	id := asked(t, set(f.Officer, vault.Spec{Network: deny(false, lan.String())}))
	if got := asked(t, set(f.Officer, vault.Spec{Network: deny(false, "0.0.0.0/0")})); got == id {
		t.Error("approved for other rules")
	}
	// The network is closed, to the approver's eyes too: he decides from a trusted place.
	_, err := f.Vaults.DecideApproval(t.Context(), second, "kv1", id, true)
	wantReason(t, err, fault.ConnectionDenied)
}

// A vault is deleted and purged by two.
func TestApprovalOfDeletion(t *testing.T) {
	for _, flavour := range []vault.Flavour{vault.Standard, vault.ManagedHSM} {
		t.Run(string(flavour), func(t *testing.T) {
			f := vaulttest.New(t)
			approval := func(s *vault.Spec) { s.RequireApproval = new(true) }
			path := vaulttest.Path("kv1")
			path.Flavour = flavour
			purge := f.Vaults.PurgeVault
			var v vault.Vault
			if flavour == vault.ManagedHSM {
				v, purge = newHSM(t, f, "kv1", approval), f.Vaults.PurgeManagedHSM
			} else {
				v = f.Vault(t, "kv1", approval)
			}
			second, third := vaulttest.Caller(2), vaulttest.Caller(3)
			f.Grant(t, second, rbac.Contributor, vault.Subscription{ID: vaulttest.Subscription}.Scope())
			f.Grant(t, third, rbac.Contributor, v.Scope())
			remove := func() error {
				_, err := f.Vaults.DeleteVault(t.Context(), f.Officer, path)
				return err
			}
			decide(t, f, third, asked(t, remove()), true)
			if err := remove(); err != nil {
				t.Fatal(err)
			}
			id := asked(t, purge(t.Context(), f.Officer, vaulttest.Subscription, "kv1"))
			_, err := f.Vaults.DecideApproval(t.Context(), third, "kv1", id, true)
			wantReason(t, err, fault.Denied) // purging takes the right at the subscription
			decide(t, f, second, id, true)
			if err := purge(t.Context(), f.Officer, vaulttest.Subscription, "kv1"); err != nil {
				t.Fatal(err)
			}
		})
	}
}
