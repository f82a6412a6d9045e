package encryption

import (
	"context"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/rbac"
)

// looking authorises an act that changes nothing by itself, and records what came of
// it before the answer leaves. write asks for the right to change the encryption.
func (s *Scopes) looking(ctx context.Context, caller identity.Caller, operation string, id ScopeID, write bool, act func() error) error {
	action := rbac.EncryptionRead
	if write {
		action = rbac.EncryptionWrite
	}
	err := s.authorise(ctx, caller, id, action)
	if err == nil {
		err = act()
	}
	entry := caller.Entry(operation, s.resource(ctx, id))
	if err != nil {
		entry = identity.Failed(entry, err)
	}
	if auditErr := s.ring.recorder.Record(context.WithoutCancel(ctx), entry); auditErr != nil {
		return auditErr
	}
	return err
}

// Revalidate asks the vault for a scope's key at once, instead of at the next poll
// or renewal. It fails as [Keyring.Use] does.
func (s *Scopes) Revalidate(ctx context.Context, caller identity.Caller, id ScopeID) error {
	k := s.ring
	err := s.authorise(ctx, caller, id, rbac.ItemsWrite)
	if fault.ReasonOf(err) == fault.Denied { // a storage account's roles know no items
		err = s.authorise(ctx, caller, id, rbac.EncryptionWrite)
	}
	if err == nil {
		err = k.revalidate(ctx, id)
	}
	entry := caller.Entry("RevalidateWorkspaceEncryption", s.resource(ctx, id))
	if err != nil {
		entry = identity.Failed(entry, err)
	}
	if auditErr := k.recorder.Record(context.WithoutCancel(ctx), entry); auditErr != nil {
		return auditErr
	}
	return err
}

func (k *Keyring) revalidate(ctx context.Context, id ScopeID) error {
	v, err := k.view(ctx, id)
	if err != nil {
		return err
	}
	if v.scope.Serving != Serves {
		_, err := k.open(ctx, id, true)
		return err
	}
	m, err := k.unlock(ctx, v)
	if err != nil {
		return k.notOpened(ctx, k.slot(id), v, err)
	}
	m.clear()
	return nil
}

// SetBound sets a scope's own kill-switch bound: the most that its key leases may
// be, from the next one on. 0 takes it away. It cannot be above the installation's or
// its tenant's.
func (s *Scopes) SetBound(ctx context.Context, caller identity.Caller, id ScopeID, bound time.Duration) error {
	return s.govern(ctx, caller, "SetWorkspaceKillSwitchBound", id, map[string]string{"seconds": strconv.FormatInt(int64(bound/time.Second), 10)},
		func(sc *Scope) error {
			most, whose := s.ring.bound, "the installation's"
			if t := sc.TenantBound; t > 0 && t < most {
				most, whose = t, "the tenant's"
			}
			if bound != 0 && (bound < MinBound || bound > most) {
				return fault.New(fault.InvalidArgument, "The kill-switch bound of a workspace is between "+MinBound.String()+" and "+whose+", "+most.String()+".")
			}
			sc.Bound = bound
			return nil
		})
}

// DeclareKeyLost notes that the customer's key of a scope is gone for good, or that
// it is not after all. It is for the workspace's admin to say: from here, a purged
// key looks like a deleted one, and a backup may bring either back. If that happens
// access returns as after any revocation, and the declaration with it goes.
func (s *Scopes) DeclareKeyLost(ctx context.Context, caller identity.Caller, id ScopeID, lost bool) error {
	return s.govern(ctx, caller, "DeclareWorkspaceKeyLost", id, map[string]string{"lost": strconv.FormatBool(lost)},
		func(sc *Scope) error {
			if lost && sc.Serving == Serves {
				return fault.New(fault.Conflict, "The workspace's key can be used.").About(string(id))
			}
			if sc.KeyLost = (time.Time{}); lost {
				sc.KeyLost = s.ring.now()
			}
			return nil
		})
}

// govern changes what a scope's row says beside its keys.
func (s *Scopes) govern(ctx context.Context, caller identity.Caller, operation string, id ScopeID, detail map[string]string, change func(*Scope) error) error {
	return s.decide(ctx, caller, operation, id, func() error {
		return s.ring.store.Update(ctx, func(tx Tx) error {
			if err := s.permit(tx, caller, id, rbac.EncryptionWrite); err != nil {
				return err
			}
			sc, err := tx.Scope(id)
			if err != nil {
				return err
			}
			if err := change(&sc); err != nil {
				return err
			}
			if err := tx.UpdateScope(sc, sc.Epoch); err != nil {
				return err
			}
			e := caller.Entry(operation, string(sc.Resource()))
			e.Detail = detail
			return tx.AppendAudit(e)
		})
	})
}

// Impact returns the scopes that go dark if a key goes: those of the caller's tenant
// that it protects, and whose encryption the caller may see.
func (s *Scopes) Impact(ctx context.Context, caller identity.Caller, keyIdentifier string) (all []Status, err error) {
	entry := caller.Entry("GetKeyImpact", "/encryption/impact")
	key, err := kek.ParseKeyIdentifier(keyIdentifier, s.ring.policy)
	if err == nil {
		all, err = s.under(ctx, caller, key)
	}
	if err != nil {
		entry = identity.Failed(entry, err)
	}
	if auditErr := s.ring.recorder.Record(context.WithoutCancel(ctx), entry); auditErr != nil {
		return nil, auditErr
	}
	return all, err
}

func (s *Scopes) under(ctx context.Context, caller identity.Caller, key kek.KeyIdentifier) (all []Status, err error) {
	for after, more := ScopeID(""), true; more; {
		var found []ScopeID
		err := s.ring.store.View(ctx, func(tx Tx) error {
			page, err := tx.ScopesAfter(after, verifyPage)
			more = len(page) == verifyPage
			for _, sc := range page {
				after = sc.ID
				if sc.Tenant != caller.Tenant {
					continue
				}
				v, err := readView(tx, sc.ID)
				if err != nil {
					return err
				}
				g, err := v.sealing()
				if err != nil {
					return err
				}
				under, err := kek.ParseKeyIdentifier(g.KeyIdentifier, s.ring.policy)
				if err != nil || !under.Equal(key) {
					continue
				}
				switch err := s.permit(tx, caller, sc.ID, rbac.EncryptionRead); fault.ReasonOf(err) {
				case "":
					found = append(found, sc.ID)
				case fault.Denied:
				default:
					return err
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, id := range found {
			st, err := s.status(ctx, id, false)
			if fault.ReasonOf(err) == fault.WorkspaceNotFound {
				continue
			}
			if err != nil {
				return nil, err
			}
			all = append(all, st)
		}
	}
	return all, nil
}
