package encryption

import (
	"context"
	"errors"
	"time"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/rbac"
)

var (
	assignAfterProbe   = failpoint.New("encryption/assign/after-probe")
	assignAfterPublish = failpoint.New("encryption/assign/after-publish")
	resetAfterPublish  = failpoint.New("encryption/reset/after-publish")
)

// SettingCustomerManagedKeys names the tenant's switch: off, nobody can assign or
// reset a key, and what is encrypted stays so.
const SettingCustomerManagedKeys = "ApplyCustomerManagedKeys"

// SettingBound names the tenant's setting that holds the most that any of its scopes'
// key leases may be, in seconds. The installation's bound holds if it is lower.
const SettingBound = "CustomerManagedKeyKillSwitchBound"

// Scopes is the state machine of scopes' encryption. It is safe for concurrent
// use. [Scopes.Run] must run for items to be brought under their scope's keys.
type Scopes struct {
	ring      *Keyring
	roles     rbac.Definitions
	supported func(itemType string) bool
	contents  []Content
	guards    []Guard
	owner     string
	wake      chan struct{}
	working   working
}

// NewScopes returns the state machine over a keyring. supported says which item
// types a customer-managed scope may hold; contents are the domains that keep
// data under items' keys.
func NewScopes(ring *Keyring, roles rbac.Definitions, supported func(itemType string) bool, contents ...Content) *Scopes {
	return &Scopes{
		ring: ring, roles: roles, supported: supported, contents: contents,
		owner: string(NewKeyID()), wake: make(chan struct{}, 1),
	}
}

// Assign puts a scope under a customer's key, given by its versionless key
// identifier, or under another one than it is under now. When it returns nil,
// every new write depends on the key; the items follow in the background.
//
// Assigning the key that the scope is under already retries its failed items.
func (s *Scopes) Assign(ctx context.Context, caller identity.Caller, id ScopeID, keyIdentifier string) error {
	return s.decide(ctx, caller, "ApplyWorkspaceEncryption", id, func() error {
		return s.assign(ctx, caller, id, keyIdentifier, false)
	})
}

// Reseal is [Scopes.Assign] for who prefers seconds over the guarantee that nothing
// opens with what the platform alone held before: items' keys are sealed under the
// new scope key and new data goes under fresh ones, but what is there stays as it is
// encrypted.
func (s *Scopes) Reseal(ctx context.Context, caller identity.Caller, id ScopeID, keyIdentifier string) error {
	return s.decide(ctx, caller, "ApplyWorkspaceEncryption", id, func() error {
		return s.assign(ctx, caller, id, keyIdentifier, true)
	})
}

// Reset puts a scope back under platform-managed keys. It needs the key that the
// scope is under: a fresh yes of its vault.
func (s *Scopes) Reset(ctx context.Context, caller identity.Caller, id ScopeID) error {
	return s.decide(ctx, caller, "DisableWorkspaceEncryption", id, func() error {
		return s.reset(ctx, caller, id)
	})
}

// decide authorises, and records a refusal or failure; what succeeds records
// itself in its own transaction.
func (s *Scopes) decide(ctx context.Context, caller identity.Caller, operation string, id ScopeID, act func() error) error {
	err := s.authorise(ctx, caller, id, rbac.EncryptionWrite)
	if err == nil {
		err = act()
	}
	if err != nil {
		e := identity.Failed(caller.Entry(operation, s.resource(ctx, id)), err)
		if auditErr := s.ring.recorder.Record(context.WithoutCancel(ctx), e); auditErr != nil {
			return auditErr
		}
	}
	return err
}

func (s *Scopes) authorise(ctx context.Context, caller identity.Caller, id ScopeID, action rbac.Action) error {
	return s.ring.store.View(ctx, func(tx Tx) error { return s.permit(tx, caller, id, action) })
}

// resource names a scope for the audit, be it gone.
func (s *Scopes) resource(ctx context.Context, id ScopeID) (path string) {
	path = string(WorkspacePath(id))
	s.ring.store.View(context.WithoutCancel(ctx), func(tx Tx) error {
		sc, err := tx.Scope(id)
		if err == nil {
			path = string(sc.Resource())
		}
		return err
	})
	return path
}

func (s *Scopes) permit(tx Tx, caller identity.Caller, id ScopeID, action rbac.Action) error {
	sc, err := tx.Scope(id)
	if err != nil {
		return err
	}
	if sc.Tenant != caller.Tenant {
		return fault.New(fault.WorkspaceNotFound, "There is no such workspace.").About(string(id))
	}
	roles := s.roles
	if sc.Path != "" {
		roles = rbac.PlatformRolesAt(sc.Path)
	}
	_, ok, err := rbac.Check(tx, roles, caller, action, false, sc.Resource())
	if err != nil {
		return err
	}
	if !ok {
		return fault.New(fault.Denied, "You do not have the right "+string(action)+" on this workspace.").
			About(string(id)).WithMend("Ask one of its administrators.")
	}
	return nil
}

// Rotate makes a new generation of a customer-managed scope's key under the same
// key of the customer's, and re-encrypts everything below it: what somebody may have
// copied out of a live platform's memory opens nothing that is there afterwards. It
// returns the generation's number.
func (s *Scopes) Rotate(ctx context.Context, caller identity.Caller, id ScopeID) (generation int64, err error) {
	err = s.decide(ctx, caller, "RotateWorkspaceEncryption", id, func() error {
		v, err := s.changeable(ctx, id, toRotate)
		if err != nil {
			return err
		}
		old, err := v.sealing()
		if err != nil {
			return err
		}
		if old.Mode != CustomerManaged {
			return fault.New(fault.EncryptionBlocked, "The workspace is under no customer-managed key.").
				About(string(id)).WithMend("Assign a key, which encrypts everything anew.")
		}
		key, err := kek.ParseKeyIdentifier(old.KeyIdentifier, s.ring.policy)
		if err != nil {
			return err
		}
		generation = v.scope.Sealing + 1
		return s.put(ctx, caller, "RotateWorkspaceEncryption", v, old, key, false, toRotate)
	})
	return generation, err
}

func (s *Scopes) assign(ctx context.Context, caller identity.Caller, id ScopeID, keyIdentifier string, reSealOnly bool) error {
	k := s.ring
	key, err := kek.ParseKeyIdentifier(keyIdentifier, k.policy)
	if err != nil {
		return err
	}
	v, err := s.changeable(ctx, id, toRetry)
	if err != nil {
		return err
	}
	old, err := v.sealing()
	if err != nil {
		return err
	}
	if under, err := kek.ParseKeyIdentifier(old.KeyIdentifier, k.policy); err == nil && under.Equal(key) {
		return s.retry(ctx, caller, id, keyIdentifier)
	}
	if _, err := s.changeable(ctx, id, toAssign); err != nil {
		return err
	}
	return s.put(ctx, caller, "ApplyWorkspaceEncryption", v, old, key, reSealOnly, toAssign)
}

// put puts a scope under a customer's key.
func (s *Scopes) put(ctx context.Context, caller identity.Caller, operation string, v view, old Generation, key kek.KeyIdentifier, reSealOnly bool, to purpose) error {
	k := s.ring
	latest, err := k.vault.Latest(ctx, string(v.scope.Tenant), key)
	if err != nil {
		return blocked(err)
	}
	if err := suitable(latest, k.now()); err != nil {
		return err
	}
	if to == toAssign {
		_, v.scope.KeyBound = inspect(latest, k.now())
		if refused, err := k.carried(ctx, v.scope, latest); err != nil {
			return err
		} else if refused != nil {
			return refused
		}
	}

	// The share is made here, goes to the vault to be wrapped, and is never held
	// by the root alone.
	share := envelope.NewKey()
	defer share.Clear()
	sent := k.now()
	wrapped, err := k.wrap(ctx, v.scope, latest, share)
	if err != nil {
		return blocked(err)
	}
	if err := assignAfterProbe.Hit(); err != nil {
		return err
	}
	g := Generation{
		Scope: v.scope.ID, Number: v.scope.Sealing + 1, Mode: CustomerManaged, State: Enabling, Algorithm: latest.Algorithm,
		KeyIdentifier: key.String(), KID: latest.KID, Wrapped: wrapped, ReSealOnly: reSealOnly,
	}
	sh := &shares{platform: envelope.NewKey(), customer: share}
	by := changing{to: to, asked: sent}
	by.findings, by.bound = inspect(latest, k.now())
	if err := s.change(ctx, caller, operation, v, old, g, sh, by); err != nil {
		return err
	}
	return assignAfterPublish.Hit()
}

func (s *Scopes) reset(ctx context.Context, caller identity.Caller, id ScopeID) error {
	v, err := s.changeable(ctx, id, toReset)
	if err != nil {
		return err
	}
	old, err := v.sealing()
	if err != nil {
		return err
	}
	if old.Mode == PlatformManaged {
		return s.ring.recorder.Record(ctx, caller.Entry("DisableWorkspaceEncryption", string(v.scope.Resource()))) // nothing to put back
	}
	g := Generation{
		Scope: id, Number: v.scope.Sealing + 1, Mode: PlatformManaged, State: Disabling, ReSealOnly: true,
	}
	sh := &shares{platform: envelope.NewKey(), customer: envelope.NewKey()}
	defer sh.customer.Clear()
	if err := s.change(ctx, caller, "DisableWorkspaceEncryption", v, old, g, sh, changing{to: toReset, asked: s.ring.now()}); err != nil {
		return err
	}
	return resetAfterPublish.Hit()
}

// blocked turns what a vault says to a key that is to be assigned into the
// caller's mistake: his workspace is not revoked by it.
func blocked(err error) error {
	f := fault.As(err)
	if !f.Reason.RefusedByVault() && !errors.Is(err, kek.ErrForeignTenant) {
		return err
	}
	mend := f.Mend
	if mend == "" {
		mend = "Grant the tenant's Fabric Platform CMK service principal the role Key Vault Crypto Service Encryption User on the key."
	}
	return fault.Wrap(fault.EncryptionBlocked, withoutReason{err}, "The vault does not let the platform use this key: "+f.Detail).
		About(f.Subject).WithMend(mend)
}

// withoutReason keeps a cause for the log and hides its reason.
type withoutReason struct{ err error }

func (w withoutReason) Error() string { return w.err.Error() }

// retry makes a scope's failed items due at once, and notes how the key was spelled
// this time: clients compare what they are told with what they gave.
func (s *Scopes) retry(ctx context.Context, caller identity.Caller, id ScopeID, keyIdentifier string) error {
	if err := s.ring.witnessedNow(ctx, id); err != nil {
		return err
	}
	err := s.ring.store.Update(ctx, func(tx Tx) error {
		if err := s.permit(tx, caller, id, rbac.EncryptionWrite); err != nil {
			return err
		}
		sc, err := tx.Scope(id)
		if err != nil {
			return err
		}
		n, err := dueNow(tx, sc)
		if err != nil {
			return err
		}
		if err := s.ring.respell(tx, id, keyIdentifier); err != nil {
			return err
		}
		e := caller.Entry("ApplyWorkspaceEncryption", string(sc.Resource()))
		e.Detail = map[string]string{"retried": number(int64(n))}
		return tx.AppendAudit(e)
	})
	s.Wake()
	return err
}

// respell puts another spelling of the same key's identifier into the sealing
// generation's row.
func (k *Keyring) respell(tx Tx, id ScopeID, keyIdentifier string) error {
	v, err := readView(tx, id)
	if err != nil {
		return err
	}
	g, err := v.sealing()
	if err != nil || g.KeyIdentifier == keyIdentifier {
		return err
	}
	sh, err := openGeneration(k.root, v.scope.Tenant, g)
	if err != nil {
		return err
	}
	defer sh.clear()
	next := v.scope
	next.Epoch++
	g.Epoch, g.KeyIdentifier = next.Epoch, keyIdentifier
	sealGeneration(k.root, next.Tenant, &g, sh)
	if err := tx.PutGeneration(g); err != nil {
		return err
	}
	return tx.UpdateScope(next, v.scope.Epoch)
}

// dueNow makes a scope's failed items due at once, and whoever still works on one
// of them lose it. It returns how many there were.
func dueNow(tx Tx, sc Scope) (n int, err error) {
	items, err := tx.ItemStates(sc.ID)
	if err != nil {
		return 0, err
	}
	names, err := tx.Item(ScopeItem(sc.ID))
	if err != nil {
		return 0, err
	}
	for _, i := range append(items, names) {
		if !i.Failed {
			continue
		}
		n++
		fence := i.Fence
		i.Fence++
		i.Failed, i.Attempt, i.NextRun, i.Owner, i.Until = false, 0, time.Time{}, "", time.Time{}
		if err := tx.UpdateItem(i, fence); err != nil {
			return n, err
		}
	}
	return n, nil
}
