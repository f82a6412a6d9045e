package vault

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Store keeps the custodian's rows. View runs fn on one snapshot taken after
// the call; Update runs it in the one writing transaction, and returns nil once
// that is durable. A function given to Update neither waits for anything nor
// calls View or Update.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is one transaction. Names of vaults, keys and resource groups, and ids of
// subscriptions, are compared without case.
type Tx interface {
	audit.Appender
	rbac.Tx
	rbac.ApprovalTx

	// VaultSubscription returns one, or [fault.SubscriptionNotFound].
	VaultSubscription(id string) (Subscription, error)
	// VaultSubscriptions returns a tenant's, by id.
	VaultSubscriptions(tenant identity.TenantID) ([]Subscription, error)
	// PutVaultSubscription adds or replaces one.
	PutVaultSubscription(Subscription) error

	// VaultGroup returns one, or [fault.ResourceGroupNotFound].
	VaultGroup(subscription, name string) (ResourceGroup, error)
	// VaultGroups returns a subscription's, by name.
	VaultGroups(subscription string) ([]ResourceGroup, error)
	// PutVaultGroup adds or replaces one.
	PutVaultGroup(ResourceGroup) error
	// DropVaultGroup removes one, or fails with [fault.ResourceGroupNotFound].
	DropVaultGroup(subscription, name string) error

	// Vault returns one, soft-deleted or not, or [fault.VaultNotFound].
	Vault(name Name) (Vault, error)
	// VaultByID is the same by id.
	VaultByID(id ID) (Vault, error)
	// Vaults returns all of a tenant, soft-deleted ones included, by name.
	Vaults(tenant identity.TenantID) ([]Vault, error)
	// PutVault adds or replaces one by its id, or fails with [fault.VaultExists]
	// if another has its name.
	PutVault(Vault) error
	// DropVault removes one with its keys, private parts and changes. What lies
	// elsewhere becomes [Remains].
	DropVault(ID) error

	// VaultKey returns one, soft-deleted or not, or [fault.KeyNotFound].
	VaultKey(vault ID, name KeyName) (Key, error)
	// VaultKeys returns at most limit of a vault's keys, either the live or the
	// soft-deleted ones, by canonical name and after the given one.
	VaultKeys(vault ID, deleted bool, after string, limit int) ([]Key, error)
	// PutVaultKey adds or replaces one by its id.
	PutVaultKey(Key) error
	// DropVaultKey removes one with its versions and their private parts. What lies
	// elsewhere becomes [Remains].
	DropVaultKey(KeyID) error

	// VaultKeyVersion returns one, or [fault.KeyNotFound].
	VaultKeyVersion(key KeyID, version Version) (KeyVersion, error)
	// VaultKeyVersions returns at most limit, by ordinal and after the given one.
	VaultKeyVersions(key KeyID, after, limit int) ([]KeyVersion, error)
	// AddVaultKeyVersion adds one with its sealed private part.
	AddVaultKeyVersion(v KeyVersion, sealed []byte) error
	// SetVaultKeyVersion replaces what can change of one: its operations, state,
	// dates, tags and notice.
	SetVaultKeyVersion(KeyVersion) error
	// VaultKeySealed returns a version's sealed private part, or
	// [fault.KeyNotFound].
	VaultKeySealed(key KeyID, version Version) ([]byte, error)

	// VaultRotation returns a key's rotation policy and when the key is to be rotated
	// next, zero for never; or [fault.NotFound].
	VaultRotation(KeyID) (p RotationPolicy, due time.Time, err error)
	// PutVaultRotation adds or replaces both.
	PutVaultRotation(key KeyID, p RotationPolicy, due time.Time) error
	// DueVaultRotations returns at most limit live keys of live vaults that were to
	// be rotated by a time and whose current version is enabled, after the given one
	// and in order of their ids.
	DueVaultRotations(by time.Time, after KeyID, limit int) ([]Key, error)
	// DueVaultNotices returns at most limit versions whose notice lies at or before
	// a time, of live keys in live vaults.
	DueVaultNotices(by time.Time, limit int) ([]KeyVersion, error)
	// PutVaultDrill adds or replaces the order of a version.
	PutVaultDrill(Drill) error
	// DropVaultDrill removes it, if there is one.
	DropVaultDrill(KeyID, Version) error
	// DueVaultDrills returns at most limit that end at or before a time, the first to end
	// first.
	DueVaultDrills(by time.Time, limit int) ([]Drill, error)
	// VaultKeyByID returns a key, soft-deleted or not, or [fault.KeyNotFound].
	VaultKeyByID(KeyID) (Key, error)

	// CountVaultUse adds Count uses of a version, the latest of them at Last; First
	// is the store's.
	CountVaultUse(KeyID, Usage) error
	// VaultUsage returns at most limit of a key's, the latest first.
	VaultUsage(key KeyID, limit int) ([]Usage, error)

	// VaultRemains returns at most limit that are due by a time.
	VaultRemains(by time.Time, limit int) ([]Remains, error)
	// AddVaultRemains adds some, or makes them due at another time.
	AddVaultRemains(Remains) error
	// TakeVaultRemains drops those of a key that is kept now, or fails with
	// [fault.NotFound] if there are none, or their Due is zero.
	TakeVaultRemains(Ref) error
	// DropVaultRemains forgets one, which is gone.
	DropVaultRemains(Ref) error

	// VaultSecurityDomain returns a managed HSM's, or [fault.NotFound] if it has none.
	VaultSecurityDomain(ID) (SecurityDomain, error)
	// PutVaultSecurityDomain adds or replaces it.
	PutVaultSecurityDomain(SecurityDomain) error

	// VaultDiagnosticSettings returns a vault's, by name.
	VaultDiagnosticSettings(ID) ([]DiagnosticSetting, error)
	// PutVaultDiagnosticSetting adds or replaces one.
	PutVaultDiagnosticSetting(DiagnosticSetting) error
	// DropVaultDiagnosticSetting removes one, or fails with
	// [fault.ResourceNotFound].
	DropVaultDiagnosticSetting(vault ID, name string) error

	// AppendVaultChange puts a change on its vault's feed and numbers it.
	AppendVaultChange(Change) error
	// VaultRevision returns the number of the vault's newest change and of the
	// newest that is no longer kept, or [fault.VaultNotFound]. In an Update both stay
	// true until that commits: whoever appends a change meanwhile waits for it.
	VaultRevision(ID) (newest, dropped int64, err error)
	// VaultChanges returns at most limit kept changes after a number, in order.
	VaultChanges(vault ID, after int64, limit int) ([]Change, error)
	// TrimVaultChanges drops a vault's changes up to a number, and those older
	// than a time unless that is zero.
	TrimVaultChanges(vault ID, upTo int64, before time.Time) error

	// DueVaultKeys returns at most limit soft-deleted keys whose retention has
	// ended by a time.
	DueVaultKeys(by time.Time, limit int) ([]Key, error)
	// DueVaults returns the same of vaults.
	DueVaults(by time.Time, limit int) ([]Vault, error)
	// VaultIDs returns the ids of all vaults.
	VaultIDs() ([]ID, error)
}
