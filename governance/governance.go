// Package governance owns what the party that watches has on record: the scans of an
// estate with what they found, the figures reckoned from them, and what people were
// told. It has a database, roles and an audit log of its own.
//
// [Records] is the whole of it. Its methods authorise, audit and act, in that order.
// What is found is package posture's to judge and keep; the scan itself, the other
// parties' logs and the making of an archive are given to [New] by the wiring, which
// reads the estate over the wire like anybody.
//
// Roles are given at "/", to principals of the installation's own tenant: what was
// found spans the installation, and no other tenant's principal ever holds one.
package governance

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/rbac"
)

// A Store keeps governance's rows.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is one transaction of a [Store].
type Tx interface {
	history.Tx
	alert.Tx
	rbac.Tx
	audit.Appender

	// Exceptions returns all that were made here.
	Exceptions() ([]Exception, error)
	// PutException adds one.
	PutException(Exception) error
	// DropException removes one, if it is there.
	DropException(id string) error
}

// A Found is what a scan on demand has found, and under which name it is kept.
type Found struct {
	Estate string
	Source string
	Scan   *posture.Scan
}

// A Pack is what an evidence pack is to be made of.
type Pack struct {
	Found  Found
	Input  kpi.Input
	Window kpi.Window
}

// Config is what [New] needs.
type Config struct {
	Store  Store
	Audit  audit.Recorder
	Tenant identity.TenantID // the installation's own

	// Look scans the estate, where these exceptions hold beside the policy's; nil if the
	// server was not told how. It may take minutes.
	Look func(context.Context, []posture.Exception) (Found, error)
	// Logs adds what the other parties' logs tell from a time on.
	Logs func(context.Context, time.Time, *kpi.Input) error
	// Seal makes the signed archive.
	Seal func(context.Context, Pack) ([]byte, error)

	Now func() time.Time // time.Now if nil
}

// Records are what governance has on record. They are safe for concurrent use.
type Records struct {
	Config
	looking chan struct{} // full while a scan that was asked for runs
}

// New returns the records in a store.
func New(c Config) *Records {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Records{Config: c, looking: make(chan struct{}, 1)}
}

func (r *Records) now() time.Time { return r.Now().UTC().Truncate(time.Microsecond) }

// permit checks that the caller may do an action.
func (r *Records) permit(tx Tx, c identity.Caller, a rbac.Action) error {
	_, ok, err := rbac.Check(tx, rbac.GovernanceRoles, c, a, false, "/")
	if err == nil && (!ok || c.Tenant != r.Tenant) {
		err = fault.New(fault.Denied, "This needs the right "+string(a)+".").
			WithMend("Ask an administrator for one of the roles Governance Reader and Governance Officer.")
	}
	return err
}

// record makes the entry of an act that wrote nothing durable, and returns the act's
// error. The client may be gone; the entry is written all the same.
func (r *Records) record(ctx context.Context, e audit.Entry, err error) error {
	if err != nil {
		e = identity.Failed(e, err)
	}
	if rec := r.Audit.Record(context.WithoutCancel(ctx), e); rec != nil {
		return fault.Wrap(fault.AuditFailed, errors.Join(rec, err), "The audit entry could not be made durable.")
	}
	return err
}

// read runs fn for a caller who may do an action, and records what became of it.
func (r *Records) read(ctx context.Context, c identity.Caller, a rbac.Action, operation, resource string, fn func(Tx) error) error {
	return r.record(ctx, c.Entry(operation, resource), r.Store.View(ctx, func(tx Tx) error {
		if err := r.permit(tx, c, a); err != nil {
			return err
		}
		return fn(tx)
	}))
}

// write runs fn in a transaction together with its entry, and records a failure.
func (r *Records) write(ctx context.Context, e *audit.Entry, fn func(Tx) error) error {
	err := r.Store.Update(ctx, func(tx Tx) error {
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
	return r.record(ctx, *e, err)
}

// Provision gives the first roles, as the making of a data directory says and nobody's
// token. A role that was since taken away is given again.
func (r *Records) Provision(ctx context.Context, first ...rbac.Assignment) error {
	e := identity.Caller{Tenant: r.Tenant}.Entry("ProvisionGovernance", "/")
	return r.write(ctx, &e, func(tx Tx) error {
		for _, a := range first {
			a.ID, a.Tenant, a.Created = uuid.NewString(), r.Tenant, r.now()
			if err := tx.PutRoleAssignment(a); err != nil {
				if fault.ReasonOf(err) == fault.RoleAssignmentExists {
					continue
				}
				return err
			}
			given := e
			given.Operation, given.Resource = "AddRoleAssignment", "/roleAssignments/"+a.ID
			given.Detail = map[string]string{"principal": string(a.Principal), "role": string(a.Role)}
			if err := tx.AppendAudit(given); err != nil {
				return err
			}
		}
		return nil
	})
}
