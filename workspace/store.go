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
	rbac.ApprovalTx
	encryption.KeyTx
	CheckTx

	// RoleAssignmentsExpired returns all that have ended.
	RoleAssignmentsExpired(now time.Time) ([]rbac.Assignment, error)

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
	// type or, if that is "", of all but [FolderType]. A limit of 0 means all.
	ItemEntries(ws encryption.ScopeID, itemType ItemType, after encryption.ItemID, limit int) ([]Entry, error)
	// ItemEntriesUnder returns rows in any state whose record is under the key.
	ItemEntriesUnder(ws encryption.ScopeID, key encryption.KeyID, limit int) ([]Entry, error)
	// ItemEntriesIn returns rows of any workspace in a state since before a time, or,
	// if ws is not "", rows of that one in any state since any time.
	ItemEntriesIn(ws encryption.ScopeID, state EntryState, before time.Time, limit int) ([]Entry, error)
	// ItemEntriesDeleted returns the workspace's deleted rows with ids above after,
	// by id.
	ItemEntriesDeleted(ws encryption.ScopeID, after encryption.ItemID, limit int) ([]Entry, error)
	// ItemEntriesInFolder returns the rows that lie in a folder itself and are not
	// deleted.
	ItemEntriesInFolder(f FolderID, limit int) ([]Entry, error)
	// UpdateItemEntry replaces an item's row if its revision is still the one given,
	// else it fails with [fault.EncryptionChanged]; and with [fault.ItemNameTaken].
	UpdateItemEntry(e Entry, revision uint64) error
	// DeleteItemEntry removes an item's row, its definition and its jobs.
	DeleteItemEntry(encryption.ItemID) error

	// ItemDefinition returns an item's, and false if it has none.
	ItemDefinition(encryption.ItemID) (DefinitionRow, bool, error)
	// PutItemDefinition adds or replaces it.
	PutItemDefinition(DefinitionRow) error

	LabelTx
	JobTx

	// Operation returns one, or [fault.OperationNotFound].
	Operation(OperationID) (Operation, error)
	// PutOperation adds one, or replaces when and how it ended.
	PutOperation(Operation) error
	// DeleteOperations removes those that began before a time.
	DeleteOperations(before time.Time) error
}

// A LabelTx is the part of a transaction that keeps labels and domains.
type LabelTx interface {
	// Label returns one, or [fault.NotFound].
	Label(LabelID) (Label, error)
	// TenantLabels returns the tenant's, by id.
	TenantLabels(identity.TenantID) ([]Label, error)
	// PutLabel adds or replaces one, or fails with [fault.Conflict] if its name is
	// taken.
	PutLabel(Label) error
	DeleteLabel(LabelID) error
	// LabelUsed reports whether anything carries the label.
	LabelUsed(LabelID) (bool, error)
	// ItemLabels returns the labels that the workspace's items carry, in any state.
	ItemLabels(encryption.ScopeID) ([]LabelID, error)

	// Domain returns one, or [fault.NotFound].
	Domain(DomainID) (Domain, error)
	// TenantDomains returns the tenant's, by id.
	TenantDomains(identity.TenantID) ([]Domain, error)
	// PutDomain adds or replaces one, or fails with [fault.Conflict] if its name is
	// taken.
	PutDomain(Domain) error
	DeleteDomain(DomainID) error
	// DomainWorkspaces returns the domain's live workspaces, by id.
	DomainWorkspaces(DomainID) ([]WorkspaceRow, error)
}

// A JobTx is the part of a transaction that keeps runs of items' jobs.
type JobTx interface {
	// ItemJob returns one, or [fault.NotFound].
	ItemJob(JobID) (Job, error)
	// ItemJobs returns an item's, by id, at most limit of those above after.
	ItemJobs(item encryption.ItemID, after JobID, limit int) ([]Job, error)
	// PutItemJob adds one, or replaces its status and end.
	PutItemJob(Job) error
	// JobLog returns a log's pieces from a number on, in order.
	JobLog(job JobID, from int64, limit int) ([]LogRow, error)
	// JobLogSize returns how many pieces a log has, and their sealed bytes.
	JobLogSize(JobID) (pieces, sealed int64, err error)
	// JobLogsUnder returns pieces of the item's logs that are not under the key.
	JobLogsUnder(item encryption.ItemID, other encryption.KeyID, limit int) ([]LogRow, error)
	// PutJobLog adds or replaces a piece.
	PutJobLog(LogRow) error
}

// A SettingRow is a tenant's switch that it has changed.
type SettingRow struct {
	Tenant    identity.TenantID
	Name      string
	Enabled   bool
	Value     int64 // of a setting that is more than a switch; 0 while it is off
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
	Domain    DomainID // "" for none
	Label     LabelID  // "" for none

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

// An Entry is an item or a folder as the database holds it: the name and the
// description are sealed, the type and the tree's shape are not.
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
	Folder    FolderID // that it lies in; "" for the workspace itself
	Label     LabelID  // "" for none
}

// A DefinitionRow is an item's definition as the database holds it.
type DefinitionRow struct {
	Item   encryption.ItemID
	Key    encryption.KeyID
	Sealed []byte
}
