package storagewire_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/servertest"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/root"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
	"github.com/kluis-io/kluis/workspace"
)

// caller is who the tests' tokens speak for, and the workspace's admin.
var caller = identity.Caller{
	Tenant: "6f1c1e0a-8f3b-4a53-9d0e-2b7c6a1d9e40", Principal: "0d2b7e1c-5a64-4c0f-8b1e-7f3a9c2d6e51", Type: identity.ServicePrincipal,
}

// newLake returns a lake on disk, platform-managed, with the workspace "ws" and the
// item "L.Lakehouse" in it.
func newLake(t *testing.T) *lake.Lake {
	l, _ := newPlatform(t)
	return l
}

// newPlatform returns the lake with the platform's storage accounts, in a subscription
// in which the caller is Contributor.
func newPlatform(t *testing.T) (*lake.Lake, *account.Accounts) {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := enginetest.Open(ctx, filepath.Join(dir, "db"), store.PlatformSchema)
	check(err)
	t.Cleanup(func() { db.Close() })
	signer, verifier, err := audit.CreateSigner(filepath.Join(dir, "audit.key"), "kluis/test/platform")
	check(err)
	log, err := audit.Open(ctx, audit.Config{Store: db.Audit(), Signer: signer, Verifier: verifier, CheckpointPath: filepath.Join(dir, "checkpoint")})
	check(err)
	t.Cleanup(func() { log.Close() })
	r, _, err := root.Create(filepath.Join(dir, "root"), "test", root.DevUnsealed())
	check(err)
	objects, err := servertest.Objects(ctx, filepath.Join(dir, "extents"))
	check(err)

	ring := encryption.NewKeyring(encryption.Config{
		Store: db.Encryption(), Root: r, Recorder: log, Lease: time.Hour, Bound: time.Hour, // nobody renews it here
	})
	workspaces := workspace.New(workspace.Config{Store: db.Workspace(), Keys: ring, Audit: log, Roles: rbac.PlatformRoles})
	check(workspaces.Provision(ctx, caller.Tenant, rbac.Assignment{
		Principal: caller.Principal, PrincipalType: caller.Type, Role: rbac.WorkspaceCreator, Scope: "/",
	}))
	ws, err := workspaces.Create(ctx, caller, workspace.NewWorkspace{DisplayName: "ws"})
	check(err)
	_, err = workspaces.CreateItem(ctx, caller, ws.ID, workspace.NewItem{DisplayName: "L", Type: workspace.Lakehouse})
	check(err)
	var accounts *account.Accounts
	l := lake.New(lake.Config{
		Store: db.Lake(), Objects: objects, Keys: ring, Catalog: catalog{workspaces, &accounts}, Recorder: log, Delegation: r.Derive("test"),
	})
	accounts = account.New(account.Config{
		Store: db.Account(), Root: r, Keys: ring, Encryption: encryption.NewScopes(ring, rbac.PlatformRoles, workspaces.Supported, workspaces, l),
		Audit: log, Subscriptions: []account.Subscription{{ID: subscription, Tenant: caller.Tenant}},
		Principal: func(identity.TenantID) identity.PrincipalID { return "" },
	})
	check(accounts.Provision(ctx, caller.Tenant, rbac.Assignment{
		Principal: caller.Principal, PrincipalType: caller.Type, Role: rbac.Contributor, Scope: "/subscriptions/" + subscription,
	}))
	return l, accounts
}

const subscription = "c5f0a3de-7f0b-4d35-9a55-3f1f0d8a6a01"

// A catalog shows the workspaces to the lake, as the wiring does.
type catalog struct {
	domain   *workspace.Workspaces
	accounts **account.Accounts
}

func (c catalog) Workspaces(ctx context.Context, tenant identity.TenantID) ([]lake.Container, error) {
	all, err := c.domain.WorkspacesOf(ctx, tenant)
	var out []lake.Container
	for _, w := range all {
		out = append(out, lakeContainer(w))
	}
	return out, err
}

func (c catalog) FindAccount(ctx context.Context, name string) (lake.Container, error) {
	if c.accounts == nil {
		return lake.Container{}, fault.ResourceNotFound
	}
	a, err := (*c.accounts).Find(ctx, account.Name(name))
	return lake.Container{ID: a.ID, Tenant: a.Tenant, Name: name, Modified: a.Created, Path: a.Resource}, err
}

func (c catalog) FindWorkspace(ctx context.Context, tenant identity.TenantID, nameOrID string) (lake.Container, error) {
	w, err := c.domain.FindWorkspace(ctx, tenant, nameOrID)
	return lakeContainer(w), err
}

func (c catalog) FindItem(ctx context.Context, u *encryption.Use, ws encryption.ScopeID, segment string) (lake.Item, error) {
	i, err := c.domain.FindItem(ctx, u, ws, segment)
	return lakeItem(i), err
}

func (c catalog) ItemsOf(ctx context.Context, u *encryption.Use, ws encryption.ScopeID) ([]lake.Item, error) {
	all, err := c.domain.ItemsOf(ctx, u, ws)
	var out []lake.Item
	for _, i := range all {
		out = append(out, lakeItem(i))
	}
	return out, err
}

func lakeContainer(w workspace.Workspace) lake.Container {
	return lake.Container{ID: w.ID, Tenant: w.Tenant, Name: w.DisplayName, Modified: w.Created}
}

func lakeItem(i workspace.Item) lake.Item {
	return lake.Item{ID: i.ID, Type: string(i.Type), Name: i.DisplayName}
}
