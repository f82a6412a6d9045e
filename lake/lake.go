// Package lake owns the namespace and the content of items: folders, files,
// blocks, appends, their names, and every byte below them, sealed.
//
// A container is a workspace; its first level are items, which the workspace's
// owner manages and this package only looks up. In a storage account it is an item
// itself, which clients make and remove. Below an item everything is
// folders and files. [Lake] offers them in the semantics that the Blob and the
// ADLS Gen2 wire protocols share, so that both see one file.
//
// # What it promises
//
// Content, names, metadata, headers and block ids reach the disk sealed, and
// nothing else of them does. A write is acknowledged once it is durable, and is
// visible whole or not at all. A folder's or file's rename within an item is one
// row. Reads check the key lease before each chunk that leaves, and a write
// checks it again in the transaction that publishes it. Bytes that are not what
// was stored are [fault.Integrity], never an early end.
//
// # What it leaves to others
//
// Keys and leases are package encryption's; workspaces and items are the
// [Catalog]'s; where extents lie is the [Objects]'. Status codes, header names
// and listings' formats are the wire adapters'.
package lake

import (
	"context"
	"io"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Keys gives the right to use a scope's keys. [encryption.Keyring] does.
type Keys interface {
	Use(ctx context.Context, scope encryption.ScopeID) (*encryption.Use, error)
	// UseAsOf is Use for who has just read the scope's row.
	UseAsOf(ctx context.Context, row encryption.Scope) (*encryption.Use, error)
	// Forget drops the keys of an item that was shredded.
	Forget(scope encryption.ScopeID, item encryption.ItemID)
}

// A Catalog knows workspaces and their items, and storage accounts.
type Catalog interface {
	// Workspaces returns the tenant's workspaces.
	Workspaces(ctx context.Context, tenant identity.TenantID) ([]Container, error)
	// FindWorkspace returns the tenant's workspace by name or id, or
	// [fault.WorkspaceNotFound]. A workspace of another tenant is not found.
	FindWorkspace(ctx context.Context, tenant identity.TenantID, nameOrID string) (Container, error)
	// FindItem returns an item by a path's segment, "Name.Type" or its id, or
	// [fault.ItemNotFound].
	FindItem(ctx context.Context, u *encryption.Use, ws encryption.ScopeID, segment string) (Item, error)
	// ItemsOf returns the workspace's items.
	ItemsOf(ctx context.Context, u *encryption.Use, ws encryption.ScopeID) ([]Item, error)
	// FindAccount returns the storage account with the name, of whatever tenant, or
	// [fault.ResourceNotFound].
	FindAccount(ctx context.Context, name string) (Container, error)
}

// A Container is a workspace, as the wire protocols call it, or a storage account
// or what that holds.
type Container struct {
	ID       encryption.ScopeID
	Tenant   identity.TenantID
	Name     string
	Modified time.Time

	Path rbac.Scope // at which rights are given, if that is not /workspaces/ID
}

func (c Container) path() rbac.Scope {
	if c.Path != "" {
		return c.Path
	}
	return encryption.WorkspacePath(c.ID)
}

// An Item is a typed thing in a workspace.
type Item struct {
	ID   encryption.ItemID
	Type string // "Lakehouse"
	Name string // display name, without the type
}

// Segment returns the item's name in a path: "Name.Type".
func (i Item) Segment() string { return i.Name + "." + i.Type }

// Objects keeps extents that are too large for a row: immutable byte strings by
// id. Package objstore says what an implementation promises.
type Objects interface {
	// Create starts an object. It becomes visible, whole and durable, by Commit.
	Create(ctx context.Context, id string) (ObjectWriter, error)
	// Open opens an object, or fails with [fault.NotFound].
	Open(ctx context.Context, id string) (Object, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, id string) error
	// List calls each with every object's id and time of change, in no order,
	// until it returns an error.
	List(ctx context.Context, each func(id string, modified time.Time) error) error
}

// An ObjectWriter writes one object. Exactly one of Commit and Abort is called
// last; Abort after Commit does nothing.
type ObjectWriter interface {
	io.Writer
	Commit() error
	Abort()
}

// An Object is an open object; it stays readable after its deletion.
type Object interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Config is what a [Lake] works with. All fields but the last four are
// required.
type Config struct {
	Store    Store
	Objects  Objects
	Keys     Keys
	Catalog  Catalog
	Recorder audit.Recorder

	Now           func() time.Time // time.Now if nil
	BackupHorizon time.Duration    // how long deleted extents are kept; 7 days if 0
	Shared        bool             // other processes use the same database
	Delegation    *envelope.Key    // user delegation keys are derived from it; nil: there are none
}

// A Lake is the namespace and content of all items of a platform. It is safe for
// concurrent use.
type Lake struct {
	store    Store
	objects  Objects
	keys     Keys
	catalog  Catalog
	recorder audit.Recorder
	now      func() time.Time
	horizon  time.Duration

	shared     bool
	delegation *envelope.Key

	folders folderCache
	orders  orderCache
	arrives arrivals

	objectsSwept time.Time // when all objects were last listed; Sweep's alone
}

const defaultHorizon = 7 * 24 * time.Hour

// New returns a Lake.
func New(c Config) *Lake {
	l := &Lake{
		store: c.Store, objects: c.Objects, keys: c.Keys, catalog: c.Catalog, recorder: c.Recorder,
		now: c.Now, horizon: c.BackupHorizon, shared: c.Shared, delegation: c.Delegation,
		orders: orderCache{making: make(chan struct{}, 1)},
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.horizon == 0 {
		l.horizon = defaultHorizon
	}
	return l
}

// Forget drops what is kept in memory of a scope's keys. Call it when the scope
// is revoked; what is forgotten too early is derived again.
func (l *Lake) Forget(scope encryption.ScopeID) {
	l.folders.forget(scope)
	l.orders.forget(scope)
}
