// Package vaulttest sets up the custodian's side for tests: package vault over the
// real store, the real audit log and the real software keys.
package vaulttest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/softkey"
)

// Who and where everything is.
const (
	Tenant       identity.TenantID = "11111111-0000-4000-8000-000000000001"
	OtherTenant  identity.TenantID = "22222222-0000-4000-8000-000000000002"
	Subscription                   = "33333333-0000-4000-8000-000000000003"
	Group                          = "rg1"
)

// A Fixture is a running custodian's side with one tenant, its subscription and a
// resource group.
type Fixture struct {
	Vaults  *vault.Vaults
	Store   vault.Store
	Log     *audit.Log
	Keys    *Keys
	Officer identity.Caller // Owner and Key Vault Crypto Officer of everything

	ahead atomic.Int64
}

// Keys are software keys whose generation takes no time: keys of one size share
// their RSA numbers.
type Keys struct{ *softkey.Keys }

var shared sync.Map // bits → *rsa.PrivateKey

// Generate implements [vault.Keys].
func (k *Keys) Generate(ctx context.Context, ref vault.Ref, s vault.Shape, place []byte) (vault.Material, error) {
	if s.Type.Family() != vault.RSA {
		return k.Keys.Generate(ctx, ref, s, place)
	}
	key, ok := shared.Load(s.Bits)
	if !ok {
		fresh, err := rsa.GenerateKey(rand.Reader, s.Bits)
		if err != nil {
			return vault.Material{}, err
		}
		key, _ = shared.LoadOrStore(s.Bits, fresh)
	}
	return k.Seal(ref, s.Type, key)
}

// New sets up a fixture, in which managed HSMs are active when they are made; change
// changes that and the rest of the configuration.
func New(t testing.TB, change ...func(*vault.Config)) *Fixture {
	t.Helper()
	dir := t.TempDir()
	db, err := enginetest.Open(t.Context(), filepath.Join(dir, "vault.db"), store.VaultSchema)
	check(t, err)
	t.Cleanup(func() { db.Close() })
	signer, verifier, err := audit.CreateSigner(filepath.Join(dir, "audit.key"), "vault.test/log")
	check(t, err)
	log, err := audit.Open(t.Context(), audit.Config{
		Store: db.Audit(), Signer: signer, Verifier: verifier, CheckpointPath: filepath.Join(dir, "checkpoint"), Interval: -1,
	})
	check(t, err)
	t.Cleanup(func() { log.Close() })

	f := &Fixture{Store: db.Vault(), Log: log, Keys: &Keys{softkey.New("instance", envelope.NewKey())}, Officer: Caller(1)}
	c := vault.Config{
		Store: f.Store, Audit: log, Keys: f.Keys, HSM: f.Keys, Roles: rbac.VaultRoles, Now: f.Now,
		Limits:   &vault.Limits{}, // none
		Instance: "instance", Backups: envelope.NewKey(), Domains: envelope.NewKey(), ActivateHSMs: true,
	}
	for _, fn := range change {
		fn(&c)
	}
	f.Vaults = vault.New(c)
	t.Cleanup(f.Vaults.Close)
	at := vault.Subscription{ID: Subscription, Tenant: Tenant, Name: "test"}
	role := func(id rbac.RoleID) rbac.Assignment {
		return rbac.Assignment{Principal: f.Officer.Principal, PrincipalType: identity.ServicePrincipal, Role: id, Scope: at.Scope()}
	}
	check(t, f.Vaults.Provision(t.Context(), at, role(rbac.Owner), role(rbac.KeyVaultCryptoOfficer)))
	_, _, err = f.Vaults.PutResourceGroup(t.Context(), f.Officer, vault.ResourceGroup{Subscription: Subscription, Name: Group, Location: "West Europe"})
	check(t, err)
	return f
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Now is the fixture's clock.
func (f *Fixture) Now() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }

// Advance moves the clock.
func (f *Fixture) Advance(d time.Duration) { f.ahead.Add(int64(d)) }

// Caller returns the nth principal of the tenant.
func Caller(n int) identity.Caller {
	return identity.Caller{
		Tenant: Tenant, Principal: identity.PrincipalID(ID(n)), Application: "app", Type: identity.ServicePrincipal,
		Request: fmt.Sprintf("request-%d", n),
	}
}

// ID returns the nth UUID.
func ID(n int) string { return fmt.Sprintf("44444444-0000-4000-8000-%012d", n) }

// Path returns where a vault of the name lies.
func Path(name vault.Name) vault.Path {
	return vault.Path{Subscription: Subscription, ResourceGroup: Group, Name: name}
}

// Vault makes a vault.
func (f *Fixture) Vault(t testing.TB, name vault.Name, change ...func(*vault.Spec)) vault.Vault {
	t.Helper()
	spec := vault.Spec{Location: new("westeurope")}
	for _, c := range change {
		c(&spec)
	}
	v, created, err := f.Vaults.PutVault(t.Context(), f.Officer, Path(name), spec)
	check(t, err)
	if !created {
		t.Fatalf("vault %s existed", name)
	}
	return v
}

// Key makes an RSA key of 2048 bits.
func (f *Fixture) Key(t testing.TB, v vault.Name, name vault.KeyName) vault.Bundle {
	t.Helper()
	b, err := f.Vaults.CreateKey(t.Context(), f.Officer, v, name, vault.KeySpec{Type: vault.RSA})
	check(t, err)
	return b
}

// Grant gives a role.
func (f *Fixture) Grant(t testing.TB, to identity.Caller, role rbac.RoleID, at rbac.Scope) rbac.Assignment {
	t.Helper()
	a, _, err := f.Vaults.PutRoleAssignment(t.Context(), f.Officer, vault.Grant{
		ID: ID(int(grants.Add(1)) + 1_000_000), Scope: at, Principal: to.Principal, PrincipalType: to.Type, Role: role,
	})
	check(t, err)
	return a
}

var grants atomic.Int64

// Ungrant takes a role away.
func (f *Fixture) Ungrant(t testing.TB, a rbac.Assignment) {
	t.Helper()
	_, err := f.Vaults.DeleteRoleAssignment(t.Context(), f.Officer, a.Scope, a.ID)
	check(t, err)
}

// Entries returns what was recorded of an operation.
func (f *Fixture) Entries(t testing.TB, operation string) []audit.Entry {
	t.Helper()
	var out []audit.Entry
	err := f.Store.View(t.Context(), func(tx vault.Tx) error {
		records, err := tx.(audit.Tx).AuditRecords(0, 1_000_000)
		for _, r := range records {
			e, perr := audit.Parse(r.Body)
			if perr != nil {
				return perr
			}
			if e.Operation == operation {
				out = append(out, e)
			}
		}
		return err
	})
	check(t, err)
	return out
}
