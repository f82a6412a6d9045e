package encryption

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption/pace"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/kek"
)

var (
	revokeBeforeLatch = failpoint.New("encryption/revoke/before-latch")
	revokeAfterLatch  = failpoint.New("encryption/revoke/after-latch")
)

// revoke is what a no does: every key of the scope is dropped at once, and the
// scope latched as revoked. If only an older version of its key was refused, the
// share that was still leased outlives that for [Keyring.rescue]. It returns the
// error to tell.
func (k *Keyring) revoke(ctx context.Context, s *slot, v view, err error) error {
	why := fault.As(err)
	var share *envelope.Key
	var until time.Time // when the share's lease ends
	if e := s.entry.Load(); e != nil {
		l := e.lease.Load()
		if l.Valid(k.now()) {
			until = l.Expires()
		}
		share = e.end(why)
		s.entry.CompareAndSwap(e, nil)
	}
	left := leased{share: share, until: until}
	s.mu.Lock()
	s.firstYes = time.Time{}
	s.mu.Unlock()
	if err := revokeBeforeLatch.Hit(); err != nil {
		left.clear()
		return why
	}
	latched, lerr := k.latch(context.WithoutCancel(ctx), s, v.scope, Revoked, why)
	if lerr != nil {
		left.clear()
		s.hinted.Store(true)
		if errors.Is(lerr, fault.EncryptionChanged) {
			return lerr // the answer was about a row that is no more
		}
		k.log.ErrorContext(ctx, "latching a revoked workspace", "workspace", string(s.id), "error", lerr)
		return why
	}
	s.saw(latched)
	s.end(why) // whatever was opened since, before the latch was seen
	k.log.WarnContext(ctx, "workspace revoked", "workspace", string(s.id), "reason", string(why.Reason))
	if err := revokeAfterLatch.Hit(); err != nil {
		left.clear()
		return why
	}
	g, gerr := v.sealing()
	if gerr != nil || !oneVersion(err) || !k.background(audit.RequestOf(ctx), func(ctx context.Context) { k.rescue(ctx, s, latched, g, left) }) {
		left.clear()
	}
	return why
}

// oneVersion reports whether a no may be about one version of a key alone.
func oneVersion(err error) bool {
	for _, r := range []fault.Reason{fault.KeyDisabled, fault.KeyNotFound, fault.KeyOperationForbidden, fault.KeyNotYetValid} {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// leased is a customer share that outlives its entry, until its lease would have
// ended.
type leased struct {
	share *envelope.Key // nil if there is none
	until time.Time
}

func (l leased) clear() {
	if l.share != nil {
		l.share.Clear()
	}
}

// rescueRetry is how long the rescue waits for a vault that has not answered.
const rescueRetry = time.Second

// rescue deals with a scope of which the vault refused a version that is not the
// newest. If the share is still leased, it is wrapped under the newest one, and if
// that unwraps it, access returns. Else the scope's row says which version to
// enable again.
func (k *Keyring) rescue(ctx context.Context, s *slot, sc Scope, g Generation, left leased) {
	defer left.clear()
	id, err := kek.ParseKeyIdentifier(g.KeyIdentifier, k.policy)
	if err != nil {
		return
	}
	for {
		latest, err := k.vault.Latest(ctx, string(sc.Tenant), id)
		if err == nil && latest.KID == g.KID || fault.ReasonOf(err).RefusedByVault() {
			return // the whole key is refused
		}
		leased := left.share != nil && k.now().Before(left.until)
		if err == nil && leased {
			if err = latest.Usable(k.now()); err == nil {
				err = k.publishWrap(ctx, sc, latest, left.share)
			}
			if err == nil {
				s.hinted.Store(true)
				return
			}
			if now, ok := k.againRevoked(ctx, sc, err); ok {
				sc = now
				continue
			}
			k.log.WarnContext(ctx, "moving a leased share to the newest key version", "workspace", string(s.id), "error", err)
		}
		if r := fault.ReasonOf(err); !leased || r != fault.KEKUnreachable && r != fault.KEKIntegrity {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rescueRetry):
		}
	}
	if err := k.explain(ctx, sc, "Enable version "+g.KID.Version()+" of the key again until the workspace has moved to the newest one."); err != nil && ctx.Err() == nil {
		k.log.ErrorContext(ctx, "noting which key version is missing", "workspace", string(s.id), "error", err)
	}
}

// againRevoked reports whether err only says that the scope was latched once more
// meanwhile, by a poll that asked about the same old version, and returns its row.
func (k *Keyring) againRevoked(ctx context.Context, latched Scope, err error) (Scope, bool) {
	if !errors.Is(err, fault.EncryptionChanged) {
		return latched, false
	}
	v, err := k.view(ctx, latched.ID)
	now := v.scope
	return now, err == nil && now.Serving == Revoked && now.Epoch == latched.Epoch && now.Serial != latched.Serial
}

// explain notes what would end a revocation, if it still lasts.
func (k *Keyring) explain(ctx context.Context, latched Scope, mend string) error {
	return k.store.Update(ctx, func(tx Tx) error {
		sc, err := tx.Scope(latched.ID)
		if err != nil || sc.Serving != Revoked || sc.Epoch != latched.Epoch || sc.Serial != latched.Serial {
			return err
		}
		sc.Detail = mend
		return tx.UpdateScope(sc, sc.Epoch)
	})
}

// suspend notes that a scope's vault does not answer.
func (k *Keyring) suspend(ctx context.Context, s *slot, sc Scope, why *fault.Error) {
	_, err := k.latch(ctx, s, sc, Unreachable, why)
	if err != nil && ctx.Err() == nil && !errors.Is(err, fault.EncryptionChanged) {
		k.log.ErrorContext(ctx, "noting an unreachable vault", "workspace", string(s.id), "error", err)
	}
}

// latch notes that a scope does not serve, and why. It fails with
// [fault.EncryptionChanged] if the scope's key has changed since it was asked for.
func (k *Keyring) latch(ctx context.Context, s *slot, asked Scope, serving Serving, why *fault.Error) (sc Scope, err error) {
	s.mu.Lock()
	s.nextPoll = pace.Poll(k.now(), k.poll, k.budgets.replicas, rand.Float64())
	s.mu.Unlock()
	err = k.store.Update(ctx, func(tx Tx) error {
		if sc, err = tx.Scope(asked.ID); err != nil {
			return err
		}
		if sc.Epoch != asked.Epoch {
			return keysChanged()
		}
		if serving == Unreachable && (sc.Serving != Serves || sc.Serial != asked.Serial) {
			return nil // known already, or known better
		}
		news := sc.Serving != serving || sc.Reason != why.Reason
		if serving == Revoked {
			sc.Serial++ // a yes that was given before this no counts no more
		}
		if sc.Serving != serving {
			sc.ServingSince = k.now()
		}
		sc.Serving, sc.Reason, sc.Detail = serving, why.Reason, why.Mend
		if err := tx.UpdateScope(sc, sc.Epoch); err != nil || !news {
			return err
		}
		e := k.entry(ctx, "RevokeWorkspaceAccess", sc)
		if serving == Unreachable {
			e.Operation = "SuspendWorkspaceAccess"
		}
		e.Reason = why.Reason
		return tx.AppendAudit(e)
	})
	return sc, err
}
