package encryption

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/kluis-io/kluis/fault"
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := k.now()
		if now.Sub(lastScan) >= latchScan {
			lastScan = now
			if err := k.findLatched(ctx); err != nil && ctx.Err() == nil {
				k.log.ErrorContext(ctx, "looking for workspaces without access", "error", err)
			}
		}
		slots := k.all()
		for _, s := range slots {
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

// background runs work that outlives the request that caused it, but not Run. It
// reports false, and runs nothing, if Run has ended.
func (k *Keyring) background(fn func(context.Context)) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed.Load() {
		return false
	}
	ctx := k.stop
	k.busy.Go(func() { fn(ctx) })
	return true
}

// findLatched makes slots for the scopes that the database knows to be without
// access, so that they are asked for again, and ends those that another replica
// was told no about.
func (k *Keyring) findLatched(ctx context.Context) error {
	var latched []Scope
	err := k.store.View(ctx, func(tx Tx) error {
		all, err := tx.Scopes()
		for _, s := range all {
			if s.Serving != Serves {
				latched = append(latched, s)
			}
		}
		return err
	})
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
	return err
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

// tend does for one scope what is due.
func (k *Keyring) tend(s *slot, now time.Time) {
	e := s.entry.Load()
	switch {
	case e == nil || e.ended.Load() != nil:
		s.mu.Lock()
		due := s.hinted.Load() || now.After(s.nextPoll)
		s.mu.Unlock()
		if due {
			k.background(func(ctx context.Context) { k.ask(ctx, s) })
		}
	case !e.lease.Load().Valid(now):
		k.expire(s, e)
	case s.hinted.Load() || now.UnixNano() >= e.next.Load() && e.usedSinceLease():
		k.background(func(ctx context.Context) { k.renew(ctx, s, e) })
	}
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
		k.background(func(ctx context.Context) {
			if s.entry.Load() == nil {
				k.suspend(ctx, s, row, leaseOver(s.id))
			}
		})
	}
}

// ask tries a scope without access again.
func (k *Keyring) ask(ctx context.Context, s *slot) {
	if !s.asking.TryLock() {
		return // a hint stays until this one is done
	}
	defer s.asking.Unlock()
	s.hinted.Store(false)
	s.mu.Lock()
	s.nextPoll = k.now().Add(k.poll - k.poll/8 + rand.N(k.poll/4+1))
	s.mu.Unlock()
	v, err := k.view(ctx, s.id)
	if errors.Is(err, fault.WorkspaceNotFound) || err == nil && v.scope.Serving == Serves {
		k.forgetSlot(s)
		return
	}
	if err != nil {
		return
	}
	if _, err := k.open(ctx, s.id, true); err != nil && ctx.Err() == nil && !fault.ReasonOf(err).RefusedByVault() &&
		fault.ReasonOf(err) != fault.KEKUnreachable {
		k.log.WarnContext(ctx, "asking again for a workspace's key", "workspace", string(s.id), "error", err)
	}
}
