package posture

import (
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A roleAssignment is who has which role; a role is named, or its definition's GUID.
type roleAssignment struct {
	ID            string                 `json:"id"`
	Principal     identity.PrincipalID   `json:"principalId"`
	PrincipalType identity.PrincipalType `json:"principalType"`
	Role          string                 `json:"role"`
	Created       time.Time              `json:"createdAt"`
	CreatedBy     identity.PrincipalID   `json:"createdBy,omitempty"`
}

func showRole(a rbac.Assignment) roleAssignment {
	out := roleAssignment{a.ID, a.Principal, a.PrincipalType, string(a.Role), a.Created, a.CreatedBy}
	if d, ok := rbac.GovernanceRoles.Lookup(a.Role); ok {
		out.Role = d.Name
	}
	return out
}

func (p *posture) rights(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	may, err := p.records.Rights(r.Context(), c)
	if err == nil {
		api.WriteJSON(w, http.StatusOK, list(may))
	}
	return err
}

func (p *posture) roles(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	all, err := p.records.Roles(r.Context(), c)
	if err != nil {
		return err
	}
	out := make([]roleAssignment, len(all))
	for i, a := range all {
		out[i] = showRole(a)
	}
	api.WriteJSON(w, http.StatusOK, list(out))
	return nil
}

func (p *posture) giveRole(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	var body roleAssignment
	if err := api.ReadJSON(r, maxBody, &body); err != nil {
		return err
	}
	g := governance.Grant{Principal: body.Principal, PrincipalType: body.PrincipalType, Role: rbac.RoleID(body.Role)}
	if d, ok := rbac.GovernanceRoles.Named(strings.TrimSpace(body.Role)); ok {
		g.Role = d.ID
	}
	a, err := p.records.GiveRole(r.Context(), c, g)
	if err == nil {
		w.Header().Set("Location", root+"/roleAssignments/"+a.ID)
		api.WriteJSON(w, http.StatusCreated, showRole(a))
	}
	return err
}

func (p *posture) takeRole(w http.ResponseWriter, r *http.Request, c identity.Caller) error {
	_, err := p.records.TakeRole(r.Context(), c, r.PathValue("id"))
	if fault.ReasonOf(err) == fault.RoleAssignmentNotFound {
		err = fault.New(fault.NotFound, "There is no such role assignment.").WithMend("'kluis posture roles list' has them.")
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
