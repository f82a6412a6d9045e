package encryption

import (
	"context"
	"errors"
	"time"

	"github.com/kluis-io/kluis/encryption/pace"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/kek"
)

var (
	rotateAfterWrap    = failpoint.New("encryption/rotate/after-wrap")
	rotateAfterVerify  = failpoint.New("encryption/rotate/after-verify")
	rotateAfterPublish = failpoint.New("encryption/rotate/after-publish")
)

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
	u, ok := k.mayLook(s, v)
	if !ok {
		return
	}
	latest, err := k.vault.Latest(ctx, string(v.Tenant), id)
	if err != nil {
		if !fault.ReasonOf(err).RefusedByVault() {
			k.reportUnanswered(ctx, s.id, err)
		}
		return // whether to serve is for unwrapping alone to say
	}
	k.note(ctx, v, latest)
	if latest.KID == g.KID {
		s.sawVersion(k.now())
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
		s.sawVersion(k.now())
		return
	}
	if !k.may(s, k.now(), u, 2) {
		return // at the next renewal: the old version serves until then
	}
	if err := k.publishWrap(ctx, v, latest, share); err != nil {
		if !errors.Is(err, fault.EncryptionChanged) {
			k.log.WarnContext(ctx, "moving a workspace to a new key version", "workspace", string(s.id), "error", err)
		}
		return
	}
	if v, err := k.view(ctx, s.id); err == nil {
		if g, err := v.sealing(); err == nil && g.KID == latest.KID {
			s.saw(v.scope)
			e.moved(v.scope, g)
		}
	}
}

// mayLook reports whether the budget of the slot's vault allows to look for a newer
// version of its key, and how urgent that is: it is the first to be left out, but
// not for long.
func (k *Keyring) mayLook(s *slot, sc Scope) (pace.Urgency, bool) {
	s.mu.Lock()
	overdue := k.now().Sub(s.looked) >= lookWithin
	if s.looked.IsZero() { // not by this process; by another, as far as the row says
		overdue = k.now().Sub(sc.Verified) >= verifyEvery
	}
	s.mu.Unlock()
	u := pace.Looking
	if overdue {
		u = pace.Keeping
	}
	return u, k.may(s, k.now(), u, 1)
}

func (s *slot) sawVersion(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked = now
}

// moved notes a change of the sealing generation's row that left its key as it is.
func (e *entry) moved(sc Scope, g Generation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sealing.Number == g.Number && e.row.Epoch < sc.Epoch {
		e.row, e.sealing = sc, g
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
	var next Scope
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
			return keysChanged()
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
		next = v.scope
		next.Epoch++
		next.serve()
		g.KID, g.Algorithm, g.Wrapped, g.Epoch = to.KID, to.Algorithm, wrapped, next.Epoch
		sealGeneration(k.root, s.Tenant, &g, sh)
		if err := tx.PutGeneration(g); err != nil {
			return err
		}
		if err := tx.UpdateScope(next, v.scope.Epoch); err != nil {
			return err
		}
		e := k.entry(ctx, "RewrapScopeShare", s)
		e.Detail = map[string]string{"from": string(old), "to": string(to.KID)}
		return tx.AppendAudit(e)
	})
	if err != nil {
		return err
	}
	if err := k.bearWitness(ctx, next); err != nil {
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
