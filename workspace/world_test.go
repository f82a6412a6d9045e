package workspace_test

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek/kektest"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
	"github.com/kluis-io/kluis/workspace"
)

// The people of the tests.
var (
	tenant   = identity.TenantID(kektest.Tenant)
	creator  = person(tenant, 1)
	admin    = person(tenant, 2) // of the tenant
	auditor  = person(tenant, 3)
	member   = person(tenant, 4)
	viewer   = person(tenant, 5)
	stranger = person("99999999-0000-4000-8000-000000000000", 1) // same object id, another tenant
	nobody   = person(tenant, 9)
)

func person(tenant identity.TenantID, n byte) identity.Caller {
	return identity.Caller{
		Tenant: tenant, Principal: identity.PrincipalID("00000000-0000-4000-8000-00000000000" + string('0'+n)),
		Type: identity.User, Request: "test",
	}
}

type root struct{}

func (root) ID() string       { return "root-1" }
func (root) Instance() string { return "instance" }
func (root) Derive(purpose string) *envelope.Key {
	k := envelope.Key(sha256.Sum256([]byte("root " + purpose)))
	return &k
}

// A recorder makes entries durable, unless it is told to fail.
type recorder struct {
	log  audit.Store
	fail bool
}

func (r *recorder) Record(ctx context.Context, e audit.Entry) error {
	if r.fail {
		return fault.New(fault.AuditFailed, "broken for the test")
	}
	return r.log.Update(ctx, func(tx audit.Tx) error { return tx.AppendAudit(e) })
}

// A world is a platform with a vault beside it, in fake time.
type world struct {
	*testing.T
	db       *enginetest.DB
	vault    *kektest.Vault
	ring     *encryption.Keyring
	scopes   *encryption.Scopes
	ws       *workspace.Workspaces
	recorder *recorder
	content  content
	skew     time.Duration // how far the workspaces' clock is ahead
}

// content is what the state machine asks to re-encrypt; tests put themselves
// between.
type content struct {
	to atomic.Pointer[workspace.Workspaces]
}

func (c *content) set(w *workspace.Workspaces) { c.to.Store(w) }

func (c *content) Reencrypt(ctx context.Context, job *encryption.Job) error {
	return c.to.Load().Reencrypt(ctx, job)
}

// run runs fn in a new world.
func run(t *testing.T, fn func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		db, err := enginetest.Open(t.Context(), filepath.Join(dir, "platform.db"),
			store.Schema{"audit", "rbac", "encryption", "workspace"})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		w := &world{T: t, db: db, vault: kektest.NewVault(t, "contoso"), recorder: &recorder{log: db.Audit()}}
		w.ring = encryption.NewKeyring(encryption.Config{
			Store: db.Encryption(), Root: root{}, Vault: w.vault, Recorder: w.recorder, Policy: w.vault.Policy(),
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		w.ws = workspace.New(workspace.Config{Store: db.Workspace(), Keys: w.ring, Audit: w.recorder, Now: w.now})
		w.content.set(w.ws)
		w.scopes = encryption.NewScopes(w.ring, rbac.PlatformRoles, w.ws.Supported, &w.content)
		w.scopes.Guard(w.ws)
		for _, r := range []struct {
			who  identity.Caller
			role rbac.RoleID
		}{{creator, rbac.WorkspaceCreator}, {admin, rbac.TenantAdministrator}, {auditor, rbac.Auditor}} {
			w.update(func(tx workspace.Tx) error {
				return tx.PutRoleAssignment(rbac.Assignment{
					ID: string(r.who.Principal), Tenant: r.who.Tenant, Principal: r.who.Principal, Role: r.role, Scope: "/",
				})
			})
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{}, 2)
		go func() { w.ring.Run(ctx); done <- struct{}{} }()
		go func() { w.scopes.Run(ctx); done <- struct{}{} }()
		fn(w)
		stop()
		<-done
		<-done
		time.Sleep(time.Minute) // leases and their timers end
	})
}

func (w *world) now() time.Time { return time.Now().Add(w.skew) }

func (w *world) update(fn func(workspace.Tx) error) {
	w.Helper()
	w.must(w.db.Workspace().Update(w.Context(), fn))
}

func (w *world) view(fn func(workspace.Tx) error) {
	w.Helper()
	w.must(w.db.Workspace().View(w.Context(), fn))
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// want checks the reason of an error; "" for none.
func (w *world) want(err error, r fault.Reason) {
	w.Helper()
	if got := fault.ReasonOf(err); got != r {
		w.Fatalf("got %q (%v), want %q", got, err, r)
	}
}

func (w *world) create(name string) workspace.Workspace {
	w.Helper()
	ws, err := w.ws.Create(w.Context(), creator, workspace.NewWorkspace{DisplayName: name, Description: "what " + name + " is"})
	w.must(err)
	for _, r := range []struct {
		who  identity.Caller
		role workspace.Role
	}{{member, workspace.Member}, {viewer, workspace.Viewer}} {
		_, err := w.ws.AddRoleAssignment(w.Context(), creator, ws.ID, r.who.Principal, r.who.Type, r.role)
		w.must(err)
	}
	return ws
}

func (w *world) item(ws encryption.ScopeID, name string, t workspace.ItemType) workspace.Item {
	w.Helper()
	i, err := w.ws.CreateItem(w.Context(), member, ws, workspace.NewItem{
		DisplayName: name, Type: t, Description: "about " + name, Definition: &definition,
	})
	w.must(err)
	return i
}

var definition = workspace.Definition{Format: "ipynb", Parts: []workspace.Part{{Path: "notebook-content.py", Payload: []byte("print('hello')")}}}

func (w *world) assign(ws encryption.ScopeID, key string) {
	w.Helper()
	w.must(w.scopes.Assign(w.Context(), creator, ws, w.vault.Create(key).String()))
}

// settle waits until the workspace is in the state.
func (w *world) settle(ws encryption.ScopeID, s encryption.State) encryption.Status {
	w.Helper()
	var st encryption.Status
	for range 600 {
		var err error
		st, err = w.scopes.Status(w.Context(), creator, ws)
		w.must(err)
		if st.State == s {
			return st
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.Fatalf("the workspace did not become %s: %+v", s, st)
	return st
}

func (w *world) entries() []audit.Record {
	w.Helper()
	var all []audit.Record
	w.must(w.db.Audit().View(w.Context(), func(tx audit.Tx) (err error) {
		all, err = tx.AuditRecords(0, 1000)
		return err
	}))
	return all
}
