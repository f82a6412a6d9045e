package workspace

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Role is one that a principal can have in a workspace.
type Role string

// The roles, from the most to the least:
// https://learn.microsoft.com/fabric/fundamentals/roles-workspaces
const (
	Admin       Role = "Admin"
	Member      Role = "Member"
	Contributor Role = "Contributor"
	Viewer      Role = "Viewer"
)

var roleIDs = map[Role]rbac.RoleID{
	Admin: rbac.WorkspaceAdmin, Member: rbac.WorkspaceMember,
	Contributor: rbac.WorkspaceContributor, Viewer: rbac.WorkspaceViewer,
}

func (r Role) id() rbac.RoleID { return roleIDs[r] }

// Valid reports whether r is one of the four.
func (r Role) Valid() bool { return roleIDs[r] != "" }

func roleOf(id rbac.RoleID) Role {
	for r, i := range roleIDs {
		if i == id {
			return r
		}
	}
	return ""
}

// maxRoleAssignments is how many principals a workspace can have.
const maxRoleAssignments = 1000

// A RoleAssignment gives a principal a role in a workspace. A principal has at
// most one in each.
type RoleAssignment struct {
	ID            string // UUID
	Principal     identity.PrincipalID
	PrincipalType identity.PrincipalType
	Role          Role
	Created       time.Time
}

// assigned returns the assignments of the workspace itself, without those above
// it.
func assigned(tx Tx, ws encryption.ScopeID) ([]rbac.Assignment, error) {
	all, err := tx.RoleAssignmentsAt(scopeOf(ws), false)
	if err != nil {
		return nil, err
	}
	var own []rbac.Assignment
	for _, a := range all {
		if a.Scope.Key() == scopeOf(ws).Key() {
			own = append(own, a)
		}
	}
	return own, nil
}

func findAssignment(all []rbac.Assignment, id string) (rbac.Assignment, error) {
	for _, a := range all {
		if a.ID == id {
			return a, nil
		}
	}
	return rbac.Assignment{}, fault.New(fault.RoleAssignmentNotFound, "The workspace has no such role assignment.").About(id)
}

func publicAssignment(a rbac.Assignment) RoleAssignment {
	return RoleAssignment{
		ID: a.ID, Principal: a.Principal, PrincipalType: a.PrincipalType, Role: roleOf(a.Role), Created: a.Created,
	}
}

// mayGrant checks that the caller may give or take a role in the workspace.
func (w *Workspaces) mayGrant(tx Tx, c identity.Caller, a rbac.Action, role rbac.RoleID, ws encryption.ScopeID) error {
	held, err := rbac.Held(tx, c, scopeOf(ws))
	if err != nil {
		return err
	}
	if _, ok := rbac.MayGrant(w.roles, held, a, role, scopeOf(ws)); !ok {
		return denied(a)
	}
	return nil
}

// RoleAssignments returns the workspace's role assignments by id.
func (w *Workspaces) RoleAssignments(ctx context.Context, c identity.Caller, ws encryption.ScopeID) (all []RoleAssignment, err error) {
	err = w.read(ctx, c, "ListWorkspaceRoleAssignments", resourceOf(ws), func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.WorkspaceRoleAssignmentsRead, ws); err != nil {
			return err
		}
		own, err := assigned(tx, ws)
		for _, a := range own {
			all = append(all, publicAssignment(a))
		}
		return err
	})
	return all, err
}

// RoleAssignment returns one of the workspace's role assignments.
func (w *Workspaces) RoleAssignment(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id string) (ra RoleAssignment, err error) {
	err = w.read(ctx, c, "GetWorkspaceRoleAssignment", resourceOf(ws), func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.WorkspaceRoleAssignmentsRead, ws); err != nil {
			return err
		}
		own, err := assigned(tx, ws)
		if err != nil {
			return err
		}
		a, err := findAssignment(own, id)
		ra = publicAssignment(a)
		return err
	})
	return ra, err
}

// AddRoleAssignment gives a principal a role. It fails with
// [fault.RoleAssignmentExists] if the principal has one in the workspace.
func (w *Workspaces) AddRoleAssignment(ctx context.Context, c identity.Caller, ws encryption.ScopeID, p identity.PrincipalID, t identity.PrincipalType, role Role) (RoleAssignment, error) {
	a := rbac.Assignment{
		ID: uuid.NewString(), Tenant: c.Tenant, Principal: p, PrincipalType: t, Role: role.id(),
		Scope: scopeOf(ws), Created: w.time(), CreatedBy: c.Principal,
	}
	e := c.Entry("AddWorkspaceRoleAssignment", resourceOf(ws)+"/roleAssignments/"+a.ID)
	if IsID(string(p)) {
		e.Detail = map[string]string{"principal": string(p), "role": string(a.Role)}
	}
	err := w.write(ctx, e, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.WorkspaceRoleAssignmentsRead, ws); err != nil {
			return err
		}
		if !role.Valid() || !IsID(string(p)) {
			return fault.New(fault.InvalidArgument, "A role assignment needs a principal's id and one of the roles Admin, Member, Contributor and Viewer.")
		}
		if t != identity.User && t != identity.Group && t != identity.ServicePrincipal {
			return fault.New(fault.InvalidArgument, "The principal's type must be User, Group or ServicePrincipal.")
		}
		if err := w.mayGrant(tx, c, rbac.WorkspaceRoleAssignmentsWrite, a.Role, ws); err != nil {
			return err
		}
		own, err := assigned(tx, ws)
		if err != nil {
			return err
		}
		if len(own) >= maxRoleAssignments {
			return fault.New(fault.Conflict, "The workspace has 1,000 role assignments, which is the most.").WithMend("Assign a role to a group.")
		}
		for _, o := range own {
			if o.Principal == p {
				return fault.New(fault.RoleAssignmentExists, "The principal has a role in this workspace.").WithMend("Update that role assignment.")
			}
		}
		return tx.PutRoleAssignment(a)
	})
	return publicAssignment(a), err
}

// UpdateRoleAssignment gives an assignment another role. The last Admin's stays.
func (w *Workspaces) UpdateRoleAssignment(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id string, role Role) (ra RoleAssignment, err error) {
	e := assignmentEntry(c, "UpdateWorkspaceRoleAssignment", ws, id)
	err = w.write(ctx, e, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.WorkspaceRoleAssignmentsRead, ws); err != nil {
			return err
		}
		if !role.Valid() {
			return fault.New(fault.InvalidArgument, "The role must be one of Admin, Member, Contributor and Viewer.")
		}
		a, err := w.take(tx, c, rbac.WorkspaceRoleAssignmentsWrite, ws, id, role)
		if err != nil {
			return err
		}
		if err := w.mayGrant(tx, c, rbac.WorkspaceRoleAssignmentsWrite, role.id(), ws); err != nil {
			return err
		}
		a.Role = role.id()
		ra = publicAssignment(a)
		return tx.PutRoleAssignment(a)
	})
	return ra, err
}

// DeleteRoleAssignment takes a role away. The last Admin's stays.
func (w *Workspaces) DeleteRoleAssignment(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id string) error {
	e := assignmentEntry(c, "DeleteWorkspaceRoleAssignment", ws, id)
	return w.write(ctx, e, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.WorkspaceRoleAssignmentsRead, ws); err != nil {
			return err
		}
		_, err := w.take(tx, c, rbac.WorkspaceRoleAssignmentsDelete, ws, id, "")
		return err
	})
}

// take removes an assignment, unless no Admin would be left once its principal
// has the role to come.
func (w *Workspaces) take(tx Tx, c identity.Caller, action rbac.Action, ws encryption.ScopeID, id string, next Role) (rbac.Assignment, error) {
	own, err := assigned(tx, ws)
	if err != nil {
		return rbac.Assignment{}, err
	}
	a, err := findAssignment(own, id)
	if err != nil {
		return a, err
	}
	if err := w.mayGrant(tx, c, action, a.Role, ws); err != nil {
		return a, err
	}
	admins := 0
	for _, o := range own {
		if o.Role == rbac.WorkspaceAdmin && o.Expires.IsZero() {
			admins++
		}
	}
	if a.Role == rbac.WorkspaceAdmin && a.Expires.IsZero() && next != Admin && admins == 1 {
		return a, fault.New(fault.Conflict, "This is the workspace's last Admin.").WithMend("Make another principal Admin first.")
	}
	return a, tx.DeleteRoleAssignment(id)
}

func assignmentEntry(c identity.Caller, operation string, ws encryption.ScopeID, id string) audit.Entry {
	return c.Entry(operation, resourceOf(ws)+"/roleAssignments/"+known(id))
}
