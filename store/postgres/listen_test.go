package postgres_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek/kektest"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/postgres"
	"github.com/kluis-io/kluis/vault"
)

// listening listens at a database until the test ends, again after each loss, and returns
// once it does for the first time; heard is told of each time, too, with "".
func listening(t *testing.T, db *postgres.DB, heard func(about, id string)) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ready := make(chan struct{})
	var once sync.Once
	var busy sync.WaitGroup
	busy.Go(func() {
		for ctx.Err() == nil {
			db.Listen(ctx, func() {
				once.Do(func() { close(ready) })
				heard("", "")
			}, heard)
			time.Sleep(10 * time.Millisecond)
		}
	})
	t.Cleanup(func() {
		stop()
		busy.Wait()
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("it does not listen")
	}
}

// root is a platform's root.
type root struct{}

func (root) ID() string       { return "root" }
func (root) Instance() string { return "instance" }
func (root) Derive(purpose string) *envelope.Key {
	k := envelope.Key(sha256.Sum256([]byte(purpose)))
	return &k
}

// A revocation that one process was told of ends the keys of another one at once, which
// looks at nothing by itself: its ring does not run. When its connection is cut it hears
// again of what comes after.
func TestHearsOfRevocation(t *testing.T) {
	const tenant, ws = identity.TenantID(kektest.Tenant), encryption.ScopeID("11111111-1111-4111-8111-111111111111")
	ctx, url := t.Context(), server.Database(t)
	custodian := kektest.NewVault(t, "contoso")
	key := custodian.Create("a")
	open := func() (*postgres.DB, *encryption.Keyring) {
		db, err := postgres.Open(ctx, url, store.PlatformSchema)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db, encryption.NewKeyring(encryption.Config{
			Store: db.Encryption(), Root: root{}, Vault: custodian, Recorder: mute{}, Policy: custodian.Policy(), Shared: true, Replicas: 2,
			Lease: time.Hour, Bound: time.Hour, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
	}
	one, first := open()
	two, second := open()
	ready, news := make(chan struct{}, 10), make(chan struct{}, 1)
	listening(t, two, func(about, id string) {
		switch about {
		case "":
			select {
			case <-news: // of before the loss
			default:
			}
			ready <- struct{}{}
		case store.ScopeNews:
			second.Hear(encryption.ScopeID(id))
			select {
			case news <- struct{}{}:
			default:
			}
		}
	})
	<-ready

	admin := identity.Caller{Tenant: tenant, Principal: "admin", Type: identity.User}
	keys, err := first.NewScope(ws, tenant)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Roles().Update(ctx, func(tx rbac.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{ID: "1", Tenant: tenant, Principal: admin.Principal, Role: rbac.WorkspaceAdmin, Scope: rbac.Scope("/workspaces/" + ws)})
	}); err != nil {
		t.Fatal(err)
	}
	if err := one.Encryption().Update(ctx, func(tx encryption.Tx) error { return keys.Insert(tx) }); err != nil {
		t.Fatal(err)
	}
	scopes := encryption.NewScopes(first, rbac.PlatformRoles, func(string) bool { return true })
	if err := scopes.Assign(ctx, admin, ws, key.URL()); err != nil {
		t.Fatal(err)
	}
	u, err := second.Use(ctx, ws)
	if err != nil {
		t.Fatal(err)
	}
	_, told := open() // a process that has not asked yet, and so asks now
	custodian.Grant(false)
	began := time.Now()
	if _, err := told.Use(ctx, ws); !fault.ReasonOf(err).RefusedByVault() {
		t.Fatalf("the vault has said %v", err)
	}
	for u.Check() == nil {
		if time.Since(began) > time.Minute {
			t.Fatal("the other process has heard nothing")
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("heard within %v", time.Since(began))
	if err := u.Check(); !fault.ReasonOf(err).RefusedByVault() {
		t.Errorf("the other process says %v", err)
	}

	// What a vault's feed has is told, too.
	held, err := postgres.Open(ctx, server.Database(t), store.VaultSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	changes := make(chan string, 10)
	listening(t, held, func(about, id string) { changes <- about + id })
	if err := held.Vault().Update(ctx, func(tx vault.Tx) error {
		return errors.Join(tx.PutVault(vault.Vault{ID: "v", Name: "v"}), tx.AppendVaultChange(vault.Change{Vault: "v", Kind: vault.VaultUpdated}))
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"", store.VaultNews + "v"} {
		select {
		case got := <-changes:
			if got != want {
				t.Errorf("%q is told, not %q", got, want)
			}
		case <-time.After(time.Minute):
			t.Error("a change of a vault is not heard")
		}
	}

	// The server goes away and comes back.
	if err := errors.Join(server.Stop("fast"), server.Restart()); err != nil {
		t.Fatal(err)
	}
	<-ready
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := one.Encryption().Update(ctx, func(tx encryption.Tx) error {
			sc, err := tx.Scope(ws)
			if err != nil {
				return err
			}
			return tx.UpdateScope(sc, sc.Epoch)
		})
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	select {
	case <-news:
	case <-time.After(time.Minute):
		t.Error("nothing is heard after the server's restart")
	}
}

// mute records nothing.
type mute struct{}

func (mute) Record(context.Context, audit.Entry) error { return nil }
