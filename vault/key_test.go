package vault_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

var share = []byte("0123456789abcdef0123456789abcdef")

func wantReason(t *testing.T, err error, want fault.Reason) {
	t.Helper()
	if got := fault.ReasonOf(err); got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

// wrap and unwrap use key k of vault kv1.
func wrap(t *testing.T, f *vaulttest.Fixture, c identity.Caller, version vault.Version) (vault.Bundle, []byte, error) {
	t.Helper()
	b, out, err := f.Vaults.Use(t.Context(), c, "kv1", "k", version, vault.WrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: share})
	return b, out.Value, err
}

func unwrap(ctx context.Context, f *vaulttest.Fixture, c identity.Caller, version vault.Version, wrapped []byte) ([]byte, error) {
	_, out, err := f.Vaults.Use(ctx, c, "kv1", "k", version, vault.UnwrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: wrapped})
	return out.Value, err
}

// A key is made, rotated, disabled, deleted, recovered and purged.
func TestKeyLifecycle(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	service := vaulttest.Caller(2)
	grant := f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))
	first := f.Key(t, "kv1", "k")
	if first.Version.Bits != 2048 || first.Version.Ordinal != 1 || !first.Version.Enabled {
		t.Fatalf("unexpected first version: %+v", first.Version)
	}
	used, wrapped, err := wrap(t, f, service, "")
	if err != nil || used.Version.Version != first.Version.Version {
		t.Fatalf("wrap: %v, version %s", err, used.Version.Version)
	}
	second, err := f.Vaults.RotateKey(t.Context(), f.Officer, "kv1", "K") // case does not matter
	if err != nil || second.Key.ID != first.Key.ID || second.Version.Ordinal != 2 || second.Key.Name != "k" {
		t.Fatalf("rotate: %v, %+v", err, second.Key)
	}
	if plain, err := unwrap(t.Context(), f, service, first.Version.Version, wrapped); err != nil || !bytes.Equal(plain, share) {
		t.Fatalf("unwrap with the old version: %v", err)
	}
	third, err := f.Vaults.CreateKey(t.Context(), f.Officer, "kv1", "k", vault.KeySpec{Type: vault.RSA, Bits: 3072})
	if err != nil || third.Version.Ordinal != 3 || third.Version.Bits != 3072 {
		t.Fatalf("create over an existing name: %v, %+v", err, third.Version)
	}
	versions, next, err := f.Vaults.KeyVersions(t.Context(), f.Officer, "kv1", "k", vault.Page{Limit: 2})
	if err != nil || len(versions) != 2 || next != "2" {
		t.Fatalf("versions: %v, %d, next %q", err, len(versions), next)
	}
	versions, next, err = f.Vaults.KeyVersions(t.Context(), f.Officer, "kv1", "k", vault.Page{Limit: 2, After: next})
	if err != nil || len(versions) != 1 || next != "" || versions[0].Version.Version != third.Version.Version {
		t.Fatalf("versions, second page: %v, %d, next %q", err, len(versions), next)
	}

	// Disabled: wraps, does not unwrap.
	disabled, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", first.Version.Version, vault.KeyUpdate{Enabled: new(false)})
	if err != nil || disabled.Version.Enabled {
		t.Fatalf("disable: %v", err)
	}
	_, err = unwrap(t.Context(), f, service, first.Version.Version, wrapped)
	wantReason(t, err, fault.KeyDisabled)
	if _, _, err := wrap(t, f, service, first.Version.Version); err != nil {
		t.Fatalf("wrap with a disabled version: %v", err)
	}
	if _, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", first.Version.Version, vault.KeyUpdate{Enabled: new(true)}); err != nil {
		t.Fatal(err)
	}

	// Deleted: does nothing, its name is taken; recovered: as before, roles too.
	deleted, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "k")
	if err != nil || deleted.Key.PurgeAt.Sub(deleted.Key.Deleted) != 90*24*time.Hour {
		t.Fatalf("delete: %v, %+v", err, deleted.Key)
	}
	_, err = unwrap(t.Context(), f, service, first.Version.Version, wrapped)
	wantReason(t, err, fault.KeyNotFound)
	_, err = f.Vaults.Key(t.Context(), f.Officer, "kv1", "k", "")
	wantReason(t, err, fault.KeyNotFound)
	_, err = f.Vaults.CreateKey(t.Context(), f.Officer, "kv1", "k", vault.KeySpec{Type: vault.RSA})
	wantReason(t, err, fault.KeyDeleted)
	if all, _, err := f.Vaults.DeletedKeys(t.Context(), f.Officer, "kv1", vault.Page{}); err != nil || len(all) != 1 {
		t.Fatalf("deleted keys: %v, %d", err, len(all))
	}
	if _, err := f.Vaults.RecoverKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	if plain, err := unwrap(t.Context(), f, service, first.Version.Version, wrapped); err != nil || !bytes.Equal(plain, share) {
		t.Fatalf("unwrap after recovery: %v", err)
	}

	// Role removed.
	f.Ungrant(t, grant)
	_, err = unwrap(t.Context(), f, service, first.Version.Version, wrapped)
	wantReason(t, err, fault.Denied)

	// Purged: gone with its private parts, and the name starts afresh.
	if err := f.Vaults.PurgeKey(t.Context(), f.Officer, "kv1", "k"); fault.ReasonOf(err) != fault.DeletedKeyNotFound {
		t.Fatalf("purge of a live key: %v", err)
	}
	if _, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	if err := f.Vaults.PurgeKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	err = f.Store.View(t.Context(), func(tx vault.Tx) error {
		_, err := tx.VaultKeySealed(first.Key.ID, first.Version.Version)
		return err
	})
	wantReason(t, err, fault.KeyNotFound)
	if again := f.Key(t, "kv1", "k"); again.Key.ID == first.Key.ID || again.Version.Ordinal != 1 {
		t.Fatalf("a purged key came back: %+v", again.Key)
	}
}

// Who lacks a right learns nothing of what there is, and each refusal is recorded.
func TestDenied(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	stranger := vaulttest.Caller(9)
	foreign := stranger
	foreign.Tenant = vaulttest.OtherTenant
	twin := f.Officer // same object id, stated by another tenant's issuer
	twin.Tenant = vaulttest.OtherTenant
	reader := vaulttest.Caller(3)
	f.Grant(t, reader, rbac.KeyVaultReader, v.Scope())

	for name, c := range map[string]identity.Caller{"stranger": stranger, "foreign": foreign, "twin": twin, "nobody": {Tenant: vaulttest.Tenant}} {
		t.Run(name, func(t *testing.T) {
			said := map[string]bool{}
			for _, key := range []vault.KeyName{"k", "absent"} {
				_, err := f.Vaults.Key(t.Context(), c, "kv1", key, "")
				wantReason(t, err, fault.Denied)
				said[strings.ReplaceAll(err.Error(), "/keys/"+string(key), "/keys/NAME")] = true
				_, _, err = f.Vaults.Use(t.Context(), c, "kv1", key, "", vault.UnwrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: share})
				wantReason(t, err, fault.Denied)
				_, err = f.Vaults.DeleteKey(t.Context(), c, "kv1", key)
				wantReason(t, err, fault.Denied)
				_, err = f.Vaults.CreateKey(t.Context(), c, "kv1", key, vault.KeySpec{Type: vault.RSA})
				wantReason(t, err, fault.Denied)
			}
			if len(said) != 1 {
				t.Errorf("what is refused tells which keys there are: %v", said)
			}
			_, err := f.Vaults.Vault(t.Context(), c, vaulttest.Path("kv1"))
			if c.Tenant == vaulttest.Tenant {
				if name == "nobody" {
					wantReason(t, err, fault.SubscriptionNotFound)
				} else {
					wantReason(t, err, fault.Denied)
				}
			} else {
				wantReason(t, err, fault.SubscriptionNotFound)
				if _, err := f.Vaults.Key(t.Context(), c, "kv1", "k", ""); strings.Contains(err.Error(), vaulttest.Subscription) {
					t.Errorf("another tenant's caller learns where the vault lies: %v", err)
				}
			}
		})
	}
	if _, err := f.Vaults.Key(t.Context(), reader, "kv1", "k", ""); err != nil {
		t.Errorf("reader: %v", err)
	}
	_, _, err := wrap(t, f, reader, "")
	wantReason(t, err, fault.Denied)

	var denied int
	for _, e := range f.Entries(t, "KeyUnwrap") {
		if e.Outcome != audit.Denied || e.Reason != fault.Denied {
			t.Errorf("unexpected entry %+v", e)
		}
		denied++
	}
	if denied != 8 {
		t.Errorf("%d refused unwraps are recorded, want 8", denied)
	}
}

func TestEntryOfUse(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	b := f.Key(t, "kv1", "k")
	_, wrapped, err := wrap(t, f, f.Officer, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unwrap(t.Context(), f, f.Officer, "", wrapped); err != nil {
		t.Fatal(err)
	}
	entries := f.Entries(t, "KeyUnwrap")
	if len(entries) != 1 {
		t.Fatalf("%d entries", len(entries))
	}
	e := entries[0]
	if e.Outcome != audit.Allowed || e.Resource != string(v.KeyScope("k")) || e.Detail["version"] != string(b.Version.Version) ||
		e.Detail["vault"] != string(v.ID) || e.Detail["assignment"] == "" || e.Principal != string(f.Officer.Principal) ||
		e.Tenant != string(vaulttest.Tenant) || e.Request != f.Officer.Request {
		t.Errorf("entry %+v", e)
	}
}

// A use that cannot be recorded does not happen: the result does not leave.
func TestAuditFails(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	_, wrapped, err := wrap(t, f, f.Officer, "")
	if err != nil {
		t.Fatal(err)
	}
	broken := vault.New(vault.Config{Store: noAudit{f.Store}, Audit: noAudit{f.Store}, Keys: f.Keys, Roles: rbac.VaultRoles})
	_, result, err := broken.Use(t.Context(), f.Officer, "kv1", "k", "", vault.UnwrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: wrapped})
	wantReason(t, err, fault.AuditFailed)
	if result.Value != nil {
		t.Error("the result left without a record")
	}
	_, err = broken.Key(t.Context(), f.Officer, "kv1", "k", "")
	wantReason(t, err, fault.AuditFailed)
	_, err = broken.DeleteKey(t.Context(), f.Officer, "kv1", "k")
	wantReason(t, err, fault.AuditFailed)
	if _, err := f.Vaults.Key(t.Context(), f.Officer, "kv1", "k", ""); err != nil {
		t.Errorf("an unrecorded delete took effect: %v", err)
	}
}

// noAudit is a store and a recorder that can do everything but record.
type noAudit struct{ vault.Store }

type noAuditTx struct{ vault.Tx }

func (noAuditTx) AppendAudit(audit.Entry) error { return errors.New("no room") }

func (noAudit) Record(context.Context, audit.Entry) error { return errors.New("no room") }

func (s noAudit) Update(ctx context.Context, fn func(vault.Tx) error) error {
	return s.Store.Update(ctx, func(tx vault.Tx) error { return fn(noAuditTx{tx}) })
}

func TestBadUses(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	for name, c := range map[string]struct {
		op    vault.Operation
		alg   vault.Algorithm
		value []byte
		want  fault.Reason
	}{
		"RSA1_5 wrap":     {vault.WrapKey, vault.RSA15, share, fault.NotSupported},
		"RSA1_5 unwrap":   {vault.UnwrapKey, vault.RSA15, make([]byte, 256), fault.NotSupported},
		"another type's":  {vault.WrapKey, "A256KW", share, fault.InvalidArgument},
		"empty":           {vault.WrapKey, vault.RSAOAEP256, nil, fault.InvalidArgument},
		"too long":        {vault.WrapKey, vault.RSAOAEP256, make([]byte, 191), fault.InvalidArgument},
		"not a wrap":      {vault.UnwrapKey, vault.RSAOAEP256, make([]byte, 256), fault.InvalidArgument},
		"short":           {vault.UnwrapKey, vault.RSAOAEP256, []byte{1}, fault.InvalidArgument},
		"sign":            {vault.Sign, vault.RSAOAEP256, share, fault.InvalidArgument},
		"longest, SHA256": {vault.Encrypt, vault.RSAOAEP256, make([]byte, 190), ""},
		"longest, SHA-1":  {vault.Encrypt, vault.RSAOAEP, make([]byte, 214), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := f.Vaults.Use(t.Context(), f.Officer, "kv1", "k", "", c.op, vault.Input{Algorithm: c.alg, Value: c.value})
			wantReason(t, err, c.want)
		})
	}
}

func TestUpdateKey(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	later := f.Now().Add(time.Hour).Truncate(time.Second).UTC()
	tags := map[string]string{"a": "b"}
	b, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", vault.KeyUpdate{
		Operations: &[]vault.Operation{vault.WrapKey, vault.UnwrapKey, vault.WrapKey}, Expires: &later, Tags: &tags,
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.Version.Operations, []vault.Operation{vault.UnwrapKey, vault.WrapKey}) || !b.Version.Expires.Equal(later) || b.Version.Tags["a"] != "b" {
		t.Errorf("%+v", b.Version)
	}
	_, _, err = f.Vaults.Use(t.Context(), f.Officer, "kv1", "k", "", vault.Decrypt, vault.Input{Algorithm: vault.RSAOAEP256, Value: share})
	wantReason(t, err, fault.KeyOperationForbidden)
	r, err := f.Vaults.RotateKey(t.Context(), f.Officer, "kv1", "k")
	if err != nil || len(r.Version.Operations) != 2 || r.Version.Tags["a"] != "b" || !r.Version.Expires.IsZero() {
		t.Errorf("rotate: %v, %+v", err, r.Version)
	}
	many := map[string]string{}
	for i := range 16 {
		many[vaulttest.ID(i)] = ""
	}
	for name, u := range map[string]vault.KeyUpdate{
		"nbf after exp": {NotBefore: new(later.Add(time.Hour)), Expires: &later},
		"operation":     {Operations: &[]vault.Operation{"dance"}},
		"tags":          {Tags: &many},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", u)
			wantReason(t, err, fault.InvalidArgument)
			_, err = f.Vaults.CreateKey(t.Context(), f.Officer, "kv1", "new", vault.KeySpec{Type: vault.RSA, KeyUpdate: u})
			wantReason(t, err, fault.InvalidArgument)
		})
	}
	for _, s := range []vault.KeySpec{{Type: vault.RSA, Bits: 1024}, {Type: vault.RSA, Bits: 2049}} {
		_, err := f.Vaults.CreateKey(t.Context(), f.Officer, "kv1", "new", s)
		wantReason(t, err, fault.InvalidArgument)
	}
	_, err = f.Vaults.CreateKey(t.Context(), f.Officer, "kv1", "new", vault.KeySpec{Type: vault.Oct})
	wantReason(t, err, fault.NotSupported)
}

func TestPurgeProtectionAndSweep(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1", func(s *vault.Spec) { s.PurgeProtection, s.RetentionDays = new(true), new(7) })
	f.Key(t, "kv1", "k")
	f.Key(t, "kv1", "stays")
	for _, name := range []vault.KeyName{"k", "stays"} {
		if _, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", name); err != nil {
			t.Fatal(err)
		}
	}
	wantReason(t, f.Vaults.PurgeKey(t.Context(), f.Officer, "kv1", "k"), fault.PurgeProtected)
	if _, err := f.Vaults.RecoverKey(t.Context(), f.Officer, "kv1", "stays"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ahead time.Duration
		gone  bool
	}{{7*24*time.Hour - time.Minute, false}, {2 * time.Minute, true}} {
		f.Advance(c.ahead)
		if err := f.Vaults.Sweep(t.Context(), f.Now()); err != nil {
			t.Fatal(err)
		}
		_, err := f.Vaults.DeletedKey(t.Context(), f.Officer, "kv1", "k")
		if got := errors.Is(err, fault.DeletedKeyNotFound); got != c.gone {
			t.Fatalf("gone: %v, want %v (%v)", got, c.gone, err)
		}
	}
	if _, err := f.Vaults.Key(t.Context(), f.Officer, "kv1", "stays", ""); err != nil {
		t.Errorf("a recovered key was swept: %v", err)
	}
	last := f.Entries(t, "KeyPurge")
	if e := last[len(last)-1]; e.Outcome != audit.Allowed || e.Principal != "" || e.Detail["retention"] != "ended" {
		t.Errorf("entry of the sweep: %+v", e)
	}
}
