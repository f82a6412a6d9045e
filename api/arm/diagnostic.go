package arm

import (
	"net/http"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

const diagnosticType = "Microsoft.Insights/diagnosticSettings"

func diagnostic(p vault.Path, d vault.DiagnosticSetting) resource {
	logs := []any{}
	for _, l := range d.Logs {
		log := map[string]any{"category": nil, "categoryGroup": nil, "enabled": l.Enabled, "retentionPolicy": map[string]any{"enabled": false, "days": 0}}
		if l.Category != "" {
			log["category"] = l.Category
		} else {
			log["categoryGroup"] = l.Group
		}
		logs = append(logs, log)
	}
	return resource{
		ID: p.Scope() + "/providers/microsoft.insights/diagnosticSettings/" + rbac.Scope(d.Name), Name: d.Name, Type: diagnosticType,
		Properties: map[string]any{
			"workspaceId": d.Sink, "storageAccountId": nil, "eventHubAuthorizationRuleId": nil, "eventHubName": nil,
			"logs": logs, "metrics": []any{},
		},
	}
}

func (c *call) listDiagnostics() error {
	p, err := c.at()
	if err != nil {
		return err
	}
	all, err := c.vaults.DiagnosticSettings(c.ctx, c.caller, p)
	if err != nil {
		return err
	}
	out := []any{}
	for _, d := range all {
		out = append(out, diagnostic(p, d))
	}
	return c.list(out)
}

func (c *call) getDiagnostic() error {
	p, err := c.at()
	if err != nil {
		return err
	}
	d, err := c.vaults.DiagnosticSetting(c.ctx, c.caller, p, c.seg[11])
	return c.write(http.StatusOK, diagnostic(p, d), err)
}

// putDiagnostic takes one destination. What is not a Log Analytics workspace goes to
// the domain all the same, whose refusal says what to do.
func (c *call) putDiagnostic() error {
	p, err := c.at()
	if err != nil {
		return err
	}
	var body struct {
		Properties struct {
			Workspace string             `json:"workspaceId"`
			Storage   string             `json:"storageAccountId"`
			EventHub  string             `json:"eventHubAuthorizationRuleId"`
			Partner   string             `json:"marketplacePartnerId"`
			Logs      []vault.LogSetting `json:"logs"`
			Metrics   []struct {
				Enabled bool `json:"enabled"`
			} `json:"metrics"`
		} `json:"properties"`
	}
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	var sinks []string
	for _, s := range []string{body.Properties.Workspace, body.Properties.Storage, body.Properties.EventHub, body.Properties.Partner} {
		if s != "" {
			sinks = append(sinks, s)
		}
	}
	if len(sinks) != 1 {
		return fault.New(fault.InvalidArgument, "A diagnostic setting has one destination.")
	}
	for _, m := range body.Properties.Metrics {
		if m.Enabled {
			return fault.New(fault.NotSupported, "Metrics of a vault are not supported as a diagnostic setting.")
		}
	}
	d, err := c.vaults.PutDiagnosticSetting(c.ctx, c.caller, p, vault.DiagnosticSetting{
		Name: c.seg[11], Sink: rbac.Scope(sinks[0]), Logs: body.Properties.Logs,
	})
	return c.write(http.StatusOK, diagnostic(p, d), err)
}

func (c *call) deleteDiagnostic() error {
	p, err := c.at()
	if err != nil {
		return err
	}
	return c.gone(c.vaults.DeleteDiagnosticSetting(c.ctx, c.caller, p, c.seg[11]), fault.ResourceNotFound)
}

// listCategories tells what a vault's records are.
func (c *call) listCategories() error {
	p, err := c.at()
	if err != nil {
		return err
	}
	if _, err := c.vaults.DiagnosticSettings(c.ctx, c.caller, p); err != nil {
		return err
	}
	return c.list([]any{resource{
		ID: p.Scope() + "/providers/microsoft.insights/diagnosticSettingsCategories/AuditEvent", Name: "AuditEvent",
		Type:       diagnosticType + "Categories",
		Properties: map[string]any{"categoryType": "Logs", "categoryGroups": []string{"audit", "allLogs"}},
	}})
}
