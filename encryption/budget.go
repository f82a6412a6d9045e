package encryption

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kluis-io/kluis/encryption/pace"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
)

const (
	// openWait is how long opening a scope may wait for its vault's budget.
	openWait = 5 * time.Second
	// openStep is how often it looks meanwhile.
	openStep = 50 * time.Millisecond
	// lookWithin is the latest that a key's newest version is looked for, however short
	// the budget is.
	lookWithin = time.Hour
)

// A Load is how many scopes of a vault's cost and bind alike.
type Load struct {
	Wrapped         int           // bytes of their wrapped shares
	Bound, KeyBound time.Duration // as in [Scope]
	Scopes          int
}

// An Outcome is what became of a question to a vault.
type Outcome string

// The outcomes.
const (
	Said       Outcome = "yes"
	Refused    Outcome = "no"
	Unanswered Outcome = "unanswered"
	Untrusted  Outcome = "untrusted" // an answer about something else than was asked
)

// budgets are what the ring's vaults may be asked.
type budgets struct {
	rate     float64
	replicas int
	affinity int
	sharing  float64 // how many share a renewal, of which one asks

	mu sync.Mutex
	of map[feedKey]*budget
}

// A budget is one vault's.
type budget struct {
	mu sync.Mutex
	*pace.Budget
}

// share returns this process's part of what a vault may be asked in a second.
func (b *budgets) share() float64 { return pace.Share(b.rate, b.replicas, b.affinity) }

func (k *Keyring) budget(tenant identity.TenantID, vault string) *budget {
	b := &k.budgets
	b.mu.Lock()
	defer b.mu.Unlock()
	key := feedKey{tenant, vault}
	one := b.of[key]
	if one == nil {
		one = &budget{Budget: pace.NewBudget(b.share(), k.now())}
		b.of[key] = one
	}
	return one
}

func (b *budget) take(now time.Time, u pace.Urgency, cost float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Take(now, u, cost)
}

func (b *budget) silent() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Silent()
}

// guard returns the budget of the vault that guards a generation and what a question
// to it costs, or nil if none does.
func (k *Keyring) guard(sc Scope, g Generation) (*budget, float64) {
	if g.Mode != CustomerManaged {
		return nil, 0
	}
	return k.budget(sc.Tenant, g.KID.Vault()), pace.Cost(8 * len(g.Wrapped))
}

// leaseOf returns the length of a scope's key leases: stretched towards its bound if
// its vault has so many scopes in use that it would be asked too much.
func (k *Keyring) leaseOf(sc Scope, g Generation) time.Duration {
	bound := k.boundOf(sc)
	b, _ := k.guard(sc, g)
	if b == nil {
		return min(k.lease, bound)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Length(k.lease, bound)
}

// afford waits until a scope's vault may be asked by somebody who waits for it. A
// vault that is silent is not asked: the scope is then unreachable, as it would be
// had its question gone unanswered too.
func (k *Keyring) afford(ctx context.Context, v view) error {
	g, err := v.sealing()
	if err != nil {
		return err
	}
	b, cost := k.guard(v.scope, g)
	if b == nil {
		return nil
	}
	for until := k.now().Add(openWait); !b.take(k.now(), pace.Opening, cost); {
		switch {
		case b.silent():
			return leaseOver(v.scope.ID)
		case !k.now().Before(until):
			return fault.New(fault.Unavailable, "The workspace's vault is asked for as much as its budget allows.").
				About(string(v.scope.ID)).WithMend("Try again shortly.")
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, ctx.Err(), "The workspace's key was not opened in time.")
		case <-time.After(openStep):
		}
	}
	return nil
}

// may reports whether the slot's vault may be asked now.
func (k *Keyring) may(s *slot, now time.Time, u pace.Urgency, questions float64) bool {
	s.mu.Lock()
	tenant, vault, cost := s.tenant, s.key.Vault(), s.cost
	s.mu.Unlock()
	if vault == "" {
		return true // the root alone opens it, or it is not known yet who guards it
	}
	if u == pace.Keeping {
		cost /= k.budgets.sharing
	}
	return k.budget(tenant, vault).take(now, u, cost*questions)
}

// inOrder returns the slots about which something is to be done, those first whose
// lease ends first.
func (k *Keyring) inOrder(slots []*slot, now time.Time) []*slot {
	type due struct {
		slot *slot
		by   time.Time
	}
	var all []due
	for _, s := range slots {
		c := s.clock(s.entry.Load(), now)
		if c.Due(now) == pace.Nothing {
			continue
		}
		by := c.Poll
		if e := s.entry.Load(); c.Leased && e != nil {
			by = e.lease.Load().Expires()
		}
		all = append(all, due{s, by})
	}
	slices.SortFunc(all, func(a, b due) int { return a.by.Compare(b.by) })
	sorted := make([]*slot, len(all))
	for i, d := range all {
		sorted[i] = d.slot
	}
	return sorted
}

// reckon tells each vault's budget what the leases in use cost, and forgets those of
// vaults that no slot needs.
func (k *Keyring) reckon(slots []*slot) {
	needed := map[feedKey]float64{}
	for _, s := range slots {
		s.mu.Lock()
		key, cost := feedKey{s.tenant, s.key.Vault()}, s.cost
		s.mu.Unlock()
		if key.vault == "" {
			continue
		}
		if e := s.entry.Load(); e == nil || e.ended.Load() != nil || !e.usedSinceLease() {
			cost = 0
		}
		needed[key] += cost / k.budgets.sharing
	}
	b := &k.budgets
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, one := range b.of {
		cost, ok := needed[key]
		if !ok {
			delete(b.of, key)
			continue
		}
		one.mu.Lock()
		one.Demand(cost)
		one.mu.Unlock()
	}
}

// asked is the way to the vaults, on which every answer is heard.
type asked struct {
	Vault
	ring *Keyring
}

func (a asked) Latest(ctx context.Context, tenant string, id kek.KeyIdentifier) (kek.KeyInfo, error) {
	began := time.Now()
	info, err := a.Vault.Latest(ctx, tenant, id)
	a.ring.heard(ctx, kek.OpGet, tenant, id.Vault(), began, err)
	return info, err
}

func (a asked) Wrap(ctx context.Context, tenant string, kid kek.KID, alg kek.Algorithm, share []byte) ([]byte, error) {
	began := time.Now()
	out, err := a.Vault.Wrap(ctx, tenant, kid, alg, share)
	a.ring.heard(ctx, kek.OpWrap, tenant, kid.Vault(), began, err)
	return out, err
}

func (a asked) Unwrap(ctx context.Context, tenant string, kid kek.KID, alg kek.Algorithm, wrapped []byte) ([]byte, error) {
	began := time.Now()
	out, err := a.Vault.Unwrap(ctx, tenant, kid, alg, wrapped)
	a.ring.heard(ctx, kek.OpUnwrap, tenant, kid.Vault(), began, err)
	return out, err
}

// heard notes whether a vault has answered.
func (k *Keyring) heard(ctx context.Context, op kek.Op, tenant, vault string, began time.Time, err error) {
	outcome := Said
	switch r := fault.ReasonOf(err); {
	case err == nil:
	case r.RefusedByVault():
		outcome = Refused
	case r == fault.KEKUnreachable:
		outcome = Unanswered
	case r == fault.KEKIntegrity:
		outcome = Untrusted
	default:
		return // it was not asked
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return // it is the asker who left
	}
	if k.watch != nil {
		k.watch(op, outcome, time.Since(began))
	}
	b := k.budget(identity.TenantID(tenant), vault)
	b.mu.Lock()
	defer b.mu.Unlock()
	if outcome != Unanswered {
		b.Answered(k.now())
		return
	}
	var after time.Duration
	if a := kek.AnswerOf(err); a != nil {
		after = a.RetryAfter
	}
	b.Unanswered(k.now(), after, rand.Float64())
}

// carried returns why a vault cannot carry one scope more, or nil: with every scope
// under it in use, and every lease as long as it may be, renewing them would take
// more than the budget.
func (k *Keyring) carried(ctx context.Context, sc Scope, key kek.KeyInfo) (*fault.Error, error) {
	var all []Load
	err := k.store.View(ctx, func(tx Tx) (err error) {
		all, err = tx.VaultLoad(sc.Tenant, key.KID.Vault())
		return err
	})
	if err != nil {
		return nil, err
	}
	sum := pace.Carried(pace.Cost(key.Size), k.boundOf(sc))
	scopes := 1
	for _, l := range all {
		like := Scope{TenantBound: sc.TenantBound, Bound: l.Bound, KeyBound: l.KeyBound}
		sum += float64(l.Scopes) * pace.Carried(pace.Cost(8*l.Wrapped), k.boundOf(like))
		scopes += l.Scopes
	}
	if pace.Carries(k.budgets.rate, sum) {
		return nil, nil
	}
	return fault.New(fault.EncryptionBlocked, fmt.Sprintf("The key's vault would have to be asked %.0f times a second for the %d scopes under it, and its budget is %.0f.",
			sum, scopes, k.budgets.rate)).About(string(key.KID)).
			WithMend("Use a key of another vault, have a tenant administrator raise the kill-switch bound, or have the operator raise the budget if the vault can do more."),
		nil
}

// A Vaults says how the ring's vaults are asked, all together.
type Vaults struct {
	Known     int           // that scopes in memory depend on
	Silent    int           // those of them that do not answer
	Stretched int           // those with leases longer than they aim to be
	Longest   time.Duration // the longest that a lease given now would be
	Open      int           // scopes that are open in memory under a lease
}

// Vaults returns how the ring's vaults are asked.
func (k *Keyring) Vaults() (v Vaults) {
	b := &k.budgets
	b.mu.Lock()
	defer b.mu.Unlock()
	v.Longest = k.lease
	for _, one := range b.of {
		one.mu.Lock()
		v.Known++
		if one.Silent() {
			v.Silent++
		}
		if l := one.Length(k.lease, k.bound); l > k.lease {
			v.Stretched++
			v.Longest = max(v.Longest, l)
		}
		one.mu.Unlock()
	}
	for _, s := range k.all() {
		if e := s.entry.Load(); e != nil && e.ended.Load() == nil {
			v.Open++
		}
	}
	return v
}
