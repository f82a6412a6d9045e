package encryption

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/rbac"
)

// changing is what is known of a change of key besides the generation that it makes.
type changing struct {
	to       purpose
	asked    time.Time     // when the new key's vault was asked, from which the lease counts
	bound    time.Duration // what the new key's tag says
	findings Findings      // what is wrong with the new key
}

// change publishes a new generation: in one transaction it becomes the sealing
// one, the old scope key is sealed under it, and the old generation's root-sealed
// row is gone. From then on everything of the scope depends on the new one.
func (s *Scopes) change(ctx context.Context, caller identity.Caller, operation string, v view, old, g Generation, sh *shares, by changing) error {
	k := s.ring
	defer sh.platform.Clear()
	// A change of key needs a yes of the old key's vault now, and not a lease.
	m, err := k.unlock(ctx, v)
	if err != nil {
		if fault.ReasonOf(err).RefusedByVault() {
			return k.notOpened(ctx, k.slot(v.scope.ID), v, err)
		}
		return err
	}
	key, commitment := envelope.DeriveScopeKey(sh.customer, sh.platform,
		scopeKeyContext(k.root.Instance(), v.scope.Tenant, v.scope.ID, g.Number))
	sh.commitment = commitment
	g.Created = k.now()
	g.Epoch = v.scope.Epoch + 1
	sealGeneration(k.root, v.scope.Tenant, &g, sh)
	link := Link{Scope: v.scope.ID, Generation: old.Number, Under: g.Number, KeyIdentifier: old.KeyIdentifier}
	sealLink(k.root.Instance(), v.scope.Tenant, &link, m.scopeKeys[old.Number], key)

	var next Scope
	slot, release, err := k.hold(ctx, v.scope.ID)
	if err != nil {
		m.clear()
		key.Clear()
		return err
	}
	defer release()
	err = k.store.Update(ctx, func(tx Tx) error {
		if err := s.permit(tx, caller, v.scope.ID, rbac.EncryptionWrite); err != nil {
			return err
		}
		now, err := readView(tx, v.scope.ID)
		if err != nil {
			return err
		}
		if now.scope.Epoch != v.scope.Epoch || now.scope.Serial != v.scope.Serial {
			return keysChanged()
		}
		if err := first(s.standing(tx, now, by.to)); err != nil {
			return err
		}
		next = now.scope
		next.Sealing, next.Epoch = g.Number, g.Epoch
		next.serve()
		next.KeyBound, next.Findings, next.Verified = by.bound, by.findings, g.Created
		if _, err := dueNow(tx, now.scope); err != nil {
			return err
		}
		return publish(tx, caller, operation, now, old, g, link, next, k.now())
	})
	if err != nil {
		m.clear()
		key.Clear()
		return err
	}
	if err := k.bearWitness(ctx, next); err != nil {
		m.clear()
		key.Clear()
		return err
	}
	k.remember(slot, view{scope: next, generations: []Generation{g}})
	m.scope, m.sealing, m.lease = next, g, kek.NewLease(by.asked, k.leaseOf(next, g))
	m.scopeKeys[g.Number] = key
	if m.share != nil {
		m.share.Clear()
		m.share = nil
	}
	if g.Mode == CustomerManaged {
		m.share = new(envelope.Key)
		*m.share = *sh.customer
	}
	if _, err := k.put(slot, m); err != nil {
		// The change stands; the keys are opened when they are needed.
		k.log.WarnContext(ctx, "putting changed keys in use", "workspace", string(v.scope.ID), "error", err)
	}
	s.Wake()
	return nil
}

// publish writes a change of generation.
func publish(tx Tx, caller identity.Caller, operation string, v view, old, g Generation, link Link, next Scope, now time.Time) error {
	if err := tx.PutGeneration(g); err != nil {
		return err
	}
	if err := tx.PutLink(link); err != nil {
		return err
	}
	if err := tx.DeleteGeneration(old.Scope, old.Number); err != nil {
		return err
	}
	if old.KID != "" {
		if err := tx.UseVersion(old.Scope, VersionUse{KID: string(old.KID), First: now, Last: now}); err != nil {
			return err
		}
	}
	if g.KID != "" {
		if err := tx.UseVersion(g.Scope, VersionUse{KID: string(g.KID), First: now}); err != nil {
			return err
		}
	}
	if err := tx.UpdateScope(next, v.scope.Epoch); err != nil {
		return err
	}
	e := caller.Entry(operation, string(next.Resource()))
	e.Detail = map[string]string{"generation": number(g.Number)}
	if g.KID != "" {
		e.Detail["kid"] = string(g.KID)
	}
	if old.KID != "" {
		e.Detail["previousKid"] = string(old.KID)
	}
	return tx.AppendAudit(e)
}
