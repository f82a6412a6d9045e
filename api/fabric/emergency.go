package fabric

import (
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

// An emergencyAccess is ours: Fabric has none.
type emergencyAccess struct {
	ID          string     `json:"id"`
	Workspace   string     `json:"workspaceId"`
	Role        string     `json:"role"`
	State       string     `json:"state"`
	RequestedBy string     `json:"requestedBy"`
	Requested   time.Time  `json:"requestedDateTime"`
	Expires     time.Time  `json:"requestExpiresDateTime"`
	DecidedBy   string     `json:"decidedBy,omitempty"`
	Until       *time.Time `json:"accessUntilDateTime,omitempty"` // while there is access
}

func toEmergency(e workspace.EmergencyAccess) emergencyAccess {
	a := emergencyAccess{
		ID: e.ID, Workspace: string(e.Workspace), Role: string(e.Role), State: string(e.State),
		RequestedBy: string(e.RequestedBy), Requested: e.Requested, Expires: e.Expires, DecidedBy: string(e.DecidedBy),
	}
	if !e.Until.IsZero() {
		a.Until = &e.Until
	}
	return a
}

func (c *call) listEmergencies() error {
	all, err := c.ws.Emergencies(c.r.Context(), c.caller)
	if err != nil {
		return err
	}
	p := page[emergencyAccess]{Value: []emergencyAccess{}}
	for _, e := range all {
		p.Value = append(p.Value, toEmergency(e))
	}
	return c.answer(http.StatusOK, p)
}

func (c *call) requestEmergency() error {
	var body struct {
		Workspace string `json:"workspaceId"`
		Role      string `json:"role"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	if !workspace.IsID(body.Workspace) {
		return fault.New(fault.InvalidArgument, "The body needs workspaceId, the id of the workspace.")
	}
	e, err := c.ws.RequestEmergency(c.r.Context(), c.caller, encryption.ScopeID(strings.ToLower(body.Workspace)), workspace.Role(body.Role))
	if err != nil {
		return err
	}
	return c.answer(http.StatusAccepted, toEmergency(e))
}

func (c *call) approveEmergency() error {
	var body struct {
		Minutes int64 `json:"minutes"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	if body.Minutes < 1 || body.Minutes > int64(workspace.MaxEmergency/time.Minute) {
		return fault.New(fault.InvalidArgument, "The body needs minutes: for how long the access lasts, 240 at most.")
	}
	return c.decideEmergency(true, time.Duration(body.Minutes)*time.Minute)
}

func (c *call) rejectEmergency() error { return c.decideEmergency(false, 0) }

func (c *call) decideEmergency(agree bool, lasting time.Duration) error {
	id, err := c.id("id", fault.ApprovalNotFound)
	if err != nil {
		return err
	}
	e, err := c.ws.DecideEmergency(c.r.Context(), c.caller, id, agree, lasting)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, toEmergency(e))
}
