package identity

import (
	"context"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

// userName is the form of names to sign in with, in lower case; an address of mail has
// it, and need not be one.
var userName = regexp.MustCompile(`^[a-z0-9][a-z0-9._+'-]{0,63}(@[a-z0-9][a-z0-9.-]{0,63})?$`)

// ParseUserName returns the form in which the directory keeps a name to sign in with.
// It fails with [fault.InvalidArgument].
func ParseUserName(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if !userName.MatchString(s) {
		return "", fault.New(fault.InvalidArgument, "A user's name has letters, digits and . _ + ' - alone, with or without @ and a domain.")
	}
	return s, nil
}

// CreateUser makes a user in the caller's tenant, who signs in with a name and a
// password. display may be empty. It fails with [fault.PrincipalExists] if the name is
// taken. The user has no right until somebody gives him one.
func (d *Directory) CreateUser(ctx context.Context, caller Caller, name, display, password string) (Principal, error) {
	entry := caller.Entry("identity/principals/create", d.path(caller, ""))
	p := Principal{
		ID: PrincipalID(uuid.NewString()), Tenant: caller.Tenant, Type: User, Name: display,
		Enabled: true, Generation: 1, Created: d.time(), CreatedBy: caller.Principal,
	}
	var err error
	if p.UserName, err = ParseUserName(name); err == nil {
		err = checkPassword(password, p.UserName)
	}
	if p.Name == "" {
		p.Name = p.UserName
	}
	if err == nil && (!printable(p.Name) || len(p.Name) > 256) {
		err = fault.New(fault.InvalidArgument, "The display name is longer than 256 bytes or not printable.")
	}
	if err != nil {
		return Principal{}, d.refuse(ctx, entry, err)
	}
	stored := StoredPassword{Tenant: p.Tenant, Principal: p.ID, Hash: hashPassword(password), Since: p.Created}
	entry.Resource = d.path(caller, p.ID)
	err = d.act(ctx, caller, entry, func(tx Tx) error {
		if err := tx.PutPrincipal(p); err != nil {
			return err
		}
		return tx.SetPassword(stored)
	})
	if err != nil {
		return Principal{}, err
	}
	return p, nil
}

// ResetPassword gives a user another password, ends where he is signed in, and voids
// his tokens.
func (d *Directory) ResetPassword(ctx context.Context, caller Caller, id PrincipalID, password string) error {
	const operation = "identity/passwords/reset"
	var user Principal
	err := d.store.View(ctx, func(tx Tx) (err error) {
		user, err = tx.Principal(caller.Tenant, id)
		return err
	})
	if err == nil && user.Type != User {
		err = fault.New(fault.NotSupported, "Only users have a password.").WithMend("Give an application a client secret.")
	}
	if err == nil {
		err = checkPassword(password, user.UserName)
	}
	if err != nil {
		return d.refuse(ctx, caller.Entry(operation, d.path(caller, id)), err)
	}
	stored := StoredPassword{Tenant: caller.Tenant, Principal: id, Hash: hashPassword(password), Since: d.time()}
	return d.change(ctx, caller, operation, id, func(tx Tx, p Principal) error {
		p.Generation++
		if err := tx.SetPrincipal(p); err != nil {
			return err
		}
		return tx.SetPassword(stored)
	})
}

// ChangePassword gives the caller, a user, another password, if he knows his own. Where he
// is signed in ends, here and elsewhere, and his tokens are void: he signs in with the new
// one. A wrong password counts as a failed sign-in does, and fails with
// [fault.InvalidArgument]; too many with [fault.Throttled].
func (i *Issuer) ChangePassword(ctx context.Context, caller Caller, current, password string) error {
	d := i.directory
	entry := caller.Entry("identity/passwords/change", d.path(caller, caller.Principal))
	err := i.changePassword(ctx, caller, entry, current, password)
	if err != nil {
		return d.refuse(ctx, entry, err)
	}
	d.standing.forget()
	return nil
}

func (i *Issuer) changePassword(ctx context.Context, caller Caller, entry audit.Entry, current, password string) error {
	d := i.directory
	if caller.Type != User || caller.Principal == "" {
		return fault.New(fault.NotSupported, "Only users have a password.").WithMend("Give an application a client secret.")
	}
	var user Principal
	err := d.store.View(ctx, func(tx Tx) (err error) {
		user, err = tx.Principal(caller.Tenant, caller.Principal)
		return err
	})
	if err == nil && user.Type != User {
		err = fault.New(fault.NotSupported, "Only users have a password.")
	}
	if err == nil {
		err = checkPassword(password, user.UserName)
	}
	if err == nil && password == current {
		err = fault.New(fault.InvalidArgument, "The new password is the old one.")
	}
	if err != nil {
		return err
	}
	_, attempt, err := i.authenticate(ctx, caller.Tenant, user.UserName, current, "", caller.Address, d.time())
	if fault.ReasonOf(err) == fault.Unauthenticated {
		return fault.New(fault.InvalidArgument, "The current password is wrong.").WithMend("Ask an administrator for another one if you have forgotten it.")
	}
	if err != nil {
		return err
	}
	done, err := i.hashing.take(ctx)
	if err != nil {
		return err
	}
	stored := StoredPassword{Tenant: caller.Tenant, Principal: user.ID, Hash: hashPassword(password), Since: d.time()}
	done()
	return d.store.Update(ctx, func(tx Tx) error {
		p, err := tx.Principal(caller.Tenant, user.ID)
		if err != nil {
			return err
		}
		if !p.Enabled || p.Generation != user.Generation {
			return fault.New(fault.Conflict, "The user has changed meanwhile.").WithMend("Sign in again.")
		}
		p.Generation++
		if err := tx.SetPrincipal(p); err != nil {
			return err
		}
		if err := tx.SetPassword(stored); err != nil {
			return err
		}
		if err := attempt.succeeded(tx); err != nil {
			return err
		}
		return appendAudit(tx, entry)
	})
}
