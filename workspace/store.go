package workspace

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
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
	encryption.KeyTx
	CheckTx

	// TenantSettings returns the settings that the tenant has changed.
	TenantSettings(identity.TenantID) ([]SettingRow, error)
	// PutTenantSetting adds or replaces one.
	PutTenantSetting(SettingRow) error
	// TenantSettingEnabled tells one switch, by [SettingDefault] if the tenant has
	// not changed it.
	TenantSettingEnabled(tenant, name string) (bool, error)

	// InsertWorkspace adds a workspace, or fails with [fault.WorkspaceNameTaken].
	InsertWorkspace(WorkspaceRow) error
	// Workspace returns one in any state, or [fault.WorkspaceNotFound].
	Workspace(encryption.ScopeID) (WorkspaceRow, error)
	// WorkspaceNamed returns the tenant's live one of that [Canonical] name, or
	// [fault.WorkspaceNotFound].
	WorkspaceNamed(tenant identity.TenantID, canonical string) (WorkspaceRow, error)
	// UpdateWorkspace replaces a workspace's row, or fails with
	// [fault.WorkspaceNameTaken].
	UpdateWorkspace(WorkspaceRow) error
	// DeleteWorkspace removes a workspace's row.
	DeleteWorkspace(encryption.ScopeID) error
	// TenantWorkspaces returns the tenant's live workspaces with ids above after,
	// by id. A limit of 0 means all.
	TenantWorkspaces(tenant identity.TenantID, after encryption.ScopeID, limit int) ([]WorkspaceRow, error)
	// WorkspacesAssigned returns those of them in which one of the principals has
	// a role assignment of the workspace itself.
	WorkspacesAssigned(tenant identity.TenantID, principals []identity.PrincipalID, after encryption.ScopeID, limit int) ([]WorkspaceRow, error)
	// WorkspacesDeleted returns the ids of all deleted workspaces that still have
	// a row.
	WorkspacesDeleted() ([]encryption.ScopeID, error)

	// ItemList returns the row of a workspace's list of items, or
	// [fault.WorkspaceNotFound].
	ItemList(encryption.ScopeID) (List, error)
	// PutItemList adds or replaces it.
	PutItemList(List) error
	// CountItemListSeal adds one to the list's number of seals, in its Salt's life or, if
	// it has one, in its NextSalt's.
	CountItemListSeal(encryption.ScopeID) error
	// DeleteItemList removes it.
	DeleteItemList(encryption.ScopeID) error

	// InsertItemEntry adds an item's row, or fails with [fault.ItemNameTaken].
	InsertItemEntry(Entry) error
	// ItemEntry returns an item's row in any state, or [fault.ItemNotFound].
	ItemEntry(encryption.ItemID) (Entry, error)
	// ItemEntryByLookup returns the workspace's row that is not deleted and has one of
	// the look-up codes, or [fault.ItemNotFound].
	ItemEntryByLookup(ws encryption.ScopeID, lookups ...[32]byte) (Entry, error)
	// ItemEntries returns the workspace's live rows with ids above after, by id; of one
	// type, if that is not "". A limit of 0 means all.
	ItemEntries(ws encryption.ScopeID, itemType ItemType, after encryption.ItemID, limit int) ([]Entry, error)
	// ItemEntriesUnder returns rows in any state whose record is under the key.
	ItemEntriesUnder(ws encryption.ScopeID, key encryption.KeyID, limit int) ([]Entry, error)
	// ItemEntriesIn returns rows of any workspace in a state since before a time, or,
	// if ws is not "", rows of that one in any state since any time.
	ItemEntriesIn(ws encryption.ScopeID, state EntryState, before time.Time, limit int) ([]Entry, error)
	// UpdateItemEntry replaces an item's row if its revision is still the one given,
	// else it fails with [fault.EncryptionChanged]; and with [fault.ItemNameTaken].
	UpdateItemEntry(e Entry, revision uint64) error
	// DeleteItemEntry removes an item's row and its definition.
	DeleteItemEntry(encryption.ItemID) error

	// ItemDefinition returns an item's, and false if it has none.
	ItemDefinition(encryption.ItemID) (DefinitionRow, bool, error)
	// PutItemDefinition adds or replaces it.
	PutItemDefinition(DefinitionRow) error
}

// A SettingRow is a tenant's switch that it has changed.
type SettingRow struct {
	Tenant    identity.TenantID
	Name      string
	Enabled   bool
	Changed   time.Time
	ChangedBy identity.PrincipalID
}

// A WorkspaceRow is a workspace as the database holds it.
type WorkspaceRow struct {
	ID        encryption.ScopeID
	Tenant    identity.TenantID
	Name      string
	Canonical string // [Canonical] of the name; unique among the tenant's live workspaces
	Capacity  CapacityID
	Deleted   bool // its items are being shredded, or wait for their last rows to go
	Created   time.Time

	DescriptionKey encryption.KeyID // "" if there is no description
	Description    []byte           // sealed
}

// A List is the folder row of a workspace's list of items: which namespace key,
// and which random salt, the entries' records and look-up codes are under. While
// it is being re-sealed it names the key and salt to come, and each entry names
// its own key.
type List struct {
	Workspace encryption.ScopeID
	Key       encryption.KeyID
	Salt      [24]byte
	NextKey   encryption.KeyID // "" if the list is not being re-sealed
	NextSalt  [24]byte
	Seals     int64 // records sealed under Salt, or under NextSalt while there is one
}

// An EntryState is where an item is in its life.
type EntryState string

// The states of an item.
const (
	Creating EntryState = "creating" // holds its name and is not yet seen
	Live     EntryState = "live"
	Deleted  EntryState = "deleted" // soft-deleted: not seen, and its name is free
)

// An Entry is an item as the database holds it: everything but the type is
// sealed.
type Entry struct {
	ID        encryption.ItemID
	Workspace encryption.ScopeID
	Type      ItemType
	State     EntryState
	Since     time.Time // of the state
	Key       encryption.KeyID
	Lookup    [32]byte // code of type and canonical name, under Key
	Revision  uint64   // counts the record's seals
	Record    []byte   // sealed listing record
	Created   time.Time
	Changed   time.Time
}

// A DefinitionRow is an item's definition as the database holds it.
type DefinitionRow struct {
	Item   encryption.ItemID
	Key    encryption.KeyID
	Sealed []byte
}
