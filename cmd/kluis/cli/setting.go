package cli

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// TenantSettings returns the command for a tenant's settings on the platform.
func TenantSettings() *cobra.Command {
	return group("setting", "See and change the tenant's settings, as its administrator", "admin", settingList, settingSet)
}

type (
	tenantSetting struct {
		Name       string            `json:"settingName"`
		Title      string            `json:"title"`
		Enabled    bool              `json:"enabled"`
		Group      string            `json:"tenantSettingGroup"`
		Properties []settingProperty `json:"properties,omitempty"`
	}
	settingProperty struct {
		Name  string `json:"name"`
		Value string `json:"value"`
		Type  string `json:"type,omitempty"`
	}
)

func (s *session) showSettingRows(v any, all []tenantSetting) error {
	var rows [][]string
	for _, t := range all {
		value := "-"
		for _, p := range t.Properties {
			value = p.Value + " " + strings.ToLower(p.Name)
		}
		rows = append(rows, []string{t.Name, yes(t.Enabled), value, t.Title})
	}
	return s.show(v, "SETTING,ON,VALUE,WHAT IT DOES", rows)
}

func settingList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tenant's settings",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := s.engineer()
			if err != nil {
				return err
			}
			var answer struct {
				Value []tenantSetting `json:"value"`
			}
			if err := e.Fabric.Call(cmd.Context(), "GET", "/admin/tenantsettings", nil, &answer); err != nil {
				return err
			}
			return s.showSettingRows(answer.Value, answer.Value)
		},
	}
}

func settingSet(s *session) *cobra.Command {
	var value int64
	c := &cobra.Command{
		Use:   "set NAME on|off",
		Short: "Switch one of the tenant's settings",
		Long: `Switch one of the tenant's settings.

CustomerManagedKeyKillSwitchBound takes its bound with --value, in seconds: how long at
most a customer's key is used, in any workspace or storage account of the tenant, before
its vault is asked again. The installation's own bound holds where it is lower.`,
		Example: "  kluis tenant setting set CustomerManagedKeyKillSwitchBound on --value 30\n  kluis tenant setting set ApplyCustomerManagedKeys off",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] != "on" && args[1] != "off" {
				return usage("a setting is switched on or off, not %q", args[1])
			}
			body := struct {
				Enabled    bool              `json:"enabled"`
				Properties []settingProperty `json:"properties,omitempty"`
			}{Enabled: args[1] == "on"}
			if cmd.Flags().Changed("value") {
				body.Properties = []settingProperty{{Name: "Seconds", Value: strconv.FormatInt(value, 10), Type: "Integer"}}
			}
			e, err := s.engineer()
			if err != nil {
				return err
			}
			var answer struct {
				Settings []tenantSetting `json:"tenantSettings"`
			}
			if err := e.Fabric.Call(cmd.Context(), "POST", "/admin/tenantsettings/"+url.PathEscape(args[0])+"/update", body, &answer); err != nil {
				return err
			}
			return s.showSettingRows(answer.Settings, answer.Settings)
		},
	}
	c.Flags().Int64Var(&value, "value", 0, "the setting's number, where it has one")
	return c
}
