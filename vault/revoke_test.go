package vault_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// No unwrap that begins after a revocation returned succeeds, however many are
// under way, and each comes back after the restoration.
func TestRevocationIsFinal(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	service := vaulttest.Caller(2)
	role := f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))
	_, wrapped, err := wrap(t, f, service, "")
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	update := func(enabled bool) func() {
		return func() {
			_, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", vault.KeyUpdate{Enabled: &enabled})
			must(err)
		}
	}
	for _, way := range []struct {
		name            string
		revoke, restore func()
	}{
		{"disable", update(false), update(true)},
		{"delete", func() {
			_, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "k")
			must(err)
		}, func() {
			_, err := f.Vaults.RecoverKey(t.Context(), f.Officer, "kv1", "k")
			must(err)
		}},
		{"role", func() { f.Ungrant(t, role) }, func() {
			role = f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))
		}},
		{"vault", func() {
			_, err := f.Vaults.DeleteVault(t.Context(), f.Officer, vaulttest.Path("kv1"))
			must(err)
		}, func() {
			_, _, err := f.Vaults.PutVault(t.Context(), f.Officer, vaulttest.Path("kv1"), vault.Spec{Recover: true})
			must(err)
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			var revoked, stop atomic.Bool
			var yes, no, late atomic.Int64
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					for !stop.Load() {
						after := revoked.Load() // before the call begins
						_, err := unwrap(t.Context(), f, service, "", wrapped)
						switch {
						case err == nil && after:
							late.Add(1)
						case err == nil:
							yes.Add(1)
						default:
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
				t.Errorf("%d unwraps succeeded after the revocation", late.Load())
			}
			way.restore()
			if _, err := unwrap(t.Context(), f, service, "", wrapped); err != nil {
				t.Errorf("after the restoration: %v", err)
			}
		})
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
