// Package settings is the portal's part for the tenant's settings: whether workspaces
// may be put under customers' keys at all, whether they may leave them, and how long a
// key may be used before its vault is asked again.
package settings

import (
	"context"
	"embed"
	"net/http"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	return portal.Section{
		Name: "settings", Title: "Tenant settings", Group: "Platform", Icon: "settings", Templates: templates,
		Routes: map[string]portal.Handler{"GET /settings": show, "POST /settings/{name}": change},
		Visible: func(ctx context.Context, c *client.Clients) bool {
			_, err := c.Settings(ctx)
			return err == nil
		},
	}
}

// bound is the setting that has a number.
const bound = "CustomerManagedKeyKillSwitchBound"

// texts say what a setting does, for people.
var texts = map[string]string{
	"ApplyCustomerManagedKeys":    "Without this nobody applies, changes or resets a workspace’s key. What is encrypted stays encrypted.",
	"AllowCustomerManagedKeyExit": "Lets workspaces go back to platform-managed keys while the setting above is off.",
	bound:                         "The kill-switch bound of all workspaces and storage accounts. An installation’s own bound, a workspace’s and a key’s hold if they are lower.",
}

type row struct {
	client.Setting
	Text    string
	Numeric bool
	Value   string
}

func show(c *portal.Call) error {
	all, err := c.Parties.Settings(c.Context())
	if err != nil {
		return err
	}
	rows := make([]row, len(all))
	for i, s := range all {
		rows[i] = row{Setting: s, Text: texts[s.Name], Numeric: s.Name == bound}
		for _, p := range s.Properties {
			rows[i].Value = p.Value
		}
	}
	return c.Render(portal.View{Title: "Tenant settings", Subtitle: "They hold for every workspace and storage account of the tenant.", Template: "settings/settings", Data: rows})
}

func change(c *portal.Call) error {
	name, on := c.R.PathValue("name"), c.R.PostFormValue("enabled") == "true"
	var properties []client.SettingProperty
	if name == bound && on {
		n, err := strconv.Atoi(strings.TrimSpace(c.R.PostFormValue("seconds")))
		if err != nil || n < 1 {
			return &portal.Problem{Status: http.StatusBadRequest, Title: "Nothing was changed", Detail: "The bound is a whole number of seconds."}
		}
		properties = append(properties, client.SettingProperty{Name: "Seconds", Value: strconv.Itoa(n), Type: "Integer"})
	}
	if err := c.Parties.SetSetting(c.Context(), name, on, properties...); err != nil {
		return err
	}
	return c.Done("/settings", "The setting is changed.")
}
