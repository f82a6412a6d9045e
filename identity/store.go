package identity

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/kluis-io/kluis/audit"
)

// A Store keeps the directory.
type Store interface {
	// View runs fn on one snapshot. fn writes nothing.
	View(ctx context.Context, fn func(Tx) error) error
	// Update runs fn in one transaction, durable when Update returns nil. fn is
	// short, and calls neither View nor Update.
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is one transaction of a [Store].
type Tx interface {
	audit.Appender

	// DirectoryTenant returns one, or [fault.TenantNotFound].
	DirectoryTenant(TenantID) (Tenant, error)
	// PutDirectoryTenant adds one, or fails with [fault.Conflict] if it exists.
	PutDirectoryTenant(Tenant) error

	// Principal returns one of a tenant, or [fault.PrincipalNotFound].
	Principal(TenantID, PrincipalID) (Principal, error)
	// Principals returns the principals of a tenant that the filter selects, in
	// order of their ids, at most limit of them.
	Principals(t TenantID, f Filter, limit int) ([]Principal, error)
	// PutPrincipal adds one, or fails with [fault.PrincipalExists] if the id, or the
	// application or the user's name in the tenant, is taken.
	PutPrincipal(Principal) error
	// SetPrincipal changes the name, state and generation of one.
	SetPrincipal(Principal) error
	// PrincipalChanges returns a number that grows whenever a principal changes.
	PrincipalChanges() (int64, error)
	// PrincipalGenerations returns the generation of every principal that is
	// enabled.
	PrincipalGenerations() (map[TenantID]map[PrincipalID]int64, error)

	// ClientSecrets returns those of a principal.
	ClientSecrets(TenantID, PrincipalID) ([]StoredSecret, error)
	// PutClientSecret adds one.
	PutClientSecret(StoredSecret) error
	// DeleteClientSecret removes one, or fails with [fault.NotFound].
	DeleteClientSecret(t TenantID, p PrincipalID, id string) error
	// DeleteClientSecrets removes those of a principal.
	DeleteClientSecrets(TenantID, PrincipalID) error

	// Password returns a user's, or a zero one.
	Password(TenantID, PrincipalID) (StoredPassword, error)
	// SetPassword gives a user its password.
	SetPassword(StoredPassword) error

	// SignIn returns one, or [fault.NotFound].
	SignIn(t TenantID, id string) (StoredSignIn, error)
	// PutSignIn adds one.
	PutSignIn(StoredSignIn) error
	// SetSignIn changes the serial number of one and the time of its making.
	SetSignIn(StoredSignIn) error
	// DeleteSignIn removes one; one that is not there is no error.
	DeleteSignIn(t TenantID, id string) error
	// DeleteSignIns removes those that expired before t.
	DeleteSignIns(t time.Time) error

	// Throttle returns when an allowance is whole again, the zero time if it is.
	Throttle(key [sha256.Size]byte) (whole time.Time, err error)
	// PutThrottle adds or replaces one.
	PutThrottle(Throttle) error
	// DeleteThrottles removes those that are whole by t.
	DeleteThrottles(t time.Time) error

	// DirectoryRoleHolders returns who holds the role in the tenant.
	DirectoryRoleHolders(TenantID, DirectoryRole) ([]PrincipalID, error)
	// PutDirectoryRole adds a holder; one that holds it already is no error.
	PutDirectoryRole(TenantID, PrincipalID, DirectoryRole) error
	// DeleteDirectoryRole removes a holder; one that does not hold it is no error.
	DeleteDirectoryRole(TenantID, PrincipalID, DirectoryRole) error

	// SigningKeys returns all, the newest first.
	SigningKeys() ([]SealedSigningKey, error)
	// PutSigningKey adds one.
	PutSigningKey(SealedSigningKey) error
	// RetireSigningKeys gives those that have no end yet their end, but for the one
	// with the id except.
	RetireSigningKeys(except string, end time.Time) error
	// DeleteSigningKeys removes those that ended before t.
	DeleteSigningKeys(t time.Time) error
}
