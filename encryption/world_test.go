package encryption_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
	"github.com/kluis-io/kluis/rbac"
)

// tb is what a world needs of a test: rapid's has it too.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// A world is an installation in a bubble: a keyring and a state machine over a
// store in memory and a vault in memory, and a scope with its names and one item.
type world struct {
	t     tb
	store *memory
	vault *kektest.Vault
	wire  *wire
	root  *testRoot

	ring   *encryption.Keyring
	scopes *encryption.Scopes
	keep   *content
	stop   func() // kills ring and scopes, as a crash would
	edit   func(*encryption.Config)
	idle   bool // from the next start on nobody works on items
}

const (
	tenant = identity.TenantID(kektest.Tenant)
	ws     = encryption.ScopeID("11111111-1111-4111-8111-111111111111")
	lake   = encryption.ItemID("22222222-2222-4222-8222-222222222222")
)

var admin = identity.Caller{Tenant: tenant, Principal: "admin", Type: identity.User}

// bubble runs a test in a bubble, in a world.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kektest.NewVault(t, "contoso"))
		defer w.end()
		test(t, w)
	})
}

func newWorld(t tb, vault *kektest.Vault) *world {
	w := &world{t: t, store: newMemory(), vault: vault, root: newRoot("root")}
	w.wire = &wire{Vault: w.vault}
	w.vault.Create("a")
	w.must(w.store.update(func(tx *memoryTx) error {
		return tx.PutRoleAssignment(rbac.Assignment{
			ID: "1", Tenant: tenant, Principal: admin.Principal, Role: rbac.WorkspaceAdmin, Scope: rbac.Scope("/workspaces/" + ws),
		})
	}))
	w.start()
	w.addScope(ws)
	w.addItem(ws, lake)
	return w
}

// start opens the installation on what is in the store.
func (w *world) start() {
	c := encryption.Config{
		Store: w.store, Root: w.root, Vault: w.wire, Recorder: w.store, Policy: w.vault.Policy(),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if w.edit != nil {
		w.edit(&c)
	}
	w.ring = encryption.NewKeyring(c)
	w.keep = &content{store: w.store}
	w.scopes = encryption.NewScopes(w.ring, rbac.PlatformRoles, func(t string) bool { return t != "Dashboard" }, w.keep)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.ring.Run(ctx) })
	if !w.idle {
		running.Go(func() { w.scopes.Run(ctx) })
	}
	w.stop = func() {
		cancel()
		running.Wait()
	}
}

// end stops the installation for good.
func (w *world) end() { w.stop() }

// crash stops the installation at once, loses what the store has not got, and
// starts it again.
func (w *world) crash() {
	w.store.mu.Lock()
	w.store.dead = true
	w.store.mu.Unlock()
	w.stop()
	w.store = w.store.copy()
	w.start()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

// reason checks what an error is.
func (w *world) reason(what string, err error, want fault.Reason) {
	w.t.Helper()
	if fault.ReasonOf(err) != want {
		w.t.Fatalf("%s: got %v, want %s", what, err, want)
	}
}

func (w *world) addScope(id encryption.ScopeID) {
	w.t.Helper()
	keys, err := w.ring.NewScope(id, tenant)
	w.must(err)
	w.must(w.store.update(func(tx *memoryTx) error { return keys.Insert(tx) }))
}

func (w *world) addItem(s encryption.ScopeID, id encryption.ItemID) {
	w.t.Helper()
	u, err := w.ring.Use(context.Background(), s)
	w.must(err)
	keys, err := u.NewItem(id, "Lakehouse")
	w.must(err)
	w.must(w.store.update(func(tx *memoryTx) error { return keys.Insert(tx) }))
}

func (w *world) key(name string) string { return "https://" + w.vault.Host() + "/keys/" + name }

func (w *world) assign(name string) error {
	return w.scopes.Assign(context.Background(), admin, ws, w.key(name))
}

func (w *world) reseal(name string) error {
	return w.scopes.Reseal(context.Background(), admin, ws, w.key(name))
}

func (w *world) rotateDeep() error {
	_, err := w.scopes.Rotate(context.Background(), admin, ws)
	return err
}

func (w *world) reset() error { return w.scopes.Reset(context.Background(), admin, ws) }

func (w *world) status() encryption.Status {
	w.t.Helper()
	st, err := w.scopes.Status(context.Background(), admin, ws)
	w.must(err)
	return st
}

// settled assigns a key and waits until everything is under it.
func (w *world) settled(name string) {
	w.t.Helper()
	w.must(w.assign(name))
	w.sleep(5 * time.Second)
	if st := w.status(); st.State != encryption.Active || st.Behind > 0 {
		w.t.Fatalf("not active: %+v", st)
	}
}

// serving waits for the scope's serving state.
func (w *world) serving(want encryption.Serving, within time.Duration) time.Duration {
	w.t.Helper()
	began := time.Now()
	for {
		synctest.Wait()
		if w.status().Scope.Serving == want {
			return time.Since(began)
		}
		if time.Since(began) >= within {
			w.t.Fatalf("serving %q after %v, want %q", w.status().Scope.Serving, within, want)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (*world) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

const purpose = "kluis/v1/test"

func plain(id string) string { return "what was written as " + id }

// write seals an object of an item and publishes it.
func (w *world) write(s encryption.ScopeID, item encryption.ItemID, id string) error {
	ctx := context.Background()
	u, err := w.ring.Use(ctx, s)
	if err != nil {
		return err
	}
	key, err := u.Current(ctx, item, encryption.ContentKey)
	if err != nil {
		return err
	}
	sealed, err := key.Seal([]byte(plain(id)), purpose, id)
	if err != nil {
		return err
	}
	return w.store.update(func(tx *memoryTx) error {
		if err := u.Confirm(tx, key.ID()); err != nil {
			return err
		}
		tx.objects[id] = object{id: id, item: item, key: key.ID(), sealed: sealed}
		return nil
	})
}

// read opens an object.
func (w *world) read(s encryption.ScopeID, id string) error {
	ctx := context.Background()
	u, err := w.ring.Use(ctx, s)
	if err != nil {
		return err
	}
	for range 10 { // somebody may re-encrypt it meanwhile
		var o object
		if err := w.store.view(func(tx *memoryTx) error { o = tx.objects[id]; return nil }); err != nil {
			return err
		}
		var key *encryption.Key
		if key, err = u.Key(ctx, o.item, o.key); err != nil {
			continue
		}
		var got []byte
		if got, err = key.Open(o.sealed, purpose, id); err != nil {
			continue
		}
		if string(got) != plain(id) {
			return fmt.Errorf("object %s holds %q", id, got)
		}
		return nil
	}
	return err
}

// A content keeps the objects, and re-encrypts them.
type content struct {
	store *memory

	mu    sync.Mutex
	fail  map[encryption.ItemID]error
	each  func(object) // called before each object's turn
	calls map[encryption.ItemID]int
}

func (c *content) failing(item encryption.ItemID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail == nil {
		c.fail = map[encryption.ItemID]error{}
	}
	c.fail[item] = err
}

func (c *content) count(item encryption.ItemID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[item]
}

func (c *content) Reencrypt(ctx context.Context, job *encryption.Job) error {
	c.mu.Lock()
	fail, each := c.fail[job.Item], c.each
	if c.calls == nil {
		c.calls = map[encryption.ItemID]int{}
	}
	c.calls[job.Item]++
	c.mu.Unlock()
	if fail != nil {
		return fail
	}
	key, err := job.Use.Current(ctx, job.Item, encryption.ContentKey)
	if err != nil {
		return err
	}
	var objects []object
	if err := c.store.view(func(tx *memoryTx) error {
		for _, o := range tx.objects {
			if o.item == job.Item && o.key != key.ID() {
				objects = append(objects, o)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for n, o := range objects {
		if each != nil {
			each(o)
		}
		if err := errors.Join(ctx.Err(), job.Check()); err != nil {
			return err
		}
		old, err := job.Use.Key(ctx, o.item, o.key)
		if err != nil {
			return err
		}
		plain, err := old.Open(o.sealed, purpose, o.id)
		if err != nil {
			return err
		}
		fresh := o
		fresh.key = key.ID()
		if fresh.sealed, err = key.Seal(plain, purpose, o.id); err != nil {
			return err
		}
		if err := c.store.update(func(tx *memoryTx) error {
			if err := job.Confirm(tx, key.ID()); err != nil {
				return err
			}
			if tx.objects[o.id].key != o.key {
				return fault.New(fault.Conflict, "")
			}
			tx.objects[o.id] = fresh
			return nil
		}); err != nil {
			return err
		}
		if err := job.Report(encryption.Progress{Files: int64(n + 1), TotalFiles: int64(len(objects))}); err != nil {
			return err
		}
	}
	return nil
}

// A testRoot is a platform's root.
type testRoot struct{ id, secret string }

func newRoot(secret string) *testRoot { return &testRoot{"id of " + secret, secret} }

func (r *testRoot) ID() string     { return r.id }
func (*testRoot) Instance() string { return "instance" }
func (r *testRoot) Derive(purpose string) *envelope.Key {
	k := envelope.Key(sha256.Sum256([]byte(r.secret + "\x00" + purpose)))
	return &k
}

// A wire is the way to a vault: a vault as it is, unless it is told to hang or to
// lie.
type wire struct {
	*kektest.Vault

	mu     sync.Mutex
	hangs  bool
	latest func(kek.KeyInfo, error) (kek.KeyInfo, error)
	before func(op kek.Op)            // called before each question
	under  func(op kek.Op, id string) // the same, with the id that it is asked under
}

// hang makes the vault answer nothing until the caller gives up.
func (w *wire) hang(hangs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangs = hangs
}

func (w *wire) ask(ctx context.Context, op kek.Op) error {
	w.mu.Lock()
	hangs, before, under := w.hangs, w.before, w.under
	w.mu.Unlock()
	if under != nil {
		under(op, audit.RequestOf(ctx))
	}
	if before != nil {
		before(op)
	}
	if !hangs {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	<-ctx.Done()
	return kek.Answer{From: kek.Vault, Op: op, Err: ctx.Err()}.Fault("vault")
}

func (w *wire) Latest(ctx context.Context, tenant string, id kek.KeyIdentifier) (kek.KeyInfo, error) {
	if err := w.ask(ctx, kek.OpGet); err != nil {
		return kek.KeyInfo{}, err
	}
	info, err := w.Vault.Latest(ctx, tenant, id)
	w.mu.Lock()
	latest := w.latest
	w.mu.Unlock()
	if latest != nil {
		return latest(info, err)
	}
	return info, err
}

func (w *wire) Wrap(ctx context.Context, tenant string, kid kek.KID, alg kek.Algorithm, share []byte) ([]byte, error) {
	if err := w.ask(ctx, kek.OpWrap); err != nil {
		return nil, err
	}
	return w.Vault.Wrap(ctx, tenant, kid, alg, share)
}

func (w *wire) Unwrap(ctx context.Context, tenant string, kid kek.KID, alg kek.Algorithm, wrapped []byte) ([]byte, error) {
	if err := w.ask(ctx, kek.OpUnwrap); err != nil {
		return nil, err
	}
	return w.Vault.Unwrap(ctx, tenant, kid, alg, wrapped)
}

func (w *wire) Changes(ctx context.Context, tenant string, id kek.KeyIdentifier, cursor string, wait time.Duration) (kek.Changes, error) {
	if err := w.ask(ctx, kek.OpChanges); err != nil {
		return kek.Changes{}, err
	}
	return w.Vault.Changes(ctx, tenant, id, cursor, wait)
}
