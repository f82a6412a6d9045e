// Package encryption owns the keys of scopes and what becomes of them: two-share
// scope keys, the DEKs and namespace keys below them, and the state machine of
// assign, rotate, revoke, restore and reset.
//
// [Keyring] is the way to use keys: it opens a scope's key under a key lease,
// renews the lease by asking the vault again, follows new key versions, and
// drops everything at once when the vault says no. [Scopes] is the state
// machine: it assigns and resets keys, and brings every item under the keys that
// it should be under, resumably, one row a step.
//
// # What it promises
//
// No scope key is used without a key lease. A vault that says no ends the lease
// at once and latches the scope as revoked; a vault that does not answer lets the
// lease run out and no longer. A failure never falls back from customer-managed
// to platform-managed. At each instant every live key can be opened through a
// wrap that was unwrapped and compared before the one it replaces was dropped.
//
// # What it leaves to others
//
// How to talk to a vault is package kek's, the sealed format is package
// envelope's, and what lies under the keys is the business of the domains that
// implement [Content]. The memory of a live process is not protected from its
// own host.
package encryption

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/rbac"
)

// A ScopeID is the id of what one KEK protects: a workspace's or a storage
// account's, a UUID.
type ScopeID string

// An ItemID is the id of a thing in a scope that has keys of its own, a UUID. A
// scope's own names (those of its items) have keys too, as an item with the
// scope's id: see [ScopeItem].
type ItemID string

// ScopeItem returns the item that stands for the scope's own names.
func ScopeItem(s ScopeID) ItemID { return ItemID(s) }

// A KeyID is the id of a DEK or namespace key: 32 hexadecimal digits, random.
// Everything that the key sealed names it.
type KeyID string

// NewKeyID returns a random key id.
func NewKeyID() KeyID {
	var b [16]byte
	rand.Read(b[:])
	return KeyID(hex.EncodeToString(b[:]))
}

// A Purpose says what an item's key is for.
type Purpose string

// The purposes.
const (
	ContentKey Purpose = "content" // a DEK: seals extents, manifests, definitions, user metadata
	NamesKey   Purpose = "names"   // a namespace key: listing records and look-ups
)

// A Mode says who holds a scope's customer share.
type Mode string

// The modes.
const (
	PlatformManaged Mode = "platform-managed" // the platform's root holds it
	CustomerManaged Mode = "customer-managed" // only the customer's vault can unwrap it
)

// A State is where a generation of a scope key is in its life. It is bound into
// the row that the root seals.
type State string

// The states of a generation. Revoked and Unreachable come and go beside them,
// and are not part of the sealed row.
const (
	Enabling  State = "Enabling"  // customer-managed, and items are still being re-encrypted
	Active    State = "Active"    // customer-managed, all items under it
	Disabling State = "Disabling" // platform-managed again, and items are still being re-sealed
	Disabled  State = "Disabled"  // platform-managed, all items under it
)

// Serving says whether a scope's keys can be used now.
type Serving string

// The ways of serving.
const (
	Serves      Serving = ""            // as far as is known
	Revoked     Serving = "Revoked"     // the vault said no
	Unreachable Serving = "Unreachable" // the vault did not answer, and the lease is over
)

// A Scope is a scope's row: what is known of it without any key.
type Scope struct {
	ID      ScopeID
	Tenant  identity.TenantID
	Sealing int64 // generation under which new keys are sealed
	Epoch   int64 // counts every change of a generation row, across generations

	Serving      Serving
	Reason       fault.Reason // why it is revoked or unreachable
	Detail       string       // the same for people: what to re-enable, say
	ServingSince time.Time
	Serial       int64 // counts revocations

	Bound       time.Duration // the most that a lease may be, by the workspace's admin; 0 if he has not said
	KeyBound    time.Duration // the same by the key's owner, in a tag of the key
	TenantBound time.Duration // the same by the tenant's administrator, in [SettingBound]; it is read, and not stored, with the scope
	KeyLost     time.Time     // since when the workspace's admin says that the key is lost; zero if it is not
	Findings    Findings      // what is wrong with the key, though it serves
	Verified    time.Time     // when that was last looked at

	Path rbac.Scope // where rights on it are given, if that is not /workspaces/ID
}

// Resource returns the path at which rights on the scope are given, and under which
// audit entries name it.
func (s Scope) Resource() rbac.Scope {
	if s.Path != "" {
		return s.Path
	}
	return WorkspacePath(s.ID)
}

// WorkspacePath returns the path of a scope that is a workspace.
func WorkspacePath(id ScopeID) rbac.Scope { return rbac.Scope("/workspaces/" + string(id)) }

// A Generation is one generation of a scope key, as the database holds it.
type Generation struct {
	Scope         ScopeID
	Number        int64
	Mode          Mode
	State         State
	RootID        string
	Algorithm     kek.Algorithm // "" if platform-managed
	KeyIdentifier string        // exactly as it was given; "" if platform-managed
	KID           kek.KID       // the key version that wraps the share; "" if platform-managed
	Epoch         int64         // the scope's epoch when this row was written
	Wrapped       []byte        // the customer share under the KEK; nil if platform-managed
	Sealed        []byte        // the platform share and the commitment under the root, and the customer share if platform-managed
	ReSealOnly    bool          // items are re-sealed and not re-encrypted
	Created       time.Time
}

// A Link is an older generation's scope key, sealed under a newer one's. It
// lives until no item's key is left under the older.
type Link struct {
	Scope      ScopeID
	Generation int64 // the older
	Under      int64 // the newer
	Sealed     []byte

	KeyIdentifier string // of the older generation; "" if it was platform-managed
}

// A KeyState says whether an item's key still seals.
type KeyState string

// The states of an item's key.
const (
	Current  KeyState = "current"  // seals what is written now
	Retiring KeyState = "retiring" // only opens what is not yet re-encrypted
	Shredded KeyState = "shredded" // its bytes are gone for good
)

// A KeyRow is an item's key as the database holds it.
type KeyRow struct {
	ID         KeyID
	Scope      ScopeID
	Item       ItemID
	Purpose    Purpose
	Generation int64 // the scope key generation that seals it
	State      KeyState
	Sealed     []byte // nil once shredded
	Created    time.Time
}

// An Item is what this package knows of an item: its type, how far it is, and
// who works on it.
type Item struct {
	ID         ItemID
	Scope      ScopeID
	Type       string // the protocol's item type; "" for the scope's own names
	Generation int64  // everything of the item is under this generation

	Failed   bool
	Reason   fault.Reason // why the last attempt failed
	Detail   string
	Progress Progress

	Fence   int64 // fencing token of whoever works on it
	Owner   string
	Until   time.Time // when the work's lease ends
	Attempt int64
	NextRun time.Time
}

// Progress says how far re-encryption is. Bytes are of content, not sealed.
type Progress struct {
	Files, TotalFiles int64
	Bytes, TotalBytes int64
}
