package encryption

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/kek"
)

var (
	rotateAfterWrap    = failpoint.New("encryption/rotate/after-wrap")
	rotateAfterVerify  = failpoint.New("encryption/rotate/after-verify")
	rotateAfterPublish = failpoint.New("encryption/rotate/after-publish")
	revokeBeforeLatch  = failpoint.New("encryption/revoke/before-latch")
	revokeAfterLatch   = failpoint.New("encryption/revoke/after-latch")
)

// tick is how often the ring looks at its leases.
const tick = 250 * time.Millisecond

// latchScan is how often the database is asked for scopes without access.
const latchScan = 5 * time.Second

// Run renews leases, follows key versions, listens to the vaults' feeds and asks
// again for scopes without access, until ctx ends. Then every key is dropped.
func (k *Keyring) Run(ctx context.Context) {
	k.mu.Lock()
	k.stop = ctx
	k.mu.Unlock()
	t := time.NewTicker(tick)
	defer t.Stop()
	var lastScan time.Time
	for {
		select {
		case <-ctx.Done():
			k.close()
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
		k.mu.RLock()
		slots := make([]*slot, 0, len(k.slots))
		for _, s := range k.slots {
			slots = append(slots, s)
		}
		k.mu.RUnlock()
		for _, s := range slots {
			k.tend(s, now)
		}
		k.feeds.follow(ctx, k, slots)
	}
}

func (k *Keyring) close() {
	k.busy.Wait()
	k.feeds.wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.slots {
		if e := s.entry.Swap(nil); e != nil {
			if share := e.takeShare(); share != nil {
				share.Clear()
			}
			e.end(fault.New(fault.Unavailable, "The platform is stopping."))
		}
	}
}

// background runs work that outlives the request that caused it, but not Run.
func (k *Keyring) background(fn func(context.Context)) {
	k.mu.RLock()
	ctx := k.stop
	k.mu.RUnlock()
	if ctx.Err() != nil {
		return
	}
	k.busy.Go(func() { fn(ctx) })
}

// findLatched makes slots for the scopes that the database knows to be without
// access, so that they are asked for again.
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
			// Another replica was told no.
			e.mu.RLock()
			newer := sc.Serial > e.row.Serial
			e.mu.RUnlock()
			if newer {
				k.drop(s, e, refused(sc))
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
func (k *Keyring) drop(s *slot, e *entry, why *fault.Error) {
	if share := e.takeShare(); share != nil {
		share.Clear()
	}
	e.end(why)
	s.entry.CompareAndSwap(e, nil)
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
	case s.hinted.Load() || now.UnixNano() >= e.next.Load() && e.lastUsed.Load() >= e.lease.Load().Expires().Add(-k.lease).UnixNano():
		k.background(func(ctx context.Context) { k.renew(ctx, s, e) })
	}
}

// expire ends an entry whose lease ran out. If it was in use, its vault has not
// answered, and the scope is said to be unreachable until it does.
func (k *Keyring) expire(s *slot, e *entry) {
	e.mu.RLock()
	row, guarded := e.row, e.sealing.Mode == CustomerManaged
	inUse := e.lastUsed.Load() >= e.lease.Load().HalfTime().UnixNano()
	e.mu.RUnlock()
	k.drop(s, e, leaseOver(s.id))
	if guarded && inUse {
		k.background(func(ctx context.Context) {
			k.latch(ctx, s, row, Unreachable, leaseOver(s.id))
		})
	}
}

// ask tries a scope without access again.
func (k *Keyring) ask(ctx context.Context, s *slot) {
	s.mu.Lock()
	s.hinted.Store(false)
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
	if _, err := k.open(ctx, s, true); err != nil && ctx.Err() == nil && !fault.ReasonOf(err).RefusedByVault() &&
		fault.ReasonOf(err) != fault.KEKUnreachable {
		k.log.WarnContext(ctx, "asking again for a workspace's key", "workspace", string(s.id), "error", err)
	}
}

// forgetSlot lets go of a slot that holds nothing.
func (k *Keyring) forgetSlot(s *slot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := s.entry.Load(); e == nil && len(s.sem) == 0 {
		delete(k.slots, s.id)
	}
}

// trusted reports whether a vault's yes after a no can be believed at once. A
// kluis vault's can, while its feed stands; a foreign one's caches flap, so it
// takes two yeses ten seconds apart.
func (k *Keyring) trusted(s *slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.feeds.standing(s.tenant, s.key.Vault()) {
		s.firstYes = time.Time{}
		return true
	}
	now := k.now()
	if !s.firstYes.IsZero() && now.Sub(s.firstYes) >= secondYes {
		s.firstYes = time.Time{}
		return true
	}
	if s.firstYes.IsZero() {
		s.firstYes = now
	}
	s.nextPoll = s.firstYes.Add(secondYes)
	return false
}

// secondYes is how long a foreign vault must keep saying yes.
const secondYes = 10 * time.Second

// renew asks the vault again for a scope in use, and follows its key's versions.
func (k *Keyring) renew(ctx context.Context, s *slot, e *entry) {
	if !e.renewing.TryLock() {
		return
	}
	defer e.renewing.Unlock()
	s.hinted.Store(false)
	e.next.Store(k.now().Add(time.Second + rand.N(time.Second)).UnixNano()) // unless it goes well
	v, err := k.view(ctx, s.id)
	if err != nil {
		if errors.Is(err, fault.WorkspaceNotFound) {
			k.drop(s, e, fault.New(fault.WorkspaceNotFound, "The workspace has been deleted.").About(string(s.id)))
		}
		return
	}
	if v.scope.Serving == Revoked {
		k.drop(s, e, refused(v.scope))
		return
	}
	m, err := k.unlock(ctx, v)
	k.remember(s, v)
	switch {
	case err == nil:
		if now, err := k.view(ctx, s.id); err != nil || now.scope.Epoch != v.scope.Epoch || now.scope.Serial != v.scope.Serial {
			m.clear() // it moved on meanwhile: the next look sees how
			return
		}
		e.adopt(m)
		if m.sealing.Mode == CustomerManaged {
			k.followVersion(ctx, s, e)
		}
	case fault.ReasonOf(err).RefusedByVault():
		k.revoke(ctx, s, e, v, err)
	default:
		k.reportUnanswered(ctx, s.id, err)
	}
}

func (k *Keyring) reportUnanswered(ctx context.Context, id ScopeID, err error) {
	if ctx.Err() != nil {
		return
	}
	if fault.ReasonOf(err) == fault.KEKIntegrity {
		k.log.ErrorContext(ctx, "integrity alert: a vault's answer is not what was asked for", "workspace", string(id), "error", err)
		return
	}
	k.log.WarnContext(ctx, "a vault has not answered", "workspace", string(id), "error", err)
}

// notOpened deals with a scope that could not be opened: a no is latched, and no
// answer remembered for a moment. It returns the error to tell.
func (k *Keyring) notOpened(ctx context.Context, s *slot, v view, err error) error {
	switch r := fault.ReasonOf(err); {
	case r.RefusedByVault():
		return k.revoke(ctx, s, nil, v, err)
	case r == fault.KEKUnreachable || r == fault.KEKIntegrity:
		k.reportUnanswered(ctx, s.id, err)
		s.mu.Lock()
		s.lastAsk, s.firstYes = k.now(), time.Time{}
		s.mu.Unlock()
		if v.scope.Serving == Serves {
			k.latch(ctx, s, v.scope, Unreachable, fault.As(err))
		}
		if v.scope.Serving == Revoked {
			return refused(v.scope)
		}
	}
	return err
}

// revoke is what a no does: every key of the scope is dropped at once, and the
// scope latched as revoked. If only an older version of its key was refused, the
// share that is still leased is wrapped once under the newest version, and if
// that version unwraps it, access returns.
func (k *Keyring) revoke(ctx context.Context, s *slot, e *entry, v view, err error) error {
	ctx = context.WithoutCancel(ctx)
	why := fault.As(err)
	var share *envelope.Key
	if e == nil {
		e = s.entry.Load()
	}
	if e != nil {
		leased := e.lease.Load().Valid(k.now())
		share = e.takeShare()
		if !e.end(why) {
			share = nil
		}
		s.entry.CompareAndSwap(e, nil)
		if share != nil {
			defer share.Clear()
			if !leased {
				share = nil
			}
		}
	}
	s.mu.Lock()
	s.firstYes = time.Time{}
	s.mu.Unlock()
	if err := revokeBeforeLatch.Hit(); err != nil {
		return why
	}
	latest, refusedVersion := k.otherVersion(ctx, v)
	if refusedVersion != "" {
		why = why.WithMend("Re-enable version " + refusedVersion + " of the key until the workspace has moved to the newest one.")
	}
	latched, lerr := k.latch(ctx, s, v.scope, Revoked, why)
	if lerr != nil {
		k.log.ErrorContext(ctx, "latching a revoked workspace", "workspace", string(s.id), "error", lerr)
		return why
	}
	if err := revokeAfterLatch.Hit(); err != nil {
		return why
	}
	k.log.WarnContext(ctx, "workspace revoked", "workspace", string(s.id), "reason", string(why.Reason))
	if share != nil && refusedVersion != "" {
		if err := k.publishWrap(ctx, latched, latest, share); err != nil {
			k.log.WarnContext(ctx, "moving a leased share to the newest key version", "workspace", string(s.id), "error", err)
		} else {
			s.hinted.Store(true)
		}
	}
	return why
}

// otherVersion asks whether the key has a newer, usable version than the one that
// was refused. It returns that one, and the refused version's name.
func (k *Keyring) otherVersion(ctx context.Context, v view) (latest kek.KeyInfo, refused string) {
	g, err := v.sealing()
	if err != nil || g.Mode != CustomerManaged {
		return latest, ""
	}
	id, err := kek.ParseKeyIdentifier(g.KeyIdentifier, k.policy)
	if err != nil {
		return latest, ""
	}
	latest, err = k.vault.Latest(ctx, string(v.scope.Tenant), id)
	if err != nil || latest.KID == g.KID || latest.Usable(k.now()) != nil {
		return latest, ""
	}
	return latest, g.KID.Version()
}

// latch notes that a scope does not serve, and why.
func (k *Keyring) latch(ctx context.Context, s *slot, sc Scope, serving Serving, why *fault.Error) (Scope, error) {
	s.mu.Lock()
	s.nextPoll = k.now().Add(k.poll)
	s.mu.Unlock()
	var out Scope
	err := k.store.Update(ctx, func(tx Tx) (err error) {
		if out, err = tx.Scope(sc.ID); err != nil {
			return err
		}
		if out.Serving == serving && out.Reason == why.Reason && out.Detail == why.Mend || out.Serving == Revoked && serving == Unreachable {
			return nil
		}
		if serving == Revoked {
			out.Serial++
		}
		if out.Serving != serving {
			out.ServingSince = k.now()
		}
		out.Serving, out.Reason, out.Detail = serving, why.Reason, why.Mend
		if err := tx.UpdateScope(out, out.Epoch); err != nil {
			return err
		}
		e := k.entry("RevokeWorkspaceAccess", out)
		if serving == Unreachable {
			e.Operation = "SuspendWorkspaceAccess"
		}
		e.Reason = why.Reason
		return tx.AppendAudit(e)
	})
	return out, err
}

// followVersion looks for a new version of the entry's key and moves the share to
// it.
func (k *Keyring) followVersion(ctx context.Context, s *slot, e *entry) {
	e.mu.RLock()
	v, g := e.row, e.sealing
	var share *envelope.Key
	if e.share != nil {
		share = new(envelope.Key)
		*share = *e.share
	}
	e.mu.RUnlock()
	if share == nil {
		return
	}
	defer share.Clear()
	id, err := kek.ParseKeyIdentifier(g.KeyIdentifier, k.policy)
	if err != nil {
		k.log.ErrorContext(ctx, "a workspace's key identifier is not allowed any more", "workspace", string(s.id), "error", err)
		return
	}
	latest, err := k.vault.Latest(ctx, string(v.Tenant), id)
	if err != nil {
		if !fault.ReasonOf(err).RefusedByVault() {
			k.reportUnanswered(ctx, s.id, err)
		}
		return // whether to serve is for unwrapping alone to say
	}
	if latest.KID == g.KID {
		return
	}
	if err := latest.Usable(k.now()); err != nil {
		s.mu.Lock()
		first := s.warned != latest.KID
		s.warned = latest.KID
		s.mu.Unlock()
		if first {
			k.log.WarnContext(ctx, "a new key version cannot be used yet; the old one stays", "workspace", string(s.id), "error", err)
			k.recordKeyUse(ctx, "SkipKeyVersion", v, latest.KID, err)
		}
		return
	}
	if err := k.publishWrap(ctx, v, latest, share); err != nil {
		if !errors.Is(err, fault.EncryptionChanged) {
			k.log.WarnContext(ctx, "moving a workspace to a new key version", "workspace", string(s.id), "error", err)
		}
		return
	}
	if v, err := k.view(ctx, s.id); err == nil {
		if g, err := v.sealing(); err == nil && g.KID == latest.KID {
			e.mu.Lock()
			if e.sealing.Number == g.Number {
				e.row, e.sealing = v.scope, g
			}
			e.mu.Unlock()
		}
	}
}

// publishWrap wraps a scope's share under a key version, makes sure that this
// version unwraps it again, and only then replaces the wrap in the sealing
// generation's row: at no moment is the share without a wrap that was seen to
// open. The data is not touched. A latch for an older version's sake is cleared.
func (k *Keyring) publishWrap(ctx context.Context, s Scope, to kek.KeyInfo, share *envelope.Key) error {
	wrapped, err := k.wrap(ctx, s, to, share)
	if err != nil {
		return err
	}
	err = k.store.Update(ctx, func(tx Tx) error {
		v, err := readView(tx, s.ID)
		if err != nil {
			return err
		}
		g, err := v.sealing()
		if err != nil {
			return err
		}
		if v.scope.Epoch != s.Epoch || v.scope.Serial != s.Serial || g.Mode != CustomerManaged {
			return fault.New(fault.EncryptionChanged, "The workspace's keys have changed meanwhile.")
		}
		now := k.now()
		if err := tx.UseVersion(s.ID, VersionUse{KID: string(g.KID), First: now, Last: now}); err != nil {
			return err
		}
		if err := tx.UseVersion(s.ID, VersionUse{KID: string(to.KID), First: now}); err != nil {
			return err
		}
		sh, err := openGeneration(k.root, s.Tenant, g)
		if err != nil {
			return err
		}
		defer sh.clear()
		old := g.KID
		next := v.scope
		next.Epoch++
		next.Serving, next.Reason, next.Detail, next.ServingSince = Serves, "", "", time.Time{}
		g.KID, g.Algorithm, g.Wrapped, g.Epoch = to.KID, to.Algorithm, wrapped, next.Epoch
		sealGeneration(k.root, s.Tenant, &g, sh)
		if err := tx.PutGeneration(g); err != nil {
			return err
		}
		if err := tx.UpdateScope(next, v.scope.Epoch); err != nil {
			return err
		}
		e := k.entry("RewrapScopeShare", s)
		e.Detail = map[string]string{"from": string(old), "to": string(to.KID)}
		return tx.AppendAudit(e)
	})
	if err != nil {
		return err
	}
	return rotateAfterPublish.Hit()
}

// wrap wraps the share under a key version, and unwraps and compares it.
func (k *Keyring) wrap(ctx context.Context, s Scope, to kek.KeyInfo, share *envelope.Key) (wrapped []byte, err error) {
	defer func() {
		if auditErr := k.recordKeyUse(ctx, "WrapScopeShare", s, to.KID, err); err == nil && auditErr != nil {
			err = auditErr
		}
	}()
	tenant := string(s.Tenant)
	if wrapped, err = k.vault.Wrap(ctx, tenant, to.KID, to.Algorithm, share[:]); err != nil {
		return nil, err
	}
	if err := rotateAfterWrap.Hit(); err != nil {
		return nil, err
	}
	back, err := k.vault.Unwrap(ctx, tenant, to.KID, to.Algorithm, wrapped)
	defer clear(back)
	if err != nil {
		return nil, err
	}
	if !equal(back, share[:]) {
		return nil, fault.New(fault.KEKIntegrity, "The vault does not give back what it wrapped.").About(string(to.KID))
	}
	return wrapped, rotateAfterVerify.Hit()
}
