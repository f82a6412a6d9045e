package vault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// Azure's published limits, exactly: so many in ten seconds, then as they come back.
func TestLimits(t *testing.T) {
	for _, c := range []struct {
		typ  vault.KeyType
		bits int
		want int
	}{
		{vault.RSA, 2048, 4000}, {vault.RSA, 3072, 1000}, {vault.RSA, 4096, 500}, {vault.EC, 256, 4000},
		{vault.RSAHSM, 2048, 2000}, {vault.RSAHSM, 3072, 500}, {vault.RSAHSM, 4096, 250}, {vault.ECHSM, 521, 2000},
	} {
		now := time.Now()
		take := vault.Take(vault.AzureLimits, func() time.Time { return now })
		of := func(n int, tenant identity.TenantID) vault.Vault {
			return vault.Vault{ID: vault.ID(fmt.Sprint(n)), Tenant: tenant}
		}
		many := func(v vault.Vault) (n int) {
			for {
				if err := take(v, c.typ, c.bits); err != nil {
					wantReason(t, err, fault.Throttled)
					return n
				}
				n++
			}
		}
		near := func(got, want int) bool { return want-1 <= got && got <= want+1 }
		if n := many(of(1, "t")); !near(n, c.want) {
			t.Errorf("%s %d: %d", c.typ, c.bits, n)
		}
		now = now.Add(time.Second) // what was refused has cost nothing
		if n := many(of(1, "t")); !near(n, c.want/10) {
			t.Errorf("%s %d: %d a second later, want %d", c.typ, c.bits, n, c.want/10)
		}
		total := 0
		for i := range 10 {
			total += many(of(2+i, "t"))
		}
		if want := c.want*5 - c.want*6/10; total > want+c.want || total < want-c.want { // the rest of five vaults' worth
			t.Errorf("%s %d: the tenant's other vaults did %d, want about %d", c.typ, c.bits, total, want)
		}
		if n := many(of(1, "u")); n != 0 {
			t.Errorf("%s %d: the vault's share came back with another tenant", c.typ, c.bits)
		}
		if n := many(of(99, "u")); !near(n, c.want) {
			t.Errorf("%s %d: another tenant's vault did %d", c.typ, c.bits, n)
		}
	}
	double := vault.AzureLimits.Times(2)
	if double.Software.RSA2048 != 8000 || double.MakingHSM != 20 || vault.AzureLimits.Times(0.001).HSM.RSA4096 != 1 {
		t.Errorf("twice: %+v", double)
	}
	free := vault.Take(vault.Limits{}, time.Now)
	for range 10_000 {
		if err := free(vault.Vault{}, vault.RSA, 4096); err != nil {
			t.Fatal(err)
		}
	}
}

// One tenant's flood leaves another's latency alone, and so does one vault's flood
// another's of the same tenant.
func TestFloodIsKeptApart(t *testing.T) {
	for _, other := range []identity.TenantID{"quiet", "loud"} {
		synctest.Test(t, func(t *testing.T) {
			turns := vault.NewTurns(2, time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			var done atomic.Int64
			var wg sync.WaitGroup
			for i := range 400 {
				wg.Go(func() {
					for ctx.Err() == nil {
						if turns.Do(ctx, "loud", vault.ID(fmt.Sprint(i%3)), 1, func() { time.Sleep(time.Millisecond) }) == nil {
							done.Add(1)
						}
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
			var worst time.Duration
			for range 100 {
				began := time.Now()
				if err := turns.Do(ctx, other, "quiet", 1, func() { time.Sleep(time.Millisecond) }); err != nil {
					t.Fatal(err)
				}
				worst = max(worst, time.Since(began))
				time.Sleep(5 * time.Millisecond)
			}
			cancel()
			wg.Wait()
			if worst > 4*time.Millisecond { // its own, one that could not be stopped, and the other vaults' turns
				t.Errorf("tenant %s waited %v behind another's flood", other, worst)
			}
			if done.Load() < 1000 { // two slots for 0.7 s
				t.Errorf("the flood did %d in the meantime", done.Load())
			}
		})
	}
}

// Two floods share alike, whatever they cost and however many vaults they use.
func TestFloodsShareAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := vault.NewTurns(1, time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var busy [2]atomic.Int64 // milliseconds
		var wg sync.WaitGroup
		for i := range 100 {
			who, cost := i%2, 1+7*(i%2)
			wg.Go(func() {
				for ctx.Err() == nil {
					turns.Do(ctx, identity.TenantID(fmt.Sprint(who)), vault.ID(fmt.Sprint(i%(1+9*who))), float64(cost), func() {
						time.Sleep(time.Duration(cost) * time.Millisecond)
						busy[who].Add(int64(cost))
					})
				}
			})
		}
		wg.Wait()
		a, b := busy[0].Load(), busy[1].Load()
		if a+b < 9_900 || a < b*9/10 || b < a*9/10 {
			t.Errorf("one had %d ms, the other %d", a, b)
		}
	})
}

func TestTurnsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := vault.NewTurns(1, 250*time.Millisecond)
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { turns.Do(t.Context(), "a", "v", 1, func() { <-release }) })
		synctest.Wait()
		began := time.Now()
		wantReason(t, turns.Do(t.Context(), "b", "v", 1, func() {}), fault.Throttled)
		if waited := time.Since(began); waited != 250*time.Millisecond {
			t.Errorf("shed after %v", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := turns.Do(ctx, "b", "v", 1, func() {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody waits for it: %v", err)
		}
		var shed atomic.Int64
		for range 600 { // more than a vault's queue holds
			wg.Go(func() {
				if fault.ReasonOf(turns.Do(t.Context(), "b", "v", 1, func() {})) == fault.Throttled {
					shed.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := shed.Load(); n != 600-512 {
			t.Errorf("%d were shed at once", n)
		}
		close(release)
		wg.Wait()
		if n := shed.Load(); n != 600-512 {
			t.Errorf("%d were shed in the end", n)
		}
		for i := range 10_000 { // tenants that come once are forgotten
			if err := turns.Do(t.Context(), identity.TenantID(fmt.Sprint(i)), "v", 1, func() {}); err != nil {
				t.Fatal(err)
			}
		}
		if n := turns.Flows(); n > 300 {
			t.Errorf("%d tenants are remembered", n)
		}
	})
}

// Above its limit a vault answers with Throttled, records that, and comes back.
func TestThrottledUse(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	vaults := vault.New(vault.Config{
		Store: f.Store, Audit: f.Log, Keys: f.Keys, Roles: rbac.VaultRoles, Now: f.Now,
		Limits: &vault.Limits{Period: 10 * time.Second, Software: vault.Rates{RSA2048: 3}, Making: 2},
	})
	for i := range 3 {
		_, err := vaults.CreateKey(t.Context(), f.Officer, "kv1", vault.KeyName(fmt.Sprint("k", i)), vault.KeySpec{Type: vault.RSA})
		wantReason(t, err, map[bool]fault.Reason{true: "", false: fault.Throttled}[i < 2])
	}
	use := func(c identity.Caller) error {
		_, _, err := vaults.Use(t.Context(), c, "kv1", "k0", "", vault.WrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: []byte("x")})
		return err
	}
	for range 3 {
		wantReason(t, use(vaulttest.Caller(9)), fault.Denied) // costs nothing
		wantReason(t, use(f.Officer), "")
	}
	wantReason(t, use(f.Officer), fault.Throttled)
	if e := f.Entries(t, "KeyWrap"); e[len(e)-1].Outcome != "failed" || e[len(e)-1].Reason != fault.Throttled {
		t.Errorf("recorded %+v", e[len(e)-1])
	}
	f.Advance(5 * time.Second)
	wantReason(t, use(f.Officer), "")
}

func BenchmarkTurn(b *testing.B) {
	turns := vault.NewTurns(4, time.Second)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			turns.Do(b.Context(), "t", "v", 1, func() {})
		}
	})
}

// neighbours makes two tenants with a vault and a key each, and returns what unwraps
// with either in vaults of a configuration: the first tenant's and the second's.
func neighbours(t testing.TB, f *vaulttest.Fixture, keys vault.Keys, limits vault.Limits) (loud, quiet func(context.Context) error) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const sub = "55555555-0000-4000-8000-000000000005"
	other := vaulttest.Caller(7)
	other.Tenant = vaulttest.OtherTenant
	must(f.Vaults.Provision(t.Context(), vault.Subscription{ID: sub, Tenant: other.Tenant},
		rbac.Assignment{Principal: other.Principal, Role: rbac.Owner, Scope: "/subscriptions/" + sub},
		rbac.Assignment{Principal: other.Principal, Role: rbac.KeyVaultAdministrator, Scope: "/subscriptions/" + sub}))
	_, _, err := f.Vaults.PutResourceGroup(t.Context(), other, vault.ResourceGroup{Subscription: sub, Name: "g", Location: "l"})
	must(err)
	f.Vault(t, "kv1")
	_, _, err = f.Vaults.PutVault(t.Context(), other, vault.Path{Subscription: sub, ResourceGroup: "g", Name: "kv2"}, vault.Spec{Location: new("l")})
	must(err)
	vaults := vault.New(vault.Config{Store: f.Store, Audit: f.Log, Keys: keys, Roles: rbac.VaultRoles, Limits: &limits})
	t.Cleanup(vaults.Close)
	of := func(c identity.Caller, name vault.Name) func(context.Context) error {
		_, err := f.Vaults.CreateKey(t.Context(), c, name, "k", vault.KeySpec{Type: vault.RSA})
		must(err)
		_, wrapped, err := f.Vaults.Use(t.Context(), c, name, "k", "", vault.WrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: share})
		must(err)
		return func(ctx context.Context) error {
			_, _, err := vaults.Use(ctx, c, name, "k", "", vault.UnwrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: slices.Clone(wrapped.Value)})
			return err
		}
	}
	return of(f.Officer, "kv1"), of(other, "kv2")
}

// percentile returns the pth percentile.
func percentile(took []time.Duration, p int) time.Duration {
	return slices.Sorted(slices.Values(took))[len(took)*p/100]
}

// A tenant that asks for ten times its limit, or for all that it can get where there
// is none, leaves another's unwraps as they are: none fails, and the 99th percentile
// stays within twice what it is alone. Private keys take 3 ms here, of a time that
// nothing else takes any of; what the disk does to it, [BenchmarkFlood] tells.
func TestFloodLeavesNeighbourAlone(t *testing.T) {
	samples := 30
	if os.Getenv("CI") == "true" {
		samples = 200
	}
	for name, limits := range map[string]vault.Limits{
		"limit": {Period: time.Second, Software: vault.Rates{RSA2048: 100}},
		"none":  {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := vaulttest.New(t)
				work := &hook{Keys: f.Keys, during: func() { time.Sleep(3 * time.Millisecond) }}
				loud, quiet := neighbours(t, f, work, limits)
				measure := func() time.Duration {
					var took []time.Duration
					for range samples {
						began := time.Now()
						if err := quiet(t.Context()); err != nil {
							t.Error(err)
						}
						took = append(took, time.Since(began))
						time.Sleep(17 * time.Millisecond)
					}
					return percentile(took, 99)
				}
				alone := measure()
				var yes, no atomic.Int64
				var all sync.WaitGroup
				ctx, cancel := context.WithCancel(t.Context())
				all.Go(func() {
					for ctx.Err() == nil {
						all.Go(func() {
							switch err := loud(ctx); {
							case err == nil:
								yes.Add(1)
							case fault.ReasonOf(err) == fault.Throttled:
								no.Add(1)
							}
						})
						time.Sleep(time.Millisecond)
					}
				})
				time.Sleep(300 * time.Millisecond)
				beside := measure()
				cancel()
				all.Wait()
				t.Logf("p99 %v alone, %v beside a flood of which %d were admitted and %d shed", alone, beside, yes.Load(), no.Load())
				if beside > 2*alone {
					t.Errorf("p99 is %v beside a flood, and %v alone", beside, alone)
				}
				if yes.Load() < 100 || limits.Period > 0 && no.Load() < 500 {
					t.Errorf("no flood: %d were admitted and %d shed", yes.Load(), no.Load())
				}
			})
		})
	}
}

// A vault that is asked for twice what it admits admits that much and no more, tells
// all others to come back, and lets those it admits wait no longer: their 99th
// percentile stays within twice that at half the load. The limit counts in one case;
// in the other the cores do, of which each key takes 3 ms of the same virtual time.
func TestTwiceTheLoad(t *testing.T) {
	cores := float64(runtime.GOMAXPROCS(0))
	for name, c := range map[string]struct {
		limits   vault.Limits
		admitted float64 // a second
	}{
		"limit": {vault.Limits{Period: 200 * time.Millisecond, Software: vault.Rates{RSA2048: 20}}, 100},
		"cores": {vault.Limits{}, cores * 1000 / 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := vaulttest.New(t)
				work := &hook{Keys: f.Keys, during: func() { time.Sleep(3 * time.Millisecond) }}
				unwrap, _ := neighbours(t, f, work, c.limits)
				const lead, span, tail = 0.8, 1, 0.3 // in seconds; in the middle is counted
				offer := func(perSecond float64) (p99 time.Duration, yes, no int) {
					var mu sync.Mutex
					var took []time.Duration
					var all sync.WaitGroup
					for i := range int((lead + span + tail) * perSecond) {
						all.Go(func() {
							began := time.Now()
							err := unwrap(t.Context())
							mu.Lock()
							defer mu.Unlock()
							if at := float64(i) / perSecond; at < lead || at >= lead+span {
								return
							}
							switch fault.ReasonOf(err) {
							case "":
								took = append(took, time.Since(began))
							case fault.Throttled:
								no++
							default:
								t.Error(err)
							}
						})
						time.Sleep(time.Duration(float64(time.Second) / perSecond))
					}
					all.Wait()
					return percentile(took, 99), len(took), no
				}
				half, _, shed := offer(c.admitted / 2)
				if shed > 0 {
					t.Errorf("at half the load %d were shed", shed)
				}
				twice, yes, no := offer(2 * c.admitted)
				t.Logf("p99 %v at half the load; %v at twice, %d admitted, %d shed", half, twice, yes, no)
				if rate := float64(yes) / span / c.admitted; rate < 0.9 || rate > 1.2 || no < yes/2 {
					t.Errorf("%d were admitted and %d shed, of %v a second", yes, no, c.admitted)
				}
				if twice > 2*half {
					t.Errorf("p99 is %v at twice the load, and %v at half", twice, half)
				}
			})
		})
	}
}

// BenchmarkFlood is one unwrap at a time of a quiet tenant, alone and beside a
// neighbour that asks for as much as he can.
func BenchmarkFlood(b *testing.B) {
	for _, flooding := range []int{0, 64} {
		b.Run(fmt.Sprintf("neighbours=%d", flooding), func(b *testing.B) {
			f := vaulttest.New(b)
			loud, quiet := neighbours(b, f, f.Keys, vault.Limits{})
			ctx, cancel := context.WithCancel(b.Context())
			var all sync.WaitGroup
			for range flooding {
				all.Go(func() {
					for ctx.Err() == nil {
						loud(ctx)
					}
				})
			}
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				if err := quiet(b.Context()); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			cancel()
			all.Wait()
			b.ReportMetric(float64(percentile(took, 50).Microseconds())/1000, "ms/p50")
			b.ReportMetric(float64(percentile(took, 99).Microseconds())/1000, "ms/p99")
		})
	}
}
