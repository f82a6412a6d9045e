package hsm_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
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
			if n := token.Objects(t); n != 0 {
				t.Errorf("the token still holds %d objects", n)
			}
		})
	}
}

// A key that was made on the token and not kept is destroyed some time later: never one
// that is being made, and none that was kept.
func TestKeyThatWasNotKept(t *testing.T) {
	token := softhsmtest.New(t)
	running := softhsmtest.Start(t, token)
	var refuse atomic.Bool
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	keys := hsm.New("instance", envelope.NewKey(), running.Client(t))
	slow := &slowKeys{Keys: keys}
	vaults := vault.New(vault.Config{
		Store: refusing{f.Store, &refuse}, Audit: f.Log, Keys: f.Keys, HSM: slow, Roles: rbac.VaultRoles, Now: f.Now, Instance: "instance", Backups: envelope.NewKey(),
	})
	defer vaults.Close()
	sweep := func(want int) {
		t.Helper()
		if err := vaults.Sweep(t.Context(), f.Now()); err != nil {
			t.Fatal(err)
		}
		if n := token.Objects(t); n != want {
			t.Errorf("%d objects on the token, want %d", n, want)
		}
	}
	make := func(name vault.KeyName) error {
		_, err := vaults.CreateKey(t.Context(), f.Officer, "kv1", name, vault.KeySpec{Type: vault.ECHSM})
		return err
	}
	if err := make("kept"); err != nil {
		t.Fatal(err)
	}
	slow.made = func() { refuse.Store(true) }
	if err := make("lost"); err == nil {
		t.Fatal("the commit did not fail")
	}
	refuse.Store(false)
	sweep(4) // for now: it might be kept yet
	f.Advance(16 * time.Minute)
	sweep(2)
	f.Advance(16 * time.Minute)
	sweep(2)

	// One that takes so long that its place was given up is not kept.
	slow.made = func() {
		f.Advance(16 * time.Minute)
		sweep(2)
	}
	if err := make("late"); fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("kept after it was given up: %v", err)
	}
	slow.made = func() {}

	// Nor is what a restore has copied and not kept.
	backup, err := vaults.BackupKey(t.Context(), f.Officer, "kv1", "kept")
	if err != nil {
		t.Fatal(err)
	}
	f.Vault(t, "kv2")
	slow.made = func() { refuse.Store(true) }
	if _, err := vaults.RestoreKey(t.Context(), f.Officer, "kv2", backup); err == nil {
		t.Fatal("the commit did not fail")
	}
	refuse.Store(false)
	f.Advance(16 * time.Minute)
	sweep(2)

	// In a restored store nobody knows what became of what was being made.
	slow.made = func() { refuse.Store(true) }
	if err := make("unknown"); err == nil {
		t.Fatal("the commit did not fail")
	}
	refuse.Store(false)
	if err := vault.ForgetReserved(t.Context(), f.Store); err != nil {
		t.Fatal(err)
	}
	f.Advance(16 * time.Minute)
	sweep(4)
	if _, _, err := vaults.Use(t.Context(), f.Officer, "kv1", "kept", "", vault.Sign, vault.Input{Algorithm: vault.ES256, Value: share}); err != nil {
		t.Error(err)
	}
}

// slowKeys say when a key is on the token.
type slowKeys struct {
	*hsm.Keys
	made func()
}

func (k *slowKeys) Generate(ctx context.Context, ref vault.Ref, s vault.Shape, place []byte) (vault.Material, error) {
	m, err := k.Keys.Generate(ctx, ref, s, place)
	if k.made != nil {
		k.made()
	}
	return m, err
}

func (k *slowKeys) Move(ctx context.Context, from, to vault.Ref, m vault.Material, under *envelope.Key, place []byte) (vault.Material, error) {
	m, err := k.Keys.Move(ctx, from, to, m, under, place)
	if k.made != nil {
		k.made()
	}
	return m, err
}

// A refusing store fails to commit while it is told to.
type refusing struct {
	vault.Store
	now *atomic.Bool
}

func (s refusing) Update(ctx context.Context, fn func(vault.Tx) error) error {
	if s.now.Load() {
		return errors.New("the disk is full")
	}
	return s.Store.Update(ctx, fn)
}
