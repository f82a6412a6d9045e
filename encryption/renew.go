package encryption

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/kluis-io/kluis/encryption/pace"
	"github.com/kluis-io/kluis/fault"
)

// renew asks the vault again for a scope in use, and follows its key's versions. The
// caller holds e.renewing, and has taken the question from the vault's budget.
func (k *Keyring) renew(ctx context.Context, s *slot, e *entry) {
	hinted := s.hinted.Swap(false)                               // which asks for a yes from now on
	e.next.Store(pace.Again(k.now(), rand.Float64()).UnixNano()) // unless it goes well
	v, err := k.view(ctx, s.id)
	switch {
	case errors.Is(err, fault.WorkspaceNotFound):
		s.drop(e, fault.New(fault.WorkspaceNotFound, "The workspace has been deleted.").About(string(s.id)))
		return
	case err != nil:
		return
	case v.scope.Serving == Revoked:
		s.saw(v.scope)
		s.drop(e, refused(v.scope))
		return
	}
	if k.shared && !e.follow(v) {
		s.saw(v.scope)
	} else if k.shared && !hinted && e.guarded() {
		if done, err := k.borrow(ctx, e, v); err != nil {
			k.reportUnanswered(ctx, s.id, err)
			return
		} else if done {
			return
		}
	}
	m, err := k.unlock(ctx, v)
	k.remember(s, v)
	switch {
	case err == nil:
		if err := k.confirm(ctx, v); err != nil {
			m.clear() // it moved on meanwhile: the next look sees how
			return
		}
		guarded := m.sealing.Mode == CustomerManaged
		if e, err = k.put(s, m); err == nil && guarded {
			k.followVersion(ctx, s, e)
		}
	case fault.ReasonOf(err).RefusedByVault():
		k.revoke(ctx, s, v, err)
	default:
		k.reportUnanswered(ctx, s.id, err)
	}
}

// notOpened deals with a scope that could not be opened: a no is latched, and no
// answer remembered for a moment. It returns the error to tell.
func (k *Keyring) notOpened(ctx context.Context, s *slot, v view, err error) error {
	switch r := fault.ReasonOf(err); {
	case r.RefusedByVault():
		return k.revoke(ctx, s, v, err)
	case ctx.Err() != nil:
		return err // it is the caller who would not wait
	case r == fault.KEKUnreachable || r == fault.KEKIntegrity:
		k.reportUnanswered(ctx, s.id, err)
		s.mu.Lock()
		s.lastAsk, s.firstYes = k.now(), time.Time{}
		s.mu.Unlock()
		if v.scope.Serving == Revoked {
			return refused(v.scope)
		}
		k.suspend(ctx, s, v.scope, fault.As(err))
	}
	return err
}

func (k *Keyring) reportUnanswered(ctx context.Context, id ScopeID, err error) {
	if ctx.Err() != nil {
		return
	}
	if fault.ReasonOf(err) == fault.KEKIntegrity {
		k.log.ErrorContext(ctx, "integrity alert: a vault's answer is not what was asked for", "workspace", string(id), "error", err)
		return
	}
	k.log.WarnContext(ctx, "a workspace's key could not be opened", "workspace", string(id), "error", err)
}

// trusted reports whether a vault's yes after a no can be believed at once. A
// kluis vault's can, while its feed stands; a foreign one's caches flap, so it
// takes two yeses ten seconds apart, and no revocation between them.
func (k *Keyring) trusted(s *slot, serial int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.yesAfter != serial { // somebody was told no since
		s.firstYes = time.Time{}
	}
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
		s.firstYes, s.yesAfter = now, serial
	}
	s.nextPoll = s.firstYes.Add(secondYes)
	return false
}

// secondYes is how long a foreign vault must keep saying yes.
const secondYes = 10 * time.Second
