package workspace

import (
	"context"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Setting is a tenant's switch.
type Setting struct {
	Name    string
	Title   string
	Group   string
	Enabled bool
}

// ApplyCustomerManagedKeys is the switch without which nobody may assign, change
// or reset a workspace's key. What is encrypted stays encrypted.
const ApplyCustomerManagedKeys = encryption.SettingCustomerManagedKeys

// AllowCustomerManagedKeyExit lets keys be reset while the switch is off.
const AllowCustomerManagedKeyExit = encryption.SettingExitAllowed

// settings are all switches, as they are until a tenant changes them.
var settings = []Setting{
	{Name: ApplyCustomerManagedKeys, Title: "Apply customer-managed keys", Group: "Encryption", Enabled: true},
	{Name: AllowCustomerManagedKeyExit, Title: "Reset customer-managed keys while they cannot be applied", Group: "Encryption"},
}

// SettingDefault tells how a switch stands until a tenant changes it; an unknown
// one is off.
func SettingDefault(name string) bool {
	for _, s := range settings {
		if s.Name == name {
			return s.Enabled
		}
	}
	return false
}

// Settings returns the caller's tenant's settings.
func (w *Workspaces) Settings(ctx context.Context, c identity.Caller) (all []Setting, err error) {
	err = w.read(ctx, c, "ListTenantSettings", "/tenantsettings", func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.TenantSettingsRead); err != nil {
			return err
		}
		all, err = tenantSettings(tx, c.Tenant)
		return err
	})
	return all, err
}

func tenantSettings(tx Tx, tenant identity.TenantID) ([]Setting, error) {
	rows, err := tx.TenantSettings(tenant)
	if err != nil {
		return nil, err
	}
	all := append([]Setting(nil), settings...)
	for i := range all {
		for _, r := range rows {
			if r.Name == all[i].Name {
				all[i].Enabled = r.Enabled
			}
		}
	}
	return all, nil
}

// UpdateSetting turns one of the caller's tenant's settings on or off.
func (w *Workspaces) UpdateSetting(ctx context.Context, c identity.Caller, name string, enabled bool) (Setting, error) {
	var set Setting
	// The name becomes part of the audit log only once it is known to be one of ours.
	e := c.Entry("UpdateTenantSetting", "/tenantsettings")
	for _, s := range settings {
		if s.Name == name {
			set = s
			e.Resource += "/" + name
		}
	}
	set.Enabled = enabled
	e.Detail = map[string]string{"enabled": map[bool]string{true: "true", false: "false"}[enabled]}
	return set, w.write(ctx, e, func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.TenantSettingsWrite); err != nil {
			return err
		}
		if set.Name == "" {
			return fault.New(fault.NotFound, "There is no such tenant setting.")
		}
		return tx.PutTenantSetting(SettingRow{
			Tenant: c.Tenant, Name: name, Enabled: enabled, Changed: w.time(), ChangedBy: c.Principal,
		})
	})
}
