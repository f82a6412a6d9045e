// Package workspace owns what a platform's tenants organise their data in:
// settings, labels and domains of tenants, capacities, workspaces, role assignments
// in them, folders, items, their definitions and the runs of their jobs.
//
// [Workspaces] is the whole of it. Methods that take an identity.Caller
// authorise, audit and act, in that order; [Workspaces.FindWorkspace],
// [Workspaces.FindItem] and [Workspaces.ItemsOf] resolve names for a domain that
// does so itself.
//
// # What it promises
//
// At rest a workspace shows its display name, capacity and times, and an item its
// id, type and times. Names of items and folders,
// descriptions, definitions and job logs are sealed under the scope's and the item's keys, so that nobody lists them without the right to
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

// Kind is the type of every workspace.
const Kind = "Workspace"

// A Workspace is a scope with a name, in which items live.
type Workspace struct {
	ID          encryption.ScopeID
	Tenant      identity.TenantID
	DisplayName string
	Description string
	Capacity    CapacityID
	Domain      DomainID // "" for none
	Label       LabelID  // "" for none
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
	Folder      FolderID // "" for the workspace itself
	Label       LabelID  // "" for none
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
	// Forget drops an item's keys from memory, after they were shredded.
	Forget(encryption.ScopeID, encryption.ItemID)
}

// Config is what [New] needs. Store, Keys and Audit are required.
type Config struct {
	Store Store
	Keys  Keys
	Audit audit.Recorder
	Log   Log // for certificates; nil for none

	Roles     rbac.Definitions // rbac.PlatformRoles if not set
	Retention time.Duration    // for which soft-deleted items are kept; 7 days if 0
	Now       func() time.Time

	// Capacities are what workspaces can run on; a workspace that names none gets the
	// first. [DefaultCapacity] alone if there are none.
	Capacities []Capacity
	// Regions are those in which a workspace can be under a customer's key;
	// [SampleRegions] if there are none.
	Regions []string
	// Industry are the item types of industry solutions, all supported under a
	// customer's key; [IndustrySolutions] if nil. Covered are further item types that
	// the operator vouches for there.
	Industry, Covered []ItemType
}

// Workspaces is the domain. It is safe for concurrent use.
type Workspaces struct {
	store     Store
	keys      Keys
	audit     audit.Recorder
	log       Log
	roles     rbac.Definitions
	retention time.Duration
	now       func() time.Time
	batch     int // entries that one transaction re-seals

	capacities []Capacity
	regions    []string
	types      typeSet

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
		store: c.Store, keys: c.Keys, audit: c.Audit, log: c.Log,
		roles: c.Roles, retention: c.Retention, now: c.Now, batch: reencryptBatch,
	}
	if w.capacities, w.regions = c.Capacities, c.Regions; len(w.capacities) == 0 {
		w.capacities = []Capacity{DefaultCapacity}
	}
	if len(w.regions) == 0 {
		w.regions = SampleRegions
	}
	if c.Industry == nil {
		c.Industry = IndustrySolutions
	}
	w.types = newTypeSet(c.Industry, c.Covered)
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
