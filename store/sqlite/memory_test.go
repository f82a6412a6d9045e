package sqlite_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/sqlite"
	"github.com/kluis-io/kluis/workspace"
)

const (
	memoryItem encryption.ItemID = "20000000-0000-4000-8000-000000000000"
	memoryKey  encryption.KeyID  = "a0000000000000000000000000000000"
)

func memoryLake(t *testing.T) *sqlite.DB {
	t.Helper()
	db := open(t, store.PlatformSchema)
	must(t, db.Lake().Update(t.Context(), func(tx lake.Tx) error {
		return errors.Join(
			tx.InsertScope(encryption.Scope{ID: "s", Tenant: "t", Sealing: 1, Epoch: 1}),
			tx.InsertItem(encryption.Item{ID: memoryItem, Scope: "s", Type: "Lakehouse", Generation: 1}),
			tx.InsertKey(encryption.KeyRow{ID: memoryKey, Scope: "s", Item: memoryItem, State: encryption.Current, Sealed: []byte("x")}),
		)
	}))
	return db
}

func nodeID(n int) lake.NodeID { return lake.NodeID(fmt.Sprintf("%032x", n)) }

func mac(n int) (m [32]byte) { m[0] = byte(n); return m }

func nodeRow(n int, size int64) lake.NodeRow {
	return lake.NodeRow{ID: nodeID(n), Item: memoryItem, Kind: lake.File, Key: memoryKey, Size: size, Manifest: []byte{byte(size)}}
}

func folderRow(n int, role lake.Role) lake.FolderRow {
	return lake.FolderRow{ID: nodeID(n), Item: memoryItem, Role: role, Key: memoryKey}
}

func entryRow(id, folder, name int, revision int64) lake.EntryRow {
	return lake.EntryRow{
		ID: nodeID(id), Folder: nodeID(folder), Kind: lake.File, Key: memoryKey, Lookup: mac(name), Revision: revision, Record: []byte{1},
	}
}

func extentRow(n, owner int, size int64) lake.ExtentRow {
	return lake.ExtentRow{
		ID: lake.ExtentID(nodeID(n)), Item: memoryItem, Key: memoryKey, Owner: string(nodeID(owner)), State: lake.Live, Size: size, Inline: []byte{1},
	}
}

// What a transaction recalls is what a query would give, whatever transactions did
// before, those that failed included.
func TestMemoryAgrees(t *testing.T) {
	ctx := t.Context()
	const most = 3
	db := memoryLake(t)
	rapid.Check(t, func(r *rapid.T) {
		must(t, db.Lake().Update(ctx, func(tx lake.Tx) error {
			_, err := tx.DropLakeItem(memoryItem, time.Unix(1, 0), 1000)
			for i := 1; i <= most; i++ {
				err = errors.Join(err, tx.DeleteLakeExtent(lake.ExtentID(nodeID(i))))
			}
			return err
		}))
		n := rapid.IntRange(1, most)
		fail := errors.New("the transaction is given up")
		size := int64(0)
		change := func(r *rapid.T, tx lake.Tx) error {
			size++
			switch rapid.IntRange(0, 10).Draw(r, "change") {
			case 0, 1:
				return tx.PutLakeFolder(folderRow(n.Draw(r, "folder"), rapid.SampledFrom([]lake.Role{lake.Ordinary, lake.Root, lake.Uploads, lake.Deleted}).Draw(r, "role")))
			case 2:
				return tx.DeleteLakeFolder(nodeID(n.Draw(r, "folder")))
			case 3, 4:
				return tx.PutLakeEntry(entryRow(n.Draw(r, "id"), n.Draw(r, "folder"), n.Draw(r, "name"), size))
			case 5:
				return tx.DeleteLakeEntry(nodeID(n.Draw(r, "id")))
			case 6:
				return tx.PutLakeNode(nodeRow(n.Draw(r, "node"), size))
			case 7:
				return tx.DeleteLakeNode(nodeID(n.Draw(r, "node")))
			case 8:
				return tx.PutLakeExtent(extentRow(n.Draw(r, "extent"), n.Draw(r, "owner"), size))
			case 9:
				return tx.DoomLakeExtents(string(nodeID(n.Draw(r, "owner"))), time.Unix(1, 0))
			default:
				_, err := tx.DropLakeItem(memoryItem, time.Unix(1, 0), 2)
				return err
			}
		}
		for range rapid.IntRange(1, 6).Draw(r, "updates") {
			giveUp := rapid.Bool().Draw(r, "give up")
			err := db.Lake().Update(ctx, func(tx lake.Tx) error {
				for range rapid.IntRange(1, 4).Draw(r, "changes") {
					if err := change(r, tx); err != nil {
						return err
					}
					sights(tx, most)
				}
				if giveUp {
					return fail
				}
				return nil
			})
			if giveUp && err == nil {
				r.Fatal("the transaction was not given up")
			}
			var recalled, read []any
			runs := 0
			for range 2 {
				runs = 0
				must(t, db.Lake().View(ctx, func(tx lake.Tx) error { runs++; recalled = sights(tx, most); return nil }))
			}
			must(t, db.LakeUnremembered().View(ctx, func(tx lake.Tx) error { read = sights(tx, most); return nil }))
			if diff := cmp.Diff(read, recalled); diff != "" {
				r.Fatalf("read (-) and recalled (+): %s", diff)
			}
			if runs != 1 {
				r.Fatal("what was just read was not recalled")
			}
		}
	})
}

// sights is all that the look-ups of a transaction give.
func sights(tx lake.Tx, most int) (all []any) {
	for i := 1; i <= most; i++ {
		f, ok, err := tx.LakeFolder(nodeID(i))
		all = append(all, f, ok, err == nil)
		n, ok, err := tx.LakeNode(nodeID(i))
		all = append(all, n, ok, err == nil)
		x, ok, err := tx.LakeExtent(lake.ExtentID(nodeID(i)))
		all = append(all, x, ok, err == nil)
		for j := 1; j <= most; j++ {
			e, ok, err := tx.LakeEntry(nodeID(i), mac(j))
			all = append(all, e, ok, err == nil)
		}
	}
	for _, role := range []lake.Role{lake.Root, lake.Uploads} {
		f, ok, err := tx.LakeFolderAs(memoryItem, role)
		all = append(all, f, ok, err == nil)
	}
	return all
}

// Many read while one writes: each sees one moment, and none what was before a
// write that has been acknowledged.
func TestMemoryUnderWrites(t *testing.T) {
	ctx := t.Context()
	db := memoryLake(t)
	write := func(size int64) {
		must(t, db.Lake().Update(ctx, func(tx lake.Tx) error {
			return errors.Join(tx.PutLakeNode(nodeRow(1, size)), tx.PutLakeNode(nodeRow(2, size)), tx.PutLakeExtent(extentRow(1, 1, size)))
		}))
	}
	write(1)
	var mu sync.Mutex
	acknowledged := int64(1)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				least := acknowledged
				mu.Unlock()
				var sizes [3]int64
				err := db.Lake().View(ctx, func(tx lake.Tx) error {
					first, _, err := tx.LakeNode(nodeID(1))
					if err != nil {
						return err
					}
					if i%2 == 0 { // what is never remembered comes from SQLite's snapshot
						if _, err := tx.LakeStagedNext(nodeID(1)); err != nil {
							return err
						}
					}
					second, _, err := tx.LakeNode(nodeID(2))
					if err != nil {
						return err
					}
					x, _, err := tx.LakeExtent(lake.ExtentID(nodeID(1)))
					sizes = [3]int64{first.Size, second.Size, x.Size}
					return err
				})
				if err != nil || sizes[0] != sizes[1] || sizes[0] != sizes[2] || sizes[0] < least {
					t.Errorf("sizes %v in one transaction, %d was acknowledged: %v", sizes, least, err)
					return
				}
			}
		})
	}
	for size := int64(2); size < 150; size++ {
		write(size)
		mu.Lock()
		acknowledged = size
		mu.Unlock()
	}
	close(stop)
	readers.Wait()
}

// A role that is taken away, and a scope that is revoked, is so for the next
// transaction.
func TestMemoryForgetsRights(t *testing.T) {
	ctx := t.Context()
	db := memoryLake(t)
	as := rbac.Assignment{ID: "40000000-0000-4000-8000-000000000000", Tenant: "t", Principal: "p", Role: "r", Scope: "/workspaces/s"}
	held := func() (roles int, serving encryption.Serving) {
		must(t, db.Lake().View(ctx, func(tx lake.Tx) error {
			all, err := tx.RoleAssignments([]identity.PrincipalID{"p"}, "/workspaces/s")
			if err != nil {
				return err
			}
			roles = len(all)
			s, err := tx.Scope("s")
			serving = s.Serving
			return err
		}))
		return roles, serving
	}
	for range 10 {
		must(t, db.Roles().Update(ctx, func(tx rbac.Tx) error { return tx.PutRoleAssignment(as) }))
		for range 2 {
			if n, s := held(); n != 1 || s != "" {
				t.Fatalf("%d roles, serving %q", n, s)
			}
		}
		must(t, db.Roles().Update(ctx, func(tx rbac.Tx) error { return tx.DeleteRoleAssignment(as.ID) }))
		if n, _ := held(); n != 0 {
			t.Fatal("a role that was taken away is still held")
		}
		for _, serving := range []encryption.Serving{encryption.Revoked, ""} {
			must(t, db.Encryption().Update(ctx, func(tx encryption.Tx) error {
				s, err := tx.Scope("s")
				s.Serving = serving
				return errors.Join(err, tx.UpdateScope(s, s.Epoch))
			}))
			if _, s := held(); s != serving {
				t.Fatalf("serving %q, want %q", s, serving)
			}
		}
	}
}

// A scope's row has its tenant's bound, which is another table's.
func TestMemoryForgetsBounds(t *testing.T) {
	ctx := t.Context()
	db := memoryLake(t)
	for _, seconds := range []int64{30, 45} {
		must(t, db.Workspace().View(ctx, func(tx workspace.Tx) error { _, err := tx.Scope("s"); return err }))
		must(t, db.Workspace().Update(ctx, func(tx workspace.Tx) error {
			return tx.PutTenantSetting(workspace.SettingRow{Tenant: "t", Name: encryption.SettingBound, Value: seconds})
		}))
		must(t, db.Lake().View(ctx, func(tx lake.Tx) error {
			s, err := tx.Scope("s")
			if want := time.Duration(seconds) * time.Second; s.TenantBound != want {
				t.Errorf("the tenant's bound is %s, want %s", s.TenantBound, want)
			}
			return err
		}))
	}
}

// What is remembered does not grow without bound.
func TestMemoryIsBounded(t *testing.T) {
	ctx := t.Context()
	db := memoryLake(t)
	for i := range 150 {
		must(t, db.Lake().Update(ctx, func(tx lake.Tx) error {
			for j := range 20 {
				n := nodeRow(i*20+j+1, 1)
				n.Manifest = make([]byte, 12<<10)
				if err := tx.PutLakeNode(n); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	if rows, bytes := db.Remembered(); rows == 0 || bytes > 16<<20 {
		t.Errorf("%d rows of %d bytes are remembered", rows, bytes)
	}
}
