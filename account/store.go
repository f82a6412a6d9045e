package account

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

	// AccountNamed returns the live account with the name, or
	// [fault.ResourceNotFound].
	AccountNamed(Name) (Row, error)
	// AccountsIn returns the subscription's live accounts, by name.
	AccountsIn(subscription string) ([]Row, error)
	// AccountsDeleted returns all that are deleted and still have a row.
	AccountsDeleted() ([]Row, error)
	// PutAccount adds an account or replaces it; it fails with [fault.Conflict] if a
	// live one has the name.
	PutAccount(Row) error
	// DeleteAccount removes an account's row and keys.
	DeleteAccount(encryption.ScopeID) error

	// AccountKeys returns the account's keys, by name.
	AccountKeys(encryption.ScopeID) ([]KeyRow, error)
	PutAccountKey(KeyRow) error

	// VersionsUsed and ItemsAfter are [encryption.Tx]'s.
	VersionsUsed(encryption.ScopeID) ([]encryption.VersionUse, error)
	ItemsAfter(s encryption.ScopeID, after encryption.ItemID, limit int) ([]encryption.Item, error)
}

// A Row is an account as the database holds it.
type Row struct {
	Path
	ID          encryption.ScopeID
	Tenant      identity.TenantID
	Deleted     bool // what lay in it is being shredded, and its name is free
	Location    string
	SKU         string
	Kind        string
	Tags        map[string]string
	Identity    ManagedIdentity
	KeyIdentity string
	SharedKey   bool
	BlobService BlobService
	Created     time.Time
	Updated     time.Time
}

// A KeyRow is one of an account's two keys as the database holds it.
type KeyRow struct {
	Account encryption.ScopeID
	Name    string // "key1" or "key2"
	Serial  int64  // counts how often it was made
	Sealed  []byte
	Created time.Time
}
