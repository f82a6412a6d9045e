package fabric

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

type adminWorkspace struct {
	ID         string           `json:"id"`
	Name       string           `json:"name"`
	Type       string           `json:"type"`
	State      string           `json:"state"`
	CapacityID string           `json:"capacityId"`
	DomainID   string           `json:"domainId,omitempty"`
	Label      *labelRef        `json:"sensitivityLabel,omitempty"` // ours
	Encryption *adminEncryption `json:"encryption,omitempty"`
}

type adminEncryption struct {
	Status                state  `json:"status"`
	KeyIdentifier         string `json:"keyIdentifier,omitempty"`
	PreviousStatus        state  `json:"previousStatus,omitempty"`
	PreviousKeyIdentifier string `json:"previousKeyIdentifier,omitempty"`

	// Ours.
	Serving serving `json:"serving"`
}

type adminPage struct {
	Workspaces []adminWorkspace `json:"workspaces"`
	paging
}

// adminWorkspaces lists the tenant's workspaces. A filter can leave a page with
// fewer than it could have, or none, before the last.
func (c *call) adminWorkspaces() error {
	q := c.r.URL.Query()
	withEncryption := slices.Contains(strings.Split(strings.ToLower(q.Get("include")), ","), "encryption")
	wanted := state("")
	if withEncryption {
		wanted = state(q.Get("encryptionStatus"))
	}
	after, err := c.after("admin workspaces")
	if err != nil {
		return err
	}
	all, more, err := c.ws.AdminList(c.r.Context(), c.caller, encryption.ScopeID(after), c.config.PageSize)
	if err != nil {
		return err
	}
	p := adminPage{Workspaces: []adminWorkspace{}}
	for _, ws := range all {
		if !adminMatch(ws, q.Get) {
			continue
		}
		a := toAdmin(ws)
		if withEncryption {
			s, err := c.enc.Status(c.r.Context(), c.caller, ws.ID)
			if fault.ReasonOf(err) == fault.WorkspaceNotFound {
				continue // deleted since
			}
			if err != nil {
				return err
			}
			a.Encryption = toAdminEncryption(s)
			if wanted != "" && !strings.EqualFold(string(wanted), string(a.Encryption.Status)) {
				continue
			}
		}
		p.Workspaces = append(p.Workspaces, a)
	}
	if more {
		p.paging = c.next("admin workspaces", string(all[len(all)-1].ID))
	}
	return c.answer(http.StatusOK, p)
}

func toAdmin(ws workspace.Workspace) adminWorkspace {
	return adminWorkspace{
		ID: string(ws.ID), Name: ws.DisplayName, Type: workspace.Kind, State: "Active", CapacityID: string(ws.Capacity),
		DomainID: string(ws.Domain), Label: toLabelRef(ws.Label),
	}
}

func (c *call) adminWorkspace() error {
	id, err := c.workspace()
	if err != nil {
		return err
	}
	ws, err := c.ws.AdminGet(c.r.Context(), c.caller, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, toAdmin(ws))
}

func adminMatch(ws workspace.Workspace, get func(string) string) bool {
	for _, f := range []struct{ want, have string }{
		{get("capacityId"), string(ws.Capacity)}, {get("type"), workspace.Kind}, {get("name"), ws.DisplayName}, {get("state"), "Active"},
		{get("domainId"), string(ws.Domain)},
	} {
		if f.want != "" && !strings.EqualFold(f.want, f.have) {
			return false
		}
	}
	return true
}

func toAdminEncryption(s encryption.Status) *adminEncryption {
	e := toEncryption(s, nil)
	a := &adminEncryption{Status: e.Detail.EncryptionStatus, KeyIdentifier: e.Detail.KeyIdentifier, Serving: e.Serving}
	if e.Previous != nil {
		a.PreviousStatus, a.PreviousKeyIdentifier = e.Previous.EncryptionStatus, e.Previous.KeyIdentifier
	}
	return a
}

type setting struct {
	Name             string `json:"settingName"`
	Title            string `json:"title"`
	Enabled          bool   `json:"enabled"`
	CanSpecifyGroups bool   `json:"canSpecifySecurityGroups"`
	Group            string `json:"tenantSettingGroup"`

	Properties []settingProperty `json:"properties,omitempty"`

	MayChange bool `json:"mayChange,omitempty"` // ours: whether the caller may
}

// A settingProperty is what a setting is set to, beside on or off.
type settingProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Type  string `json:"type"`
}

func toSetting(s workspace.Setting) setting {
	w := setting{Name: s.Name, Title: s.Title, Enabled: s.Enabled, Group: s.Group, MayChange: s.MayChange}
	if s.Property != "" && s.Enabled {
		w.Properties = []settingProperty{{s.Property, strconv.FormatInt(s.Value, 10), "Integer"}}
	}
	return w
}

func (c *call) listSettings() error {
	all, err := c.ws.Settings(c.r.Context(), c.caller)
	if err != nil {
		return err
	}
	p := page[setting]{Value: []setting{}}
	for _, s := range all {
		p.Value = append(p.Value, toSetting(s))
	}
	return c.answer(http.StatusOK, p)
}

func (c *call) updateSetting() error {
	var body struct {
		Enabled    *bool             `json:"enabled"`
		Properties []settingProperty `json:"properties"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	if body.Enabled == nil {
		return fault.New(fault.InvalidArgument, "The body has no enabled.")
	}
	var value int64
	for _, p := range body.Properties { // no setting has two
		n, err := strconv.ParseInt(p.Value, 10, 32)
		if err != nil || n <= 0 || len(body.Properties) > 1 {
			return fault.New(fault.InvalidArgument, "A tenant setting has one property at most, and its value is a number.")
		}
		value = n
	}
	s, err := c.ws.UpdateSetting(c.r.Context(), c.caller, c.r.PathValue("name"), *body.Enabled, value)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, struct {
		Settings []setting `json:"tenantSettings"`
	}{[]setting{toSetting(s)}})
}

type capacity struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	SKU         string `json:"sku"`
	Region      string `json:"region"`
	State       string `json:"state"`
}

func toCapacity(k workspace.Capacity) capacity {
	return capacity{string(k.ID), k.DisplayName, k.SKU, k.Region, k.State}
}

func (c *call) listCapacities() error {
	all, err := c.ws.Capacities(c.r.Context(), c.caller)
	if err != nil {
		return err
	}
	p := page[capacity]{Value: []capacity{}}
	for _, k := range all {
		p.Value = append(p.Value, toCapacity(k))
	}
	return c.answer(http.StatusOK, p)
}

func (c *call) getCapacity() error {
	all, err := c.ws.Capacities(c.r.Context(), c.caller)
	if err != nil {
		return err
	}
	for _, k := range all {
		if strings.EqualFold(string(k.ID), c.r.PathValue("id")) {
			return c.answer(http.StatusOK, toCapacity(k))
		}
	}
	return fault.New(fault.CapacityNotFound, "There is no such capacity, or you may not see it.")
}
