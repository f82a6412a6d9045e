package encryption

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// Scopes is the state machine of scopes' encryption. It is safe for concurrent
// use. [Scopes.Run] must run for items to be brought under their scope's keys.
type Scopes struct {
	ring      *Keyring
	roles     rbac.Definitions
	supported func(itemType string) bool
	contents  []Content
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
		return s.assign(ctx, caller, id, keyIdentifier)
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
		e := identity.Failed(caller.Entry(operation, "/workspaces/"+string(id)), err)
		if auditErr := s.ring.recorder.Record(context.WithoutCancel(ctx), e); auditErr != nil {
			return auditErr
		}
	}
	return err
}

func (s *Scopes) authorise(ctx context.Context, caller identity.Caller, id ScopeID, action rbac.Action) error {
	return s.ring.store.View(ctx, func(tx Tx) error { return s.permit(tx, caller, id, action) })
}

func (s *Scopes) permit(tx Tx, caller identity.Caller, id ScopeID, action rbac.Action) error {
	sc, err := tx.Scope(id)
	if err != nil {
		return err
	}
	if sc.Tenant != caller.Tenant {
		return fault.New(fault.WorkspaceNotFound, "There is no such workspace.").About(string(id))
	}
	_, ok, err := rbac.Check(tx, s.roles, caller, action, false, rbac.Scope("/workspaces/"+string(id)))
	if err != nil {
		return err
	}
	if !ok {
		return fault.New(fault.Denied, "You do not have the right "+string(action)+" on this workspace.").
			About(string(id)).WithMend("Ask one of its administrators.")
	}
	return nil
}

func (s *Scopes) assign(ctx context.Context, caller identity.Caller, id ScopeID, keyIdentifier string) error {
	k := s.ring
	key, err := kek.ParseKeyIdentifier(keyIdentifier, k.policy)
	if err != nil {
		return err
	}
	v, err := s.changeable(ctx, id)
	if err != nil {
		return err
	}
	old, err := v.sealing()
	if err != nil {
		return err
	}
	if under, err := kek.ParseKeyIdentifier(old.KeyIdentifier, k.policy); err == nil && under.Equal(key) {
		return s.retry(ctx, caller, id)
	}
	if err := s.supportedItems(ctx, id); err != nil {
		return err
	}
	latest, err := k.vault.Latest(ctx, string(v.scope.Tenant), key)
	if err != nil {
		return blocked(err)
	}
	if err := suitable(latest, k.now()); err != nil {
		return err
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
		Scope: id, Number: v.scope.Sealing + 1, Mode: CustomerManaged, State: Enabling, Algorithm: latest.Algorithm,
		KeyIdentifier: keyIdentifier, KID: latest.KID, Wrapped: wrapped,
	}
	sh := &shares{platform: envelope.NewKey(), customer: share}
	if err := s.change(ctx, caller, "ApplyWorkspaceEncryption", v, old, g, sh, kek.NewLease(sent, k.lease)); err != nil {
		return err
	}
	return assignAfterPublish.Hit()
}

func (s *Scopes) reset(ctx context.Context, caller identity.Caller, id ScopeID) error {
	v, err := s.changeable(ctx, id)
	if err != nil {
		return err
	}
	old, err := v.sealing()
	if err != nil {
		return err
	}
	if old.Mode == PlatformManaged {
		return s.ring.recorder.Record(ctx, caller.Entry("DisableWorkspaceEncryption", "/workspaces/"+string(id))) // nothing to put back
	}
	g := Generation{
		Scope: id, Number: v.scope.Sealing + 1, Mode: PlatformManaged, State: Disabling, ReSealOnly: true,
	}
	sh := &shares{platform: envelope.NewKey(), customer: envelope.NewKey()}
	defer sh.customer.Clear()
	lease := kek.NewLease(s.ring.now(), s.ring.lease)
	if err := s.change(ctx, caller, "DisableWorkspaceEncryption", v, old, g, sh, lease); err != nil {
		return err
	}
	return resetAfterPublish.Hit()
}

// changeable reads a scope whose key is to be changed, and refuses while the
// tenant's switch is off or an item is in progress.
func (s *Scopes) changeable(ctx context.Context, id ScopeID) (v view, err error) {
	err = s.ring.store.View(ctx, func(tx Tx) error {
		if v, err = readView(tx, id); err != nil {
			return err
		}
		return s.mayChange(tx, v)
	})
	return v, err
}

func (s *Scopes) mayChange(tx Tx, v view) error {
	on, err := tx.TenantSettingEnabled(string(v.scope.Tenant), SettingCustomerManagedKeys)
	if err != nil {
		return err
	}
	if !on {
		return fault.New(fault.TenantSwitchDisabled, "The tenant setting "+SettingCustomerManagedKeys+" is off, which freezes the encryption of all workspaces.").
			WithMend("Ask a tenant administrator to switch it on.")
	}
	behind, failed, _, err := tx.ItemsBehind(v.scope.ID, v.scope.Sealing, time.Time{})
	if err != nil {
		return err
	}
	if behind > failed {
		return fault.New(fault.EncryptionInProgress, fmt.Sprintf("The encryption of %d items is in progress.", behind-failed)).
			About(string(v.scope.ID)).WithMend("Wait until every item is done.")
	}
	return nil
}

// supportedItems refuses a scope that holds items which a customer's key cannot
// cover.
func (s *Scopes) supportedItems(ctx context.Context, id ScopeID) error {
	return s.ring.store.View(ctx, func(tx Tx) error { return s.checkItems(tx, id) })
}

func (s *Scopes) checkItems(tx Tx, id ScopeID) error {
	items, err := tx.ItemStates(id)
	if err != nil {
		return err
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
		return nil
	}
	slices.Sort(types)
	return fault.New(fault.UnsupportedItemType, fmt.Sprintf("The workspace holds %d items of types that a customer-managed key does not cover: %s.",
		n, strings.Join(types, ", "))).About(string(id)).WithMend("Move them to another workspace, or delete them.")
}

// suitable refuses a key that cannot protect a scope, or that could be lost.
func suitable(key kek.KeyInfo, now time.Time) error {
	if err := key.Usable(now); err != nil {
		return err
	}
	if !key.SoftDelete() || !key.PurgeProtected() {
		return fault.New(fault.KEKUnsuitable, fmt.Sprintf("The key's vault states the recovery level %q: soft delete and purge protection must both be on, or the key could be lost with all that it protects.", key.RecoveryLevel)).
			About(string(key.KID)).WithMend("Enable soft delete and purge protection on the vault.")
	}
	return nil
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

// retry makes a scope's failed items due at once.
func (s *Scopes) retry(ctx context.Context, caller identity.Caller, id ScopeID) error {
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
		e := caller.Entry("ApplyWorkspaceEncryption", "/workspaces/"+string(id))
		e.Detail = map[string]string{"retried": number(int64(n))}
		return tx.AppendAudit(e)
	})
	s.Wake()
	return err
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
