package workspace

import (
	"context"
	"log/slog"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// MaxEmergency is the longest that emergency access lasts.
const MaxEmergency = 4 * time.Hour

// approvalMemory is for how long after its expiry a request is shown.
const approvalMemory = 7 * 24 * time.Hour

// grantEmergency is the act that takes two people.
const grantEmergency = "GrantEmergencyAccess"

// An EmergencyAccess is a role in one workspace for a few hours, for somebody who
// has none there and must act: one person asks for it and another, who holds the
// same right, agrees and says for how long. It ends by itself, and gives no roles
// on to others. Its customer's key it cannot replace: a revoked workspace stays so.
type EmergencyAccess struct {
	ID        string // UUID; also of the role assignment that it gives
	Workspace encryption.ScopeID
	Role      Role // Admin or Contributor
	State     rbac.ApprovalState

	RequestedBy   identity.PrincipalID
	RequesterType identity.PrincipalType
	Requested     time.Time
	Expires       time.Time // of the request
	DecidedBy     identity.PrincipalID
	Decided       time.Time
	Until         time.Time // when the access ends; zero if it has not begun, or is over
}

// digestEmergency tells what exactly is asked for.
func digestEmergency(r Role, t identity.PrincipalType) (string, error) {
	return rbac.ApprovalDigest("emergency", r, t)
}

// emergency returns what an approval is about, and false if it is about something
// else. There is little that can be asked for, so its digest tells it.
func emergency(a rbac.Approval) (EmergencyAccess, bool, error) {
	if a.Operation != grantEmergency {
		return EmergencyAccess{}, false, nil
	}
	const prefix = "/workspaces/"
	e := EmergencyAccess{
		ID: a.ID, State: a.State, RequestedBy: a.RequestedBy, Requested: a.Requested, Expires: a.Expires,
		DecidedBy: a.DecidedBy, Decided: a.Decided, Workspace: encryption.ScopeID(a.Scope.Key()[len(prefix):]),
	}
	for _, r := range []Role{Admin, Contributor} {
		for _, t := range []identity.PrincipalType{identity.User, identity.ServicePrincipal} {
			d, err := digestEmergency(r, t)
			if err != nil {
				return e, false, err
			}
			if d == a.Digest {
				e.Role, e.RequesterType = r, t
				return e, true, nil
			}
		}
	}
	return e, false, nil
}

// RequestEmergency asks for a role in a workspace of the caller's tenant, for the
// caller. It asks again for nothing that still waits.
func (w *Workspaces) RequestEmergency(ctx context.Context, c identity.Caller, ws encryption.ScopeID, role Role) (ea EmergencyAccess, err error) {
	e := c.Entry("RequestEmergencyAccess", resourceOf(ws))
	e.Detail = map[string]string{}
	err = w.write(ctx, e, func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.EmergencyAccessWrite); err != nil {
			return err
		}
		if role != Admin && role != Contributor {
			return fault.New(fault.InvalidArgument, "Emergency access is as Admin or as Contributor.")
		}
		if _, err := live(tx, c.Tenant, ws); err != nil {
			return err
		}
		digest, err := digestEmergency(role, c.Type)
		if err != nil {
			return err
		}
		a, _, refusal, err := rbac.RequestApproval(tx, rbac.Approval{
			Tenant: c.Tenant, Operation: grantEmergency, Scope: scopeOf(ws), Action: rbac.EmergencyAccessWrite, Digest: digest, RequestedBy: c.Principal,
		}, w.time())
		if err != nil {
			return err
		}
		if a.ID == "" { // too many are waited for
			return refusal
		}
		e.Detail["approval"], e.Detail["role"] = a.ID, string(role.id())
		ea, _, err = emergency(a)
		return err
	})
	if err == nil {
		slog.WarnContext(ctx, "emergency access requested", "workspace", string(ws), "principal", string(c.Principal), "role", string(role), "approval", ea.ID)
	}
	return ea, err
}

// DecideEmergency agrees to a request, for as long as the caller says, or rejects
// it. To agree takes another than who asked; who asked may withdraw. The access
// begins at once.
func (w *Workspaces) DecideEmergency(ctx context.Context, c identity.Caller, id string, agree bool, lasting time.Duration) (ea EmergencyAccess, err error) {
	op := "RejectEmergencyAccess"
	if agree {
		op = grantEmergency
	}
	e := c.Entry(op, "/emergencyAccess/"+known(id))
	e.Detail = map[string]string{}
	err = w.write(ctx, e, func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.EmergencyAccessWrite); err != nil {
			return err
		}
		a, err := tx.Approval(id)
		if err != nil {
			return err
		}
		now, ok := w.time(), false
		if ea, ok, err = emergency(a); err != nil {
			return err
		}
		if !ok || a.Tenant != c.Tenant {
			return fault.New(fault.ApprovalNotFound, "There is no such request.").About(id)
		}
		e.Detail["workspace"], e.Detail["principal"], e.Detail["role"] = string(ea.Workspace), string(ea.RequestedBy), string(ea.Role.id())
		if agree && (lasting < time.Minute || lasting > MaxEmergency) {
			return fault.New(fault.InvalidArgument, "Emergency access lasts for a minute to "+MaxEmergency.String()+".")
		}
		if a, err = rbac.Decide(tx, id, c, agree, now); err != nil {
			return err
		}
		if agree {
			if a, ea.Until, err = w.breakGlass(tx, a, ea, c.Principal, now, lasting); err != nil {
				return err
			}
			e.Detail["until"] = ea.Until.Format(time.RFC3339)
		}
		ea.State, ea.DecidedBy, ea.Decided = a.State, a.DecidedBy, a.Decided
		return nil
	})
	if err == nil && agree {
		slog.WarnContext(ctx, "emergency access granted", "workspace", string(ea.Workspace), "principal", string(ea.RequestedBy), "by", string(c.Principal),
			"role", string(ea.Role), "approval", ea.ID, "until", ea.Until)
	}
	return ea, err
}

// breakGlass gives the role, and uses the approval up.
func (w *Workspaces) breakGlass(tx Tx, a rbac.Approval, ea EmergencyAccess, by identity.PrincipalID, now time.Time, lasting time.Duration) (rbac.Approval, time.Time, error) {
	if _, err := live(tx, a.Tenant, ea.Workspace); err != nil {
		return a, time.Time{}, err
	}
	own, err := assigned(tx, ea.Workspace)
	if err != nil {
		return a, time.Time{}, err
	}
	for _, o := range own { // one that ended, and was not swept yet
		if o.Tenant == a.Tenant && o.Principal == ea.RequestedBy && o.Expired(now) {
			if err := tx.DeleteRoleAssignment(o.ID); err != nil {
				return a, time.Time{}, err
			}
		}
	}
	until := now.Add(lasting)
	a.State, a.Executed = rbac.ApprovalExecuted, now
	if err := tx.PutApproval(a); err != nil {
		return a, until, err
	}
	return a, until, tx.PutRoleAssignment(rbac.Assignment{
		ID: a.ID, Tenant: a.Tenant, Principal: ea.RequestedBy, PrincipalType: ea.RequesterType, Role: ea.Role.id(),
		Scope: scopeOf(ea.Workspace), Created: now, CreatedBy: by, Expires: until,
	})
}

// Emergencies lists the tenant's requests for emergency access and what became of
// them, the oldest first; those that have ended are shown for a week.
func (w *Workspaces) Emergencies(ctx context.Context, c identity.Caller) (all []EmergencyAccess, err error) {
	err = w.read(ctx, c, "ListEmergencyAccess", "/emergencyAccess", func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.EmergencyAccessRead); err != nil {
			return err
		}
		approvals, err := tx.ApprovalsAt(c.Tenant, "/workspaces")
		if err != nil {
			return err
		}
		for _, a := range approvals {
			ea, ok, err := emergency(a)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			switch given, err := tx.RoleAssignment(a.ID); {
			case err == nil && !given.Expired(w.time()):
				ea.Until = given.Expires
			case err != nil && fault.ReasonOf(err) != fault.RoleAssignmentNotFound:
				return err
			}
			all = append(all, ea)
		}
		return nil
	})
	return all, err
}

// sweepEmergencies removes the roles that have ended, which count for nothing any
// more, and says so in the audit log.
func (w *Workspaces) sweepEmergencies(ctx context.Context) error {
	return w.store.Update(ctx, func(tx Tx) error {
		ended, err := tx.RoleAssignmentsExpired(w.time())
		if err != nil {
			return err
		}
		for _, a := range ended {
			if err := tx.DeleteRoleAssignment(a.ID); err != nil {
				return err
			}
			e := identity.Caller{Tenant: a.Tenant}.Entry("EndEmergencyAccess", string(a.Scope)+"/roleAssignments/"+a.ID)
			e.Detail = map[string]string{"principal": string(a.Principal), "role": string(a.Role)}
			if err := tx.AppendAudit(e); err != nil {
				return err
			}
		}
		return tx.DropApprovals(w.time().Add(-approvalMemory))
	})
}
