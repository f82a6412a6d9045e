package vault_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// A reader follows kv1's feed.
type reader struct {
	f      *vaulttest.Fixture
	c      identity.Caller
	cursor vault.Cursor
}

func follow(t *testing.T, f *vaulttest.Fixture, c identity.Caller) *reader {
	t.Helper()
	r := &reader{f: f, c: c}
	start, err := f.Vaults.Changes(t.Context(), c, "kv1", "", time.Minute)
	if err != nil || !start.Reset || len(start.Changes) != 0 {
		t.Fatalf("first call: %+v, %v", start, err)
	}
	r.cursor = start.Cursor
	return r
}

// next returns what the reader is told, as "key kind".
func (r *reader) next(t *testing.T, wait time.Duration) []string {
	t.Helper()
	feed, err := r.f.Vaults.Changes(t.Context(), r.c, "kv1", r.cursor, wait)
	if err != nil || feed.Reset {
		t.Fatalf("changes: %+v, %v", feed, err)
	}
	r.cursor = feed.Cursor
	var out []string
	for _, c := range feed.Changes {
		out = append(out, fmt.Sprintf("%s %s", c.Key, c.Kind))
	}
	return out
}

func (r *reader) want(t *testing.T, want ...string) {
	t.Helper()
	if got := r.next(t, 0); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// Each learns of what is his, and of nothing else.
func TestFeedVisibility(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	f.Key(t, "kv1", "other")
	service, stranger := vaulttest.Caller(2), vaulttest.Caller(3)
	member := vaulttest.Caller(4)
	group := identity.PrincipalID(vaulttest.ID(50))
	member.Groups = []identity.PrincipalID{group}
	grant := f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))

	svc, officer, str, mem := follow(t, f, service), follow(t, f, f.Officer), follow(t, f, stranger), follow(t, f, member)
	for _, k := range []vault.KeyName{"k", "other"} {
		if _, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", k, "", vault.KeyUpdate{Enabled: new(false)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Vaults.RotateKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Vaults.PatchVault(t.Context(), f.Officer, vaulttest.Path("kv1"), vault.Spec{Tags: &map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	svc.want(t, "k keyDisabled", "k keyRotated", " vaultUpdated")
	officer.want(t, "k keyDisabled", "other keyDisabled", "k keyRotated", " vaultUpdated")
	str.want(t)

	f.Ungrant(t, grant)
	svc.want(t, "k roleRemoved") // though it may read nothing any more
	str.want(t)
	officer.want(t)
	if _, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	svc.want(t)
	officer.want(t, "k keyDeleted")
	if _, err := f.Vaults.RecoverKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	officer.want(t, "k keyRecovered")

	// A role for a group, at a scope above the vault.
	mem.want(t)
	of := identity.Caller{Principal: group, Type: identity.Group}
	above := f.Grant(t, of, rbac.KeyVaultReader, rbac.Scope("/subscriptions/"+vaulttest.Subscription))
	mem.want(t, " roleAssigned")
	f.Ungrant(t, above)
	mem.want(t, " roleRemoved")
	str.want(t)

	// The vault itself goes and comes back; the feed goes on.
	f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))
	svc.want(t, "k keyRecovered", "k roleAssigned") // what it can read now, it may hear of
	if _, err := f.Vaults.DeleteVault(t.Context(), f.Officer, vaulttest.Path("kv1")); err != nil {
		t.Fatal(err)
	}
	svc.want(t, " vaultDeleted")
	if _, _, err := f.Vaults.PutVault(t.Context(), f.Officer, vaulttest.Path("kv1"), vault.Spec{Recover: true}); err != nil {
		t.Fatal(err)
	}
	svc.want(t, " vaultRecovered")
	str.want(t)

	foreign := service
	foreign.Tenant = vaulttest.OtherTenant
	_, err := f.Vaults.Changes(t.Context(), foreign, "kv1", "", 0)
	wantReason(t, err, fault.Denied)
}

// A cursor says nothing, holds for its owner only, and expires with the feed.
func TestFeedCursor(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	str, officer := follow(t, f, vaulttest.Caller(3)), follow(t, f, f.Officer)
	for name, c := range map[string]vault.Cursor{"another's": officer.cursor, "nonsense": "AAAA", "odd": "%%"} {
		feed, err := f.Vaults.Changes(t.Context(), str.c, "kv1", c, time.Minute)
		if err != nil || !feed.Reset || len(feed.Changes) != 0 {
			t.Errorf("%s: %+v, %v", name, feed, err)
		}
	}
	if a, b := str.cursor, follow(t, f, str.c).cursor; a == b || len(a) != len(b) {
		t.Errorf("cursors of the same place: %s, %s", a, b)
	}
	if _, err := f.Vaults.RotateKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
		t.Fatal(err)
	}
	f.Advance(25 * time.Hour)
	if err := f.Vaults.Sweep(t.Context(), f.Now()); err != nil {
		t.Fatal(err)
	}
	feed, err := f.Vaults.Changes(t.Context(), f.Officer, "kv1", officer.cursor, time.Minute)
	if err != nil || !feed.Reset {
		t.Errorf("cursor of yesterday: %+v, %v", feed, err)
	}
	officer.cursor = feed.Cursor
	officer.want(t)
}

// Who waits is woken at the commit, and by Close.
func TestFeedWakes(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	officer, str := follow(t, f, f.Officer), follow(t, f, vaulttest.Caller(3))
	told, quiet := make(chan []string, 1), make(chan []string, 1)
	go func() { told <- officer.next(t, time.Minute) }()
	go func() { quiet <- str.next(t, time.Minute) }()
	if _, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", vault.KeyUpdate{Enabled: new(false)}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-told:
		if !slices.Equal(got, []string{"k keyDisabled"}) {
			t.Errorf("told %q", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not woken")
	}
	select {
	case got := <-quiet:
		t.Errorf("a stranger was told %q", got)
	default:
	}
	f.Vaults.Close()
	select {
	case got := <-quiet:
		if len(got) != 0 {
			t.Errorf("a stranger was told %q", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Close does not end a poll")
	}
}

// A change that another process makes is told too, within about a second.
func TestFeedOfAnotherProcess(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	other := vault.New(vault.Config{Store: f.Store, Audit: f.Log, Keys: f.Keys, Roles: rbac.VaultRoles})
	officer := follow(t, f, f.Officer)
	told := make(chan []string, 1)
	go func() { told <- officer.next(t, 30*time.Second) }()
	if _, err := other.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", vault.KeyUpdate{Enabled: new(false)}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-told:
		if !slices.Equal(got, []string{"k keyDisabled"}) {
			t.Errorf("told %q", got)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("not told")
	}
}

// Who waits is woken by what this process hears, and by nothing of another vault's.
func TestFeedHears(t *testing.T) {
	f := vaulttest.New(t)
	mine, other := f.Vaults.Waiter("mine"), f.Vaults.Waiter("other")
	f.Vaults.Hear("mine")
	select {
	case <-mine:
	default:
		t.Error("not woken")
	}
	select {
	case <-other:
		t.Error("woken by another vault's change")
	default:
	}
}

func TestFeedEndsWithItsCaller(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	officer := follow(t, f, f.Officer)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := f.Vaults.Changes(ctx, f.Officer, "kv1", officer.cursor, time.Minute)
		done <- err
	}()
	cancel()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the poll outlives its request")
	}
}
