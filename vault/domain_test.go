package vault_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/securitydomain"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// officers makes n officers, each with a key of his own.
func officers(t *testing.T, n int) (all []securitydomain.Officer, certificates []*x509.Certificate) {
	t.Helper()
	for i := range n {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		all, certificates = append(all, securitydomain.Officer{Certificate: c, Key: key}), append(certificates, c)
	}
	return all, certificates
}

func inactive(c *vault.Config) { c.ActivateHSMs = false }

// newHSM makes a managed HSM of which the officer is administrator, and nothing more.
func newHSM(t *testing.T, f *vaulttest.Fixture, name vault.Name, change ...func(*vault.Spec)) vault.Vault {
	t.Helper()
	p := vaulttest.Path(name)
	p.Flavour = vault.ManagedHSM
	s := vault.Spec{Location: new("westeurope"), Admins: &[]identity.PrincipalID{f.Officer.Principal}}
	for _, fn := range change {
		fn(&s)
	}
	v, _, err := f.Vaults.PutVault(t.Context(), f.Officer, p, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func giveUser(t *testing.T, f *vaulttest.Fixture, name vault.Name, id int) error {
	t.Helper()
	_, _, err := f.Vaults.PutLocalRoleAssignment(t.Context(), f.Officer, name, "/", vault.Grant{
		ID: vaulttest.ID(id), Principal: f.Officer.Principal, Role: rbac.ManagedHSMCryptoUser,
	})
	return err
}

// A managed HSM does nothing before its security domain was taken out. The domain, and
// a backup made under it, bring a key into another installation, with another root.
func TestSecurityDomain(t *testing.T) {
	ctx := t.Context()
	f := vaulttest.New(t, inactive)
	newHSM(t, f, "hsm1")
	_, err := f.Vaults.CreateKey(ctx, f.Officer, "hsm1", "k", vault.KeySpec{Type: vault.Oct})
	wantReason(t, err, fault.Denied)
	wantReason(t, giveUser(t, f, "hsm1", 9200), fault.HSMNotActivated)

	who, certificates := officers(t, 3)
	_, err = f.Vaults.TakeSecurityDomain(ctx, vaulttest.Caller(5), "hsm1", certificates, 2)
	wantReason(t, err, fault.Denied)
	_, err = f.Vaults.TakeSecurityDomain(ctx, f.Officer, "hsm1", certificates[:2], 2)
	wantReason(t, err, fault.InvalidArgument)
	text, err := f.Vaults.TakeSecurityDomain(ctx, f.Officer, "hsm1", certificates, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Vaults.TransferKey(ctx, f.Officer, "hsm1"); fault.ReasonOf(err) != fault.Conflict {
		t.Errorf("the transfer key of an active HSM: %v", err)
	}
	v, d, err := f.Vaults.SecurityDomainOf(ctx, f.Officer, "hsm1")
	if err != nil || v.Activated.IsZero() || d.Quorum != 2 || len(d.Officers) != 3 || d.Sealed != nil {
		t.Errorf("%+v, %v", d, err)
	}
	if e := f.Entries(t, "SecurityDomainDownload"); len(e) != 3 || e[2].Detail["officers"] == "" || e[2].Detail["activated"] != "true" {
		t.Errorf("recorded %+v", e)
	}
	if err := giveUser(t, f, "hsm1", 9200); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		name vault.KeyName
		spec vault.KeySpec
	}{{"rsa", vault.KeySpec{Type: vault.RSA}}, {"oct", vault.KeySpec{Type: vault.Oct, Bits: 256}}} {
		if _, err := f.Vaults.CreateKey(ctx, f.Officer, "hsm1", s.name, s.spec); err != nil {
			t.Fatal(err)
		}
	}
	secret := bytes.Repeat([]byte{7}, 32)
	algorithms := map[vault.KeyName]vault.Algorithm{"rsa": vault.RSAOAEP256, "oct": vault.A256KW}
	wrapped, backups := map[vault.KeyName][]byte{}, map[vault.KeyName][]byte{}
	for name, alg := range algorithms {
		_, out, err := f.Vaults.Use(ctx, f.Officer, "hsm1", name, "", vault.WrapKey, vault.Input{Algorithm: alg, Value: secret})
		if err != nil {
			t.Fatal(err)
		}
		wrapped[name] = out.Value
		if backups[name], err = f.Vaults.BackupKey(ctx, f.Officer, "hsm1", name); err != nil {
			t.Fatal(err)
		}
	}

	// The installation is lost. What is left: the file, two private keys, the backups.
	g := vaulttest.New(t, inactive, func(c *vault.Config) { c.Instance = "another" })
	newHSM(t, g, "hsm2")
	plain, err := securitydomain.Open(text, who[1:])
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, g.Vaults.RestoreSecurityDomain(ctx, g.Officer, "hsm2", text), fault.Conflict)
	transfer, err := g.Vaults.TransferKey(ctx, g.Officer, "hsm2")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := g.Vaults.TransferKey(ctx, g.Officer, "hsm2"); err != nil || !again.Equal(transfer) {
		t.Errorf("another transfer key, or %v", err)
	}
	wantReason(t, g.Vaults.RestoreSecurityDomain(ctx, g.Officer, "hsm2", text), fault.InvalidArgument)
	blob, err := securitydomain.Wrap(plain, transfer)
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, g.Vaults.RestoreSecurityDomain(ctx, vaulttest.Caller(5), "hsm2", blob), fault.Denied)
	if err := g.Vaults.RestoreSecurityDomain(ctx, g.Officer, "hsm2", blob); err != nil {
		t.Fatal(err)
	}
	wantReason(t, g.Vaults.RestoreSecurityDomain(ctx, g.Officer, "hsm2", blob), fault.Conflict)
	if err := giveUser(t, g, "hsm2", 9300); err != nil {
		t.Fatal(err)
	}
	for name, alg := range algorithms {
		if _, err := g.Vaults.RestoreKey(ctx, g.Officer, "hsm2", backups[name]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, out, err := g.Vaults.Use(ctx, g.Officer, "hsm2", name, "", vault.UnwrapKey, vault.Input{Algorithm: alg, Value: wrapped[name]})
		if err != nil || !bytes.Equal(out.Value, secret) {
			t.Errorf("%s: %x, %v", name, out.Value, err)
		}
	}

	// An HSM with a domain of its own opens them not.
	newHSM(t, g, "hsm3")
	if _, err := g.Vaults.TakeSecurityDomain(ctx, g.Officer, "hsm3", certificates, 3); err != nil {
		t.Fatal(err)
	}
	if err := giveUser(t, g, "hsm3", 9301); err != nil {
		t.Fatal(err)
	}
	_, err = g.Vaults.RestoreKey(ctx, g.Officer, "hsm3", backups["oct"])
	wantReason(t, err, fault.InvalidArgument)

	// Taken out again, to other officers, it is the same domain.
	others, certificates := officers(t, 3)
	if text, err = g.Vaults.TakeSecurityDomain(ctx, g.Officer, "hsm2", certificates, 2); err != nil {
		t.Fatal(err)
	}
	if again, err := securitydomain.Open(text, others); err != nil || !bytes.Contains(again, plain[bytes.Index(plain, []byte(`"Key"`)):]) {
		t.Errorf("taken out again: %v", err)
	}
}

// A key that was backed up before its HSM's domain was first taken out is restored all
// the same.
func TestBackupBeforeSecurityDomain(t *testing.T) {
	f := vaulttest.New(t)
	managedHSM(t, f, "hsm1")
	if _, err := f.Vaults.CreateKey(t.Context(), f.Officer, "hsm1", "k", vault.KeySpec{Type: vault.Oct}); err != nil {
		t.Fatal(err)
	}
	backup, err := f.Vaults.BackupKey(t.Context(), f.Officer, "hsm1", "k")
	if err != nil {
		t.Fatal(err)
	}
	_, certificates := officers(t, 3)
	if _, err := f.Vaults.TakeSecurityDomain(t.Context(), f.Officer, "hsm1", certificates, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "hsm1", "k"); err != nil {
		t.Fatal(err)
	}
	if err := f.Vaults.PurgeKey(t.Context(), f.Officer, "hsm1", "k"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Vaults.RestoreKey(t.Context(), f.Officer, "hsm1", backup); err != nil {
		t.Error(err)
	}
}

// Where a second person must agree, he agrees to these officers and to no others.
func TestSecurityDomainApproval(t *testing.T) {
	ctx := t.Context()
	f := vaulttest.New(t, inactive)
	second := vaulttest.Caller(2)
	newHSM(t, f, "hsm1", func(s *vault.Spec) {
		s.RequireApproval = new(true)
		s.Admins = &[]identity.PrincipalID{f.Officer.Principal, second.Principal}
	})
	_, certificates := officers(t, 4)
	_, err := f.Vaults.TakeSecurityDomain(ctx, f.Officer, "hsm1", certificates[:3], 2)
	wantReason(t, err, fault.ApprovalRequired)
	id := fault.As(err).Subject
	if _, err := f.Vaults.DecideApproval(ctx, second, "hsm1", id, true); err != nil {
		t.Fatal(err)
	}
	_, err = f.Vaults.TakeSecurityDomain(ctx, f.Officer, "hsm1", certificates[1:], 2)
	wantReason(t, err, fault.ApprovalRequired)
	if _, err := f.Vaults.TakeSecurityDomain(ctx, f.Officer, "hsm1", certificates[:3], 2); err != nil {
		t.Error(err)
	}
}

// Where a second person must agree, a security domain comes in only with him, and one
// domain's approval lets no other in.
func TestSecurityDomainRestoreApproval(t *testing.T) {
	ctx := t.Context()
	f := vaulttest.New(t, inactive)
	second := vaulttest.Caller(2)
	who, certificates := officers(t, 3)
	// shares takes the domain of a new HSM out.
	shares := func(name vault.Name) []byte {
		newHSM(t, f, name)
		text, err := f.Vaults.TakeSecurityDomain(ctx, f.Officer, name, certificates, 2)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := securitydomain.Open(text, who[1:])
		if err != nil {
			t.Fatal(err)
		}
		return plain
	}
	plain, other := shares("hsm1"), shares("hsm2")
	newHSM(t, f, "hsm3", func(s *vault.Spec) {
		s.RequireApproval = new(true)
		s.Admins = &[]identity.PrincipalID{f.Officer.Principal, second.Principal}
	})
	transfer, err := f.Vaults.TransferKey(ctx, f.Officer, "hsm3")
	if err != nil {
		t.Fatal(err)
	}
	restore := func(plain []byte) error {
		blob, err := securitydomain.Wrap(plain, transfer)
		if err != nil {
			t.Fatal(err)
		}
		return f.Vaults.RestoreSecurityDomain(ctx, f.Officer, "hsm3", blob)
	}
	id := asked(t, restore(plain))
	if v, _, err := f.Vaults.SecurityDomainOf(ctx, f.Officer, "hsm3"); err != nil || !v.Activated.IsZero() {
		t.Errorf("active since %v before anybody agreed, %v", v.Activated, err)
	}
	_, err = f.Vaults.DecideApproval(ctx, f.Officer, "hsm3", id, true)
	wantReason(t, err, fault.Denied)
	_, err = f.Vaults.DecideApproval(ctx, vaulttest.Caller(5), "hsm3", id, true)
	wantReason(t, err, fault.Denied)
	asked(t, restore(plain)) // nobody has agreed yet
	if _, err := f.Vaults.DecideApproval(ctx, second, "hsm3", id, true); err != nil {
		t.Fatal(err)
	}
	asked(t, restore(other))
	if err := restore(plain); err != nil {
		t.Fatal(err)
	}
	v, d, err := f.Vaults.SecurityDomainOf(ctx, f.Officer, "hsm3")
	if err != nil || v.Activated.IsZero() || d.Restored.IsZero() {
		t.Errorf("%+v, %v", d, err)
	}
}
