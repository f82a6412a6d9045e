// Package identity says who a caller is: the directory of principals, the
// embedded issuer of tokens, and the validation of tokens from any configured
// issuer.
//
// A party trusts the issuers in its own configuration and nobody else's: an
// issuer speaks for one tenant, its keys come from where the configuration says,
// and what a token's header asks for is not followed. A principal that is
// disabled, or whose secrets are reset, loses its tokens at once where the
// directory is this one, and at the token's end elsewhere.
//
// The directory keeps no secret that can be used: of client secrets and passwords a
// hash, of its signing keys a sealed form, of codes and refresh tokens nothing. What a principal may do is not its business
// (that is package rbac, in each party's own database), with one exception: who
// may manage the directory itself.
//
// It leaves to its caller the transport, and to the wiring to say, through
// [Roles], which rights a principal holds at the parties.
package identity

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

// A Tenant is a customer's directory.
type Tenant struct {
	ID      TenantID
	Name    string // for people
	Created time.Time
}

// A Principal is somebody who can be given rights: an application's service
// principal, or a user.
type Principal struct {
	ID          PrincipalID
	Tenant      TenantID
	Type        PrincipalType
	Application string // client id, a lower-case UUID, unique in the tenant; "" of users
	UserName    string // that a user signs in with, unique in the tenant; "" of others
	Name        string // for people; 1 to 256 characters
	Enabled     bool
	// Generation counts the events that void all earlier tokens: disabling, and
	// the reset or removal of secrets.
	Generation int64
	Created    time.Time
	CreatedBy  PrincipalID
}

// A DirectoryRole lets a principal manage the directory. It says nothing about
// vaults, workspaces or data.
type DirectoryRole string

// DirectoryAdministrator creates, disables and enables principals, and resets
// their secrets.
const DirectoryAdministrator DirectoryRole = "Directory Administrator"

// FabricPlatformCMK is the application by which Fabric reaches its customers'
// keys. A tenant's administrator gives it a principal in the tenant's directory.
const FabricPlatformCMK = "61d6811f-7544-4e75-a1e6-1c59c0383311"

// wellKnown names applications that have no name of the tenant's making.
var wellKnown = map[string]string{FabricPlatformCMK: "Fabric Platform CMK"}

// Roles tells what a principal holds outside of the directory.
type Roles interface {
	// Covers reports whether the caller holds every role that the principal holds:
	// the same role, at the same scope or above it.
	Covers(ctx context.Context, caller Caller, principal PrincipalID) (bool, error)
}

// NoRoles is a [Roles] of a directory whose principals nobody gives rights.
type NoRoles struct{}

// Covers always reports true.
func (NoRoles) Covers(context.Context, Caller, PrincipalID) (bool, error) { return true, nil }

// A Directory manages tenants and principals. It is safe for concurrent use and
// starts no goroutine.
type Directory struct {
	store    Store
	recorder audit.Recorder
	roles    Roles
	now      func() time.Time
	standing standing
}

// NewDirectory returns the directory in a store. now may be nil.
func NewDirectory(store Store, recorder audit.Recorder, roles Roles, now func() time.Time) *Directory {
	if now == nil {
		now = time.Now
	}
	return &Directory{store: store, recorder: recorder, roles: roles, now: now}
}

func (d *Directory) time() time.Time { return d.now().UTC().Truncate(time.Microsecond) }

// Bootstrap makes a tenant with its first administrator, whose secret it returns.
// It is for the host's administrator at set-up, needs no caller for that reason,
// and is refused for a tenant that exists.
func (d *Directory) Bootstrap(ctx context.Context, tenant TenantID, tenantName, adminName string) (Principal, Secret, error) {
	if id, err := ParseTenantID(string(tenant)); err != nil || id != tenant {
		return Principal{}, Secret{}, fault.New(fault.InvalidArgument, "The tenant id is not a lower-case UUID.")
	}
	admin, err := d.draft(Caller{Tenant: tenant}, "", adminName)
	if err != nil {
		return Principal{}, Secret{}, err
	}
	secret := d.newSecret(admin, "", 0)
	entry := Caller{Tenant: tenant}.Entry("identity/tenants/create", "/tenants/"+string(tenant))
	entry.Detail = map[string]string{"principal": string(admin.ID), "secret": secret.ID}
	err = d.store.Update(ctx, func(tx Tx) error {
		if err := tx.PutDirectoryTenant(Tenant{ID: tenant, Name: tenantName, Created: admin.Created}); err != nil {
			return err
		}
		if err := tx.PutPrincipal(admin); err != nil {
			return err
		}
		if err := tx.PutDirectoryRole(tenant, admin.ID, DirectoryAdministrator); err != nil {
			return err
		}
		if err := tx.PutClientSecret(secret.stored()); err != nil {
			return err
		}
		return appendAudit(tx, entry)
	})
	if err != nil {
		return Principal{}, Secret{}, err
	}
	return admin, secret, nil
}

// Create makes a service principal in the caller's tenant. application is its
// client id, a fresh one if empty; name may be empty for an application that is
// known. It fails with [fault.PrincipalExists] if the application has one.
func (d *Directory) Create(ctx context.Context, caller Caller, application, name string) (Principal, error) {
	entry := caller.Entry("identity/principals/create", d.path(caller, ""))
	p, err := d.draft(caller, application, name)
	if err != nil {
		return Principal{}, d.refuse(ctx, entry, err)
	}
	entry.Resource = d.path(caller, p.ID)
	err = d.act(ctx, caller, entry, func(tx Tx) error { return tx.PutPrincipal(p) })
	if err != nil {
		return Principal{}, err
	}
	return p, nil
}

func (d *Directory) draft(caller Caller, application, name string) (Principal, error) {
	if application == "" {
		application = uuid.NewString()
	}
	application, ok := parseUUID(application)
	if !ok {
		return Principal{}, fault.New(fault.InvalidArgument, "The application id is not a UUID.")
	}
	if known := wellKnown[application]; known != "" {
		name = known
	}
	if name == "" {
		name = application
	}
	if !printable(name) || len(name) > 256 {
		return Principal{}, fault.New(fault.InvalidArgument, "The display name is longer than 256 bytes or not printable.")
	}
	return Principal{
		ID: PrincipalID(uuid.NewString()), Tenant: caller.Tenant, Type: ServicePrincipal, Application: application, Name: name,
		Enabled: true, Generation: 1, Created: d.time(), CreatedBy: caller.Principal,
	}, nil
}

// SetEnabled enables or disables a principal. Disabling voids its tokens. The
// last administrator of a tenant cannot be disabled.
func (d *Directory) SetEnabled(ctx context.Context, caller Caller, id PrincipalID, enabled bool) error {
	operation := "identity/principals/disable"
	if enabled {
		operation = "identity/principals/enable"
	}
	return d.change(ctx, caller, operation, id, func(tx Tx, p Principal) error {
		if p.Enabled == enabled {
			return nil
		}
		p.Enabled = enabled
		if !enabled {
			p.Generation++
			if err := keepsAdministrator(tx, p); err != nil {
				return err
			}
		}
		return tx.SetPrincipal(p)
	})
}

func keepsAdministrator(tx Tx, leaving Principal) error {
	admins, err := tx.DirectoryRoleHolders(leaving.Tenant, DirectoryAdministrator)
	if err != nil || !slices.Contains(admins, leaving.ID) {
		return err
	}
	for _, id := range admins {
		if id == leaving.ID {
			continue
		}
		p, err := tx.Principal(leaving.Tenant, id)
		if err != nil {
			return err
		}
		if p.Enabled {
			return nil
		}
	}
	return fault.New(fault.Conflict, "This is the tenant's last directory administrator.").
		WithMend("Make another principal a directory administrator first.")
}

// Grant makes a principal a holder of a directory role.
func (d *Directory) Grant(ctx context.Context, caller Caller, id PrincipalID, role DirectoryRole) error {
	entry := caller.Entry("identity/roles/grant", d.path(caller, id))
	return d.act(ctx, caller, entry, func(tx Tx) error {
		if role != DirectoryAdministrator {
			return fault.New(fault.RoleDefinitionNotFound, "There is no such directory role.")
		}
		if _, err := tx.Principal(caller.Tenant, id); err != nil {
			return err
		}
		return tx.PutDirectoryRole(caller.Tenant, id, role)
	})
}

// Revoke takes a directory role from a principal, but not from the last who
// holds it.
func (d *Directory) Revoke(ctx context.Context, caller Caller, id PrincipalID, role DirectoryRole) error {
	entry := caller.Entry("identity/roles/revoke", d.path(caller, id))
	return d.act(ctx, caller, entry, func(tx Tx) error {
		p, err := tx.Principal(caller.Tenant, id)
		if err != nil {
			return err
		}
		if err := keepsAdministrator(tx, p); err != nil {
			return err
		}
		return tx.DeleteDirectoryRole(caller.Tenant, id, role)
	})
}

// Administers fails with [fault.Denied] unless the caller is an administrator of its
// tenant's directory.
func (d *Directory) Administers(ctx context.Context, caller Caller) error {
	return d.store.View(ctx, func(tx Tx) error { return administers(tx, caller) })
}

// Principal returns one principal of the caller's tenant. Any principal of a
// tenant may look up the others: it needs their ids to give them roles.
func (d *Directory) Principal(ctx context.Context, caller Caller, id PrincipalID) (Principal, error) {
	var p Principal
	err := d.read(ctx, caller, id, func(tx Tx) (err error) {
		p, err = tx.Principal(caller.Tenant, id)
		return err
	})
	return p, err
}

// A Filter selects principals by their properties; the zero Filter selects all.
type Filter struct {
	Type        PrincipalType
	Application string // client id
	UserName    string
	Name        string
	Prefix      string // of the name, whatever the case
}

// Principals returns the principals of the caller's tenant that the filter
// selects, at most 1000 of them, in order of their ids.
func (d *Directory) Principals(ctx context.Context, caller Caller, f Filter) ([]Principal, error) {
	f.Application, _ = parseUUIDOr(f.Application)
	var found []Principal
	err := d.read(ctx, caller, "", func(tx Tx) (err error) {
		found, err = tx.Principals(caller.Tenant, f, maxPrincipals)
		return err
	})
	return found, err
}

const maxPrincipals = 1000

// parseUUIDOr is parseUUID that leaves alone what is not a UUID.
func parseUUIDOr(s string) (string, bool) {
	if id, ok := parseUUID(s); ok {
		return id, true
	}
	return s, false
}

func printable(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return false
		}
	}
	return true
}
