package encryption

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Store keeps what this package knows, in the platform's own database.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is one transaction of a [Store].
type Tx interface {
	audit.Appender
	rbac.Tx
	KeyTx
	CheckTx

	// Latched returns the scopes with a serving state other than [Serves] since a time
	// or later, by that time.
	Latched(since time.Time) ([]Scope, error)
	// Changing returns at most limit scopes with ids above after whose sealing
	// generation is Enabling or Disabling, as it is until every item is under it.
	//
	// It and Latched are asked every second by every process: what they cost must not
	// grow with the scopes that are well.
	Changing(after ScopeID, limit int) ([]Scope, error)
	// Pending counts them.
	Pending() (Pending, error)
	// UpdateScope replaces a scope's row, if its epoch is still the one given;
	// else it fails with [fault.EncryptionChanged].
	UpdateScope(s Scope, epoch int64) error
	// PutGeneration adds or replaces a generation's row.
	PutGeneration(Generation) error
	// DeleteGeneration removes a generation's row.
	DeleteGeneration(s ScopeID, number int64) error
	// PutLink adds or replaces a link.
	PutLink(Link) error
	// DeleteLink removes the link of the older generation.
	DeleteLink(s ScopeID, generation int64) error

	// ItemsBehind returns how many items of the scope are not under the
	// generation, how many of those have failed, and the next of those that may
	// be worked on now: whose lease is over and whose next run is due.
	ItemsBehind(s ScopeID, generation int64, now time.Time) (behind, failed int, next []Item, err error)
	// KeysBehind returns how many of the scope's keys that are not shredded lie
	// under an older generation.
	KeysBehind(s ScopeID, generation int64) (int, error)
	// ReleaseItems ends every worker's lease, by giving its item a new fence.
	ReleaseItems() error
	// ItemStates returns all items of the scope but the scope's own and those whose
	// keys are all shredded.
	ItemStates(s ScopeID) ([]Item, error)
	// ItemTotals counts those items and what is done of bringing them under the
	// generation, and ItemPage returns at most limit of those with ids above after that
	// have the status, "" for any: by id. Neither reads the other rows into memory.
	ItemTotals(s ScopeID, generation int64) (ItemTotals, error)
	ItemPage(s ScopeID, generation int64, status ItemEncryption, after ItemID, limit int) ([]Item, error)
	// UpdateItem replaces an item's row, if its fence is still the one given;
	// else it fails with [fault.EncryptionChanged].
	UpdateItem(i Item, fence int64) error
	// UpdateKey replaces a key's row.
	UpdateKey(KeyRow) error
	// DeleteKey removes a key's row. It fails with [fault.Conflict] while
	// anything names the key.
	DeleteKey(KeyID) error
	// VersionsUsed returns the key versions that ever wrapped one of the scope's
	// shares, newest use first, and UseVersion records one.
	VersionsUsed(s ScopeID) ([]VersionUse, error)
	UseVersion(s ScopeID, v VersionUse) error

	// Backups returns the backups that are known, by folder and time; PutBackup adds or
	// replaces one, and DeleteBackup removes it.
	Backups() ([]Backup, error)
	PutBackup(Backup) error
	DeleteBackup(Backup) error

	// VaultLoad returns how many of a tenant's scopes are under keys of a vault, given
	// by its host as [kek.KID.Vault] has it: those that cost and bind alike together.
	VaultLoad(tenant identity.TenantID, vault string) ([]Load, error)

	// Now returns the time by the clock of the database, which all processes share.
	Now() (time.Time, error)
	// Renewal returns what the last renewal of the scope's lease has left, or false, and
	// PutRenewal replaces it.
	Renewal(ScopeID) (Renewal, bool, error)
	PutRenewal(Renewal) error

	// TenantSettingEnabled tells a tenant's switch.
	TenantSettingEnabled(tenant, name string) (bool, error)
}

// A KeyTx is the part of every platform transaction that keeps keys. The domains
// whose data lies under the keys embed it in their own transactions, so that data
// and keys change together.
type KeyTx interface {
	// Scope returns a scope's row, or [fault.WorkspaceNotFound].
	Scope(ScopeID) (Scope, error)
	// Generations returns the generation rows of a scope, newest first.
	Generations(ScopeID) ([]Generation, error)
	// Links returns the links of a scope.
	Links(ScopeID) ([]Link, error)
	// Item returns an item's row, or [fault.ItemNotFound].
	Item(ItemID) (Item, error)
	// ItemKeys returns the rows of all keys of an item.
	ItemKeys(ItemID) ([]KeyRow, error)
	// KeyAlive reports whether the key exists and is not shredded.
	KeyAlive(KeyID) (bool, error)

	// InsertScope, InsertGeneration, InsertItem and InsertKey add rows.
	InsertScope(Scope) error
	InsertGeneration(Generation) error
	InsertItem(Item) error
	InsertKey(KeyRow) error
	// ShredItem overwrites the sealed bytes of all the item's keys and marks them
	// shredded. The rows stay as long as something names them.
	ShredItem(ItemID) error
	// DeleteItemKeys removes the item's row and its keys' rows. It fails with
	// [fault.Conflict] while anything names one of the keys.
	DeleteItemKeys(ItemID) error
	// DeleteScope removes the scope's row, generations and links. It fails with
	// [fault.Conflict] while it has items.
	DeleteScope(ScopeID) error
}

// Pending says about how many scopes something is to be done.
type Pending struct {
	Changing             int // that serve, and have items on the way to another key
	Revoked, Unreachable int
}

// A VersionUse tells since when and until when a key version wrapped a share of
// a scope.
type VersionUse struct {
	KID   string
	First time.Time
	Last  time.Time // zero while it is in use
}
