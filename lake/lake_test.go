package lake_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/faulty"
	"github.com/kluis-io/kluis/objstore/servertest"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

const (
	tenant  = identity.TenantID("11111111-1111-4111-8111-111111111111")
	wsID    = encryption.ScopeID("22222222-2222-4222-8222-222222222222")
	lakeID  = encryption.ItemID("33333333-3333-4333-8333-333333333333")
	otherID = encryption.ItemID("44444444-4444-4444-8444-444444444444")
	keyID   = "https://v.vault.example/keys/k"
)

const accountPath = rbac.Scope("/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct1")

// testRoot derives from a fixed key.
type testRoot struct{}

func (testRoot) ID() string       { return "root" }
func (testRoot) Instance() string { return "instance" }
func (testRoot) Derive(purpose string) *envelope.Key {
	k := envelope.Key(sha256.Sum256([]byte("root" + purpose)))
	return &k
}

// testVault wraps under a key of its own, and says no when told to.
type testVault struct {
	key *envelope.Key
	no  atomic.Bool
}

func (v *testVault) answer() error {
	if v.no.Load() {
		return fault.New(fault.KEKRefused, "The vault says no.")
	}
	return nil
}

func (v *testVault) Latest(context.Context, string, kek.KeyIdentifier) (kek.KeyInfo, error) {
	return kek.KeyInfo{
		KID: keyID + "/0123456789abcdef0123456789abcdef", Type: "RSA", Size: 3072, Enabled: true, RecoveryLevel: "Recoverable",
		Ops: []string{"wrapKey", "unwrapKey"}, Algorithm: "RSA-OAEP-256",
	}, v.answer()
}

func (v *testVault) Wrap(_ context.Context, _ string, _ kek.KID, _ kek.Algorithm, share []byte) ([]byte, error) {
	return envelope.Seal(v.key, envelope.NewContext("test"), share), v.answer()
}

func (v *testVault) Unwrap(_ context.Context, _ string, _ kek.KID, _ kek.Algorithm, wrapped []byte) ([]byte, error) {
	if err := v.answer(); err != nil {
		return nil, err
	}
	return envelope.Open(v.key, envelope.NewContext("test"), wrapped)
}

func (v *testVault) Changes(ctx context.Context, _ string, _ kek.KeyIdentifier, _ string, wait time.Duration) (kek.Changes, error) {
	return kek.Changes{}, fault.New(fault.NotSupported, "No feed.")
}

// catalog is one workspace with two items.
type catalog struct{ container lake.Container }

var items = []lake.Item{{ID: lakeID, Type: "Lakehouse", Name: "lh"}, {ID: otherID, Type: "Notebook", Name: "nb"}}

func (c catalog) Workspaces(_ context.Context, t identity.TenantID) ([]lake.Container, error) {
	return []lake.Container{c.container}, nil
}

func (c catalog) FindWorkspace(_ context.Context, t identity.TenantID, nameOrID string) (lake.Container, error) {
	if t != tenant || nameOrID != c.container.Name && nameOrID != string(wsID) {
		return lake.Container{}, fault.New(fault.WorkspaceNotFound, "")
	}
	return c.container, nil
}

func (c catalog) FindAccount(_ context.Context, name string) (lake.Container, error) {
	if name != "acct1" {
		return lake.Container{}, fault.New(fault.ResourceNotFound, "")
	}
	// The same scope as the workspace's, with rights of its own.
	return lake.Container{ID: wsID, Tenant: tenant, Name: name, Path: accountPath}, nil
}

func (c catalog) FindItem(_ context.Context, _ *encryption.Use, _ encryption.ScopeID, segment string) (lake.Item, error) {
	for _, i := range items {
		if segment == string(i.ID) || strings.EqualFold(segment, i.Segment()) {
			return i, nil
		}
	}
	return lake.Item{}, fault.New(fault.ItemNotFound, "")
}

func (c catalog) ItemsOf(context.Context, *encryption.Use, encryption.ScopeID) ([]lake.Item, error) {
	return items, nil
}

// recorder makes entries durable through the database, as the real one does.
type recorder struct {
	store  lake.Store
	broken atomic.Bool
	mu     sync.Mutex
	last   audit.Entry
}

func (r *recorder) Record(ctx context.Context, e audit.Entry) error {
	if r.broken.Load() {
		return errors.New("the audit log is full")
	}
	r.mu.Lock()
	r.last = e
	r.mu.Unlock()
	return r.store.Update(ctx, func(tx lake.Tx) error { return tx.AppendAudit(e) })
}

// A platform is a lake with all that it needs, in a folder.
type platform struct {
	*lake.Lake
	dir      string
	db       *enginetest.DB
	objects  *faulty.Store
	ring     *encryption.Keyring
	scopes   *encryption.Scopes
	vault    *testVault
	recorder *recorder
	now      atomic.Int64 // hours that the lake's clock is ahead
	lease    time.Duration
	caller   identity.Caller
	watch    func(context.Context, store.Cost) // told of every transaction; nil if nobody is
}

// logging is what a test and a rapid check have in common.
type logging interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Cleanup(func())
	Context() context.Context
}

func start(t logging, dir string) *platform {
	t.Helper()
	return startLeased(t, dir, time.Minute)
}

func startLeased(t logging, dir string, lease time.Duration) *platform {
	t.Helper()
	p := &platform{dir: dir, vault: &testVault{key: envelope.NewKey()}, lease: lease}
	p.caller = identity.Caller{Tenant: tenant, Principal: "55555555-5555-4555-8555-555555555555", Type: identity.User}
	p.open(t)
	must(t, p.db.Lake().Update(t.Context(), func(tx lake.Tx) error {
		keys, err := p.ring.NewScope(wsID, tenant)
		if err != nil {
			return err
		}
		if err := keys.Insert(tx); err != nil {
			return err
		}
		return tx.PutRoleAssignment(rbac.Assignment{
			ID: "66666666-6666-4666-8666-666666666666", Tenant: tenant, Principal: p.caller.Principal, PrincipalType: identity.User,
			Role: rbac.WorkspaceAdmin, Scope: rbac.Scope("/workspaces/" + string(wsID)), Created: time.Now(),
		})
	}))
	u, err := p.ring.Use(t.Context(), wsID)
	must(t, err)
	for _, i := range items {
		keys, err := u.NewItem(i.ID, i.Type)
		must(t, err)
		must(t, p.db.Lake().Update(t.Context(), func(tx lake.Tx) error { return keys.Insert(tx) }))
	}
	return p
}

// open opens, or opens again, what is in the folder.
func (p *platform) open(t logging) {
	t.Helper()
	var err error
	p.db, err = enginetest.Open(t.Context(), filepath.Join(p.dir, "platform.db"), store.PlatformSchema)
	must(t, err)
	t.Cleanup(func() { p.db.Close() })
	if p.watch != nil {
		p.db.Domains = p.db.Watched(p.watch)
	}
	objects, err := servertest.Objects(t.Context(), filepath.Join(p.dir, "objects"))
	must(t, err)
	p.objects = faulty.Wrap(objects, nil)
	p.recorder = &recorder{store: p.db.Lake()}
	p.ring = encryption.NewKeyring(encryption.Config{
		Store: p.db.Encryption(), Root: testRoot{}, Vault: p.vault, Recorder: p.recorder,
		Policy: kek.Policy{Suffixes: []string{".vault.example"}}, Lease: p.lease,
	})
	p.Lake = lake.New(lake.Config{
		Store: p.db.Lake(), Objects: p.objects, Keys: p.ring, Recorder: p.recorder,
		Catalog: catalog{lake.Container{ID: wsID, Tenant: tenant, Name: "ws", Modified: time.Now()}},
		Now:     func() time.Time { return time.Now().Add(time.Duration(p.now.Load()) * time.Hour) },
	})
	p.scopes = encryption.NewScopes(p.ring, rbac.PlatformRoles, func(string) bool { return true }, p.Lake, others{})
}

// others stands for the domains that keep the rest under the keys: nothing.
type others struct{}

func (others) Reencrypt(context.Context, *encryption.Job) error { return nil }

func must(t logging, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantReason(t *testing.T, err error, want fault.Reason) {
	t.Helper()
	if got := fault.ReasonOf(err); got != want {
		t.Helper()
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}

// at is a path below the lakehouse.
func at(path string) lake.Path {
	p, err := lake.ParsePath("/ws/lh.Lakehouse/" + path)
	if err != nil {
		panic(err)
	}
	return p
}

func (p *platform) put(t logging, path string, body []byte) lake.Properties {
	t.Helper()
	props, err := p.Put(t.Context(), p.caller, at(path), bytes.NewReader(body), int64(len(body)), lake.PutOptions{})
	must(t, err)
	return props
}

func (p *platform) get(ctx context.Context, path string, r lake.Range) ([]byte, error) {
	c, err := p.Open(ctx, p.caller, at(path), lake.Conditions{}, r)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var b bytes.Buffer
	n, err := c.WriteTo(&b)
	if err == nil && (n != c.Length || int64(b.Len()) != n) {
		err = fmt.Errorf("%d bytes came, %d were promised", b.Len(), c.Length)
	}
	return b.Bytes(), err
}

func (p *platform) wantContent(t logging, path string, want []byte) {
	t.Helper()
	got, err := p.get(t.Context(), path, lake.Range{})
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes came back as %d others", path, len(want), len(got))
	}
}

// assign puts the workspace under the customer's key and waits until all of it
// is.
func (p *platform) assign(t logging) {
	t.Helper()
	must(t, p.scopes.Assign(t.Context(), p.caller, wsID, keyID))
	p.settle(t)
}

// settle lets the state machine work until every item is done.
func (p *platform) settle(t logging) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { p.scopes.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	for {
		states := p.behind(t)
		if len(states) == 0 {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("items are still behind: %v", states)
		}
		p.scopes.Wake()
		time.Sleep(5 * time.Millisecond)
	}
}

// behind tells of the items that are not under the sealing generation.
func (p *platform) behind(t logging) (states []string) {
	t.Helper()
	must(t, p.db.Encryption().View(t.Context(), func(tx encryption.Tx) error {
		scope, err := tx.Scope(wsID)
		if err != nil {
			return err
		}
		states = nil
		items, err := tx.ItemStates(wsID)
		for _, i := range items {
			if i.Generation != scope.Sealing {
				states = append(states, fmt.Sprint(i.ID, i.Reason, i.Detail, i.Progress))
			}
		}
		return err
	}))
	return states
}

func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

var sizes = []int{0, 1, 100, lake.MaxInline, lake.MaxInline + 1, 100_000, 1 << 20, 1<<20 + 1, 3_000_000}

func TestPutAndRead(t *testing.T) {
	defer lake.SetMaxExtent(1 << 20)()
	p := start(t, t.TempDir())
	for _, n := range sizes {
		path := fmt.Sprintf("Files/deep/er/%d.bin", n)
		body := random(n, uint64(n))
		for _, size := range []int64{int64(n), -1} {
			props, err := p.Put(t.Context(), p.caller, at(path), io.MultiReader(bytes.NewReader(body)), size, lake.PutOptions{
				Headers: lake.ContentHeaders{Type: "text/x"}, Metadata: map[string]string{"a": "b"},
			})
			must(t, err)
			if *props.CRC64 != lake.CRC64(0, body) {
				t.Errorf("%d bytes: CRC64 is %x, want %x", n, *props.CRC64, lake.CRC64(0, body))
			}
			got, err := p.Stat(t.Context(), p.caller, at(path), lake.Conditions{})
			must(t, err)
			if got.Size != int64(n) || got.ETag != props.ETag || got.Headers.Type != "text/x" || got.Metadata["a"] != "b" ||
				got.Name != "lh.Lakehouse/"+path || got.Kind != lake.File {
				t.Errorf("%d bytes: %+v", n, got)
			}
		}
		p.wantContent(t, path, body)
		for _, r := range []lake.Range{{Offset: 0, Count: 1}, {Offset: int64(n) / 2, Count: 10}, {Offset: int64(n) - 1}, {Offset: 1<<20 - 5, Count: 10}, {Offset: 16380, Count: 16390}} {
			got, err := p.get(t.Context(), path, r)
			if r.Offset < 0 || r.Offset >= int64(n) {
				if err == nil {
					t.Errorf("%d bytes: range %v gives %d bytes", n, r, len(got))
				}
				continue
			}
			must(t, err)
			want := body[r.Offset:]
			if r.Count > 0 {
				want = want[:min(int64(len(want)), r.Count)]
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes: range %v gives %d bytes", n, r, len(got))
			}
		}
	}
}

func TestBodyIsChecked(t *testing.T) {
	p := start(t, t.TempDir())
	crc := uint64(1)
	for name, tc := range map[string]struct {
		body io.Reader
		size int64
		h    lake.Hashes
		want fault.Reason
	}{
		"short": {strings.NewReader("abc"), 4, lake.Hashes{}, fault.InvalidArgument},
		"long":  {strings.NewReader("abc"), 2, lake.Hashes{}, fault.InvalidArgument},
		"md5":   {strings.NewReader("abc"), 3, lake.Hashes{MD5: make([]byte, 16)}, fault.HashMismatch},
		"crc":   {strings.NewReader("abc"), 3, lake.Hashes{CRC64: &crc}, fault.HashMismatch},
		"cut":   {io.MultiReader(bytes.NewReader(random(100_000, 1)), broken{}), -1, lake.Hashes{}, fault.InvalidArgument},
	} {
		_, err := p.Put(t.Context(), p.caller, at("Files/"+name), tc.body, tc.size, lake.PutOptions{Hashes: tc.h})
		wantReason(t, err, tc.want)
		_, err = p.Stat(t.Context(), p.caller, at("Files/"+name), lake.Conditions{})
		wantReason(t, err, fault.PathNotFound)
	}
	p.wantNoStaged(t)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// wantNoStaged checks that failed uploads leave nothing but what is due.
func (p *platform) wantNoStaged(t logging) {
	t.Helper()
	must(t, p.db.Lake().View(t.Context(), func(tx lake.Tx) error {
		for _, owned := range []bool{true, false} {
			rows, err := tx.LakeStagedSince(owned, time.Now().Add(time.Hour), 10)
			if err != nil || len(rows) > 0 {
				t.Fatalf("%d staged rows are left, %v", len(rows), err)
			}
		}
		lost, err := tx.LakeExtentsLost(time.Now().Add(time.Hour), 10)
		if err == nil && len(lost) > 0 {
			t.Fatalf("%d lost extents", len(lost))
		}
		return err
	}))
}

func TestConditions(t *testing.T) {
	p := start(t, t.TempDir())
	props := p.put(t, "Files/a", []byte("one"))
	put := func(c lake.Conditions) error {
		_, err := p.Put(t.Context(), p.caller, at("Files/a"), strings.NewReader("two"), 3, lake.PutOptions{Conditions: c})
		return err
	}
	wantReason(t, put(lake.Conditions{IfNoneMatch: "*"}), fault.PathExists)
	wantReason(t, put(lake.Conditions{IfMatch: `"0x1"`}), fault.PreconditionFailed)
	wantReason(t, put(lake.Conditions{IfUnmodifiedSince: time.Now().Add(-time.Hour)}), fault.PreconditionFailed)
	wantReason(t, put(lake.Conditions{IfModifiedSince: time.Now().Add(time.Hour)}), fault.PreconditionFailed)
	stat := func(c lake.Conditions) error { _, err := p.Stat(t.Context(), p.caller, at("Files/a"), c); return err }
	wantReason(t, stat(lake.Conditions{IfNoneMatch: props.ETag}), fault.NotModified)
	wantReason(t, stat(lake.Conditions{IfModifiedSince: time.Now().Add(time.Second)}), fault.NotModified)
	wantReason(t, stat(lake.Conditions{IfMatch: `"0x1", ` + props.ETag}), "")
	wantReason(t, put(lake.Conditions{IfMatch: props.ETag}), "")
	wantReason(t, put(lake.Conditions{IfMatch: props.ETag}), fault.PreconditionFailed)
	_, err := p.Put(t.Context(), p.caller, at("Files/new"), strings.NewReader(""), 0, lake.PutOptions{Conditions: lake.Conditions{IfMatch: "*"}})
	wantReason(t, err, fault.PreconditionFailed)
}

// Of many who create the same file if it is absent, one succeeds.
func TestCreateIfAbsent(t *testing.T) {
	p := start(t, t.TempDir())
	var wins atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := p.Put(t.Context(), p.caller, at("Files/log/0.json"), strings.NewReader(fmt.Sprint(i)), -1,
				lake.PutOptions{Conditions: lake.Conditions{IfNoneMatch: "*"}})
			if err == nil {
				wins.Add(1)
			} else if fault.ReasonOf(err) != fault.PathExists {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d of 8 created the file", wins.Load())
	}
}

func TestManagedPaths(t *testing.T) {
	p := start(t, t.TempDir())
	ctx := t.Context()
	for _, path := range []string{"", "Files", "Tables", "Other", "Other/x"} {
		_, err := p.Put(ctx, p.caller, at(path), strings.NewReader("x"), 1, lake.PutOptions{})
		wantReason(t, err, fault.ManagedPath)
		_, err = p.Create(ctx, p.caller, at(path), lake.Folder, lake.PutOptions{})
		wantReason(t, err, fault.ManagedPath)
		if !strings.Contains(path, "/") {
			wantReason(t, p.Delete(ctx, p.caller, at(path), true, lake.Conditions{}), fault.ManagedPath)
		}
	}
	_, err := p.Create(ctx, p.caller, at("Files"), lake.Folder, lake.PutOptions{Conditions: lake.Conditions{IfNoneMatch: "*"}})
	wantReason(t, err, fault.PathExists)
	for path, want := range map[string]fault.Reason{"": "", "Files": "", "Tables": "", "Other": fault.PathNotFound, "Files/x": fault.PathNotFound} {
		props, err := p.Stat(ctx, p.caller, at(path), lake.Conditions{})
		wantReason(t, err, want)
		if err == nil && props.Kind != lake.Folder {
			t.Errorf("%q is no folder", path)
		}
	}
	p.put(t, "Files/x", nil)
	_, err = p.Rename(ctx, p.caller, at("Files"), at("Files/y"), lake.RenameOptions{})
	wantReason(t, err, fault.ManagedPath)
	_, err = p.Rename(ctx, p.caller, at("Files/x"), at("x"), lake.RenameOptions{})
	wantReason(t, err, fault.ManagedPath)
	other, _ := lake.ParsePath("/ws/nb.Notebook/Files/x")
	_, err = p.Rename(ctx, p.caller, at("Files/x"), other, lake.RenameOptions{})
	wantReason(t, err, fault.NotSupported)
}

func TestWhoMay(t *testing.T) {
	p := start(t, t.TempDir())
	p.put(t, "Files/x", []byte("x"))
	stranger := p.caller
	stranger.Principal = "77777777-7777-4777-8777-777777777777"
	_, err := p.Stat(t.Context(), stranger, at("Files/x"), lake.Conditions{})
	wantReason(t, err, fault.Denied)
	if p.recorder.last.Outcome != audit.Denied || p.recorder.last.Principal != string(stranger.Principal) {
		t.Errorf("the denial is recorded as %+v", p.recorder.last)
	}
	foreign := p.caller
	foreign.Tenant = "88888888-8888-4888-8888-888888888888"
	_, err = p.Stat(t.Context(), foreign, at("Files/x"), lake.Conditions{})
	wantReason(t, err, fault.ContainerNotFound)
	p.recorder.broken.Store(true)
	_, err = p.get(t.Context(), "Files/x", lake.Range{})
	wantReason(t, err, fault.AuditFailed)
}

func TestBlocks(t *testing.T) {
	defer lake.SetMaxExtent(100_000)()
	p := start(t, t.TempDir())
	ctx := t.Context()
	path := at("Files/blocks.bin")
	parts := map[string][]byte{"AAAA": random(10, 1), "BBBB": random(50_000, 2), "CCCC": random(250_000, 3)}
	for id, b := range parts {
		crc, err := p.StageBlock(ctx, p.caller, path, id, bytes.NewReader(b), int64(len(b)), lake.StageOptions{})
		must(t, err)
		if crc != lake.CRC64(0, b) {
			t.Error("wrong CRC64 of a block")
		}
	}
	_, err := p.Stat(ctx, p.caller, path, lake.Conditions{})
	wantReason(t, err, fault.PathNotFound)
	list, err := p.Lake.List(ctx, p.caller, at("Files"), lake.ListOptions{})
	must(t, err)
	if len(list.Entries) > 0 {
		t.Errorf("uncommitted blocks are listed: %v", list.Entries)
	}
	commit := func(blocks ...lake.BlockRef) error {
		props, err := p.CommitBlocks(ctx, p.caller, path, blocks, lake.PutOptions{})
		if err == nil && props.CRC64 == nil {
			t.Error("a file of a few blocks has no CRC64")
		}
		return err
	}
	wantReason(t, commit(lake.BlockRef{ID: "DDDD"}), fault.InvalidBlockList)
	wantReason(t, commit(lake.BlockRef{ID: "AAAA", Source: lake.Committed}), fault.InvalidBlockList)
	must(t, commit(lake.BlockRef{ID: "CCCC"}, lake.BlockRef{ID: "AAAA", Source: lake.Uncommitted}))
	p.wantContent(t, "Files/blocks.bin", append(bytes.Clone(parts["CCCC"]), parts["AAAA"]...))
	p.wantNoStaged(t)

	// A committed block stays where it is while new ones come around it.
	_, err = p.StageBlock(ctx, p.caller, path, "BBBB", bytes.NewReader(parts["BBBB"]), -1, lake.StageOptions{})
	must(t, err)
	_, err = p.StageBlock(ctx, p.caller, path, "EEEE", strings.NewReader("first"), -1, lake.StageOptions{})
	must(t, err)
	_, err = p.StageBlock(ctx, p.caller, path, "EEEE", strings.NewReader("second"), -1, lake.StageOptions{})
	must(t, err)
	blocks, err := p.Blocks(ctx, p.caller, path)
	must(t, err)
	if fmt.Sprint(blocks.Committed, blocks.Uncommitted) != "[{CCCC 250000} {AAAA 10}] [{BBBB 50000} {EEEE 6}]" {
		t.Errorf("blocks: %v %v", blocks.Committed, blocks.Uncommitted)
	}
	must(t, commit(lake.BlockRef{ID: "BBBB"}, lake.BlockRef{ID: "CCCC", Source: lake.Committed}, lake.BlockRef{ID: "EEEE"}))
	want := append(append(bytes.Clone(parts["BBBB"]), parts["CCCC"]...), "second"...)
	p.wantContent(t, "Files/blocks.bin", want)
	props, err := p.Stat(ctx, p.caller, path, lake.Conditions{})
	must(t, err)
	if *props.CRC64 != lake.CRC64(0, want) {
		t.Error("the CRC64 of a file of blocks is not that of its content")
	}
}

func TestAppendAndFlush(t *testing.T) {
	p := start(t, t.TempDir())
	ctx := t.Context()
	path := at("Files/append.bin")
	_, err := p.Append(ctx, p.caller, path, 0, strings.NewReader("x"), 1, lake.StageOptions{})
	wantReason(t, err, fault.PathNotFound)
	_, err = p.Create(ctx, p.caller, path, lake.File, lake.PutOptions{})
	must(t, err)
	a, b := random(100_000, 1), random(30, 2)
	for pos, part := range map[int64][]byte{100_000: b, 0: a} { // in any order
		_, err := p.Append(ctx, p.caller, path, pos, bytes.NewReader(part), int64(len(part)), lake.StageOptions{})
		must(t, err)
	}
	p.wantContent(t, "Files/append.bin", nil)
	_, err = p.Flush(ctx, p.caller, path, 100_031, lake.FlushOptions{})
	wantReason(t, err, fault.InvalidPosition)
	_, err = p.Flush(ctx, p.caller, path, 99, lake.FlushOptions{})
	wantReason(t, err, fault.InvalidPosition)
	_, err = p.Flush(ctx, p.caller, path, 100_000, lake.FlushOptions{KeepUncommitted: true})
	must(t, err)
	p.wantContent(t, "Files/append.bin", a)
	props, err := p.Flush(ctx, p.caller, path, 100_030, lake.FlushOptions{Headers: &lake.ContentHeaders{Type: "x/y"}})
	must(t, err)
	want := append(bytes.Clone(a), b...)
	if *props.CRC64 != lake.CRC64(0, want) || props.Headers.Type != "x/y" {
		t.Errorf("after the flush: %+v", props)
	}
	p.wantContent(t, "Files/append.bin", want)
	p.wantNoStaged(t)
}

// A folder's rename touches one entry, however much is below it.
func TestRenameIsOneRow(t *testing.T) {
	p := start(t, t.TempDir())
	ctx := t.Context()
	for i := range 20 {
		p.put(t, fmt.Sprintf("Files/from/sub/%d", i), []byte(fmt.Sprint(i)))
	}
	_, err := p.Create(ctx, p.caller, at("Files/into"), lake.Folder, lake.PutOptions{})
	must(t, err)
	before := p.rows(t)
	_, err = p.Rename(ctx, p.caller, at("Files/from"), at("Files/into/to"), lake.RenameOptions{})
	must(t, err)
	var changed int
	for id, row := range p.rows(t) {
		if before[id] != row {
			changed++
		}
	}
	if changed != 1 {
		t.Errorf("the rename changed %d entries", changed)
	}
	p.wantContent(t, "Files/into/to/sub/7", []byte("7"))
	_, err = p.Stat(ctx, p.caller, at("Files/from"), lake.Conditions{})
	wantReason(t, err, fault.PathNotFound)
	_, err = p.Rename(ctx, p.caller, at("Files/into"), at("Files/into/to/x"), lake.RenameOptions{})
	wantReason(t, err, fault.InvalidRename)
	_, err = p.Rename(ctx, p.caller, at("Files/none"), at("Files/x"), lake.RenameOptions{})
	wantReason(t, err, fault.SourceNotFound)
	_, err = p.Rename(ctx, p.caller, at("Files/into"), at("Files/nowhere/x"), lake.RenameOptions{})
	wantReason(t, err, fault.PathNotFound)
	p.put(t, "Files/file", []byte("f"))
	_, err = p.Rename(ctx, p.caller, at("Files/file"), at("Files/into"), lake.RenameOptions{})
	wantReason(t, err, fault.PathConflict)
	_, err = p.Rename(ctx, p.caller, at("Files/file"), at("Files/into/to/sub/7"), lake.RenameOptions{Conditions: lake.Conditions{IfNoneMatch: "*"}})
	wantReason(t, err, fault.PathExists)
	_, err = p.Rename(ctx, p.caller, at("Files/file"), at("Files/into/to/sub/7"), lake.RenameOptions{})
	must(t, err)
	p.wantContent(t, "Files/into/to/sub/7", []byte("f"))
	_, err = p.Rename(ctx, p.caller, at("Files/into/to/sub/7"), at("Tables/t"), lake.RenameOptions{}) // Tables holds nothing yet
	must(t, err)
	p.wantContent(t, "Tables/t", []byte("f"))
}

// rows returns the item's entries as text, by id.
func (p *platform) rows(t logging) map[lake.NodeID]string {
	t.Helper()
	out := map[lake.NodeID]string{}
	var walk func(tx lake.Tx, f lake.NodeID) error
	walk = func(tx lake.Tx, f lake.NodeID) error {
		entries, err := tx.LakeEntriesUnder(f, "", -1)
		for _, e := range entries {
			out[e.ID] = fmt.Sprint(e)
			if e.Kind == lake.Folder && err == nil {
				err = walk(tx, e.ID)
			}
		}
		return err
	}
	must(t, p.db.Lake().View(t.Context(), func(tx lake.Tx) error {
		root, _, err := tx.LakeFolderAs(lakeID, lake.Root)
		if err != nil {
			return err
		}
		return walk(tx, root.ID)
	}))
	return out
}

// countObjects tells how many objects are on the disk.
func (p *platform) countObjects(t logging) (n int) {
	t.Helper()
	must(t, p.objects.List(t.Context(), func(string, time.Time) error { n++; return nil }))
	return n
}

// grep tells which files of the platform hold one of the needles.
func (p *platform) grep(t logging, needles ...string) (found []string) {
	t.Helper()
	search := func(b []byte, where string) {
		for _, n := range needles {
			if bytes.Contains(b, []byte(n)) || strings.Contains(where, n) {
				found = append(found, n+" in "+filepath.Base(where))
			}
		}
	}
	must(t, filepath.WalkDir(p.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		search(b, path)
		return err
	}))
	for id, b := range p.stored(t) {
		search(b, id)
	}
	rows, err := p.db.Contents(context.Background())
	must(t, err)
	search(rows, "the database")
	return found
}

// stored returns what is in the object store, by id.
func (p *platform) stored(t logging) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	must(t, p.objects.List(t.Context(), func(id string, _ time.Time) error {
		o, err := p.objects.Open(t.Context(), id)
		if err != nil {
			return err
		}
		defer o.Close()
		all[id], err = io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
		return err
	}))
	return all
}

// replace puts something else in an object's place, as who has the store can.
func (p *platform) replace(t logging, id string, with []byte) {
	t.Helper()
	must(t, p.objects.Delete(t.Context(), id))
	w, err := p.objects.Create(t.Context(), id)
	must(t, err)
	_, err = w.Write(with)
	must(t, err)
	must(t, w.Commit())
}
