package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

const tenant = identity.TenantID(kektest.Tenant)

var admin = identity.Caller{Tenant: tenant, Principal: "admin", Type: identity.User}

// A platform is the real thing on virtual time: keyrings and state machines over a
// database, and a vault in memory whose cryptography is cheap.
type platform struct {
	*testing.T
	vault  *kektest.Vault
	db     *enginetest.DB
	rings  []*encryption.Keyring
	jobs   []*encryption.Scopes
	scopes []encryption.ScopeID
	work   *work
	stop   func()

	mu    sync.Mutex
	asked map[kek.Op]int64
	peak  map[time.Time]int
}

type testRoot struct{}

func (testRoot) ID() string       { return "root" }
func (testRoot) Instance() string { return "instance" }
func (testRoot) Derive(purpose string) *envelope.Key {
	k := envelope.Key(sha256.Sum256([]byte(purpose)))
	return &k
}

// unrecorded is the audit's recorder: the tests count, and look at nothing.
type unrecorded struct{}

func (unrecorded) Record(context.Context, audit.Entry) error { return nil }

// work is a domain's content: each item takes its time.
type work struct {
	each  time.Duration
	mu    sync.Mutex
	calls map[encryption.ItemID]int
}

func (w *work) Reencrypt(ctx context.Context, job *encryption.Job) error {
	w.mu.Lock()
	w.calls[job.Item]++
	w.mu.Unlock()
	time.Sleep(w.each)
	return job.Check()
}

// open opens a platform of n scopes, all under one key, with some items each, and of
// several processes.
func open(t *testing.T, s size, items int) *platform {
	t.Helper()
	p := &platform{T: t, vault: kektest.NewVault(t, "contoso"), work: &work{each: 4 * time.Second, calls: map[encryption.ItemID]int{}},
		asked: map[kek.Op]int64{}, peak: map[time.Time]int{}}
	p.vault.Cheap()
	p.vault.Create("a")
	p.vault.WithoutFeed()
	var err error
	p.db, err = enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "platform.db"), store.PlatformSchema)
	p.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range s.Replicas {
		ring := encryption.NewKeyring(encryption.Config{
			Store: p.db.Encryption(), Root: testRoot{}, Vault: p.vault, Recorder: unrecorded{}, Policy: p.vault.Policy(),
			Lease: s.Lease, Bound: s.Bound, Budget: s.Budget, Replicas: s.Replicas, Watch: p.watch, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		jobs := encryption.NewScopes(ring, rbac.PlatformRoles, func(string) bool { return true }, p.work)
		p.rings, p.jobs = append(p.rings, ring), append(p.jobs, jobs)
		running.Go(func() { ring.Run(ctx) })
		running.Go(func() { jobs.Run(ctx) })
	}
	p.stop = func() {
		cancel()
		running.Wait()
		p.db.Close()
	}
	p.must(p.db.Exec(ctx, "INSERT INTO tenant_setting (tenant, name, enabled, changed, changed_by) VALUES ('"+string(tenant)+"', '"+encryption.SettingCustomerManagedKeys+"', 1, 0, '')"))
	for i := range s.Workspaces {
		id := encryption.ScopeID(fmt.Sprintf("%08x-0000-4000-8000-%012x", rand.Uint32(), i))
		keys, err := p.rings[0].NewScope(id, tenant)
		p.must(err)
		p.must(p.db.Encryption().Update(ctx, func(tx encryption.Tx) error { return keys.Insert(tx) }))
		p.must(p.db.Roles().Update(ctx, func(tx rbac.Tx) error {
			return tx.PutRoleAssignment(rbac.Assignment{ID: string(id), Tenant: tenant, Principal: admin.Principal, Role: rbac.WorkspaceAdmin, Scope: encryption.WorkspacePath(id)})
		}))
		u, err := p.rings[0].Use(ctx, id)
		p.must(err)
		for n := range items {
			row, err := u.NewItem(encryption.ItemID(fmt.Sprintf("%s-%d", id, n)), "Lakehouse")
			p.must(err)
			p.must(p.db.Encryption().Update(ctx, func(tx encryption.Tx) error { return row.Insert(tx) }))
		}
		p.must(p.jobs[0].Assign(ctx, admin, id, "https://"+p.vault.Host()+"/keys/a"))
		p.scopes = append(p.scopes, id)
	}
	p.settle()
	time.Sleep(2 * time.Minute) // no lease is left
	return p
}

func (p *platform) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *platform) watch(op kek.Op, _ encryption.Outcome, _ time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[op]++
	p.peak[time.Now().Truncate(time.Second)]++
}

func (p *platform) count() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.asked {
		n += c
	}
	return n
}

// settle waits until every item is under its scope's key.
func (p *platform) settle() (took time.Duration) {
	began := time.Now()
	for {
		synctest.Wait()
		var n encryption.Pending
		p.must(p.db.Encryption().View(p.Context(), func(tx encryption.Tx) (err error) { n, err = tx.Pending(); return err }))
		if n.Changing == 0 {
			return time.Since(began)
		}
		if time.Since(began) > time.Hour {
			p.Fatalf("%d scopes are still on their way", n.Changing)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// use uses every scope on every process once a second for some time, and returns how
// often that failed.
func (p *platform) use(d time.Duration) (failed int64) {
	for range int(d / time.Second) {
		var all sync.WaitGroup
		var mu sync.Mutex
		for _, r := range p.rings {
			for _, id := range p.scopes {
				all.Go(func() {
					if _, err := r.Use(context.Background(), id); err != nil {
						mu.Lock()
						failed++
						mu.Unlock()
					}
				})
			}
		}
		all.Wait()
		time.Sleep(time.Second)
	}
	return failed
}

// The model against the real keyring of one process: the same workspaces in use, the
// same budget, the same outage.
func TestModel(t *testing.T) {
	const workspaces, minutes = 40, 5
	s := size{Workspaces: workspaces, Replicas: 1, Vaults: 1, Budget: 5, Lease: 30 * time.Second, Bound: 5 * time.Minute, Seed: 1}

	w := newWorld(s)
	every := func() { // each workspace once a second, as below
		for id := range int32(workspaces) {
			w.request(id, 0)
		}
	}
	steps := func(d time.Duration) {
		for i := range ticks(d) {
			if w.step(); i%perSecond == 0 {
				every()
			}
		}
	}
	w.Workspaces = 0 // no other requests
	steps(2 * time.Minute)
	before := w.counts
	steps(minutes * time.Minute)
	model := w.minus(before)
	w.vaults[0].down = true
	steps(6 * time.Minute)
	before = w.counts
	steps(minutes * time.Minute)
	modelOut := w.minus(before)
	w.vaults[0].down = false
	modelBack := 0
	for ; len(w.inUse()) < workspaces && modelBack < 300; modelBack++ {
		steps(time.Second)
	}

	synctest.Test(t, func(t *testing.T) {
		p := open(t, s, 0)
		defer p.stop()
		p.use(2 * time.Minute)
		was := p.count()
		if n := p.use(minutes * time.Minute); n > 0 {
			t.Errorf("%d uses failed", n)
		}
		real := p.count() - was
		if got := model.Unwraps + model.Gets; got < real*75/100 || got > real*125/100 {
			t.Errorf("the model asked %d times in %d minutes, the keyring %d times", got, minutes, real)
		}
		t.Logf("steady: model %d, keyring %d", model.Unwraps+model.Gets, real)

		p.vault.Disconnect(true)
		p.use(6 * time.Minute)
		was = p.count()
		if n := p.use(minutes * time.Minute); n != workspaces*minutes*60 {
			t.Errorf("only %d of %d uses failed without a vault", n, workspaces*minutes*60)
		}
		real = p.count() - was
		if got := modelOut.Unwraps; got < real/2 || got > real*2 {
			t.Errorf("the model asked a silent vault %d times in %d minutes, the keyring %d times", got, minutes, real)
		}
		t.Logf("silence: model %d, keyring %d", modelOut.Unwraps, real)

		p.vault.Disconnect(false)
		back := time.Now()
		for p.use(time.Second) > 0 {
			if time.Since(back) > 5*time.Minute {
				t.Fatal("not all are back")
			}
		}
		took := int(time.Since(back).Seconds())
		if modelBack < took/3 || modelBack > 3*took {
			t.Errorf("all were back after %d s in the model, and after %d s in the keyring", modelBack, took)
		}
		t.Logf("back: model %d s, keyring %d s", modelBack, took)
		p.mu.Lock()
		defer p.mu.Unlock()
		for at, n := range p.peak {
			if at.After(back) && n > int(2*s.Budget)+2 {
				t.Errorf("%d questions in one second after the silence", n)
			}
		}
	})
}

// Several processes re-encrypt the items of many scopes: each item once, and the sooner
// the more there are.
func TestJobs(t *testing.T) {
	var took []time.Duration
	for _, replicas := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			const scopes, items = 24, 8
			p := open(t, size{Workspaces: scopes, Replicas: replicas, Budget: 1000}, items)
			defer p.stop()
			clear(p.work.calls)
			for _, id := range p.scopes {
				_, err := p.jobs[0].Rotate(t.Context(), admin, id)
				p.must(err)
			}
			took = append(took, p.settle())
			p.work.mu.Lock()
			defer p.work.mu.Unlock()
			if want := scopes * (items + 1); len(p.work.calls) != want {
				t.Errorf("%d items were re-encrypted, and there are %d", len(p.work.calls), want)
			}
			for id, n := range p.work.calls {
				if n != 1 {
					t.Errorf("item %s was re-encrypted %d times", id, n)
				}
			}
		})
	}
	t.Logf("one process %v, three %v", took[0], took[1])
	if took[1] > took[0]*2/3 {
		t.Errorf("three processes took %v, and one %v", took[1], took[0])
	}
}
