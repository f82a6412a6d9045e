package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

const (
	actionVaultRead    rbac.Action = "Microsoft.KeyVault/vaults/read"
	actionVaultWrite   rbac.Action = "Microsoft.KeyVault/vaults/write"
	actionVaultDelete  rbac.Action = "Microsoft.KeyVault/vaults/delete"
	actionDeletedList  rbac.Action = "Microsoft.KeyVault/deletedVaults/read"
	actionDeletedRead  rbac.Action = "Microsoft.KeyVault/locations/deletedVaults/read"
	actionDeletedPurge rbac.Action = "Microsoft.KeyVault/locations/deletedVaults/purge/action"
)

// A Path says where in Resource Manager a vault lies.
type Path struct {
	Subscription  string
	ResourceGroup string
	Name          Name
	Flavour       Flavour // "" stands for [Standard]
}

// Scope returns the scope of the vault at the path.
func (p Path) Scope() rbac.Scope { return p.vault().Scope() }

func (p Path) vault() Vault {
	return Vault{Subscription: strings.ToLower(p.Subscription), ResourceGroup: p.ResourceGroup, Name: p.Name, Flavour: p.Flavour}
}

// A Spec is what a vault is to be. What is nil takes its default in a new vault,
// and stays as it is in an existing one.
type Spec struct {
	Location        *string
	Tenant          *identity.TenantID // must be the caller's
	RetentionDays   *int
	PurgeProtection *bool
	SoftDelete      *bool // may not be false
	RBAC            *bool
	PolicyModel     bool // what a new vault is if RBAC is nil: older clients mean access policies
	AccessPolicies  *[]AccessPolicy
	Network         *Network // but for Closed
	PublicAccess    *bool    // publicNetworkAccess: Network.Closed is its opposite
	TrustedServices *[]string
	RequireApproval *bool
	SeparateDuties  *bool
	Tags            *map[string]string
	Admins          *[]identity.PrincipalID // of a new managed HSM, which needs one
	Recover         bool                    // bring the soft-deleted vault back, instead of making one
}

func (s Spec) apply(vault *Vault, isNew bool) error {
	if s.Tenant != nil && *s.Tenant != vault.Tenant {
		return fault.New(fault.InvalidArgument, "tenantId is not the token's tenant.")
	}
	if s.SoftDelete != nil && !*s.SoftDelete {
		return fault.New(fault.InvalidArgument, "Soft delete cannot be switched off.")
	}
	if s.Location != nil {
		l := location(*s.Location)
		if !isNew && l != vault.Location {
			return fault.New(fault.Conflict, "The vault exists in another location, and cannot be moved.")
		}
		vault.Location = l
	}
	if vault.Location == "" {
		return fault.New(fault.InvalidArgument, "A vault needs a location.")
	}
	if s.RetentionDays != nil {
		if d := *s.RetentionDays; d < MinRetentionDays || d > MaxRetentionDays {
			return fault.New(fault.InvalidArgument, fmt.Sprintf("softDeleteRetentionInDays must lie between %d and %d.", MinRetentionDays, MaxRetentionDays))
		}
		if !isNew && *s.RetentionDays != vault.RetentionDays {
			return fault.New(fault.InvalidArgument, "softDeleteRetentionInDays is fixed when the vault is created.")
		}
		vault.RetentionDays = *s.RetentionDays
	}
	if s.PurgeProtection != nil {
		if vault.PurgeProtection && !*s.PurgeProtection {
			return fault.New(fault.InvalidArgument, "enablePurgeProtection cannot be set to false: purge protection is irreversible.")
		}
		vault.PurgeProtection = *s.PurgeProtection
	}
	if err := s.applyAccess(vault, isNew); err != nil {
		return err
	}
	if s.Tags != nil {
		if err := checkTags(*s.Tags); err != nil {
			return err
		}
		vault.Tags = cloneTags(*s.Tags)
	}
	return nil
}

// applyAccess is the part of apply that says who reaches the vault's keys, and from
// where.
func (s Spec) applyAccess(vault *Vault, isNew bool) (err error) {
	if isNew {
		vault.RBAC, vault.TrustedServices, vault.Network = !s.PolicyModel, defaultTrusted(), Network{Bypass: true}
	}
	if s.RBAC != nil {
		vault.RBAC = *s.RBAC
	}
	if s.AccessPolicies != nil {
		if vault.AccessPolicies, err = checkPolicies(vault.Tenant, *s.AccessPolicies); err != nil {
			return err
		}
	}
	if s.Network != nil {
		if err := s.Network.check(); err != nil {
			return err
		}
		closed := vault.Network.Closed
		vault.Network = *s.Network
		vault.Network.Closed = closed
	}
	if s.PublicAccess != nil {
		vault.Network.Closed = !*s.PublicAccess
	}
	if s.TrustedServices != nil {
		if vault.TrustedServices, err = checkTrusted(*s.TrustedServices); err != nil {
			return err
		}
	}
	if s.RequireApproval != nil {
		vault.RequireApproval = *s.RequireApproval
	}
	if s.SeparateDuties != nil {
		vault.SeparateDuties = *s.SeparateDuties
	}
	return nil
}

// Find tells whose a vault is, soft-deleted or not, for a wire adapter that must
// say where to get a token: no caller is known yet.
func (v *Vaults) Find(ctx context.Context, name Name) (identity.TenantID, Flavour, error) {
	now := v.now()
	p, ok, drops := v.memory.place(name, now)
	if ok {
		return p.tenant, p.flavour, nil
	}
	err := v.store.View(ctx, func(tx Tx) error {
		vault, err := tx.Vault(name)
		if fault.ReasonOf(err) == fault.VaultNotFound {
			return vaultNotFound(name)
		}
		p = place{vault.ID, vault.Tenant, vault.Flavour, now}
		return err
	})
	if err != nil {
		return "", "", err
	}
	v.memory.keepPlace(name, p, drops)
	return p.tenant, p.flavour, nil
}

// NameFree reports whether a vault of the name could be made, and why not.
func (v *Vaults) NameFree(ctx context.Context, c identity.Caller, name string) (free bool, reason fault.Reason, err error) {
	n, perr := ParseName(name)
	if perr != nil {
		return false, fault.InvalidArgument, nil
	}
	err = v.read(ctx, begin(c, "VaultCheckName", "/"), func(tx Tx) error {
		vault, err := tx.Vault(n)
		switch {
		case fault.ReasonOf(err) == fault.VaultNotFound:
			free = true
			return nil
		case err == nil && vault.live():
			reason = fault.VaultExists
		case err == nil:
			reason = fault.VaultDeleted
		}
		return err
	})
	return free, reason, err
}

// PutVault makes a vault, changes one, or recovers one; created says whether it
// is new.
func (v *Vaults) PutVault(ctx context.Context, c identity.Caller, p Path, s Spec) (_ Vault, created bool, err error) {
	op := "VaultPut"
	if s.Recover {
		op = "VaultRecover"
	}
	vault := p.vault()
	a := begin(c, op, vault.Scope())
	err = v.write(ctx, a, func(tx Tx) error {
		sub, err := v.manage(tx, a, p.Subscription, p.Flavour.action(actionVaultWrite), p.vault().Scope())
		if err != nil {
			return err
		}
		group, err := tx.VaultGroup(sub.ID, p.ResourceGroup)
		if err != nil {
			return err
		}
		vault, err = tx.Vault(p.Name)
		now := v.clock()
		kind := VaultUpdated
		switch {
		case fault.ReasonOf(err) == fault.VaultNotFound && s.Recover:
			return fault.New(fault.VaultNotFound, fmt.Sprintf("There is no soft-deleted vault named %s.", p.Name))
		case fault.ReasonOf(err) == fault.VaultNotFound:
			if _, err := ParseName(string(p.Name)); err != nil {
				return err
			}
			created = true
			vault = Vault{
				ID: ID(uuid.NewString()), Flavour: p.vault().Flavour, Name: p.Name, Tenant: sub.Tenant, Subscription: sub.ID, ResourceGroup: group.Name,
				RetentionDays: DefaultRetentionDays, Created: now,
			}
		case err != nil:
			return err
		case !vault.at(p):
			return fault.New(fault.VaultExists, fmt.Sprintf("The name %s is in use.", p.Name)).WithMend("Vault names are unique across all tenants: choose another.")
		case !vault.live() && !s.Recover:
			return fault.New(fault.VaultDeleted, fmt.Sprintf("A vault named %s is in a deleted but recoverable state.", p.Name)).
				WithMend(`Recover it with createMode "recover", or purge it first.`)
		case !vault.live():
			vault.Deleted, vault.PurgeAt = time.Time{}, time.Time{}
			kind = VaultRecovered
			s = Spec{Tenant: s.Tenant} // recovery changes nothing else
		}
		if err := s.apply(&vault, created); err != nil {
			return err
		}
		a.note("vault", string(vault.ID))
		if created && vault.Flavour == ManagedHSM {
			if err := v.appoint(tx, a, &vault, s.Admins); err != nil {
				return err
			}
		}
		return v.putVault(tx, a, &vault, now, kind)
	})
	return vault, created, err
}

// PatchVault changes a live vault.
func (v *Vaults) PatchVault(ctx context.Context, c identity.Caller, p Path, s Spec) (vault Vault, err error) {
	a := begin(c, "VaultPatch", p.vault().Scope())
	err = v.write(ctx, a, func(tx Tx) error {
		if vault, err = v.liveAt(tx, a, p, actionVaultWrite); err != nil {
			return err
		}
		if err := s.apply(&vault, false); err != nil {
			return err
		}
		return v.putVault(tx, a, &vault, v.clock(), VaultUpdated)
	})
	return vault, err
}

func (v *Vaults) putVault(tx Tx, a *act, vault *Vault, now time.Time, kind Kind) error {
	vault.Updated = now
	old, err := tx.VaultByID(vault.ID)
	if err != nil && fault.ReasonOf(err) != fault.VaultNotFound {
		return err
	}
	known := err == nil
	if known {
		if err := v.weakened(tx, a, old, *vault); err != nil {
			return err
		}
	}
	if vault.SeparateDuties {
		if err := v.keepsDuties(tx, *vault); err != nil {
			return err
		}
	}
	if err := tx.PutVault(*vault); err != nil {
		return err
	}
	if err := v.changed(tx, a, Change{Vault: vault.ID, Kind: kind}); err != nil {
		return err
	}
	if known {
		return v.accessChanged(tx, a, old, *vault)
	}
	return nil
}

// at reports whether the vault lies at the path.
func (v Vault) at(p Path) bool { return v.Scope().Key() == p.vault().Scope().Key() }

// liveAt authorises a management action at a path and returns the vault there.
func (v *Vaults) liveAt(tx Tx, a *act, p Path, action rbac.Action) (Vault, error) {
	return v.liveFor(tx, a, p, action, p.vault().Scope())
}

// liveFor is liveAt where the action is on something in the vault: scope is its.
func (v *Vaults) liveFor(tx Tx, a *act, p Path, action rbac.Action, scope rbac.Scope) (Vault, error) {
	if _, err := v.manage(tx, a, p.Subscription, p.Flavour.action(action), scope); err != nil {
		return Vault{}, err
	}
	vault, err := liveVault(tx, p.Name)
	if err == nil && !vault.at(p) || fault.ReasonOf(err) == fault.VaultNotFound {
		return Vault{}, fault.New(fault.ResourceNotFound,
			fmt.Sprintf("The Resource '%s/%s' under resource group '%s' was not found.", p.Flavour.ResourceType(), p.Name, p.ResourceGroup))
	}
	a.note("vault", string(vault.ID))
	return vault, err
}

// Vault returns a live vault.
func (v *Vaults) Vault(ctx context.Context, c identity.Caller, p Path) (vault Vault, err error) {
	a := begin(c, "VaultGet", p.vault().Scope())
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err = v.liveAt(tx, a, p, actionVaultRead)
		return err
	})
	return vault, err
}

// Vaults lists the live vaults of a subscription that the caller can read, by
// name; only those of one resource group if that is not "".
func (v *Vaults) Vaults(ctx context.Context, c identity.Caller, sub, group string) ([]Vault, error) {
	return v.listVaults(ctx, c, Standard, sub, group)
}

// ManagedHSMs is the same of managed HSMs.
func (v *Vaults) ManagedHSMs(ctx context.Context, c identity.Caller, sub, group string) ([]Vault, error) {
	return v.listVaults(ctx, c, ManagedHSM, sub, group)
}

func (v *Vaults) listVaults(ctx context.Context, c identity.Caller, f Flavour, sub, group string) (mine []Vault, err error) {
	s := Subscription{ID: strings.ToLower(sub)}
	scope := s.Scope()
	if group != "" {
		if err := checkGroup(group); err != nil {
			return nil, err
		}
		scope = ResourceGroup{Subscription: s.ID, Name: group}.Scope()
	}
	err = v.read(ctx, begin(c, "VaultList", scope), func(tx Tx) error {
		if _, err := subscription(tx, c, sub); err != nil {
			return err
		}
		all, err := tx.Vaults(c.Tenant)
		if err != nil {
			return err
		}
		for _, vault := range all {
			if !vault.live() || (vault.Flavour == ManagedHSM) != (f == ManagedHSM) || !scope.Contains(vault.Scope()) {
				continue
			}
			_, ok, err := v.allowed(tx, c, vault.Tenant, f.action(actionVaultRead), false, vault.Scope())
			if err != nil {
				return err
			}
			if ok {
				mine = append(mine, vault)
			}
		}
		return nil
	})
	return mine, err
}

// DeleteVault soft-deletes a vault: its keys do nothing until it is recovered.
func (v *Vaults) DeleteVault(ctx context.Context, c identity.Caller, p Path) (vault Vault, err error) {
	a := begin(c, "VaultDelete", p.vault().Scope())
	err = v.write(ctx, a, func(tx Tx) error {
		if vault, err = v.liveAt(tx, a, p, actionVaultDelete); err != nil {
			return err
		}
		if err := v.consent(tx, a, vault, vault.Flavour.action(actionVaultDelete), false, vault.Scope()); err != nil {
			return err
		}
		now := v.clock()
		vault.Deleted = now
		vault.PurgeAt = now.Add(time.Duration(vault.RetentionDays) * 24 * time.Hour)
		return v.putVault(tx, a, &vault, now, VaultDeleted)
	})
	return vault, err
}

// DeletedVaults lists a subscription's soft-deleted vaults.
func (v *Vaults) DeletedVaults(ctx context.Context, c identity.Caller, sub string) ([]Vault, error) {
	return v.listDeleted(ctx, c, Standard, sub)
}

// DeletedManagedHSMs is the same of managed HSMs.
func (v *Vaults) DeletedManagedHSMs(ctx context.Context, c identity.Caller, sub string) ([]Vault, error) {
	return v.listDeleted(ctx, c, ManagedHSM, sub)
}

func (v *Vaults) listDeleted(ctx context.Context, c identity.Caller, f Flavour, sub string) (deleted []Vault, err error) {
	s := Subscription{ID: strings.ToLower(sub)}
	a := begin(c, "VaultListDeleted", s.Scope())
	err = v.read(ctx, a, func(tx Tx) error {
		if _, err := v.manage(tx, a, sub, f.action(actionDeletedList), s.Scope()); err != nil {
			return err
		}
		all, err := tx.Vaults(c.Tenant)
		deleted = slices.DeleteFunc(all, func(vault Vault) bool {
			return vault.live() || (vault.Flavour == ManagedHSM) != (f == ManagedHSM) || !s.Scope().Contains(vault.Scope())
		})
		return err
	})
	return deleted, err
}

// DeletedVault returns a soft-deleted vault.
func (v *Vaults) DeletedVault(ctx context.Context, c identity.Caller, sub string, name Name) (Vault, error) {
	return v.getDeleted(ctx, c, Standard, sub, name)
}

// DeletedManagedHSM is the same of a managed HSM.
func (v *Vaults) DeletedManagedHSM(ctx context.Context, c identity.Caller, sub string, name Name) (Vault, error) {
	return v.getDeleted(ctx, c, ManagedHSM, sub, name)
}

func (v *Vaults) getDeleted(ctx context.Context, c identity.Caller, f Flavour, sub string, name Name) (vault Vault, err error) {
	a := begin(c, "VaultGetDeleted", Subscription{ID: sub}.Scope())
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err = v.deleted(tx, a, f, sub, name, actionDeletedRead)
		return err
	})
	return vault, err
}

// PurgeVault removes a soft-deleted vault for ever, with its keys and the roles
// given at it, unless purge protection forbids it.
func (v *Vaults) PurgeVault(ctx context.Context, c identity.Caller, sub string, name Name) error {
	return v.purge(ctx, c, Standard, sub, name)
}

// PurgeManagedHSM is the same of a managed HSM.
func (v *Vaults) PurgeManagedHSM(ctx context.Context, c identity.Caller, sub string, name Name) error {
	return v.purge(ctx, c, ManagedHSM, sub, name)
}

func (v *Vaults) purge(ctx context.Context, c identity.Caller, f Flavour, sub string, name Name) error {
	a := begin(c, "VaultPurge", Subscription{ID: sub}.Scope())
	var gone []KeyID
	err := v.write(ctx, a, func(tx Tx) error {
		vault, err := v.deleted(tx, a, f, sub, name, actionDeletedPurge)
		if err != nil {
			return err
		}
		if vault.PurgeProtection {
			return purgeProtected()
		}
		if err := v.consent(tx, a, vault, f.action(actionDeletedPurge), false, vault.Scope()); err != nil {
			return err
		}
		gone, err = v.purgeVault(tx, a, vault)
		return err
	})
	if err == nil {
		v.forget(gone...)
	}
	return err
}

func (v *Vaults) deleted(tx Tx, a *act, f Flavour, sub string, name Name, action rbac.Action) (Vault, error) {
	s, err := v.manage(tx, a, sub, f.action(action), Subscription{ID: strings.ToLower(sub)}.Scope())
	if err != nil {
		return Vault{}, err
	}
	vault, err := tx.Vault(name)
	if err == nil && (vault.live() || (vault.Flavour == ManagedHSM) != (f == ManagedHSM) || vault.Tenant != s.Tenant || vault.Subscription != s.ID) || fault.ReasonOf(err) == fault.VaultNotFound {
		return Vault{}, fault.New(fault.VaultNotFound, fmt.Sprintf("There is no soft-deleted vault named %s.", name))
	}
	if err == nil {
		a.entry.Resource = string(vault.Scope())
	}
	a.note("vault", string(vault.ID))
	return vault, err
}

// purgeVault drops the vault and returns its keys, for whom something may still
// lie in memory.
func (v *Vaults) purgeVault(tx Tx, a *act, vault Vault) ([]KeyID, error) {
	var gone []KeyID
	err := eachKey(tx, vault.ID, func(k Key) error {
		gone = append(gone, k.ID)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := tx.DeleteRoleAssignmentsBelow(vault.Scope()); err != nil {
		return nil, err
	}
	a.touched = append(a.touched, vault.ID)
	return gone, tx.DropVault(vault.ID)
}
