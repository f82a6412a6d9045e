package workspace_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
	"github.com/kluis-io/kluis/workspace"
)

// vaults are several, each in a directory of its own, reached by its host.
type vaults map[string]*kektest.Vault

func (v vaults) at(host string) *kektest.Vault { return v[host] }

func (v vaults) Latest(ctx context.Context, tenant string, id kek.KeyIdentifier) (kek.KeyInfo, error) {
	return v.at(id.Vault()).Latest(ctx, tenant, id)
}

func (v vaults) Wrap(ctx context.Context, tenant string, kid kek.KID, alg kek.Algorithm, share []byte) ([]byte, error) {
	return v.at(kid.Vault()).Wrap(ctx, tenant, kid, alg, share)
}

func (v vaults) Unwrap(ctx context.Context, tenant string, kid kek.KID, alg kek.Algorithm, wrapped []byte) ([]byte, error) {
	return v.at(kid.Vault()).Unwrap(ctx, tenant, kid, alg, wrapped)
}

func (v vaults) Changes(ctx context.Context, tenant string, id kek.KeyIdentifier, cursor string, wait time.Duration) (kek.Changes, error) {
	return v.at(id.Vault()).Changes(ctx, tenant, id, cursor, wait)
}

// TestTenants is the matrix of five tenants and five keys: a tenant's workspace goes
// under its own tenant's key and no other, though every vault would let the
// platform's principal in, and no tenant learns of another's workspaces.
func TestTenants(t *testing.T) {
	const n = 5
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		db, err := enginetest.Open(ctx, filepath.Join(dir, "platform.db"), store.Schema{"audit", "rbac", "encryption", "workspace"})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		all := vaults{}
		var keys []string
		var people []identity.Caller
		log := &recorder{log: db.Audit()}
		for i := range n {
			tenant := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
			v := kektest.NewVault(t, fmt.Sprint("tenant", i))
			v.BelongTo(tenant)
			all[v.Host()] = v
			keys = append(keys, v.Create("k").String())
			people = append(people, person(identity.TenantID(tenant), 1)) // the same object id in each
		}
		policy := all[strings.Split(strings.TrimPrefix(keys[0], "https://"), "/")[0]].Policy()
		ring := encryption.NewKeyring(encryption.Config{
			Store: db.Encryption(), Root: root{}, Vault: all, Recorder: log, Policy: policy,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		ws := workspace.New(workspace.Config{Store: db.Workspace(), Keys: ring, Audit: log})
		scopes := encryption.NewScopes(ring, rbac.PlatformRoles, ws.Supported, ws)
		scopes.Guard(ws)
		done := make(chan struct{}, 2)
		go func() { ring.Run(ctx); done <- struct{}{} }()
		go func() { scopes.Run(ctx); done <- struct{}{} }()

		var ids []encryption.ScopeID
		for _, p := range people {
			must(ws.Provision(ctx, p.Tenant, rbac.Assignment{Principal: p.Principal, Role: rbac.WorkspaceCreator, Scope: "/"},
				rbac.Assignment{Principal: p.Principal, Role: rbac.TenantAdministrator, Scope: "/"}))
			made, err := ws.Create(ctx, p, workspace.NewWorkspace{DisplayName: "Sales"}) // every tenant has one
			must(err)
			ids = append(ids, made.ID)
		}
		settle := func(i int, s encryption.State) {
			t.Helper()
			for range 100 {
				st, err := scopes.Status(ctx, people[i], ids[i])
				must(err)
				if st.State == s {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			t.Fatalf("workspace %d did not become %s", i, s)
		}
		for i := range n { // the workspace's tenant
			for k := range n { // the key's
				err := scopes.Assign(ctx, people[i], ids[i], keys[k])
				if want := (i == k); (err == nil) != want {
					t.Errorf("tenant %d under the key of tenant %d: %v", i, k, err)
				}
				if i != k && fault.ReasonOf(err) != fault.EncryptionBlocked {
					t.Errorf("tenant %d under the key of tenant %d: %v", i, k, err)
				}
				if i == k {
					settle(i, encryption.Active)
				}
			}
		}
		none := encryption.ScopeID("00000000-0000-4000-8000-00000000dead")
		for i, p := range people {
			for k, id := range ids {
				for what, act := range map[string]func(encryption.ScopeID) error{
					"rotate":  func(id encryption.ScopeID) error { _, err := scopes.Rotate(ctx, p, id); return err },
					"status":  func(id encryption.ScopeID) error { _, err := scopes.Status(ctx, p, id); return err },
					"preview": func(id encryption.ScopeID) error { _, err := scopes.Preview(ctx, p, id, keys[i]); return err },
					"get":     func(id encryption.ScopeID) error { _, err := ws.Get(ctx, p, id); return err },
					"items": func(id encryption.ScopeID) error {
						_, _, err := ws.Items(ctx, p, id, workspace.ItemFilter{}, "", 1)
						return err
					},
				} {
					err := act(id)
					if i == k {
						if err != nil && what != "rotate" {
							t.Errorf("tenant %d: %s of its own: %v", i, what, err)
						}
						if what == "rotate" {
							must(err)
							settle(i, encryption.Active)
						}
						continue
					}
					// Another tenant's is told exactly as one that does not exist.
					if a, b := fault.As(err), fault.As(act(none)); a.Reason != b.Reason || a.Detail != b.Detail || a.Mend != b.Mend {
						t.Errorf("tenant %d: %s of tenant %d's: %v, and of nobody's: %v", i, what, k, a, b)
					}
				}
				impact, err := scopes.Impact(ctx, p, keys[k])
				must(err)
				if want := map[bool]int{true: 1}[i == k]; len(impact) != want {
					t.Errorf("tenant %d: the key of tenant %d protects %d workspaces", i, k, len(impact))
				}
			}
			list, _, err := ws.AdminList(ctx, p, "", 100)
			must(err)
			if len(list) != 1 || list[0].ID != ids[i] {
				t.Errorf("tenant %d sees %v", i, list)
			}
		}
		for i, p := range people {
			for k, id := range ids {
				if err := scopes.Reset(ctx, p, id); (err == nil) != (i == k) {
					t.Errorf("tenant %d resets tenant %d's: %v", i, k, err)
				}
			}
			settle(i, encryption.Disabled)
		}
		stop()
		<-done
		<-done
		time.Sleep(time.Minute)
	})
}
