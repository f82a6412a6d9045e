package fabric

import (
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

// A labelRef names a label on what carries it.
type labelRef struct {
	ID string `json:"id"`
}

func toLabelRef(id workspace.LabelID) *labelRef {
	if id == "" {
		return nil
	}
	return &labelRef{string(id)}
}

// noLabel is how Fabric's clients take a label away from a domain.
const noLabel = "00000000-0000-0000-0000-000000000000"

func labelID(s string) workspace.LabelID {
	if s == noLabel {
		return ""
	}
	return workspace.LabelID(strings.ToLower(s))
}

type label struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	RequiresCMK bool   `json:"requiresCustomerManagedKey"`
}

func toLabel(l workspace.Label) label { return label{string(l.ID), l.Name, l.RequiresCMK} }

// The calls on labels are ours: Fabric takes them from Purview.
func (c *call) listLabels() error {
	all, err := c.ws.Labels(c.r.Context(), c.caller)
	if err != nil {
		return err
	}
	p := page[label]{Value: []label{}}
	for _, l := range all {
		p.Value = append(p.Value, toLabel(l))
	}
	return c.answer(http.StatusOK, p)
}

func (c *call) putLabel(id workspace.LabelID, status int) error {
	var body label
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	l, err := c.ws.PutLabel(c.r.Context(), c.caller, workspace.Label{ID: id, Name: body.DisplayName, RequiresCMK: body.RequiresCMK})
	if err != nil {
		return err
	}
	return c.answer(status, toLabel(l))
}

func (c *call) createLabel() error { return c.putLabel("", http.StatusCreated) }

func (c *call) updateLabel() error {
	id, err := c.id("l", fault.NotFound)
	if err != nil {
		return err
	}
	return c.putLabel(workspace.LabelID(id), http.StatusOK)
}

func (c *call) deleteLabel() error {
	id, err := c.id("l", fault.NotFound)
	if err != nil {
		return err
	}
	return c.done(c.ws.DeleteLabel(c.r.Context(), c.caller, workspace.LabelID(id)))
}

func (c *call) newLabel() (workspace.LabelID, error) {
	var body struct {
		LabelID string `json:"labelId"`
	}
	err := c.read(bodyLimit, &body)
	return labelID(body.LabelID), err
}

func (c *call) labelWorkspace() error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	l, err := c.newLabel()
	if err != nil {
		return err
	}
	return c.done(c.ws.LabelWorkspace(c.r.Context(), c.caller, ws, l))
}

func (c *call) labelItem() error {
	ws, id, err := c.item()
	if err != nil {
		return err
	}
	l, err := c.newLabel()
	if err != nil {
		return err
	}
	return c.done(c.ws.LabelItem(c.r.Context(), c.caller, ws, id, l))
}

type domain struct {
	ID           string `json:"id"`
	DisplayName  string `json:"displayName"`
	Description  string `json:"description"`
	DefaultLabel string `json:"defaultLabelId,omitempty"`
}

func toDomain(d workspace.Domain) domain {
	return domain{string(d.ID), d.Name, d.Description, string(d.Label)}
}

func (c *call) domains() ([]domain, error) {
	all, err := c.ws.Domains(c.r.Context(), c.caller)
	out := []domain{}
	for _, d := range all {
		out = append(out, toDomain(d))
	}
	return out, err
}

func (c *call) listDomains() error {
	all, err := c.domains()
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, page[domain]{Value: all})
}

// listAdminDomains is the administrator's list, whose collection has another name.
func (c *call) listAdminDomains() error {
	all, err := c.domains()
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, struct {
		Domains []domain `json:"domains"`
		paging
	}{Domains: all})
}

func (c *call) domain() (workspace.DomainID, error) {
	id, err := c.id("d", fault.NotFound)
	return workspace.DomainID(id), err
}

// answerDomain answers with a domain.
func (c *call) answerDomain(status int, d workspace.Domain, err error) error {
	if err != nil {
		return err
	}
	return c.answer(status, toDomain(d))
}

func (c *call) getDomain() error {
	id, err := c.domain()
	if err != nil {
		return err
	}
	d, err := c.ws.Domain(c.r.Context(), c.caller, id)
	return c.answerDomain(http.StatusOK, d, err)
}

func (c *call) createDomain() error {
	var body struct {
		DisplayName string `json:"displayName"`
		Description string `json:"description"`
		Parent      string `json:"parentDomainId"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	if body.Parent != "" {
		return fault.New(fault.NotSupported, "Domains in domains are not supported.")
	}
	d, err := c.ws.CreateDomain(c.r.Context(), c.caller, body.DisplayName, body.Description)
	return c.answerDomain(http.StatusCreated, d, err)
}

func (c *call) updateDomain() error {
	id, err := c.domain()
	if err != nil {
		return err
	}
	var body struct {
		changeBody
		DefaultLabel *string `json:"defaultLabelId"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	ch := workspace.DomainChange{Change: workspace.Change(body.changeBody)}
	if body.DefaultLabel != nil {
		ch.Label = new(labelID(*body.DefaultLabel))
	}
	d, err := c.ws.UpdateDomain(c.r.Context(), c.caller, id, ch)
	return c.answerDomain(http.StatusOK, d, err)
}

func (c *call) deleteDomain() error {
	id, err := c.domain()
	if err != nil {
		return err
	}
	return c.done(c.ws.DeleteDomain(c.r.Context(), c.caller, id))
}

func (c *call) listDomainWorkspaces() error {
	id, err := c.domain()
	if err != nil {
		return err
	}
	all, err := c.ws.DomainWorkspaces(c.r.Context(), c.caller, id)
	if err != nil {
		return err
	}
	type entry struct {
		ID          string `json:"id"`
		DisplayName string `json:"displayName"`
	}
	p := page[entry]{Value: []entry{}}
	for _, ws := range all {
		p.Value = append(p.Value, entry{string(ws.ID), ws.DisplayName})
	}
	return c.answer(http.StatusOK, p)
}

// move puts the body's workspaces into a domain, or out of any.
func (c *call) move(to workspace.DomainID) error {
	var body struct {
		Workspaces []string `json:"workspacesIds"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	var ids []encryption.ScopeID
	for _, id := range body.Workspaces {
		ids = append(ids, encryption.ScopeID(strings.ToLower(id)))
	}
	return c.done(c.ws.AssignToDomain(c.r.Context(), c.caller, to, ids...))
}

func (c *call) assignToDomain() error {
	id, err := c.domain()
	if err != nil {
		return err
	}
	return c.move(id)
}

func (c *call) unassignFromDomain() error {
	if _, err := c.domain(); err != nil {
		return err
	}
	return c.move("")
}
