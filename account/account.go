// Package account owns storage accounts: the second kind of encryption scope, with
// Azure Storage's rules. An account has a name that nobody else has, a place in
// Resource Manager's tree, two keys with which requests may be signed, and an
// encryption whose key source is the platform or a customer's vault.
//
// [Accounts] is the whole of it. Methods that take an identity.Caller authorise,
// audit and act, in that order; [Accounts.Find] resolves names for a domain that
// does so itself, and [Accounts.Verify] says whom a signature speaks for.
//
// # What it promises
//
// Changing an account's key source moves its data: when a change returns, every new
// write depends on the new keys, and what an account says of its encryption is what
// the rows of its scope key say. Account keys reach the disk sealed under the
// platform's root, bound to account, name and serial number, and leave this package
// only by [Accounts.Keys] and [Accounts.RegenerateKey].
//
// # What it leaves to others
//
// Keys of scopes and their state machine are package encryption's. Containers and
// all that lies in them are package lake's, which seals their names as it does all
// others. How a request is signed is the wire's.
package account

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Name is an account's name: 3 to 24 lower-case letters and digits, unlike any
// other account's on the platform.
type Name string

// ParseName checks a name
// (https://learn.microsoft.com/azure/storage/common/storage-account-overview#storage-account-name).
func ParseName(s string) (Name, error) {
	if len(s) < 3 || len(s) > 24 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", fault.New(fault.InvalidArgument, "A storage account's name has between 3 and 24 characters: lower-case letters and digits.").About(s)
	}
	return Name(s), nil
}

// A Subscription groups a tenant's accounts. The configuration says which there are.
type Subscription struct {
	ID     string // UUID
	Tenant identity.TenantID
	Name   string
}

// Scope returns the subscription's scope.
func (s Subscription) Scope() rbac.Scope { return rbac.Scope("/subscriptions/" + s.ID) }

// A Path is where an account lies in Resource Manager's tree. A resource group needs
// no making: it is there as long as an account is in it.
type Path struct {
	Subscription  string // UUID
	ResourceGroup string
	Name          Name
}

// Scope returns the account's resource id, at which roles are given.
func (p Path) Scope() rbac.Scope {
	return p.group() + rbac.Scope("/providers/Microsoft.Storage/storageAccounts/"+string(p.Name))
}

func (p Path) group() rbac.Scope {
	return rbac.Scope("/subscriptions/" + p.Subscription + "/resourceGroups/" + p.ResourceGroup)
}

// An IdentityType says which identities an account has.
type IdentityType string

// The types.
const (
	NoIdentity     IdentityType = ""
	SystemAssigned IdentityType = "SystemAssigned"
	UserAssigned   IdentityType = "UserAssigned"
	BothAssigned   IdentityType = "SystemAssigned,UserAssigned"
)

// A ManagedIdentity is what an account acts as towards a vault. Whatever its type,
// it is the platform's own principal that asks the vault: see [Account.Principal].
type ManagedIdentity struct {
	Type         IdentityType
	UserAssigned []string // resource ids
}

// An Account is a storage account.
type Account struct {
	Path
	ID       encryption.ScopeID
	Tenant   identity.TenantID
	Location string
	SKU      string
	Kind     string
	Tags     map[string]string
	Identity ManagedIdentity
	Created  time.Time
	Updated  time.Time

	// KeyIdentity is the user-assigned identity that the encryption names, "" for the
	// system-assigned one.
	KeyIdentity string
	// SharedKey says whether requests may be signed with the account's keys.
	SharedKey bool

	// Principal is who asks a vault on the account's behalf: the one to be granted the
	// use of a key.
	Principal  identity.PrincipalID
	Encryption Encryption

	MayChange bool // whether who asked for it may change it; of one that was asked for alone
}

// Encryption is what the rows of an account's scope key say.
type Encryption struct {
	Mode          encryption.Mode
	State         encryption.State
	Serving       encryption.Serving
	KeyIdentifier string    // versionless, "" if platform-managed
	KID           string    // the version that wraps now
	Rotated       time.Time // since when it does
}

// Encryptions changes the keys of scopes. [encryption.Scopes] does.
type Encryptions interface {
	Assign(ctx context.Context, caller identity.Caller, id encryption.ScopeID, keyIdentifier string) error
	Reset(ctx context.Context, caller identity.Caller, id encryption.ScopeID) error
}

// Keys makes the keys of new scopes. [encryption.Keyring] does.
type Keys interface {
	NewScope(encryption.ScopeID, identity.TenantID) (*encryption.ScopeKeys, error)
}

// A Root is the platform's root, as far as this package needs it.
type Root interface {
	Instance() string
	Derive(purpose string) *envelope.Key
}

// Config is what [New] needs. All fields are required but Reserved and Now.
type Config struct {
	Store         Store
	Root          Root
	Keys          Keys
	Encryption    Encryptions
	Audit         audit.Recorder
	Subscriptions []Subscription
	Principal     func(identity.TenantID) identity.PrincipalID // the platform's own, which vaults know; "" while that is not known

	Reserved []string // names that no account may have
	Now      func() time.Time
}

// Accounts is the domain. It is safe for concurrent use.
type Accounts struct {
	store      Store
	root       Root
	keys       Keys
	encryption Encryptions
	audit      audit.Recorder
	subs       []Subscription
	principal  func(identity.TenantID) identity.PrincipalID
	reserved   []string
	now        func() time.Time
}

// New returns the domain over a store.
func New(c Config) *Accounts {
	a := &Accounts{
		store: c.Store, root: c.Root, keys: c.Keys, encryption: c.Encryption, audit: c.Audit, subs: c.Subscriptions,
		principal: c.Principal, reserved: c.Reserved, now: c.Now,
	}
	if a.now == nil {
		a.now = time.Now
	}
	return a
}

// time returns the present as it is stored: in microseconds.
func (a *Accounts) time() time.Time { return a.now().UTC().Truncate(time.Microsecond) }

// Found is an account as another domain of the platform needs it.
type Found struct {
	ID       encryption.ScopeID
	Tenant   identity.TenantID
	Resource rbac.Scope
	Created  time.Time
}

// Find returns the account with the name, of whatever tenant, or
// [fault.ResourceNotFound].
func (a *Accounts) Find(ctx context.Context, name Name) (f Found, err error) {
	err = a.store.View(ctx, func(tx Tx) error {
		row, err := tx.AccountNamed(name)
		f = Found{row.ID, row.Tenant, row.Path.Scope(), row.Created}
		return err
	})
	return f, err
}

var groupPattern = regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`)

// subscription finds one of the caller's own tenant.
func (a *Accounts) subscription(c identity.Caller, id string) (Subscription, error) {
	i := slices.IndexFunc(a.subs, func(s Subscription) bool { return strings.EqualFold(s.ID, id) && s.Tenant == c.Tenant })
	if i < 0 {
		return Subscription{}, fault.New(fault.SubscriptionNotFound, "The subscription could not be found in the token's tenant.")
	}
	return a.subs[i], nil
}

func (a *Accounts) checkPath(c identity.Caller, p *Path) error {
	s, err := a.subscription(c, p.Subscription)
	if err != nil {
		return err
	}
	p.Subscription = s.ID
	if !groupPattern.MatchString(p.ResourceGroup) || p.ResourceGroup == "." || p.ResourceGroup == ".." {
		return fault.New(fault.InvalidArgument, "A resource group's name has 1 to 90 letters, digits, underscores, hyphens, periods and parentheses, and does not end with a period.")
	}
	_, err = ParseName(string(p.Name))
	return err
}
