package account

import (
	"context"
	"errors"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

func permitted(tx Tx, c identity.Caller, action rbac.Action, scope rbac.Scope) (bool, error) {
	_, ok, err := rbac.Check(tx, rbac.AccountRoles, c, action, false, scope)
	return ok, err
}

func permit(tx Tx, c identity.Caller, action rbac.Action, scope rbac.Scope) error {
	ok, err := permitted(tx, c, action, scope)
	if err == nil && !ok {
		err = denied(action, scope)
	}
	return err
}

func denied(action rbac.Action, scope rbac.Scope) error {
	return fault.New(fault.Denied, "The caller lacks the right "+string(action)+" at "+string(scope)+".").
		WithMend("Ask an administrator for a role that has it.")
}

// live returns the account at a path, if the caller may do action to it. Whether an
// account that he may not see exists, nobody is told.
func live(tx Tx, c identity.Caller, action rbac.Action, p Path) (Row, error) {
	if err := permit(tx, c, action, p.Scope()); err != nil {
		return Row{}, err
	}
	row, err := tx.AccountNamed(p.Name)
	if err == nil && (row.Tenant != c.Tenant || row.Path.Scope().Key() != p.Scope().Key()) {
		err = fault.ResourceNotFound
	}
	if errors.Is(err, fault.ResourceNotFound) {
		err = fault.New(fault.ResourceNotFound, "The resource Microsoft.Storage/storageAccounts/"+string(p.Name)+" under resource group "+p.ResourceGroup+" was not found.")
	}
	return row, err
}

// record makes the entry of an act that wrote nothing durable, and returns the act's
// error. The client may be gone; the entry is written all the same.
func (a *Accounts) record(ctx context.Context, e audit.Entry, err error) error {
	if err != nil {
		e = identity.Failed(e, err)
	}
	if rec := a.audit.Record(context.WithoutCancel(ctx), e); rec != nil {
		return fault.Wrap(fault.AuditFailed, errors.Join(rec, err), "The audit entry could not be made durable.")
	}
	return err
}

// read runs fn in a read transaction and records what became of it.
func (a *Accounts) read(ctx context.Context, e audit.Entry, fn func(Tx) error) error {
	return a.record(ctx, e, a.store.View(ctx, fn))
}

// write runs fn in a transaction together with its entry, and records a failure.
func (a *Accounts) write(ctx context.Context, e *audit.Entry, fn func(Tx) error) error {
	err := a.store.Update(ctx, func(tx Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		if err := tx.AppendAudit(*e); err != nil {
			return fault.Wrap(fault.AuditFailed, err, "The audit entry could not be written.")
		}
		return nil
	})
	if err == nil || fault.ReasonOf(err) == fault.AuditFailed {
		return err
	}
	return a.record(ctx, *e, err)
}
