package vault

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// Limits are how much key work a vault and a tenant may ask for. A limit of 0 is
// none.
type Limits struct {
	Period    time.Duration // in which the rates below are counted
	Software  Rates
	HSM       Rates
	Tenant    float64 // how many vaults' worth all of a tenant's may ask for together
	Making    int     // new key versions per vault
	MakingHSM int     // of them in an HSM
}

// Rates are uses of keys per vault, by type. Uses of several types add up as
// fractions of their rates.
type Rates struct {
	RSA2048, RSA3072, RSA4096, EC, Oct int
}

// AzureLimits are Azure Key Vault's published ones, but for oct, for which it has none
// (learn.microsoft.com/azure/key-vault/general/service-limits).
var AzureLimits = Limits{
	Period:    10 * time.Second,
	Software:  Rates{RSA2048: 4000, RSA3072: 1000, RSA4096: 500, EC: 4000, Oct: 80_000},
	HSM:       Rates{RSA2048: 2000, RSA3072: 500, RSA4096: 250, EC: 2000, Oct: 80_000},
	Tenant:    5,
	Making:    20,
	MakingHSM: 10,
}

// Times returns the limits, each multiplied.
func (l Limits) Times(f float64) Limits {
	for _, n := range []*int{
		&l.Software.RSA2048, &l.Software.RSA3072, &l.Software.RSA4096, &l.Software.EC, &l.Software.Oct,
		&l.HSM.RSA2048, &l.HSM.RSA3072, &l.HSM.RSA4096, &l.HSM.EC, &l.HSM.Oct, &l.Making, &l.MakingHSM,
	} {
		if *n > 0 {
			*n = max(1, int(float64(*n)*f))
		}
	}
	return l
}

// cost returns what one use of a key takes of its vault's share of a period.
func (l Limits) cost(t KeyType, bits int) float64 {
	r := l.Software
	if t.HSM() {
		r = l.HSM
	}
	rate := r.Oct
	switch {
	case t.Family() == EC:
		rate = r.EC
	case t.Family() == RSA && bits <= 2048:
		rate = r.RSA2048
	case t.Family() == RSA && bits <= 3072:
		rate = r.RSA3072
	case t.Family() == RSA:
		rate = r.RSA4096
	}
	return share(rate)
}

// making is cost for a new version.
func (l Limits) making(t KeyType) float64 {
	if t.HSM() {
		return share(l.MakingHSM)
	}
	return share(l.Making)
}

func share(rate int) float64 {
	if rate <= 0 {
		return 0
	}
	return 1 / float64(rate)
}

// How long work waits for its turn before it is turned away: what answers later
// than this is of no use to a client that waits, and what arrives faster than it is
// done would wait ever longer.
const (
	usePatience  = 250 * time.Millisecond
	useStanding  = usePatience * 3 / 4
	makePatience = 30 * time.Second // a key takes seconds to make
	hsmSlots     = 16               // operations in an HSM at once; it has a queue of its own
)

// A load admits key work: by the limits first, then by turns that are fair between
// tenants, and between a tenant's vaults.
type load struct {
	limits Limits
	now    func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket // by vault and by tenant

	cores, making, hsm *turns
}

func newLoad(l Limits, now func() time.Time) *load {
	cores := newTurns(runtime.GOMAXPROCS(0), usePatience)
	cores.standing = useStanding
	return &load{
		limits: l, now: now, buckets: map[string]*bucket{},
		cores: cores, making: newTurns(1, makePatience), hsm: newTurns(hsmSlots, makePatience),
	}
}

// A bucket holds what is left of a share. It refills at a steady rate.
type bucket struct {
	left float64
	at   time.Time
}

// maxBuckets bounds the memory of who asked lately.
const maxBuckets = 16384

func (l *load) bucket(key string, size float64, now time.Time) *bucket {
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			for k, old := range l.buckets {
				if now.Sub(old.at) >= l.limits.Period { // full again
					delete(l.buckets, k)
				}
			}
		}
		b = &bucket{left: size, at: now}
		l.buckets[key] = b
	}
	if d := now.Sub(b.at); d > 0 {
		b.left = min(size, b.left+size*float64(d)/float64(l.limits.Period))
	}
	b.at = now
	return b
}

// take takes from the shares of a vault and its tenant, or fails with
// [fault.Throttled] and takes nothing.
func (l *load) take(v Vault, kind string, cost float64) error {
	if cost == 0 || l.limits.Period <= 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	ofVault := l.bucket("vault/"+kind+string(v.ID), 1, now)
	limited := ofVault.left < cost
	if size := l.limits.Tenant; size > 0 {
		ofTenant := l.bucket("tenant/"+kind+string(v.Tenant), size, now)
		if limited = limited || ofTenant.left < cost; !limited {
			ofTenant.left -= cost
		}
	}
	if limited {
		return fault.New(fault.Throttled, fmt.Sprintf("Vault %s, or its tenant, asks for more key operations than its limit.", v.Name)).
			WithMend("Try again later; the limit is the server's configuration's.")
	}
	ofVault.left -= cost
	return nil
}

// use waits until it is the vault's turn to use a key. The caller says when the work
// is done, and when its record is.
func (l *load) use(ctx context.Context, v Vault, k KeyVersion) (*turn, error) {
	cost := l.limits.cost(k.Type, k.Bits)
	if err := l.take(v, "", cost); err != nil {
		return nil, err
	}
	turns := l.cores
	if k.Type.HSM() && k.Platform != Software {
		turns = l.hsm
	}
	return turns.enter(ctx, v.Tenant, v.ID, max(cost, 1e-6))
}

// make makes a key when it is the vault's turn.
func (l *load) make(ctx context.Context, v Vault, t KeyType, work func() error) error {
	if err := l.take(v, "make/", l.limits.making(t)); err != nil {
		return err
	}
	turns := l.making
	switch {
	case t.HSM():
		turns = l.hsm
	case t.Family() != RSA: // which take no longer than a use
		turns = l.cores
	}
	return turns.do(ctx, v.Tenant, v.ID, max(l.limits.cost(t, 0), 1e-6), work)
}

// Turns give each tenant, and each of its vaults, its part of a few slots: of those
// that wait, the one goes next that has had least, by start-time fair queueing
// (Goyal, Vin and Cheng, SIGCOMM 1996). Who comes back after a while has saved
// nothing up.
//
// Of those that wait for one vault the first goes first, as long as all are served.
// Once the first has almost waited too long, the last goes first: otherwise all would
// wait for as long as the patience allows, and no more of them would be served.
type turns struct {
	patience time.Duration
	standing time.Duration // how long the first has waited by then; 0 for never

	mu      sync.Mutex
	slots   int
	free    int
	busy    int     // turns that have not ended
	clock   float64 // the start tag of the latest turn
	tenants map[identity.TenantID]*flow
}

// maxWaiting bounds how many of one vault wait. More could not be served within the
// patience in any case.
const maxWaiting = 512

// A flow is a tenant's or a vault's: where it stands in virtual time, and who waits.
type flow struct {
	next    float64 // start tag of its next turn
	clock   float64 // of the flows below it
	below   map[ID]*flow
	waiting []*waiter
	count   int // who waits here and below
	busy    int // of a tenant, turns that have not ended
}

// inFlight is how many turns of one tenant may be under way for each slot: many more
// than one, since records are written while the next keys work, and those that are
// written together share a commit. It bounds what a flood can have waiting for the
// database in front of whoever comes behind.
const inFlight = 32

// A turn is one admitted piece of work. Its slot is free again once the work is
// done; the turn itself ends later, when the work is on record.
type turn struct {
	of   *turns
	at   *flow
	slot bool
}

// worked gives the slot back. It may be repeated.
func (x *turn) worked() {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	x.release()
	x.of.serve()
}

func (x *turn) release() {
	if x.slot {
		x.slot = false
		x.of.free++
	}
}

// end ends the turn.
func (x *turn) end() {
	t := x.of
	t.mu.Lock()
	defer t.mu.Unlock()
	x.release()
	x.at.busy--
	t.busy--
	t.serve()
	if t.busy == 0 { // nobody runs or waits, so nobody has had more than another
		clear(t.tenants)
		t.clock = 0
	}
}

type waiter struct {
	turn  chan struct{}
	cost  float64
	since time.Time
	gone  bool
}

func newTurns(slots int, patience time.Duration) *turns {
	return &turns{slots: slots, free: slots, patience: patience, tenants: map[identity.TenantID]*flow{}}
}

func (t *turns) do(ctx context.Context, tenant identity.TenantID, vault ID, cost float64, work func() error) error {
	x, err := t.enter(ctx, tenant, vault, cost)
	if err != nil {
		return err
	}
	defer x.end()
	return work()
}

func (t *turns) enter(ctx context.Context, tenant identity.TenantID, vault ID, cost float64) (*turn, error) {
	t.mu.Lock()
	at, of := t.flows(tenant, vault)
	if of.count >= maxWaiting {
		t.mu.Unlock()
		return nil, tooBusy()
	}
	if at.count == 0 {
		at.next = max(at.next, t.clock)
	}
	if of.count == 0 {
		of.next = max(of.next, at.clock)
	}
	w := &waiter{turn: make(chan struct{}), cost: cost, since: time.Now()}
	of.waiting = append(of.waiting, w)
	of.count++
	at.count++
	t.serve()
	t.mu.Unlock()
	select {
	case <-w.turn: // as a rule
		return &turn{of: t, at: at, slot: true}, nil
	default:
	}
	patience := time.NewTimer(t.patience)
	defer patience.Stop()
	var err error
	select {
	case <-w.turn:
		return &turn{of: t, at: at, slot: true}, nil
	case <-patience.C:
		err = tooBusy()
	case <-ctx.Done():
		err = ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-w.turn: // its turn came at the last moment
		return &turn{of: t, at: at, slot: true}, nil
	default:
	}
	w.gone = true
	at.count--
	if of.count--; of.count == 0 {
		of.waiting = nil
	}
	return nil, err
}

// manyFlows is from when on flows that time has caught up with are forgotten.
const manyFlows = 256

// flows returns those of a tenant and of one of its vaults.
func (t *turns) flows(tenant identity.TenantID, vault ID) (at, of *flow) {
	if at = t.tenants[tenant]; at == nil {
		if len(t.tenants) >= manyFlows {
			maps.DeleteFunc(t.tenants, func(_ identity.TenantID, f *flow) bool { return f.count+f.busy == 0 && f.next <= t.clock })
		}
		at = &flow{below: map[ID]*flow{}}
		t.tenants[tenant] = at
	}
	if of = at.below[vault]; of == nil {
		if len(at.below) >= manyFlows {
			maps.DeleteFunc(at.below, func(_ ID, f *flow) bool { return f.count == 0 && f.next <= at.clock })
		}
		of = &flow{}
		at.below[vault] = of
	}
	return at, of
}

// serve gives free slots to those who wait. It is called with t locked.
func (t *turns) serve() {
	for t.free > 0 {
		at := first(t.tenants, inFlight*t.slots)
		if at == nil {
			return
		}
		of := first(at.below, 1)
		w := of.pop(t.standing)
		of.count--
		at.count--
		t.clock, at.clock = at.next, of.next
		at.next += w.cost
		of.next += w.cost
		t.free--
		t.busy++
		at.busy++
		close(w.turn)
	}
}

// pop takes the waiter whose turn it is. There is one that has not gone.
func (f *flow) pop(standing time.Duration) *waiter {
	for f.waiting[0].gone {
		f.waiting = f.waiting[1:]
	}
	w := f.waiting[0]
	if standing == 0 || time.Since(w.since) < standing {
		f.waiting = f.waiting[1:]
		return w
	}
	for {
		end := len(f.waiting) - 1
		w, f.waiting = f.waiting[end], f.waiting[:end]
		if !w.gone {
			return w
		}
	}
}

// first returns the flow whose turn it is, nil if nobody waits who may go on.
func first[K comparable](all map[K]*flow, inFlight int) (next *flow) {
	for _, f := range all {
		if f.count > 0 && f.busy < inFlight && (next == nil || f.next < next.next) {
			next = f
		}
	}
	return next
}

func tooBusy() error {
	return fault.New(fault.Throttled, "The vault has more key operations to do than it can.").WithMend("Try again later.")
}
