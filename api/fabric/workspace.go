package fabric

import (
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/workspace"
)

type workspaceBody struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	Description string `json:"description"`
	Type        string `json:"type"`
	CapacityID  string `json:"capacityId,omitempty"`
	DomainID    string `json:"domainId,omitempty"`

	// Label is ours: Fabric labels items only.
	Label *labelRef `json:"sensitivityLabel,omitempty"`
	// Unreadable is ours too: why the description is not told.
	Unreadable fault.Reason `json:"descriptionUnreadable,omitempty"`
}

type workspaceInfo struct {
	workspaceBody
	CapacityAssignmentProgress string           `json:"capacityAssignmentProgress"`
	CapacityRegion             string           `json:"capacityRegion"`
	OneLakeEndpoints           *oneLakeEndpoint `json:"oneLakeEndpoints,omitempty"`
}

type oneLakeEndpoint struct {
	Blob string `json:"blobEndpoint"`
	DFS  string `json:"dfsEndpoint"`
}

func toWorkspace(ws workspace.Workspace) workspaceBody {
	return workspaceBody{
		ID: string(ws.ID), DisplayName: ws.DisplayName, Description: ws.Description, Type: workspace.Kind,
		CapacityID: string(ws.Capacity), DomainID: string(ws.Domain), Label: toLabelRef(ws.Label), Unreadable: ws.Unreadable,
	}
}

func (c *call) listWorkspaces() error {
	roles, listing := []workspace.Role(nil), "workspaces"
	if q := c.r.URL.Query().Get("roles"); q != "" {
		for name := range strings.SplitSeq(q, ",") {
			r := workspace.Role(strings.TrimSpace(name))
			if !r.Valid() {
				return fault.New(fault.InvalidArgument, "roles takes Admin, Member, Contributor and Viewer.")
			}
			roles = append(roles, r)
			if len(roles) > 4 {
				return fault.New(fault.InvalidArgument, "roles names a role twice.")
			}
			listing += " " + string(r)
		}
	}
	after, err := c.after(listing)
	if err != nil {
		return err
	}
	all, more, err := c.ws.List(c.r.Context(), c.caller, roles, encryption.ScopeID(after), c.config.PageSize)
	if err != nil {
		return err
	}
	p := struct {
		page[workspaceBody]
		MayCreate bool `json:"mayCreate,omitempty"` // ours: the caller
	}{page[workspaceBody]{Value: []workspaceBody{}}, c.ws.MayCreate(c.r.Context(), c.caller)}
	for _, ws := range all {
		p.Value = append(p.Value, toWorkspace(ws))
	}
	if more {
		p.paging = c.next(listing, string(all[len(all)-1].ID))
	}
	return c.answer(http.StatusOK, p)
}

func (c *call) createWorkspace() error {
	var body struct {
		DisplayName string `json:"displayName"`
		Description string `json:"description"`
		CapacityID  string `json:"capacityId"`
		DomainID    string `json:"domainId"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	ws, err := c.ws.Create(c.r.Context(), c.caller, workspace.NewWorkspace{
		DisplayName: body.DisplayName, Description: body.Description, Capacity: workspace.CapacityID(body.CapacityID),
		Domain: workspace.DomainID(strings.ToLower(body.DomainID)),
	})
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", c.url("/v1/workspaces/"+string(ws.ID)))
	return c.answer(http.StatusCreated, toWorkspace(ws))
}

func (c *call) getWorkspace() error {
	id, err := c.workspace()
	if err != nil {
		return err
	}
	ws, err := c.ws.Get(c.r.Context(), c.caller, id)
	if err != nil {
		return err
	}
	info := workspaceInfo{
		workspaceBody: toWorkspace(ws), CapacityAssignmentProgress: "Completed",
		CapacityRegion: c.ws.CapacityOf(ws).Region,
	}
	if c.config.BlobEndpoint != "" {
		info.OneLakeEndpoints = &oneLakeEndpoint{c.config.BlobEndpoint, c.config.DFSEndpoint}
	}
	return c.answer(http.StatusOK, info)
}

type changeBody struct {
	DisplayName *string `json:"displayName"`
	Description *string `json:"description"`
}

func (c *call) change() (workspace.Change, error) {
	var body changeBody
	if err := c.read(bodyLimit, &body); err != nil {
		return workspace.Change{}, err
	}
	if body.DisplayName == nil && body.Description == nil {
		return workspace.Change{}, fault.New(fault.InvalidArgument, "The body has neither displayName nor description.")
	}
	return workspace.Change(body), nil
}

func (c *call) updateWorkspace() error {
	id, err := c.workspace()
	if err != nil {
		return err
	}
	ch, err := c.change()
	if err != nil {
		return err
	}
	ws, err := c.ws.Update(c.r.Context(), c.caller, id, ch)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, toWorkspace(ws))
}

func (c *call) deleteWorkspace() error {
	id, err := c.workspace()
	if err != nil {
		return err
	}
	return c.shredded(string(id), c.ws.Delete(c.r.Context(), c.caller, id))
}

type principal struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

type roleAssignment struct {
	ID        string    `json:"id"`
	Principal principal `json:"principal"`
	Role      string    `json:"role"`
}

func toRole(a workspace.RoleAssignment) roleAssignment {
	return roleAssignment{a.ID, principal{string(a.Principal), string(a.PrincipalType)}, string(a.Role)}
}

// listRoles answers all at once: a workspace has at most 1,000.
func (c *call) listRoles() error {
	id, err := c.workspace()
	if err != nil {
		return err
	}
	all, err := c.ws.RoleAssignments(c.r.Context(), c.caller, id)
	if err != nil {
		return err
	}
	p := page[roleAssignment]{Value: []roleAssignment{}}
	for _, a := range all {
		p.Value = append(p.Value, toRole(a))
	}
	return c.answer(http.StatusOK, p)
}

func (c *call) addRole() error {
	id, err := c.workspace()
	if err != nil {
		return err
	}
	var body struct {
		Principal principal `json:"principal"`
		Role      string    `json:"role"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	a, err := c.ws.AddRoleAssignment(c.r.Context(), c.caller, id, identity.PrincipalID(strings.ToLower(body.Principal.ID)),
		identity.PrincipalType(body.Principal.Type), workspace.Role(body.Role))
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", c.url("/v1/workspaces/"+string(id)+"/roleAssignments/"+a.ID))
	return c.answer(http.StatusCreated, toRole(a))
}

func (c *call) role() (ws encryption.ScopeID, id string, err error) {
	if ws, err = c.workspace(); err == nil {
		id, err = c.id("id", fault.RoleAssignmentNotFound)
	}
	return ws, id, err
}

func (c *call) getRole() error {
	ws, id, err := c.role()
	if err != nil {
		return err
	}
	a, err := c.ws.RoleAssignment(c.r.Context(), c.caller, ws, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, toRole(a))
}

func (c *call) updateRole() error {
	ws, id, err := c.role()
	if err != nil {
		return err
	}
	var body struct {
		Role string `json:"role"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	a, err := c.ws.UpdateRoleAssignment(c.r.Context(), c.caller, ws, id, workspace.Role(body.Role))
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, toRole(a))
}

func (c *call) deleteRole() error {
	ws, id, err := c.role()
	if err != nil {
		return err
	}
	return c.done(c.ws.DeleteRoleAssignment(c.r.Context(), c.caller, ws, id))
}
