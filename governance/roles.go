package governance

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// Roles returns who has which role, in the order in which they were given.
func (r *Records) Roles(ctx context.Context, c identity.Caller) (all []rbac.Assignment, err error) {
	err = r.read(ctx, c, rbac.GovernanceRolesRead, "ListRoleAssignments", "/roleAssignments", func(tx Tx) error {
		all, err = tx.RoleAssignmentsAt("/", false)
		slices.SortFunc(all, func(a, b rbac.Assignment) int {
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
		})
		return err
	})
	return all, err
}

// Rights returns which of governance's actions the caller may do. It tells him nothing that
// trying would not, and is not in the log.
func (r *Records) Rights(ctx context.Context, c identity.Caller) (may []rbac.Action, err error) {
	err = r.Store.View(ctx, func(tx Tx) error {
		may = nil
		for _, a := range rbac.GovernanceActions {
			switch err := r.permit(tx, c, a); fault.ReasonOf(err) {
			case "":
				may = append(may, a)
			case fault.Denied:
			default:
				return err
			}
		}
		return nil
	})
	return may, err
}

// A Grant is a role to be given to a principal of the installation's own tenant.
type Grant struct {
	Principal     identity.PrincipalID
	PrincipalType identity.PrincipalType
	Role          rbac.RoleID
}

// GiveRole gives a role to somebody else than the caller, who holds all that it allows.
func (r *Records) GiveRole(ctx context.Context, c identity.Caller, g Grant) (as rbac.Assignment, err error) {
	e := c.Entry("AddRoleAssignment", "/roleAssignments")
	return as, r.write(ctx, &e, func(tx Tx) error {
		if err := r.permit(tx, c, rbac.GovernanceRolesWrite); err != nil {
			return err
		}
		as = rbac.Assignment{
			ID: uuid.NewString(), Tenant: r.Tenant, Principal: identity.PrincipalID(strings.ToLower(string(g.Principal))), PrincipalType: g.PrincipalType,
			Role: rbac.RoleID(strings.ToLower(string(g.Role))), Scope: "/", Created: r.now(), CreatedBy: c.Principal,
		}
		if err := checkGrant(as); err != nil {
			return err
		}
		e.Resource, e.Detail = "/roleAssignments/"+as.ID, map[string]string{"principal": string(as.Principal), "role": string(as.Role)}
		if slices.Contains(c.Subjects(), as.Principal) {
			return fault.New(fault.Denied, "Nobody gives a role to himself, or to a group that he is in.").WithMend("Have another Governance Officer give it.")
		}
		return tx.PutRoleAssignment(as)
	})
}

func checkGrant(as rbac.Assignment) error {
	if !uuidPattern.MatchString(string(as.Principal)) {
		return fault.New(fault.InvalidArgument, "A principal is named by its object id, a UUID.")
	}
	if !slices.Contains([]identity.PrincipalType{identity.User, identity.Group, identity.ServicePrincipal}, as.PrincipalType) {
		return fault.New(fault.InvalidArgument, "A principal is a User, a Group or a ServicePrincipal.")
	}
	if _, ok := rbac.GovernanceRoles.Lookup(as.Role); !ok {
		return fault.New(fault.InvalidArgument, "Governance has no such role.").WithMend("Its roles are Governance Reader and Governance Officer.")
	}
	return nil
}

// TakeRole takes a role away, which may be the caller's own. The last officer's stays:
// nobody could give one again.
func (r *Records) TakeRole(ctx context.Context, c identity.Caller, id string) (as rbac.Assignment, err error) {
	e := c.Entry("RemoveRoleAssignment", "/roleAssignments/"+identifier(id))
	return as, r.write(ctx, &e, func(tx Tx) error {
		if err := r.permit(tx, c, rbac.GovernanceRolesDelete); err != nil {
			return err
		}
		if as, err = tx.RoleAssignment(strings.ToLower(id)); err != nil {
			return err
		}
		e.Detail = map[string]string{"principal": string(as.Principal), "role": string(as.Role)}
		all, err := tx.RoleAssignmentsAt("/", false)
		if err != nil {
			return err
		}
		if as.Role == rbac.GovernanceOfficer && !slices.ContainsFunc(all, func(o rbac.Assignment) bool { return o.ID != as.ID && o.Role == rbac.GovernanceOfficer }) {
			return fault.New(fault.Conflict, "This is the last Governance Officer: nobody could give a role any more.").WithMend("Give the role to somebody else first.")
		}
		return tx.DeleteRoleAssignment(as.ID)
	})
}
