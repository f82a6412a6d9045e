// Package vault is the custodian's domain: vaults, the keys in them and who may
// use those, in Azure Key Vault's shape.
//
// It owns the life of vaults and keys (soft delete, purge protection, versions),
// the validity matrix that decides which operation a key in some state still
// does, the role assignments below its subscriptions, and the feed on which
// every change that can revoke or restore shows at once.
//
// # What it promises
//
// Every method that takes a [identity.Caller] authorises, audits and acts, in
// that order. A use of a private key is decided again in the transaction that records
// it if anything about the vault has changed since its state was read: who asks after
// a revocation was acknowledged is refused, and the record is durable before the
// result leaves. A caller of
// another tenant is refused like one without rights.
//
// It does not know what its keys protect, nor where private keys live: [Keys]
// does. It knows no HTTP and no host name; a kid is the wire adapter's to build.
package vault

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// An ID is the immutable id of a vault, a UUID. What is sealed for a vault is
// bound to it; a purged vault's name may come back, its id does not.
type ID string

// A Name is a vault's name: unique in the whole instance, and a DNS label. Case
// does not matter; it is kept in lower case.
type Name string

// Retention of soft-deleted vaults and keys, in days
// (learn.microsoft.com/azure/key-vault/general/soft-delete-overview).
const (
	MinRetentionDays     = 7
	MaxRetentionDays     = 90
	DefaultRetentionDays = 90
)

// A Vault holds keys.
type Vault struct {
	ID            ID
	Flavour       Flavour
	Name          Name
	Tenant        identity.TenantID
	Subscription  string // UUID
	ResourceGroup string
	Location      string

	RetentionDays   int // of soft-deleted keys and of the vault; fixed at creation
	PurgeProtection bool
	RBAC            bool // enableRbacAuthorization; otherwise access policies give rights to keys
	AccessPolicies  []AccessPolicy
	Network         Network
	TrustedServices []string               // object or application ids; see [Network]
	RequireApproval bool                   // deleting, purging and weakening need a second person
	Admins          []identity.PrincipalID // a managed HSM's first administrators, as given when it was made
	Activated       time.Time              // of a managed HSM: since when it does key operations; see [Vaults.TakeSecurityDomain]
	SeparateDuties  bool                   // nobody holds roles here that must lie apart; see [rbac.Duties]
	Tags            map[string]string

	Created time.Time
	Updated time.Time
	Deleted time.Time // zero unless soft-deleted
	PurgeAt time.Time // zero unless soft-deleted
}

// Scope returns the scope at which roles for the whole vault are given.
func (v Vault) Scope() rbac.Scope {
	return rbac.Scope(fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/%s/%s",
		v.Subscription, v.ResourceGroup, v.Flavour.ResourceType(), v.Name))
}

// KeyScope returns the scope at which roles for one key are given.
func (v Vault) KeyScope(k KeyName) rbac.Scope {
	return v.Scope() + "/keys/" + rbac.Scope(k)
}

// RecoveryLevel returns what a client learns of how a deleted key can come back
// (reference of attributes.recoveryLevel in the Key Vault REST API).
func (v Vault) RecoveryLevel() string {
	level := "Recoverable"
	if v.RetentionDays < MaxRetentionDays {
		level = "CustomizedRecoverable"
	}
	if !v.PurgeProtection {
		level += "+Purgeable"
	}
	return level
}

func (v Vault) live() bool { return v.Deleted.IsZero() }

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{1,22}[a-z0-9]$`)

// ParseName checks a vault's name: 3 to 24 letters, digits and single hyphens,
// beginning with a letter and not ending with a hyphen.
func ParseName(s string) (Name, error) {
	n := strings.ToLower(s)
	if !namePattern.MatchString(n) || strings.Contains(n, "--") {
		return "", fault.New(fault.InvalidArgument, "A vault's name has 3 to 24 letters, digits and single hyphens; it begins with a letter and does not end with a hyphen.")
	}
	return Name(n), nil
}

// Config is what [New] needs. All of it is required but HSM, Duties, Limits, Now, Backups
// and what concerns security domains.
type Config struct {
	Store Store
	Audit audit.Recorder
	// Witness is called after each act that changed a key, a vault or a role was
	// committed, and before it is acknowledged: it remembers outside the database that
	// the database holds the act, so that no older one takes its place unnoticed. What
	// it cannot remember it must try again by itself; nil if nobody does.
	Witness func(context.Context)
	Keys    Keys // of the types without -HSM
	HSM     Keys // of the others; nil if there is no HSM. Software may stand in, and its platform then shows
	Roles   rbac.Definitions
	Now     func() time.Time // time.Now if nil

	// Duties are what a vault that asks for it keeps apart; [rbac.VaultDuties] if nil.
	Duties rbac.Duties
	Limits *Limits // [AzureLimits] if nil

	// Clients are services, by the object id or the application id of each, that may reach
	// keys only over connections with a certificate, by the name in it.
	Clients map[string]string

	Instance string        // that backups of keys are bound to
	Backups  *envelope.Key // seals them; nil if there are none
	Domains  *envelope.Key // seals the managed HSMs' security domains; nil if there are none
	Cursors  *envelope.Key // seals the cursors of feeds; nil if no other process is to take them

	// ActivateHSMs makes managed HSMs that do key operations at once, with no security
	// domain taken out. It is for development.
	ActivateHSMs bool
}

// Vaults is the service. It is safe for concurrent use.
type Vaults struct {
	store  Store
	audit  audit.Recorder
	tells  func(context.Context) // the witness; never nil
	keys   Keys
	hsm    Keys
	roles  rbac.Definitions
	duties rbac.Duties
	now    func() time.Time
	feed   *feed
	load   *load

	memory   *memory
	register *register

	instance string
	backups  *envelope.Key
	domains  *envelope.Key
	clients  map[string]string // the name in its certificate, by the id of a service
	activate bool              // managed HSMs, when they are made
}

// New returns the service over what c names.
func New(c Config) *Vaults {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Witness == nil {
		c.Witness = func(context.Context) {}
	}
	if c.Limits == nil {
		c.Limits = &AzureLimits
	}
	if c.Duties == nil {
		c.Duties = rbac.VaultDuties
	}
	clients := map[string]string{}
	for id, name := range c.Clients {
		clients[strings.ToLower(id)] = name
	}
	return &Vaults{
		store: c.Store, audit: c.Audit, tells: c.Witness, keys: c.Keys, hsm: c.HSM, roles: c.Roles, duties: c.Duties, now: c.Now,
		feed: newFeed(c.Cursors), load: newLoad(*c.Limits, c.Now), memory: newMemory(), register: &register{store: c.Store},
		instance: c.Instance, backups: c.Backups, domains: c.Domains, activate: c.ActivateHSMs, clients: clients,
	}
}

// Close ends the long polls of [Vaults.Changes] early, for a server that drains.
func (v *Vaults) Close() { v.feed.close() }

func (v *Vaults) clock() time.Time { return v.now().UTC().Truncate(time.Microsecond) }

// Limits of tags (Azure subscription and service limits, Key Vault).
const (
	maxTags      = 15
	maxTagLength = 256
)

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return fault.New(fault.InvalidArgument, fmt.Sprintf("At most %d tags are allowed.", maxTags))
	}
	for k, t := range tags {
		if k == "" || len(k) > maxTagLength || len(t) > maxTagLength {
			return fault.New(fault.InvalidArgument, fmt.Sprintf("A tag's name and value have at most %d characters, and the name is not empty.", maxTagLength))
		}
	}
	return nil
}

func cloneTags(tags map[string]string) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	return maps.Clone(tags)
}
