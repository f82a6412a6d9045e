package encryption

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
)

// SettingExitAllowed names the tenant's switch that lets keys be reset while
// [SettingCustomerManagedKeys] is off: Fabric freezes both ways.
const SettingExitAllowed = "AllowCustomerManagedKeyExit"

// A Guard says what else stands against a change of key: the domains' own rules.
type Guard interface {
	// Blockers returns, as the transaction reads it, what stands against putting the
	// scope under a customer's key, or taking it back to a platform-managed one.
	Blockers(tx Tx, s Scope, to Mode) ([]*fault.Error, error)
}

// Guard makes a guard's blockers count beside the state machine's own. It is for
// the time before anything is asked.
func (s *Scopes) Guard(g Guard) { s.guards = append(s.guards, g) }

// A purpose is what a change of key is for.
type purpose string

const (
	toAssign purpose = "assign"
	toRetry  purpose = "retry" // under the same key
	toRotate purpose = "rotate"
	toReset  purpose = "reset"
)

// changeable reads a scope whose key is to be changed, and refuses if anything
// stands against that.
func (s *Scopes) changeable(ctx context.Context, id ScopeID, to purpose) (v view, err error) {
	err = s.ring.store.View(ctx, func(tx Tx) error {
		if v, err = readView(tx, id); err != nil {
			return err
		}
		return first(s.standing(tx, v, to))
	})
	return v, err
}

func first(all []*fault.Error, err error) error {
	if err == nil && len(all) > 0 {
		err = all[0]
	}
	return err
}

// standing returns all that stands against a change of a scope's key and that the
// database knows of: each with its reason and its mend.
func (s *Scopes) standing(tx Tx, v view, to purpose) (all []*fault.Error, err error) {
	on, err := tx.TenantSettingEnabled(string(v.scope.Tenant), SettingCustomerManagedKeys)
	if err != nil {
		return nil, err
	}
	if !on && to == toReset {
		if on, err = tx.TenantSettingEnabled(string(v.scope.Tenant), SettingExitAllowed); err != nil {
			return nil, err
		}
	}
	if !on {
		all = append(all, fault.New(fault.TenantSwitchDisabled, "The tenant setting "+SettingCustomerManagedKeys+" is off, which freezes the encryption of all workspaces.").
			WithMend("Ask a tenant administrator to switch it on."))
	}
	behind, failed, _, err := tx.ItemsBehind(v.scope.ID, v.scope.Sealing, time.Time{})
	if err != nil {
		return nil, err
	}
	g, err := v.sealing()
	if err != nil {
		return nil, err
	}
	switch {
	case behind > failed:
		all = append(all, fault.New(fault.EncryptionInProgress, fmt.Sprintf("The encryption of %d items is in progress.", behind-failed)).
			About(string(v.scope.ID)).WithMend("Wait until every item is done."))
	case behind == 0 && (g.State == Enabling || g.State == Disabling):
		all = append(all, fault.New(fault.EncryptionInProgress, "The last change of the workspace's key is just being finished.").
			About(string(v.scope.ID)).WithMend("Try again shortly."))
	}
	if to == toAssign {
		e, err := s.unsupported(tx, v.scope.ID)
		if err != nil {
			return nil, err
		}
		if e != nil {
			all = append(all, e)
		}
	}
	mode, guarded := map[purpose]Mode{toAssign: CustomerManaged, toReset: PlatformManaged}[to]
	for _, g := range s.guards {
		if !guarded {
			break
		}
		more, err := g.Blockers(tx, v.scope, mode)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

// unsupported returns why a scope's items keep it from being put under a customer's
// key, or nil.
func (s *Scopes) unsupported(tx Tx, id ScopeID) (*fault.Error, error) {
	items, err := tx.ItemStates(id)
	if err != nil {
		return nil, err
	}
	var types []string
	n := 0
	for _, i := range items {
		if !s.supported(i.Type) {
			n++
			if !slices.Contains(types, i.Type) {
				types = append(types, i.Type)
			}
		}
	}
	if n == 0 {
		return nil, nil
	}
	slices.Sort(types)
	return fault.New(fault.UnsupportedItemType, fmt.Sprintf("The workspace holds %d items of types that a customer-managed key does not cover: %s.",
		n, strings.Join(types, ", "))).About(string(id)).WithMend("Move them to another workspace, or delete them for good."), nil
}

// unsuited returns all that keeps a key from protecting a scope, by what its vault
// states.
func unsuited(key kek.KeyInfo, now time.Time) (all []*fault.Error) {
	if err := key.Usable(now); err != nil {
		all = append(all, fault.As(err))
	}
	if !key.SoftDelete() || !key.PurgeProtected() {
		all = append(all, fault.New(fault.KEKUnsuitable, fmt.Sprintf("The key's vault states the recovery level %q: soft delete and purge protection must both be on, or the key could be lost with all that it protects.", key.RecoveryLevel)).
			About(string(key.KID)).WithMend("Enable soft delete and purge protection on the vault."))
	}
	return all
}

// suitable refuses a key that cannot protect a scope, or that could be lost.
func suitable(key kek.KeyInfo, now time.Time) error { return first(unsuited(key, now), nil) }

// A Preview is what assigning a key would meet.
type Preview struct {
	Blockers  []*fault.Error // in the order in which they would be met
	Items     int            // that would be encrypted
	KID       kek.KID        // that would wrap the share; "" if the vault was not asked or did not say
	Algorithm kek.Algorithm
	Bound     time.Duration // the kill-switch bound under the key
}

// Preview tells all that stands against assigning a key, and changes nothing. The
// vault is asked as for an assign: the key is read, and a throw-away share wrapped
// and unwrapped.
func (s *Scopes) Preview(ctx context.Context, caller identity.Caller, id ScopeID, keyIdentifier string) (p Preview, err error) {
	err = s.looking(ctx, caller, "PreviewWorkspaceEncryption", id, true, func() error {
		var v view
		err := s.ring.store.View(ctx, func(tx Tx) error {
			if v, err = readView(tx, id); err != nil {
				return err
			}
			items, err := tx.ItemStates(id)
			if err != nil {
				return err
			}
			p.Items = len(items)
			p.Blockers, err = s.standing(tx, v, toAssign)
			return err
		})
		if err != nil {
			return err
		}
		key, err := kek.ParseKeyIdentifier(keyIdentifier, s.ring.policy)
		if err != nil {
			p.Blockers = append(p.Blockers, fault.As(err))
			return nil
		}
		return s.try(ctx, v.scope, key, &p)
	})
	return p, err
}

// try asks a key's vault for all that an assign would.
func (s *Scopes) try(ctx context.Context, sc Scope, key kek.KeyIdentifier, p *Preview) error {
	k := s.ring
	add := func(err error) error {
		if ctx.Err() != nil || fault.ReasonOf(err) == fault.AuditFailed {
			return err
		}
		p.Blockers = append(p.Blockers, fault.As(blocked(err)))
		return nil
	}
	latest, err := k.vault.Latest(ctx, string(sc.Tenant), key)
	if err != nil {
		return add(err)
	}
	p.KID, p.Algorithm = latest.KID, latest.Algorithm
	_, sc.KeyBound = inspect(latest, k.now())
	p.Bound = k.boundOf(sc)
	p.Blockers = append(p.Blockers, unsuited(latest, k.now())...)
	if refused, err := k.carried(ctx, sc, latest); err != nil {
		return err
	} else if refused != nil {
		p.Blockers = append(p.Blockers, refused)
	}
	if latest.Usable(k.now()) != nil {
		return nil
	}
	share := envelope.NewKey()
	defer share.Clear()
	if _, err := k.wrap(ctx, sc, latest, share); err != nil {
		return add(err)
	}
	return nil
}
