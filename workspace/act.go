package workspace

import (
	"context"
	"errors"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

func scopeOf(ws encryption.ScopeID) rbac.Scope { return rbac.Scope("/workspaces/" + string(ws)) }

func resourceOf(ws encryption.ScopeID) string { return "/workspaces/" + known(string(ws)) }

func itemResource(ws encryption.ScopeID, item encryption.ItemID) string {
	return resourceOf(ws) + "/items/" + known(string(item))
}

// known keeps what is not an id, and might be a name, out of the audit log.
func known(id string) string {
	if !IsID(id) {
		return "-"
	}
	return id
}

// subject keeps what is not an id out of an error.
func subject(id string) string {
	if !IsID(id) {
		return ""
	}
	return id
}

// permit returns the live workspace's row if the caller's tenant owns it and the
// caller may act on it. Another tenant's workspace does not exist for the caller.
func (w *Workspaces) permit(tx Tx, c identity.Caller, a rbac.Action, ws encryption.ScopeID) (WorkspaceRow, error) {
	row, err := live(tx, c.Tenant, ws)
	if err != nil {
		return row, err
	}
	if _, ok, err := rbac.Check(tx, w.roles, c, a, false, scopeOf(ws)); err != nil {
		return row, err
	} else if !ok {
		return row, denied(a)
	}
	return row, nil
}

// permitTenant checks an action on the caller's tenant as a whole.
func (w *Workspaces) permitTenant(tx Tx, c identity.Caller, a rbac.Action) error {
	if _, ok, err := rbac.Check(tx, w.roles, c, a, false, "/"); err != nil {
		return err
	} else if !ok {
		return denied(a)
	}
	return nil
}

// live returns the row of one of the tenant's live workspaces.
func live(tx Tx, tenant identity.TenantID, ws encryption.ScopeID) (WorkspaceRow, error) {
	row, err := tx.Workspace(ws)
	if err != nil {
		return row, err
	}
	if row.Tenant != tenant || row.Deleted {
		return WorkspaceRow{}, errNoWorkspace(string(ws))
	}
	return row, nil
}

// liveEntry returns the row of one of the workspace's live items.
func liveEntry(tx Tx, ws encryption.ScopeID, id encryption.ItemID) (Entry, error) {
	e, err := tx.ItemEntry(id)
	if err != nil {
		return e, err
	}
	if e.Workspace != ws || e.State != Live || e.Type == FolderType {
		return Entry{}, errNoItem(string(id))
	}
	return e, nil
}

func errNoWorkspace(subject string) error {
	return fault.New(fault.WorkspaceNotFound, "There is no such workspace.").About(subject)
}

func errNoItem(subject string) error {
	return fault.New(fault.ItemNotFound, "There is no such item in this workspace.").About(subject)
}

func denied(a rbac.Action) error {
	return fault.New(fault.Denied, "This needs the right "+string(a)+".").
		WithMend("Ask an administrator for a role that has it.")
}

// record makes the entry of an act that wrote nothing durable, and returns the
// act's error. The client may be gone; the entry is written all the same.
func (w *Workspaces) record(ctx context.Context, e audit.Entry, err error) error {
	if err != nil {
		e = identity.Failed(e, err)
	}
	if rec := w.audit.Record(context.WithoutCancel(ctx), e); rec != nil {
		return fault.Wrap(fault.AuditFailed, errors.Join(rec, err), "The audit entry could not be made durable.")
	}
	return err
}

// read runs fn in a read transaction and records what became of it.
func (w *Workspaces) read(ctx context.Context, c identity.Caller, operation, resource string, fn func(Tx) error) error {
	return w.record(ctx, c.Entry(operation, resource), w.store.View(ctx, fn))
}

// write runs fn in a write transaction that also appends the entry; if that
// fails, the failure is recorded by itself.
func (w *Workspaces) write(ctx context.Context, e audit.Entry, fn func(Tx) error) error {
	if err := w.update(ctx, e, fn); err != nil {
		return w.record(ctx, e, err)
	}
	return nil
}

func (w *Workspaces) update(ctx context.Context, e audit.Entry, fn func(Tx) error) error {
	return w.store.Update(ctx, func(tx Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return tx.AppendAudit(e)
	})
}

// attempts bounds how often an act begins again because the scope's keys moved on
// beneath it. They move a few times per assign.
const attempts = 5

// again runs fn until it does not fail with [fault.EncryptionChanged].
func again(ctx context.Context, fn func() error) (err error) {
	for range attempts {
		err = fn()
		if fault.ReasonOf(err) != fault.EncryptionChanged || ctx.Err() != nil {
			return err
		}
	}
	return err
}
