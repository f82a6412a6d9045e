package encryption_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
	"github.com/kluis-io/kluis/rbac"
)

// A crowd is a world of many scopes under one vault's keys, and a count of the
// questions to it.
type crowd struct {
	*world
	scopes []encryption.ScopeID

	mu    sync.Mutex
	asked map[time.Time]int // by second
}

// crowded runs a test with a crowd of n scopes whose vault has a budget, all Active.
func crowded(t *testing.T, n int, edit func(*encryption.Config), test func(t *testing.T, c *crowd)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{asked: map[time.Time]int{}}
		vault := kektest.NewVault(t, "contoso")
		vault.Cheap()
		c.world = newWorld(t, vault)
		c.stop()
		c.edit = func(config *encryption.Config) {
			edit(config)
			config.Watch = func(kek.Op, encryption.Outcome, time.Duration) {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.asked[time.Now().Truncate(time.Second)]++
			}
		}
		c.start()
		defer c.end()
		for i := range n {
			id := encryption.ScopeID(fmt.Sprintf("aaaaaaaa-0000-4000-8000-%012d", i))
			c.scopes = append(c.scopes, id)
			c.addScope(id)
			c.must(c.store.update(func(tx *memoryTx) error {
				return tx.PutRoleAssignment(rbac.Assignment{
					ID: string(id), Tenant: tenant, Principal: admin.Principal, Role: rbac.WorkspaceAdmin, Scope: rbac.Scope("/workspaces/" + id),
				})
			}))
			c.must(c.world.scopes.Assign(context.Background(), admin, id, c.key("a")))
			c.sleep(200 * time.Millisecond)
		}
		c.sleep(2 * time.Minute) // nothing is in use any more
		test(t, c)
	})
}

// use uses every scope, and returns how many cannot be.
func (c *crowd) use() (failed int) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, id := range c.scopes {
		all.Go(func() {
			if _, err := c.ring.Use(context.Background(), id); err != nil {
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return failed
}

// count returns how many questions there were since a time, and how many in the
// second that had most.
func (c *crowd) count(since time.Time) (all, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, n := range c.asked {
		if !at.Before(since) {
			all += n
			most = max(most, n)
		}
	}
	return all, most
}

// More scopes are in use than the vault's budget can renew every 15 s: their leases
// are stretched, which the status says, the budget is kept, and nobody loses access.
func TestStretchedLeases(t *testing.T) {
	const scopes, rate = 60, 5
	crowded(t, scopes, func(c *encryption.Config) { c.Budget, c.Bound = rate, 5*time.Minute }, func(t *testing.T, c *crowd) {
		for c.use() > 0 { // who opens waits for the budget
			c.sleep(time.Second)
		}
		c.sleep(30 * time.Second)
		began := time.Now()
		for range 600 {
			if n := c.use(); n > 0 {
				t.Fatalf("%d scopes lost access", n)
			}
			c.sleep(time.Second)
		}
		all, _ := c.count(began)
		if all > 600*rate+rate {
			t.Errorf("%d questions in ten minutes, with a budget of %d a second", all, rate)
		}
		var st encryption.Status
		st, err := c.world.scopes.Status(context.Background(), admin, c.scopes[0])
		c.must(err)
		if want := 45 * time.Second; !st.Stretched || st.Lease < want-5*time.Second || st.Lease > want+5*time.Second {
			t.Errorf("lease of %v, stretched: %v", st.Lease, st.Stretched)
		}
		if v := c.ring.Vaults(); v.Stretched != 1 || v.Longest != st.Lease || v.Open != scopes || v.Silent != 0 {
			t.Errorf("vaults: %+v", v)
		}
		c.vault.SetEnabled("a", false) // and the kill switch still works: by the feed, at once
		c.sleep(5 * time.Second)
		if n := c.use(); n != scopes {
			t.Errorf("%d of %d scopes are revoked", n, scopes)
		}
	})
}

// A vault whose scopes could not all be renewed, were they all in use, gets no more
// of them: the refusal says what mends it, and a longer bound does.
func TestBeyondTheBudget(t *testing.T) {
	const carried = 16 // 1 × 0.6 × 0.45 × 60
	crowded(t, carried, func(c *encryption.Config) { c.Budget = 1 }, func(t *testing.T, c *crowd) {
		ctx := context.Background()
		err := c.assign("a")
		c.reason("one too many", err, fault.EncryptionBlocked)
		if f := fault.As(err); !strings.Contains(f.Detail, "17 scopes") || !strings.Contains(f.Mend, "kill-switch bound") {
			t.Errorf("refused with %v", err)
		}
		p, err := c.world.scopes.Preview(ctx, admin, ws, c.key("a"))
		c.must(err)
		if len(p.Blockers) != 1 || p.Blockers[0].Reason != fault.EncryptionBlocked {
			t.Errorf("the preview has %v", p.Blockers)
		}
		if st := c.status(); st.Mode != encryption.PlatformManaged {
			t.Errorf("it is %s all the same", st.Mode)
		}
		c.stop()
		edit := c.edit
		c.edit = func(config *encryption.Config) { edit(config); config.Bound = 2 * time.Minute }
		c.start()
		c.must(c.assign("a"))
	})
}

// While a vault is silent it is asked a question now and then, however many scopes
// wait for it; when it answers again they return at the budget's pace.
func TestNoStampede(t *testing.T) {
	const scopes, rate = 100, 20
	crowded(t, scopes, func(c *encryption.Config) { c.Budget = rate }, func(t *testing.T, c *crowd) {
		for c.use() > 0 {
			c.sleep(time.Second)
		}
		c.vault.Disconnect(true)
		c.sleep(2 * time.Minute)
		down := time.Now()
		for range 600 {
			if n := c.use(); n != scopes {
				t.Fatalf("%d scopes are usable beyond their leases", scopes-n)
			}
			c.sleep(time.Second)
		}
		if all, most := c.count(down); all > 600/2+10 || most > 3 {
			t.Errorf("%d questions in ten minutes of silence, up to %d a second", all, most)
		}
		c.vault.Disconnect(false)
		up := time.Now()
		for c.use() > 0 {
			if time.Since(up) > time.Minute {
				t.Fatalf("%d scopes have no access a minute after", c.use())
			}
			c.sleep(time.Second)
		}
		if _, most := c.count(up); most > 2*rate { // what is left of a second, and the next one's
			t.Errorf("%d questions in one second after the silence", most)
		}
	})
}

// Leases that began together are not renewed together for long.
func TestRenewalsSpread(t *testing.T) {
	const scopes = 100
	crowded(t, scopes, func(c *encryption.Config) { c.Budget = 1000 }, func(t *testing.T, c *crowd) {
		if n := c.use(); n > 0 {
			t.Fatalf("%d scopes do not open", n)
		}
		var began time.Time
		for i := range 600 {
			if i == 540 {
				began = time.Now()
			}
			c.use()
			c.sleep(time.Second)
		}
		// Unwraps and looks for versions: 2 × 100 for each 13.5 s.
		if _, most := c.count(began); most > 60 {
			t.Errorf("%d questions in one second; 15 a second is what it takes", most)
		}
	})
}
