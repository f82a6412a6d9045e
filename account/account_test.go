package account_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"testing"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

const (
	tenant = identity.TenantID("11111111-1111-4111-8111-111111111111")
	sub    = "22222222-2222-4222-8222-222222222222"
)

func who(n byte) identity.Caller {
	return identity.Caller{Tenant: tenant, Principal: identity.PrincipalID("33333333-3333-4333-8333-33333333333" + string('0'+n)), Type: identity.ServicePrincipal}
}

type testRoot struct{}

func (testRoot) ID() string       { return "root" }
func (testRoot) Instance() string { return "instance" }
func (testRoot) Derive(purpose string) *envelope.Key {
	k := envelope.Key(sha256.Sum256([]byte(purpose)))
	return &k
}

type recorder struct{ last audit.Entry }

func (r *recorder) Record(_ context.Context, e audit.Entry) error { r.last = e; return nil }

// scopes notes what is asked for.
type scopes struct {
	asked []string
	err   error
	once  error // of the next change alone
}

func (s *scopes) Assign(_ context.Context, _ identity.Caller, _ encryption.ScopeID, id string) error {
	s.asked = append(s.asked, id)
	if err := s.once; err != nil {
		s.once = nil
		return err
	}
	return s.err
}

func (s *scopes) Reset(context.Context, identity.Caller, encryption.ScopeID) error {
	s.asked = append(s.asked, "reset")
	return s.err
}

func start(t *testing.T) (*account.Accounts, *scopes, *recorder) {
	t.Helper()
	a, s, r, _ := startOver(t)
	return a, s, r
}

func startOver(t *testing.T) (*account.Accounts, *scopes, *recorder, account.Store) {
	t.Helper()
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.PlatformSchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, r := &scopes{}, &recorder{}
	ring := encryption.NewKeyring(encryption.Config{Store: db.Encryption(), Root: testRoot{}, Recorder: r})
	a := account.New(account.Config{
		Store: db.Account(), Root: testRoot{}, Keys: ring, Encryption: s, Audit: r,
		Subscriptions: []account.Subscription{{ID: sub, Tenant: tenant}}, Principal: func(identity.TenantID) identity.PrincipalID { return "p" },
		Reserved: []string{"reserved"},
	})
	for n, role := range map[byte]rbac.RoleID{1: rbac.Contributor, 2: rbac.Reader} {
		if err := a.Provision(t.Context(), tenant, rbac.Assignment{Principal: who(n).Principal, Role: role, Scope: "/subscriptions/" + sub}); err != nil {
			t.Fatal(err)
		}
	}
	return a, s, r, db.Account()
}

func path(name account.Name) account.Path {
	return account.Path{Subscription: sub, ResourceGroup: "G", Name: name}
}

func want(t *testing.T, err error, r fault.Reason) {
	t.Helper()
	if fault.ReasonOf(err) != r {
		t.Errorf("got %v, want %q", err, r)
	}
}

func TestLife(t *testing.T) {
	a, _, _ := start(t)
	ctx, c := t.Context(), who(1)
	here := account.Spec{Location: new("West Europe"), Tags: &map[string]string{"a": "b"}}
	_, _, err := a.Put(ctx, who(2), path("acct1"), here)
	want(t, err, fault.Denied)
	acct, isNew, err := a.Put(ctx, c, path("acct1"), here)
	if err != nil || !isNew || acct.Location != "westeurope" || acct.SKU != "Standard_LRS" || acct.Encryption.Mode != encryption.PlatformManaged {
		t.Fatalf("%+v %t %v", acct, isNew, err)
	}
	_, isNew, err = a.Put(ctx, c, path("acct1"), account.Spec{Tags: &map[string]string{}})
	if err != nil || isNew {
		t.Errorf("again: %t %v", isNew, err)
	}
	other := path("acct1")
	other.ResourceGroup = "H"
	_, _, err = a.Put(ctx, c, other, here)
	want(t, err, fault.Conflict)
	_, _, err = a.Put(ctx, c, path("reserved"), here)
	want(t, err, fault.Conflict)
	_, _, err = a.Put(ctx, c, path("Bad"), here)
	want(t, err, fault.InvalidArgument)
	_, err = a.Account(ctx, c, other)
	want(t, err, fault.ResourceNotFound)
	foreign := c
	foreign.Tenant = "99999999-1111-4111-8111-111111111111"
	_, err = a.Account(ctx, foreign, path("acct1"))
	want(t, err, fault.SubscriptionNotFound)
	if all, err := a.List(ctx, who(2), sub, "g"); err != nil || len(all) != 1 {
		t.Errorf("listed %d %v", len(all), err)
	}
	if all, err := a.List(ctx, who(9), sub, ""); err != nil || len(all) != 0 {
		t.Errorf("a stranger lists %d %v", len(all), err)
	}
	want(t, a.Delete(ctx, who(2), path("acct1")), fault.Denied)
	want(t, a.Delete(ctx, c, path("acct1")), "")
	want(t, a.Delete(ctx, c, path("acct1")), fault.ResourceNotFound)
	if _, _, err := a.Put(ctx, c, path("acct1"), here); err != nil {
		t.Errorf("the name is free at once: %v", err)
	}
	want(t, a.Sweep(ctx), "")
	if free, _, err := a.NameFree(ctx, c, "acct1"); err != nil || free {
		t.Errorf("free %t %v", free, err)
	}
}

// The combinations of key source and key that clients send.
func TestKeySource(t *testing.T) {
	a, s, _ := start(t)
	ctx, c := t.Context(), who(1)
	if _, _, err := a.Put(ctx, c, path("acct1"), account.Spec{Location: new("l")}); err != nil {
		t.Fatal(err)
	}
	customer, platform, odd := account.CustomerKeys, account.PlatformKeys, account.KeySource("Microsoft.Else")
	key := &account.VaultKey{Vault: "https://v.vault.localhost:8443/", Name: "k"}
	user := account.ManagedIdentity{Type: account.UserAssigned, UserAssigned: []string{"/subscriptions/s/x"}}
	for _, c2 := range []struct {
		name   string
		spec   account.Spec
		reason fault.Reason
		asked  string
	}{
		{"the source alone", account.Spec{KeySource: &customer}, fault.InvalidArgument, ""},
		{"no vault", account.Spec{KeySource: &customer, Key: &account.VaultKey{Name: "k"}}, fault.InvalidArgument, ""},
		{"no name", account.Spec{KeySource: &customer, Key: &account.VaultKey{Vault: "https://v"}}, fault.InvalidArgument, ""},
		{"a version", account.Spec{KeySource: &customer, Key: &account.VaultKey{Vault: "https://v", Name: "k", Version: "1"}}, fault.InvalidArgument, ""},
		{"an odd source", account.Spec{KeySource: &odd}, fault.InvalidArgument, ""},
		{"an identity that is not assigned", account.Spec{KeyIdentity: new("/subscriptions/s/x")}, fault.InvalidArgument, ""},
		{"no identity", account.Spec{KeySource: &customer, Key: key, Identity: &account.ManagedIdentity{}}, fault.InvalidArgument, ""},
		{"which identity is not said", account.Spec{KeySource: &customer, Key: key, Identity: &user}, fault.InvalidArgument, ""},
		{"no identity, and no key", account.Spec{KeySource: &platform, Identity: &account.ManagedIdentity{}}, "", ""},
		{"stale key properties", account.Spec{KeySource: &platform, Key: key}, "", ""},
		{"key properties alone", account.Spec{Key: key}, "", ""},
		{"a key", account.Spec{KeySource: &customer, Key: key}, "", "https://v.vault.localhost:8443/keys/k"},
	} {
		s.asked = nil
		got, err := a.Patch(ctx, c, path("acct1"), c2.spec)
		if asked := append(s.asked, ""); fault.ReasonOf(err) != c2.reason || asked[0] != c2.asked {
			t.Errorf("%s: %v, asked for %q", c2.name, err, s.asked)
		}
		if c2.asked != "" && got.Identity.Type != account.SystemAssigned {
			t.Errorf("%s: the vault is asked as %q", c2.name, got.Identity.Type)
		}
	}
	s.asked, s.once = nil, fault.New(fault.EncryptionInProgress, "the change before")
	if _, err := a.Patch(ctx, c, path("acct1"), account.Spec{KeySource: &customer, Key: key}); err != nil || len(s.asked) != 2 {
		t.Errorf("after a change that is under way: %v, asked for %q", err, s.asked)
	}
	s.err = fault.New(fault.EncryptionBlocked, "no")
	_, _, err := a.Put(ctx, c, path("acct2"), account.Spec{Location: new("l"), KeySource: &customer, Key: key})
	want(t, err, fault.EncryptionBlocked)
	_, err = a.Account(ctx, c, path("acct2"))
	want(t, err, fault.ResourceNotFound) // nothing is left half configured
}

func TestKeys(t *testing.T) {
	a, _, _ := start(t)
	ctx, c := t.Context(), who(1)
	if _, _, err := a.Put(ctx, c, path("acct1"), account.Spec{Location: new("l")}); err != nil {
		t.Fatal(err)
	}
	_, err := a.Keys(ctx, who(2), path("acct1"))
	want(t, err, fault.Denied)
	keys, err := a.Keys(ctx, c, path("acct1"))
	if err != nil || len(keys) != 2 || len(keys[0].Value) != account.KeySize || string(keys[0].Value) == string(keys[1].Value) {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	sign := func(k account.Key) []byte {
		h := hmac.New(sha256.New, k.Value)
		h.Write([]byte("message"))
		return h.Sum(nil)
	}
	for _, k := range keys {
		who, err := a.Verify(ctx, "acct1", "message", sign(k))
		if err != nil || who.Account != string(path("acct1").Scope()) || who.Principal != "" || who.Tenant != tenant {
			t.Errorf("%s: %+v %v", k.Name, who, err)
		}
	}
	_, err = a.Verify(ctx, "acct1", "another", sign(keys[0]))
	want(t, err, fault.Unauthenticated)
	_, err = a.Verify(ctx, "nobody", "message", sign(keys[0]))
	want(t, err, fault.Unauthenticated)
	if _, err := a.RegenerateKey(ctx, c, path("acct1"), "key1"); err != nil {
		t.Fatal(err)
	}
	_, err = a.Verify(ctx, "acct1", "message", sign(keys[0]))
	want(t, err, fault.Unauthenticated)
	_, err = a.Verify(ctx, "acct1", "message", sign(keys[1]))
	want(t, err, "")
	_, err = a.RegenerateKey(ctx, c, path("acct1"), "key3")
	want(t, err, fault.InvalidArgument)
	if _, err := a.Patch(ctx, c, path("acct1"), account.Spec{SharedKey: new(false)}); err != nil {
		t.Fatal(err)
	}
	_, err = a.Verify(ctx, "acct1", "message", sign(keys[1]))
	want(t, err, fault.Denied)
}

func TestRoles(t *testing.T) {
	a, _, r := start(t)
	ctx, c := t.Context(), who(1)
	if _, _, err := a.Put(ctx, c, path("acct1"), account.Spec{Location: new("l")}); err != nil {
		t.Fatal(err)
	}
	g := account.Grant{
		ID: "44444444-4444-4444-8444-444444444444", Scope: path("acct1").Scope(), Principal: who(5).Principal, Role: rbac.StorageBlobDataReader,
	}
	_, _, err := a.PutRoleAssignment(ctx, c, g) // a Contributor gives no roles
	want(t, err, fault.Denied)
	if r.last.Outcome != audit.Denied {
		t.Errorf("recorded %+v", r.last)
	}
	if err := a.Provision(ctx, tenant, rbac.Assignment{Principal: who(6).Principal, Role: rbac.RoleBasedAccessControlAdmin, Scope: "/subscriptions/" + sub}); err != nil {
		t.Fatal(err)
	}
	for i, isNew := range []bool{true, false} {
		if _, created, err := a.PutRoleAssignment(ctx, who(6), g); err != nil || created != isNew {
			t.Errorf("%d: %t %v", i, created, err)
		}
	}
	vaultRole := g
	vaultRole.Role = rbac.KeyVaultCryptoUser
	_, _, err = a.PutRoleAssignment(ctx, who(6), vaultRole)
	want(t, err, fault.RoleDefinitionNotFound)
	all, err := a.RoleAssignments(ctx, who(6), path("acct1").Scope(), false)
	if err != nil || len(all) != 5 { // three at the subscription, the creator's, this one
		t.Errorf("%d assignments, %v", len(all), err)
	}
	if _, err := a.DeleteRoleAssignment(ctx, who(6), g.Scope, g.ID); err != nil {
		t.Error(err)
	}
	if _, err := a.RoleAssignment(ctx, who(6), g.Scope, g.ID); !errors.Is(err, fault.RoleAssignmentNotFound) {
		t.Error(err)
	}
}
