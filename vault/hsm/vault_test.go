package hsm_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/softhsmtest"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/hsm"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// A vault's key on a token through its life: made, used, rotated, revoked, restored,
// backed up, purged; and nothing of it is left on the token then.
func TestLife(t *testing.T) {
	token := softhsmtest.New(t)
	running := softhsmtest.Start(t, token)
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Vault(t, "kv2")
	vaults := vault.New(vault.Config{
		Store: f.Store, Audit: f.Log, Keys: f.Keys, HSM: hsm.New("instance", envelope.NewKey(), running.Client(t)),
		Roles: rbac.VaultRoles, Now: f.Now, Instance: "instance", Backups: envelope.NewKey(),
	})
	defer vaults.Close()
	for _, spec := range []vault.KeySpec{{Type: vault.RSAHSM}, {Type: vault.ECHSM, Curve: vault.P256K}} {
		t.Run(string(spec.Type), func(t *testing.T) {
			first, err := vaults.CreateKey(t.Context(), f.Officer, "kv1", "k", spec)
			if err != nil || first.Version.Platform != hsm.Platform {
				t.Fatalf("%+v, %v", first.Version, err)
			}
			make1, use1 := vault.WrapKey, vault.UnwrapKey
			in := vault.Input{Algorithm: vault.RSAOAEP256, Value: share}
			if spec.Type == vault.ECHSM {
				make1, use1, in.Algorithm = vault.Sign, vault.Verify, vault.ES256K
			}
			do := func(name vault.Name, v vault.Version, op vault.Operation, in vault.Input) (vault.Output, error) {
				_, out, err := vaults.Use(t.Context(), f.Officer, name, "k", v, op, in)
				return out, err
			}
			made, err := do("kv1", "", make1, in)
			if err != nil {
				t.Fatal(err)
			}
			back := vault.Input{Algorithm: in.Algorithm, Value: made.Value}
			if use1 == vault.Verify {
				back.Value, back.Signature = share, made.Value
			}
			good := func(name vault.Name) {
				t.Helper()
				out, err := do(name, first.Version.Version, use1, back)
				if err != nil || !out.Valid && !bytes.Equal(out.Value, share) {
					t.Errorf("%+v, %v", out, err)
				}
			}
			good("kv1")
			if second, err := vaults.RotateKey(t.Context(), f.Officer, "kv1", "k"); err != nil || second.Version.Version == first.Version.Version {
				t.Fatalf("%+v, %v", second.Version, err)
			}
			good("kv1")

			enable := func(on bool) {
				t.Helper()
				if _, err := vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", first.Version.Version, vault.KeyUpdate{Enabled: &on}); err != nil {
					t.Fatal(err)
				}
			}
			private := use1
			if private == vault.Verify {
				private = vault.Sign
			}
			enable(false)
			if _, err := do("kv1", first.Version.Version, private, back); fault.ReasonOf(err) != fault.KeyDisabled {
				t.Errorf("disabled: %v", err)
			}
			enable(true)
			good("kv1")

			// A copy in another vault outlives the original.
			backup, err := vaults.BackupKey(t.Context(), f.Officer, "kv1", "k")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := vaults.RestoreKey(t.Context(), f.Officer, "kv2", backup); err != nil {
				t.Fatal(err)
			}
			purge := func(name vault.Name) {
				t.Helper()
				if _, err := vaults.DeleteKey(t.Context(), f.Officer, name, "k"); err != nil {
					t.Fatal(err)
				}
				if err := vaults.PurgeKey(t.Context(), f.Officer, name, "k"); err != nil {
					t.Fatal(err)
				}
				f.Advance(time.Second)
				if err := vaults.Sweep(t.Context(), f.Now()); err != nil {
					t.Fatal(err)
				}
			}
			purge("kv1")
			good("kv2")
			if _, err := vaults.RestoreKey(t.Context(), f.Officer, "kv1", backup); fault.ReasonOf(err) != fault.Integrity {
				t.Errorf("restored what the token has destroyed: %v", err)
			}
			purge("kv2")
			if n := objects(t, token.Dir); n != 0 {
				t.Errorf("the token still holds %d objects", n)
			}
		})
	}
}
