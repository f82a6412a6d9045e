// Package workspace owns what a platform's tenants organise their data in:
// settings of tenants, workspaces, role assignments in them, items and their
// definitions.
//
// [Workspaces] is the whole of it. Methods that take an identity.Caller
// authorise, audit and act, in that order; [Workspaces.FindWorkspace],
// [Workspaces.FindItem] and [Workspaces.ItemsOf] resolve names for a domain that
// does so itself.
//
// # What it promises
//
// At rest a workspace shows its display name, capacity and times, and an item its
// id, type and times. Item names, descriptions and definitions are sealed under
// the scope's and the item's keys, so that nobody lists them without the right to
// use those. Deleting an item or a workspace works by id, without any key, and
// after a hard deletion nothing opens the item's content again. Names compare
// without regard to case (Unicode simple folding); different normal forms of the
// same text are different names.
//
// While the scope's names are being re-sealed every item is found under its name
// and no two items can take the same one; a crash at any point resumes.
//
// # What it leaves to others
//
// Keys, leases and the state machine of encryption are package encryption's, whose
// [encryption.Content] this package implements for names, descriptions and
// definitions. The files below an item are package lake's, which also removes what
// lies under shredded keys.
package workspace

import (
	"context"
	"sync"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A CapacityID is the id of a capacity, a lower-case UUID.
type CapacityID string

// A Capacity is what workspaces run on. There is one, and every workspace has it.
type Capacity struct {
	ID          CapacityID
	DisplayName string
	SKU         string
	Region      string
	State       string
}

// DefaultCapacity is the capacity that every workspace has.
var DefaultCapacity = Capacity{
	ID:          "6e5b5bb4-93e5-4b64-9a6c-5d1f1b0c2d01",
	DisplayName: "Default",
	SKU:         "F64",
	Region:      "West Europe",
	State:       "Active",
}

// Kind is the type of every workspace.
const Kind = "Workspace"

// A Workspace is a scope with a name, in which items live.
type Workspace struct {
	ID          encryption.ScopeID
	Tenant      identity.TenantID
	DisplayName string
	Description string
	Capacity    CapacityID
	Created     time.Time

	// Unreadable is why the description could not be opened, "" if it was or
	// there is none. All else is known without a key.
	Unreadable fault.Reason
}

// An Item is a typed thing in a workspace.
type Item struct {
	ID          encryption.ItemID
	Workspace   encryption.ScopeID
	Type        ItemType
	DisplayName string
	Description string
	Created     time.Time
	Changed     time.Time
}

// Keys gives the keys of scopes. An encryption.Keyring is one.
type Keys interface {
	// Use returns the right to use the scope's keys for one request.
	Use(context.Context, encryption.ScopeID) (*encryption.Use, error)
	// NewScope makes the keys of a new, platform-managed scope, for the
	// transaction that creates it.
	NewScope(encryption.ScopeID, identity.TenantID) (*encryption.ScopeKeys, error)
}

// Config is what [New] needs. All fields are required but Roles, Retention and
// Now.
type Config struct {
	Store Store
	Keys  Keys
	Audit audit.Recorder

	Roles     rbac.Definitions // rbac.PlatformRoles if not set
	Retention time.Duration    // for which soft-deleted items are kept; 7 days if 0
	Now       func() time.Time
}

// Workspaces is the domain. It is safe for concurrent use.
type Workspaces struct {
	store     Store
	keys      Keys
	audit     audit.Recorder
	roles     rbac.Definitions
	retention time.Duration
	now       func() time.Time
	batch     int // entries that one transaction re-seals

	folders folders
	lists   sync.Map // encryption.ScopeID → List, as last read; verified in each transaction
}

var _ encryption.Content = (*Workspaces)(nil)

// defaultRetention is Fabric's for recoverable items:
// https://learn.microsoft.com/fabric/fundamentals/item-recovery
const defaultRetention = 7 * 24 * time.Hour

// New returns the domain over a store.
func New(c Config) *Workspaces {
	w := &Workspaces{
		store: c.Store, keys: c.Keys, audit: c.Audit,
		roles: c.Roles, retention: c.Retention, now: c.Now, batch: reencryptBatch,
	}
	if len(w.roles.All()) == 0 {
		w.roles = rbac.PlatformRoles
	}
	if w.retention == 0 {
		w.retention = defaultRetention
	}
	if w.now == nil {
		w.now = time.Now
	}
	return w
}

// time returns the present as it is stored: in microseconds.
func (w *Workspaces) time() time.Time { return w.now().UTC().Truncate(time.Microsecond) }

// Capacities returns the capacities that the caller may see.
func (w *Workspaces) Capacities(ctx context.Context, c identity.Caller) ([]Capacity, error) {
	var seen []Capacity
	err := w.read(ctx, c, "ListCapacities", "/capacities", func(tx Tx) error {
		_, ok, err := rbac.Check(tx, w.roles, c, rbac.CapacitiesRead, false, "/")
		if ok {
			seen = []Capacity{DefaultCapacity}
		}
		return err
	})
	return seen, err
}
