package keyvault

import (
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// What clients get of kluis's own paths; see the package comment.
type (
	approval struct {
		ID          string     `json:"id"`
		Operation   string     `json:"operation"`
		Resource    rbac.Scope `json:"resource"`
		Action      string     `json:"action"`
		State       string     `json:"state"`
		RequestedBy string     `json:"requestedBy"`
		Requested   time.Time  `json:"requested"`
		Expires     time.Time  `json:"expires"`
		DecidedBy   string     `json:"decidedBy,omitempty"`
		Decided     time.Time  `json:"decided,omitzero"`
		Executed    time.Time  `json:"executed,omitzero"`
	}
	holder struct {
		Principal   string     `json:"principalId"`
		Type        string     `json:"principalType,omitempty"`
		Application string     `json:"applicationId,omitempty"`
		Assignment  string     `json:"roleAssignmentId,omitempty"` // none: by an access policy
		Role        string     `json:"roleDefinitionId,omitempty"`
		Scope       rbac.Scope `json:"scope"`
	}
)

func showApproval(a rbac.Approval) approval {
	state := string(a.State)
	if (a.State == rbac.ApprovalPending || a.State == rbac.ApprovalApproved) && !a.Live(time.Now()) {
		state = "expired"
	}
	return approval{
		ID: a.ID, Operation: a.Operation, Resource: a.Scope, Action: string(a.Action), State: state,
		RequestedBy: string(a.RequestedBy), Requested: a.Requested, Expires: a.Expires,
		DecidedBy: string(a.DecidedBy), Decided: a.Decided, Executed: a.Executed,
	}
}

// custody serves kluis's own paths, and reports whether the request was for one.
func (c *call) custody() (own bool, err error) {
	seg := strings.Split(strings.Trim(c.r.URL.EscapedPath(), "/"), "/")
	var method string
	var run func() error
	switch {
	case strings.EqualFold(seg[0], "access") && len(seg) == 1:
		method, run = http.MethodGet, c.access
	case !strings.EqualFold(seg[0], "approvals"):
		return false, nil
	case len(seg) == 1:
		method, run = http.MethodGet, c.approvals
	case len(seg) == 2:
		method, run = http.MethodGet, func() error { return c.approval(seg[1]) }
	case len(seg) == 3 && (strings.EqualFold(seg[2], "approve") || strings.EqualFold(seg[2], "reject")):
		method, run = http.MethodPost, func() error { return c.decide(seg[1], strings.EqualFold(seg[2], "approve")) }
	default:
		return true, fault.New(fault.NotFound, "There is nothing at this path.")
	}
	if c.r.Method != method {
		c.w.Header().Set("Allow", method)
		return true, fault.New(fault.MethodNotAllowed, "The method is not allowed at this path.")
	}
	return true, run()
}

func (c *call) approvals() error {
	all, err := c.vaults.Approvals(c.ctx, c.caller, c.vault)
	if err != nil {
		return err
	}
	out := []approval{}
	for _, a := range all {
		out = append(out, showApproval(a))
	}
	api.WriteJSON(c.w, http.StatusOK, map[string]any{"value": out})
	return nil
}

func (c *call) approval(id string) error {
	a, err := c.vaults.Approval(c.ctx, c.caller, c.vault, id)
	if err == nil {
		api.WriteJSON(c.w, http.StatusOK, showApproval(a))
	}
	return err
}

func (c *call) decide(id string, agree bool) error {
	a, err := c.vaults.DecideApproval(c.ctx, c.caller, c.vault, id, agree)
	if err == nil {
		api.WriteJSON(c.w, http.StatusOK, showApproval(a))
	}
	return err
}

// access tells who holds a permission on a key, or on the vault's keys.
func (c *call) access() error {
	q := c.r.URL.Query()
	var key vault.KeyName
	if s := q.Get("key"); s != "" {
		var err error
		if key, err = vault.ParseKeyName(s); err != nil {
			return err
		}
	}
	all, err := c.vaults.WhoCan(c.ctx, c.caller, c.vault, key, q.Get("permission"))
	if err != nil {
		return err
	}
	out := []holder{}
	for _, h := range all {
		out = append(out, holder{
			Principal: string(h.Principal), Type: string(h.Type), Application: h.Application, Assignment: h.Assignment,
			Role: string(h.Role), Scope: h.Scope,
		})
	}
	api.WriteJSON(c.w, http.StatusOK, map[string]any{"value": out})
	return nil
}
