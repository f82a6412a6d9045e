package vault_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"fmt"
	"slices"
	"testing"
	"time"

	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// managedHSM makes a managed HSM of which the officer is administrator and user.
func managedHSM(t testing.TB, f *vaulttest.Fixture, name vault.Name) vault.Vault {
	t.Helper()
	p := vaulttest.Path(name)
	p.Flavour = vault.ManagedHSM
	v, _, err := f.Vaults.PutVault(t.Context(), f.Officer, p, vault.Spec{
		Location: new("westeurope"), Admins: &[]identity.PrincipalID{f.Officer.Principal},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, role := range []rbac.RoleID{rbac.ManagedHSMCryptoUser, rbac.ManagedHSMCryptoOfficer} {
		_, _, err := f.Vaults.PutLocalRoleAssignment(t.Context(), f.Officer, name, "/", vault.Grant{
			ID: vaulttest.ID(9000 + i), Principal: f.Officer.Principal, Role: role,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// Every key type does what its algorithms say, in either flavour.
func TestFamilies(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	managedHSM(t, f, "hsm1")
	digest := func(n int) []byte { return bytes.Repeat([]byte{7}, n) }
	n := 0
	for _, c := range []struct {
		spec vault.KeySpec
		ops  map[vault.Operation][]vault.Algorithm // Encrypt, Sign and WrapKey stand for their pairs
	}{
		{vault.KeySpec{Type: vault.RSA}, map[vault.Operation][]vault.Algorithm{
			vault.Encrypt: {vault.RSAOAEP, vault.RSAOAEP256}, vault.WrapKey: {vault.RSAOAEP, vault.RSAOAEP256},
			vault.Sign: {vault.RS256, vault.RS384, vault.RS512, vault.PS256, vault.PS384, vault.PS512},
		}},
		{vault.KeySpec{Type: vault.EC}, map[vault.Operation][]vault.Algorithm{vault.Sign: {vault.ES256}}},
		{vault.KeySpec{Type: vault.EC, Curve: vault.P256K}, map[vault.Operation][]vault.Algorithm{vault.Sign: {vault.ES256K}}},
		{vault.KeySpec{Type: vault.EC, Curve: vault.P384}, map[vault.Operation][]vault.Algorithm{vault.Sign: {vault.ES384}}},
		{vault.KeySpec{Type: vault.ECHSM, Curve: vault.P521}, map[vault.Operation][]vault.Algorithm{vault.Sign: {vault.ES512}}},
		{vault.KeySpec{Type: vault.Oct, Bits: 128}, map[vault.Operation][]vault.Algorithm{
			vault.Encrypt: {vault.A128GCM, vault.A128CBC, vault.A128CBCPAD}, vault.WrapKey: {vault.A128KW, vault.AESKeyWrap, vault.AESKeyWrapPad},
		}},
		{vault.KeySpec{Type: vault.Oct, Bits: 192}, map[vault.Operation][]vault.Algorithm{
			vault.Encrypt: {vault.A192GCM, vault.A192CBC, vault.A192CBCPAD}, vault.WrapKey: {vault.A192KW, vault.AESKeyWrap},
		}},
		{vault.KeySpec{Type: vault.OctHSM}, map[vault.Operation][]vault.Algorithm{
			vault.Encrypt: {vault.A256GCM, vault.A256CBC, vault.A256CBCPAD}, vault.WrapKey: {vault.A256KW, vault.AESKeyWrap, vault.AESKeyWrapPad},
			vault.Sign: {vault.HS256, vault.HS384, vault.HS512},
		}},
	} {
		for _, in := range []vault.Name{"kv1", "hsm1"} {
			n++
			name := vault.KeyName(fmt.Sprintf("k%d", n))
			spec := c.spec
			var ops []vault.Operation
			for op := range c.ops {
				ops = append(ops, op, map[vault.Operation]vault.Operation{vault.Encrypt: vault.Decrypt, vault.Sign: vault.Verify, vault.WrapKey: vault.UnwrapKey}[op])
			}
			spec.Operations = &ops
			b, err := f.Vaults.CreateKey(t.Context(), f.Officer, in, name, spec)
			if in == "kv1" && c.spec.Type.Family() == vault.Oct {
				wantReason(t, err, fault.NotSupported)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if in == "hsm1" && !b.Version.Type.HSM() || b.Version.Platform != vault.Software {
				t.Errorf("made %s on %s", b.Version.Type, b.Version.Platform)
			}
			use := func(op vault.Operation, i vault.Input) vault.Output {
				t.Helper()
				_, out, err := f.Vaults.Use(t.Context(), f.Officer, in, name, "", op, i)
				if err != nil {
					t.Errorf("%s of %s with %s: %v", op, b.Version.Type, i.Algorithm, err)
				}
				return out
			}
			for op, algs := range c.ops {
				for _, alg := range algs {
					i := vault.Input{Algorithm: alg, Value: digest(32)}
					m, _ := alg.Method()
					if op == vault.Sign {
						if m.Mode != vault.ModeHMAC {
							i.Value = digest(m.Hash.Size())
						}
						i.Signature = use(vault.Sign, i).Value
						if !use(vault.Verify, i).Valid {
							t.Errorf("%s does not verify", alg)
						}
						i.Signature[3] ^= 1
						if use(vault.Verify, i).Valid {
							t.Errorf("%s verifies anything", alg)
						}
						continue
					}
					if m.Mode == vault.ModeCBC || m.Mode == vault.ModeCBCPad {
						i.IV = digest(16)
					}
					out := use(op, i)
					back := map[vault.Operation]vault.Operation{vault.Encrypt: vault.Decrypt, vault.WrapKey: vault.UnwrapKey}[op]
					opened := use(back, vault.Input{Algorithm: alg, Value: out.Value, IV: out.IV, AAD: out.AAD, Tag: out.Tag})
					if !bytes.Equal(opened.Value, i.Value) {
						t.Errorf("%s with %s gives something else back", op, alg)
					}
				}
			}
			_, err = f.Vaults.RotateKey(t.Context(), f.Officer, in, name)
			if next, kerr := f.Vaults.Key(t.Context(), f.Officer, in, name, ""); err != nil || kerr != nil || next.Version.Curve != b.Version.Curve || next.Version.Bits != b.Version.Bits {
				t.Errorf("rotate %s: %v", b.Version.Type, err)
			}
		}
	}
}

// A vault without an HSM makes no -HSM keys, and RSA1_5 works only where it is
// switched on.
func TestSwitches(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	soft := vault.New(vault.Config{Store: f.Store, Audit: f.Log, Keys: f.Keys, Roles: rbac.VaultRoles})
	_, err := soft.CreateKey(t.Context(), f.Officer, "kv1", "k", vault.KeySpec{Type: vault.RSAHSM})
	wantReason(t, err, fault.NotSupported)

	f.Key(t, "kv1", "k")
	in := vault.Input{Algorithm: vault.RSA15, Value: share}
	_, _, err = f.Vaults.Use(t.Context(), f.Officer, "kv1", "k", "", vault.WrapKey, in)
	wantReason(t, err, fault.NotSupported)
	_, err = f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", vault.KeyUpdate{Tags: &map[string]string{vault.TagRSA15: "allowed"}})
	if err != nil {
		t.Fatal(err)
	}
	_, out, err := f.Vaults.Use(t.Context(), f.Officer, "kv1", "k", "", vault.WrapKey, in)
	if err != nil {
		t.Fatal(err)
	}
	_, back, err := f.Vaults.Use(t.Context(), f.Officer, "kv1", "k", "", vault.UnwrapKey, vault.Input{Algorithm: vault.RSA15, Value: out.Value})
	if err != nil || !bytes.Equal(back.Value, share) {
		t.Errorf("RSA1_5: %v", err)
	}
	out.Value[100] ^= 1 // no oracle: another answer, and no error
	_, other, err := f.Vaults.Use(t.Context(), f.Officer, "kv1", "k", "", vault.UnwrapKey, vault.Input{Algorithm: vault.RSA15, Value: out.Value})
	if err != nil || bytes.Equal(other.Value, share) {
		t.Errorf("RSA1_5, damaged: %v", err)
	}
}

func TestImport(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := vault.MarshalPrivate(ec)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Vaults.ImportKey(t.Context(), f.Officer, "kv1", "plain", vault.ImportSpec{Type: vault.EC, Private: pkcs8})
	if err != nil || b.Version.Curve != vault.P384 {
		t.Fatalf("%v, %+v", err, b.Version)
	}
	for name, spec := range map[string]vault.ImportSpec{
		"another type": {Type: vault.RSA, Private: pkcs8},
		"damaged":      {Type: vault.EC, Private: pkcs8[:len(pkcs8)-1]},
		"for imports":  {Type: vault.RSAHSM, Private: pkcs8, KeyUpdate: vault.KeyUpdate{Operations: &[]vault.Operation{vault.Import}}},
	} {
		_, err := f.Vaults.ImportKey(t.Context(), f.Officer, "kv1", "bad", spec)
		if fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Wrapped, as an HSM vendor's tool does it.
	kek, err := f.Vaults.CreateKey(t.Context(), f.Officer, "kv1", "kek", vault.KeySpec{
		Type: vault.RSAHSM, KeyUpdate: vault.KeyUpdate{Operations: &[]vault.Operation{vault.Import}},
	})
	if err != nil {
		t.Fatal(err)
	}
	public, err := vault.ParsePublic(kek.Version.Public)
	if err != nil {
		t.Fatal(err)
	}
	aes := make([]byte, 32)
	rand.Read(aes)
	head, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), aes, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := kwp.NewKWP(aes)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := w.Wrap(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	spec := vault.ImportSpec{Type: vault.ECHSM, Wrapped: &vault.WrappedSpec{Algorithm: vault.RSAAESKeyWrapSHA1, KEK: "kek", Value: append(head, tail...)}}
	wrapped, err := f.Vaults.ImportKey(t.Context(), f.Officer, "kv1", "wrapped", spec)
	if err != nil || !bytes.Equal(wrapped.Version.Public, b.Version.Public) {
		t.Fatalf("wrapped: %v", err)
	}
	spec.Wrapped.KEK = "plain" // which may not
	_, err = f.Vaults.ImportKey(t.Context(), f.Officer, "kv1", "wrapped", spec)
	wantReason(t, err, fault.KeyOperationForbidden)
	spec.Wrapped.KEK = "kek"
	spec.Wrapped.Value[300] ^= 1
	_, err = f.Vaults.ImportKey(t.Context(), f.Officer, "kv1", "wrapped", spec)
	wantReason(t, err, fault.InvalidArgument)
	_, _, err = f.Vaults.Use(t.Context(), f.Officer, "kv1", "kek", "", vault.UnwrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: head})
	wantReason(t, err, fault.KeyOperationForbidden)
}

func TestBackup(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Vault(t, "kv2")
	managedHSM(t, f, "hsm1")
	first := f.Key(t, "kv1", "k")
	_, wrapped, err := wrap(t, f, f.Officer, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Vaults.RotateKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	sealed, err := f.Vaults.BackupKey(t.Context(), f.Officer, "kv1", "k")
	if err != nil {
		t.Fatal(err)
	}
	restore := func(in vault.Name, b []byte) error {
		_, err := f.Vaults.RestoreKey(t.Context(), f.Officer, in, b)
		return err
	}
	wantReason(t, restore("kv1", sealed), fault.Conflict)
	if _, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	wantReason(t, restore("kv1", sealed), fault.KeyDeleted)
	if err := f.Vaults.PurgeKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	damaged := slices.Clone(sealed)
	damaged[len(damaged)/2] ^= 1
	wantReason(t, restore("kv1", damaged), fault.InvalidArgument)
	wantReason(t, restore("hsm1", sealed), fault.InvalidArgument)
	for _, in := range []vault.Name{"kv1", "kv2"} {
		if err := restore(in, sealed); err != nil {
			t.Fatal(err)
		}
	}
	plain, err := unwrap(t.Context(), f, f.Officer, first.Version.Version, wrapped)
	if err != nil || !bytes.Equal(plain, share) {
		t.Errorf("after the restore: %v", err)
	}
	_, err = f.Vaults.RestoreKey(t.Context(), vaulttest.Caller(9), "kv2", sealed)
	wantReason(t, err, fault.Denied)
}

// A policy makes one version at each time that is due, and tells of expiries once.
func TestRotationPolicy(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	const day = 24 * time.Hour
	for name, p := range map[string]vault.RotationPolicy{
		"short life":     {Expiry: "P27D"},
		"early":          {Rotate: &vault.Trigger{AfterCreate: "P6D"}},
		"late":           {Rotate: &vault.Trigger{AfterCreate: "P85D"}, Expiry: "P90D"},
		"no expiry":      {Rotate: &vault.Trigger{BeforeExpiry: "P30D"}},
		"both":           {Rotate: &vault.Trigger{BeforeExpiry: "P30D", AfterCreate: "P30D"}, Expiry: "P90D"},
		"notify created": {Notify: &vault.Trigger{AfterCreate: "P30D"}},
	} {
		_, _, err := f.Vaults.SetKeyRotationPolicy(t.Context(), f.Officer, "kv1", "k", p)
		if fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, p, err := f.Vaults.SetKeyRotationPolicy(t.Context(), f.Officer, "kv1", "k", vault.RotationPolicy{
		Rotate: &vault.Trigger{AfterCreate: "P60D"}, Expiry: "P90D",
	})
	if err != nil || p.Notify.BeforeExpiry != "P30D" || p.Created.IsZero() {
		t.Fatalf("%v, %+v", err, p)
	}
	versions := func() int {
		t.Helper()
		for range 2 { // the second finds nothing to do
			if err := f.Vaults.Sweep(t.Context(), f.Now()); err != nil {
				t.Fatal(err)
			}
		}
		all, _, err := f.Vaults.KeyVersions(t.Context(), f.Officer, "kv1", "k", vault.Page{})
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	for i, step := range []struct {
		ahead time.Duration
		want  int
	}{{59 * day, 1}, {2 * day, 2}, {1 * day, 2}, {60 * day, 3}} {
		f.Advance(step.ahead)
		if got := versions(); got != step.want {
			t.Errorf("step %d: %d versions, want %d", i, got, step.want)
		}
	}
	b, err := f.Vaults.Key(t.Context(), f.Officer, "kv1", "k", "")
	if err != nil || b.Version.Expires.Sub(b.Version.Created).Round(time.Hour) != 90*day {
		t.Errorf("%v, expires %s after %s", err, b.Version.Expires, b.Version.Created)
	}
	// A disabled key is not brought back to life.
	if _, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", vault.KeyUpdate{Enabled: new(false)}); err != nil {
		t.Fatal(err)
	}
	f.Advance(61 * day) // its near expiry has come, too
	if got := versions(); got != 3 {
		t.Errorf("a disabled key was rotated: %d versions", got)
	}
	f.Advance(30 * day)
	if versions(); len(f.Entries(t, "KeyNearExpiryEventGridNotification")) != 1 || len(f.Entries(t, "KeyExpiredEventGridNotification")) != 1 {
		t.Errorf("told %d and %d times", len(f.Entries(t, "KeyNearExpiryEventGridNotification")), len(f.Entries(t, "KeyExpiredEventGridNotification")))
	}
}

// What a managed HSM's keys are reached by is its own roles, and nothing else.
func TestLocalRoles(t *testing.T) {
	f := vaulttest.New(t)
	v := managedHSM(t, f, "hsm1")
	b, err := f.Vaults.CreateKey(t.Context(), f.Officer, "hsm1", "k", vault.KeySpec{Type: vault.Oct})
	if err != nil || b.Version.Type != vault.OctHSM {
		t.Fatalf("%v, %s", err, b.Version.Type)
	}
	other := vaulttest.Caller(2)
	f.Grant(t, other, rbac.KeyVaultAdministrator, vault.Subscription{ID: vaulttest.Subscription}.Scope())
	use := func(c identity.Caller) error {
		_, _, err := f.Vaults.Use(t.Context(), c, "hsm1", "k", "", vault.WrapKey, vault.Input{Algorithm: vault.A256KW, Value: share})
		return err
	}
	wantReason(t, use(other), fault.Denied)
	_, as, err := f.Vaults.PutLocalRoleAssignment(t.Context(), f.Officer, "hsm1", "/keys/k", vault.Grant{
		ID: vaulttest.ID(9100), Principal: other.Principal, Role: rbac.ManagedHSMCryptoServiceEncryption,
	})
	if err != nil || v.LocalScope(as) != "/keys/k" {
		t.Fatalf("%v, %s", err, v.LocalScope(as))
	}
	wantReason(t, use(other), "")
	_, _, err = f.Vaults.PutLocalRoleAssignment(t.Context(), other, "hsm1", "/", vault.Grant{
		ID: vaulttest.ID(9101), Principal: other.Principal, Role: rbac.ManagedHSMAdministrator,
	})
	wantReason(t, err, fault.Denied)
	// Resource Manager neither shows nor gives nor takes them.
	_, err = f.Vaults.DeleteRoleAssignment(t.Context(), f.Officer, as.Scope, as.ID)
	wantReason(t, err, fault.RoleAssignmentNotFound)
	if all, err := f.Vaults.RoleAssignments(t.Context(), f.Officer, v.Scope(), true); err != nil || slices.ContainsFunc(all, func(a rbac.Assignment) bool { return a.ID == as.ID }) {
		t.Errorf("Resource Manager shows it: %v", err)
	}
	if _, _, err = f.Vaults.DeleteLocalRoleAssignment(t.Context(), f.Officer, "hsm1", "/keys/k", as.ID); err != nil {
		t.Fatal(err)
	}
	wantReason(t, use(other), fault.Denied)
	if r, err := f.Vaults.RandomBytes(t.Context(), f.Officer, "hsm1", 128); err != nil || len(r) != 128 {
		t.Errorf("random: %v", err)
	}
	_, err = f.Vaults.RandomBytes(t.Context(), f.Officer, "hsm1", 129)
	wantReason(t, err, fault.InvalidArgument)
}

func TestUsage(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	b := f.Key(t, "kv1", "k")
	service := vaulttest.Caller(2)
	f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.Scope())
	for range 3 {
		if _, _, err := wrap(t, f, service, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := wrap(t, f, vaulttest.Caller(9), ""); err == nil {
		t.Fatal("a stranger wraps")
	}
	if _, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	all, err := f.Vaults.KeyUsage(t.Context(), f.Officer, "kv1", "k")
	if err != nil || len(all) != 1 || all[0].Principal != service.Principal || all[0].Count != 3 || all[0].Version != b.Version.Version ||
		all[0].Operation != vault.WrapKey || all[0].Last.Before(all[0].First) {
		t.Errorf("%v, %+v", err, all)
	}
}
