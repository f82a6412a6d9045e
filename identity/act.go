package identity

import (
	"context"
	"slices"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

// path names a principal, or the tenant's principals, by ids only.
func (d *Directory) path(caller Caller, id PrincipalID) string {
	s := "/tenants/" + string(caller.Tenant) + "/principals"
	if id != "" {
		s += "/" + string(id)
	}
	return s
}

// act runs one change by a directory administrator: authorise, audit and act in
// one transaction.
func (d *Directory) act(ctx context.Context, caller Caller, entry audit.Entry, fn func(Tx) error) error {
	err := d.store.Update(ctx, func(tx Tx) error {
		if err := administers(tx, caller); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		return appendAudit(tx, entry)
	})
	if err != nil {
		return d.refuse(ctx, entry, err)
	}
	return nil
}

// change is act on an existing principal, whose rights the caller must cover.
func (d *Directory) change(ctx context.Context, caller Caller, operation string, id PrincipalID, fn func(Tx, Principal) error) error {
	entry := caller.Entry(operation, d.path(caller, id))
	// The parties' databases are asked outside of the directory's transaction,
	// which runs on its only writer. A right given meanwhile is not seen, as a right
	// given just after would not be.
	covered, err := d.roles.Covers(ctx, caller, id)
	if err != nil {
		return d.refuse(ctx, entry, err)
	}
	err = d.act(ctx, caller, entry, func(tx Tx) error {
		p, err := tx.Principal(caller.Tenant, id)
		if err != nil {
			return err
		}
		if !covered && id != caller.Principal {
			return fault.New(fault.PrincipalProtected, "The principal holds a role that you lack.").About(string(id)).
				WithMend("Ask somebody who holds the same roles, or have the roles taken away first.")
		}
		return fn(tx, p)
	})
	if err == nil {
		d.standing.forget()
	}
	return err
}

// administers fails with [fault.Denied] unless the caller is an enabled
// administrator of its tenant's directory.
func administers(tx Tx, caller Caller) error {
	admins, err := tx.DirectoryRoleHolders(caller.Tenant, DirectoryAdministrator)
	if err != nil {
		return err
	}
	holder := slices.ContainsFunc(caller.Subjects(), func(id PrincipalID) bool { return id != "" && slices.Contains(admins, id) })
	if !holder {
		return fault.New(fault.Denied, "This needs the role Directory Administrator.")
	}
	return nil
}

// read runs one look-up by a principal of the tenant, and records it.
func (d *Directory) read(ctx context.Context, caller Caller, id PrincipalID, fn func(Tx) error) error {
	entry := caller.Entry("identity/principals/read", d.path(caller, id))
	if caller.Tenant == "" || caller.Principal == "" {
		return d.refuse(ctx, entry, fault.New(fault.Denied, "Only principals of the directory may read it."))
	}
	if err := d.store.View(ctx, fn); err != nil {
		return d.refuse(ctx, entry, err)
	}
	return record(ctx, d.recorder, entry)
}

// refuse records that the act did not happen, and returns why. Where the record
// itself fails, that is the answer.
func (d *Directory) refuse(ctx context.Context, entry audit.Entry, err error) error {
	if fault.ReasonOf(err) == fault.AuditFailed {
		return err
	}
	if e := record(ctx, d.recorder, Failed(entry, err)); e != nil {
		return e
	}
	return err
}

func record(ctx context.Context, r audit.Recorder, e audit.Entry) error {
	if err := r.Record(ctx, e); err != nil {
		return auditFailed(err)
	}
	return nil
}

func appendAudit(tx Tx, e audit.Entry) error {
	if err := tx.AppendAudit(e); err != nil {
		return auditFailed(err)
	}
	return nil
}

func auditFailed(err error) error {
	return fault.Wrap(fault.AuditFailed, err, "The audit entry could not be written, so nothing was done.")
}
