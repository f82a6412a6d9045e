package encryption

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption/pace"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/trace"
)

// tick is how often the ring looks at its leases.
const tick = 250 * time.Millisecond

// latchScan is how often the database is asked for scopes without access.
const latchScan = time.Second

// Run renews leases, follows key versions, listens to the vaults' feeds and asks
// again for scopes without access, until ctx ends. Then every key is dropped, and
// nothing is opened any more.
func (k *Keyring) Run(ctx context.Context) {
	defer k.close()
	k.mu.Lock()
	k.stop = ctx
	k.mu.Unlock()
	t := time.NewTicker(tick)
	defer t.Stop()
	var lastScan time.Time
	var scan latchedScan
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := k.now()
		if now.Sub(lastScan) >= latchScan {
			lastScan = now
			if err := k.findLatched(ctx, &scan); err != nil && ctx.Err() == nil {
				k.log.ErrorContext(ctx, "looking for workspaces without access", "error", err)
			}
		}
		slots := k.all()
		k.reckon(slots)
		for _, s := range k.inOrder(slots, now) {
			k.tend(s, now)
		}
		k.feeds.follow(ctx, k, slots)
	}
}

func (k *Keyring) all() []*slot {
	k.mu.RLock()
	defer k.mu.RUnlock()
	slots := make([]*slot, 0, len(k.slots))
	for _, s := range k.slots {
		slots = append(slots, s)
	}
	return slots
}

func (k *Keyring) close() {
	k.mu.Lock()
	k.closed.Store(true)
	k.mu.Unlock()
	for _, s := range k.all() {
		s.end(stopping())
	}
	k.busy.Wait()
	k.feeds.wait()
}

// background runs work that outlives what caused it, the request or job with the given
// id ("" if it is a job of its own), but not Run. It reports false, and runs nothing, if
// Run has ended.
func (k *Keyring) background(id string, fn func(context.Context)) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed.Load() {
		return false
	}
	ctx := k.stop
	k.busy.Go(func() {
		if id == "" {
			fn(audit.WithJob(ctx))
			return
		}
		fn(audit.WithRequest(ctx, id))
	})
	return true
}

// findLatched makes slots for the scopes that the database knows to be without
// access, so that they are asked for again, and ends those that another replica
// was told no about.
func (k *Keyring) findLatched(ctx context.Context, scan *latchedScan) error {
	since, began := scan.since(k.now())
	var latched []Scope
	err := k.store.View(ctx, func(tx Tx) (err error) {
		latched, err = tx.Latched(since)
		return err
	})
	if err != nil {
		return err
	}
	scan.done(since, began)
	for _, sc := range latched {
		s := k.slot(sc.ID)
		if e := s.entry.Load(); e != nil && sc.Serving == Revoked {
			e.mu.RLock()
			newer := sc.Serial > e.row.Serial
			e.mu.RUnlock()
			if newer {
				s.saw(sc)
				s.drop(e, refused(sc))
			}
		}
		s.mu.Lock()
		known := !s.key.IsZero()
		s.mu.Unlock()
		if !known {
			if v, err := k.view(ctx, sc.ID); err == nil {
				k.remember(s, v)
			}
		}
	}
	return nil
}

// A latchedScan remembers what was read of the scopes without access: all of them now
// and then, and in between those that are news.
type latchedScan struct {
	last, whole time.Time
}

const (
	wholeScan = 5 * time.Minute  // between two looks at all of them
	scanBack  = 90 * time.Second // how far a look goes back: for clocks that differ (by 60 s at most) and commits that take long
)

func (s *latchedScan) since(now time.Time) (since, began time.Time) {
	if now.Sub(s.whole) >= wholeScan {
		return time.Time{}, now
	}
	return s.last.Add(-scanBack), now
}

func (s *latchedScan) done(since, began time.Time) {
	s.last = began
	if since.IsZero() {
		s.whole = began
	}
}

// drop ends an entry without further ado.
func (s *slot) drop(e *entry, why *fault.Error) {
	e.drop(why)
	s.entry.CompareAndSwap(e, nil)
}

// end ends whatever entry the slot has.
func (s *slot) end(why *fault.Error) {
	s.mu.Lock()
	e := s.entry.Load()
	s.mu.Unlock()
	if e != nil {
		s.drop(e, why)
	}
}

// clock reads what decides about the slot and its entry, if it has one.
func (s *slot) clock(e *entry, now time.Time) pace.Clock {
	c := pace.Clock{Hinted: s.hinted.Load()}
	if e == nil || e.ended.Load() != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.Poll = s.nextPoll
		return c
	}
	l := e.lease.Load()
	c.Leased, c.Valid, c.Given = true, l.Valid(now), l.Expires().Add(-l.Length())
	c.Used, c.Renewal = time.Unix(0, e.lastUsed.Load()), time.Unix(0, e.next.Load())
	return c
}

// tend does for one scope what is due, as far as its vault's budget allows. What
// must wait stays due. A hint that may mean a no waits for nothing; one that may mean
// a yes goes before other tries.
func (k *Keyring) tend(s *slot, now time.Time) {
	e := s.entry.Load()
	c := s.clock(e, now)
	switch c.Due(now) {
	case pace.Ask:
		k.start("ask for key again", &s.asking, func() bool { return k.may(s, now, c.Urgency(), 1) },
			func(ctx context.Context) { k.ask(ctx, s) })
	case pace.Expire:
		k.expire(s, e)
	case pace.Renew:
		k.start("renew key lease", &e.renewing, func() bool { return k.may(s, now, c.Urgency(), 1) },
			func(ctx context.Context) { k.renew(ctx, s, e) })
	}
}

// start starts work of which there is one at a time, if it is not under way and is
// allowed.
func (k *Keyring) start(what string, one *sync.Mutex, allowed func() bool, work func(context.Context)) {
	if !one.TryLock() {
		return
	}
	if !allowed() || !k.background("", func(ctx context.Context) {
		defer one.Unlock()
		ctx, span := traced(ctx, what)
		defer span.End(nil) // what went wrong, the steps below it say
		work(ctx)
	}) {
		one.Unlock()
	}
}

// traced begins the trace of a job, which names the job as the audit log does.
func traced(ctx context.Context, what string) (context.Context, trace.Span) {
	ctx, span := trace.Job(ctx, what)
	span.Text("kluis.request", audit.RequestOf(ctx))
	return ctx, span
}

// usedSinceLease reports whether anybody used the keys since the lease was given:
// idle scopes do not renew.
func (e *entry) usedSinceLease() bool {
	l := e.lease.Load()
	return e.lastUsed.Load() >= l.Expires().Add(-l.Length()).UnixNano()
}

// expire ends an entry whose lease ran out. If it was in use, its vault has not
// answered, and the scope is said to be unreachable until it does.
func (k *Keyring) expire(s *slot, e *entry) {
	e.mu.RLock()
	row, guarded := e.row, e.sealing.Mode == CustomerManaged
	inUse := e.lastUsed.Load() >= e.lease.Load().HalfTime().UnixNano()
	e.mu.RUnlock()
	s.drop(e, leaseOver(s.id))
	if guarded && inUse {
		k.background("", func(ctx context.Context) {
			if s.entry.Load() == nil {
				k.suspend(ctx, s, row, leaseOver(s.id))
			}
		})
	}
}

// ask tries a scope without access again. The caller holds s.asking, and has taken
// the question from the vault's budget.
func (k *Keyring) ask(ctx context.Context, s *slot) {
	hinted := s.hinted.Swap(false)
	s.mu.Lock()
	began := !s.firstYes.IsZero()
	s.nextPoll = pace.Poll(k.now(), k.poll, k.budgets.replicas, rand.Float64())
	s.mu.Unlock()
	v, err := k.view(ctx, s.id)
	if errors.Is(err, fault.WorkspaceNotFound) || err == nil && v.scope.Serving == Serves {
		if !k.forgetSlot(s) && hinted {
			s.hinted.Store(true) // it is being opened, perhaps by a yes that was given before what the hint is about
		}
		return
	}
	if err != nil {
		return
	}
	if k.shared && k.budgets.replicas == 1 && !hinted && !began { // one process asks for all
		if busy, err := k.claimed(ctx, v.renewal, s.id, k.poll-k.poll/8); busy || err != nil {
			return
		}
	}
	if _, err := k.open(ctx, s.id, true); err != nil && ctx.Err() == nil && !fault.ReasonOf(err).RefusedByVault() &&
		fault.ReasonOf(err) != fault.KEKUnreachable {
		k.log.WarnContext(ctx, "asking again for a workspace's key", "workspace", string(s.id), "error", err)
	}
}
