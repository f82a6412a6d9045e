package encryption

import (
	"context"
	"errors"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption/pace"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
)

// quickRetry is how soon after an unanswered question the next request may ask
// again.
const quickRetry = 2 * time.Second

// open opens a scope whose lease does not run. With asking set it also asks for
// one that is latched as revoked: that is the poll's right alone.
func (k *Keyring) open(ctx context.Context, id ScopeID, asking bool) (*entry, error) {
	s, release, err := k.hold(ctx, id)
	if err != nil {
		return nil, err
	}
	defer release()
	if e := s.entry.Load(); e != nil && e.check() == nil {
		e.touch(k.now())
		return e, nil
	}
	for attempt := 0; ; attempt++ {
		e, err := k.tryOpen(ctx, s, asking)
		if errors.Is(err, fault.EncryptionChanged) && attempt < 3 {
			continue
		}
		return e, err
	}
}

func (k *Keyring) tryOpen(ctx context.Context, s *slot, asking bool) (*entry, error) {
	v, err := k.view(ctx, s.id)
	if err != nil {
		return nil, err
	}
	if !asking {
		if v.scope.Serving == Revoked {
			k.remember(s, v)
			return nil, refused(v.scope)
		}
		s.mu.Lock()
		tooSoon := k.now().Sub(s.lastAsk) < quickRetry
		s.mu.Unlock()
		if tooSoon {
			return nil, leaseOver(s.id)
		}
		if err := k.afford(ctx, v); err != nil {
			k.remember(s, v)
			if errors.Is(err, fault.KEKUnreachable) && v.scope.Serving == Serves {
				k.suspend(ctx, s, v.scope, fault.As(err))
			}
			return nil, err
		}
	}
	m, err := k.unlock(ctx, v)
	k.remember(s, v)
	if err != nil {
		return nil, k.notOpened(ctx, s, v, err)
	}
	if v.scope.Serving == Revoked && !k.trusted(s, v.scope.Serial) {
		m.clear()
		return nil, refused(v.scope)
	}
	if err := k.confirm(ctx, v); err != nil {
		m.clear()
		return nil, err
	}
	guarded := m.sealing.Mode == CustomerManaged
	e, err := k.put(s, m)
	if err != nil {
		return nil, err
	}
	if guarded {
		k.background(audit.RequestOf(ctx), func(ctx context.Context) { k.followVersion(ctx, s, e) })
	}
	return e, nil
}

// remember notes which key the slot's scope is under, for the feed.
func (k *Keyring) remember(s *slot, v view) {
	g, err := v.sealing()
	if err != nil {
		return
	}
	id, _ := kek.ParseKeyIdentifier(g.KeyIdentifier, k.policy) // the zero identifier if there is none
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenant, s.key, s.cost = v.scope.Tenant, id, pace.Cost(8*len(g.Wrapped))
}

// confirm checks that the scope has not changed since it was read, clears its latch if
// there is one, and lets other processes know of the vault's yes.
func (k *Keyring) confirm(ctx context.Context, v view) error {
	same := func(tx Tx) error {
		now, err := tx.Scope(v.scope.ID)
		if err != nil {
			return err
		}
		if now.Epoch != v.scope.Epoch || now.Serial != v.scope.Serial || now.Serving != v.scope.Serving {
			return keysChanged()
		}
		return nil
	}
	if v.scope.Serving == Serves && !k.shared {
		return k.store.View(ctx, same)
	}
	return k.store.Update(ctx, func(tx Tx) error {
		if err := same(tx); err != nil {
			return err
		}
		if k.shared {
			if err := k.lend(tx, v); err != nil || v.scope.Serving == Serves {
				return err
			}
		}
		s, err := tx.Scope(v.scope.ID)
		if err != nil {
			return err
		}
		s.serve()
		if err := tx.UpdateScope(s, s.Epoch); err != nil {
			return err
		}
		return tx.AppendAudit(k.entry(ctx, "RestoreWorkspaceAccess", s))
	})
}

// material is an opened scope: what an entry holds.
type material struct {
	scope     Scope
	sealing   Generation
	share     *envelope.Key // nil if platform-managed
	scopeKeys map[int64]*envelope.Key
	lease     kek.Lease
}

func (m *material) clear() {
	if m.share != nil {
		m.share.Clear()
	}
	for _, key := range m.scopeKeys {
		key.Clear()
	}
}

// unlock opens the scope's keys from their rows, asking the vault for the
// customer share if it guards one. Asking is recorded, with what came of it,
// before the answer is used; a no counts even if it cannot be recorded.
func (k *Keyring) unlock(ctx context.Context, v view) (*material, error) {
	g, err := v.sealing()
	if err != nil {
		return nil, err
	}
	sh, err := openGeneration(k.root, v.scope.Tenant, g)
	if err != nil {
		return nil, err
	}
	defer sh.clear()
	if err := k.witnessed(ctx, v.scope); err != nil {
		return nil, err
	}
	m := &material{scope: v.scope, sealing: g, lease: kek.NewLease(k.now(), k.leaseOf(v.scope, g)), scopeKeys: map[int64]*envelope.Key{}}
	if g.Mode == PlatformManaged {
		err = m.derive(k.root.Instance(), v, sh)
	} else {
		if sh.customer, err = k.unwrap(ctx, v.scope, g); err == nil {
			m.share = new(envelope.Key)
			*m.share = *sh.customer
			err = m.derive(k.root.Instance(), v, sh)
		}
		auditErr := k.recordKeyUse(ctx, "UnwrapScopeShare", v.scope, g.KID, err)
		switch {
		case auditErr == nil:
		case fault.ReasonOf(err).RefusedByVault():
			k.log.ErrorContext(ctx, "recording a vault's refusal", "workspace", string(v.scope.ID), "error", auditErr)
		default:
			err = auditErr
		}
	}
	if err != nil {
		m.clear()
		return nil, err
	}
	return m, nil
}

// derive joins the shares, checks the commitment, and opens the older scope keys
// that are linked below.
func (m *material) derive(instance string, v view, sh *shares) error {
	key, commitment := envelope.DeriveScopeKey(sh.customer, sh.platform,
		scopeKeyContext(instance, v.scope.Tenant, v.scope.ID, m.sealing.Number))
	m.scopeKeys[m.sealing.Number] = key
	if !commitment.Equal(sh.commitment) {
		if m.sealing.Mode == CustomerManaged {
			return fault.New(fault.KEKIntegrity, "The vault answered with another share than the one that was wrapped.").
				About(string(m.sealing.KID))
		}
		return fault.New(fault.Integrity, "The workspace's key does not match its commitment.").About(string(v.scope.ID))
	}
	for _, l := range v.links { // newest first: each lies under one that is open already
		under := m.scopeKeys[l.Under]
		if under == nil {
			return fault.New(fault.Integrity, "An older key of the workspace lies under one that is missing.").About(string(v.scope.ID))
		}
		older, err := openLink(instance, v.scope.Tenant, l, under)
		if err != nil {
			return err
		}
		m.scopeKeys[l.Generation] = older
	}
	return nil
}

// unwrap asks the vault for the customer share.
func (k *Keyring) unwrap(ctx context.Context, s Scope, g Generation) (*envelope.Key, error) {
	raw, err := k.vault.Unwrap(ctx, string(s.Tenant), g.KID, g.Algorithm, g.Wrapped)
	defer clear(raw)
	if err != nil {
		return nil, err
	}
	if len(raw) != envelope.KeySize {
		return nil, fault.New(fault.KEKIntegrity, "The vault answered with a share of the wrong length.").About(string(g.KID))
	}
	share := new(envelope.Key)
	copy(share[:], raw)
	if *share == (envelope.Key{}) { // which package envelope takes for a dropped key, and panics
		return nil, fault.New(fault.KEKIntegrity, "The vault answered with a share of nothing but zeros.").About(string(g.KID))
	}
	return share, nil
}

// refused is the error of a scope that is latched as revoked.
func refused(s Scope) *fault.Error {
	r := s.Reason
	if !r.RefusedByVault() {
		r = fault.KEKRefused
	}
	e := fault.New(r, "The customer's vault refuses the workspace's key.").About(string(s.ID))
	if s.Detail != "" {
		e.Mend = s.Detail
	}
	return e
}

// entry starts the audit entry of something that the platform does by itself, for the
// request or job that ctx belongs to.
func (k *Keyring) entry(ctx context.Context, operation string, s Scope) audit.Entry {
	return audit.Entry{
		Operation: operation, Outcome: audit.Allowed, Tenant: string(s.Tenant), Principal: systemPrincipal,
		Resource: string(s.Resource()), Request: audit.RequestOf(ctx),
	}
}

// systemPrincipal stands in the audit for the platform acting by itself.
const systemPrincipal = "kluis-platform"

func (k *Keyring) recordKeyUse(ctx context.Context, operation string, s Scope, kid kek.KID, err error) error {
	e := k.entry(ctx, operation, s)
	e.Detail = map[string]string{"kid": string(kid)}
	if err != nil {
		e = identity.Failed(e, err)
	}
	return k.recorder.Record(context.WithoutCancel(ctx), e)
}
