package vault_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// No unwrap that begins after a revocation returned succeeds, however many are under
// way, and each comes back after the restoration: where the custodian works in the
// same process, and where it does so in another replica, of which this one hears
// nothing but through the database.
func TestRevocationIsFinal(t *testing.T) {
	for _, replica := range []bool{false, true} {
		t.Run(fmt.Sprintf("replica=%t", replica), func(t *testing.T) {
			f := vaulttest.New(t)
			users := f.Vaults
			if replica {
				users = vault.New(vault.Config{
					Store: f.Store, Audit: f.Log, Keys: f.Keys, HSM: f.Keys, Roles: rbac.VaultRoles, Limits: &vault.Limits{},
				})
				t.Cleanup(users.Close)
			}
			revocations(t, f, users)
		})
	}
}

// revocations revokes what users serves in every way that there is.
func revocations(t *testing.T, f *vaulttest.Fixture, users *vault.Vaults) {
	service := vaulttest.Caller(2)
	service.Groups = []identity.PrincipalID{vaulttest.Caller(3).Principal}
	service.Address = netip.MustParseAddr("192.0.2.7")
	f.Officer.Address = service.Address
	group := vaulttest.Caller(3)
	group.Type = identity.Group
	v := f.Vault(t, "kv1")
	role := f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))
	policy := []vault.AccessPolicy{{Tenant: string(vaulttest.Tenant), Object: string(service.Principal), Keys: []string{"wrapKey", "unwrapKey"}}}
	officer := vault.AccessPolicy{Tenant: string(vaulttest.Tenant), Object: string(f.Officer.Principal), Keys: []string{"all"}}
	f.Vault(t, "kv2", func(s *vault.Spec) { s.RBAC, s.AccessPolicies = new(false), &[]vault.AccessPolicy{policy[0], officer} })
	f.Vault(t, "kv3")
	wide := f.Grant(t, group, rbac.KeyVaultCryptoServiceEncryption, vault.Subscription{ID: vaulttest.Subscription}.Scope())
	managedHSM(t, f, "hsm1")
	local := func(id int, to identity.Caller) func() {
		return func() {
			_, _, err := f.Vaults.PutLocalRoleAssignment(t.Context(), f.Officer, "hsm1", "/keys", vault.Grant{
				ID: vaulttest.ID(id), Principal: to.Principal, PrincipalType: to.Type, Role: rbac.ManagedHSMCryptoServiceEncryption})
			must(t, err)
		}
	}
	local(901, service)()

	update := func(name vault.Name, enabled bool) func() {
		return func() {
			_, err := f.Vaults.UpdateKey(t.Context(), f.Officer, name, "k", "", vault.KeyUpdate{Enabled: &enabled})
			must(t, err)
		}
	}
	patch := func(name vault.Name, s vault.Spec) func() {
		return func() {
			_, err := f.Vaults.PatchVault(t.Context(), f.Officer, vaulttest.Path(name), s)
			must(t, err)
		}
	}
	operations := func(ops ...vault.Operation) func() {
		return func() {
			_, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", vault.KeyUpdate{Operations: &ops})
			must(t, err)
		}
	}
	for _, way := range []struct {
		name            string
		vault           vault.Name
		revoke, restore func()
	}{
		{"disable", "kv1", update("kv1", false), update("kv1", true)},
		{"operations", "kv1", operations(vault.WrapKey), operations(vault.WrapKey, vault.UnwrapKey)},
		{"delete", "kv1", func() {
			_, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "k")
			must(t, err)
		}, func() {
			_, err := f.Vaults.RecoverKey(t.Context(), f.Officer, "kv1", "k")
			must(t, err)
		}},
		{"network", "kv1", patch("kv1", vault.Spec{Network: &vault.Network{Deny: true}}),
			patch("kv1", vault.Spec{Network: &vault.Network{Deny: true, Allowed: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}})},
		{"closed", "kv1", patch("kv1", vault.Spec{PublicAccess: new(false)}), patch("kv1", vault.Spec{PublicAccess: new(true)})},
		{"policy", "kv2", patch("kv2", vault.Spec{AccessPolicies: &[]vault.AccessPolicy{officer}}),
			patch("kv2", vault.Spec{AccessPolicies: &[]vault.AccessPolicy{policy[0], officer}})},
		{"a group's role above", "kv3", func() { f.Ungrant(t, wide) }, func() {
			wide = f.Grant(t, group, rbac.KeyVaultCryptoServiceEncryption, vault.Subscription{ID: vaulttest.Subscription}.Scope())
		}},
		{"local role", "hsm1", func() {
			_, _, err := f.Vaults.DeleteLocalRoleAssignment(t.Context(), f.Officer, "hsm1", "/keys", vaulttest.ID(901))
			must(t, err)
		}, local(902, service)},
		{"role", "kv1", func() { f.Ungrant(t, wide); f.Ungrant(t, role) }, func() {
			role = f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))
		}},
		{"vault", "kv1", func() {
			_, err := f.Vaults.DeleteVault(t.Context(), f.Officer, vaulttest.Path("kv1"))
			must(t, err)
		}, func() {
			_, _, err := f.Vaults.PutVault(t.Context(), f.Officer, vaulttest.Path("kv1"), vault.Spec{Recover: true})
			must(t, err)
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			alg, by := vault.RSAOAEP256, f.Officer
			if _, err := f.Vaults.Key(t.Context(), f.Officer, way.vault, "k", ""); err != nil {
				spec := vault.KeySpec{Type: vault.RSA}
				if way.vault == "hsm1" {
					spec = vault.KeySpec{Type: vault.OctHSM}
				}
				_, err := f.Vaults.CreateKey(t.Context(), f.Officer, way.vault, "k", spec)
				must(t, err)
			}
			if way.vault == "hsm1" {
				alg, by = vault.A256KW, service
			}
			_, out, err := users.Use(t.Context(), by, way.vault, "k", "", vault.WrapKey, vault.Input{Algorithm: alg, Value: share})
			must(t, err)
			use := func(value []byte) error {
				_, _, err := users.Use(t.Context(), service, way.vault, "k", "", vault.UnwrapKey, vault.Input{Algorithm: alg, Value: value})
				return err
			}
			broken := slices.Clone(out.Value)
			broken[5] ^= 1
			if err := use(broken); fault.ReasonOf(err) != fault.InvalidArgument {
				t.Errorf("before, of a broken value: %v", err)
			}

			var revoked, stop atomic.Bool
			var yes, no, late atomic.Int64
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					for !stop.Load() {
						after := revoked.Load() // before the call begins
						value := out.Value
						if i == 0 {
							value = broken
						}
						switch err := use(value); {
						case (err == nil || fault.ReasonOf(err) == fault.InvalidArgument) && after: // nor does the key say anything else
							late.Add(1)
						case err == nil:
							yes.Add(1)
						case i > 0:
							no.Add(1)
						}
					}
				})
			}
			until := func(n *atomic.Int64, min int64) {
				for deadline := time.Now().Add(20 * time.Second); n.Load() < min; {
					if time.Now().After(deadline) {
						t.Error("nothing happens")
						return
					}
					time.Sleep(time.Millisecond)
				}
			}
			until(&yes, 30)
			way.revoke()
			revoked.Store(true)
			until(&no, 60)
			stop.Store(true)
			wg.Wait()
			if late.Load() != 0 {
				t.Errorf("%d unwraps were answered after the revocation", late.Load())
			}
			way.restore()
			if err := use(out.Value); err != nil {
				t.Errorf("after the restoration: %v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A revocation between the decision and the record discards the result: the
// narrowest case of the above, made to happen.
func TestRevokedDuringUse(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	_, wrapped, err := wrap(t, f, f.Officer, "")
	if err != nil {
		t.Fatal(err)
	}
	between := &hook{Keys: f.Keys}
	vaults := vault.New(vault.Config{Store: f.Store, Audit: f.Log, Keys: between, Roles: rbac.VaultRoles})
	use := func() ([]byte, error) {
		_, out, err := vaults.Use(t.Context(), f.Officer, "kv1", "k", "", vault.UnwrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: wrapped})
		return out.Value, err
	}
	between.during = func() {
		if _, err := f.Vaults.RotateKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
			t.Error(err)
		}
	}
	if _, err := use(); err != nil { // a change that revokes nothing
		t.Errorf("rotated meanwhile: %v", err)
	}
	b, err := f.Vaults.Key(t.Context(), f.Officer, "kv1", "k", "")
	if err != nil {
		t.Fatal(err)
	}
	_, wrapped, err = wrap(t, f, f.Officer, b.Version.Version)
	if err != nil {
		t.Fatal(err)
	}
	between.during = func() {
		if _, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
			t.Error(err)
		}
	}
	if plain, err := use(); err == nil || plain != nil {
		t.Errorf("deleted meanwhile: %v, %d bytes", err, len(plain))
	}
}

// A hook runs something while a private key is at work.
type hook struct {
	vault.Keys
	during func()
}

// Decrypt implements [vault.Keys].
func (h *hook) Decrypt(ctx context.Context, ref vault.Ref, m vault.Material, in vault.Input) (vault.Output, error) {
	out, err := h.Keys.Decrypt(ctx, ref, m, in)
	h.during()
	return out, err
}
