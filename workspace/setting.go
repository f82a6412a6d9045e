package workspace

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Setting is a tenant's switch, some with a number.
type Setting struct {
	Name     string
	Title    string
	Group    string
	Enabled  bool
	Property string // what the number is; "" of a setting that has none
	Value    int64  // 0 while it is off

	MayChange bool // whether who asked for it may change it

	least, most int64
}

// ApplyCustomerManagedKeys is the switch without which nobody may assign, change
// or reset a workspace's key. What is encrypted stays encrypted.
const ApplyCustomerManagedKeys = encryption.SettingCustomerManagedKeys

// AllowCustomerManagedKeyExit lets keys be reset while the switch is off.
const AllowCustomerManagedKeyExit = encryption.SettingExitAllowed

// KillSwitchBound is the kill-switch bound of all the tenant's workspaces and storage
// accounts, in seconds. The installation's holds if it is lower; a workspace's admin
// and a key's owner can only lower it further.
const KillSwitchBound = encryption.SettingBound

// settings are all switches, as they are until a tenant changes them.
var settings = []Setting{
	{Name: ApplyCustomerManagedKeys, Title: "Apply customer-managed keys", Group: "Encryption", Enabled: true},
	{Name: AllowCustomerManagedKeyExit, Title: "Reset customer-managed keys while they cannot be applied", Group: "Encryption"},
	{
		Name: KillSwitchBound, Title: "Limit how long a key is used before its vault is asked again", Group: "Encryption",
		Property: "Seconds", least: int64(encryption.MinBound / time.Second), most: int64(encryption.MaxBound / time.Second),
	},
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
		may := w.permitTenant(tx, c, rbac.TenantSettingsWrite) == nil
		for i := range all {
			all[i].MayChange = may
		}
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
				all[i].Enabled, all[i].Value = r.Enabled, r.Value
			}
		}
	}
	return all, nil
}

// UpdateSetting turns one of the caller's tenant's settings on or off. value is what
// it is set to, if it is more than a switch, and 0 if it is not.
func (w *Workspaces) UpdateSetting(ctx context.Context, c identity.Caller, name string, enabled bool, value int64) (Setting, error) {
	var set Setting
	// The name becomes part of the audit log only once it is known to be one of ours.
	e := c.Entry("UpdateTenantSetting", "/tenantsettings")
	for _, s := range settings {
		if s.Name == name {
			set = s
			e.Resource += "/" + name
		}
	}
	set.Enabled, set.Value = enabled, value
	e.Detail = map[string]string{"enabled": strconv.FormatBool(enabled)}
	if value != 0 {
		e.Detail["value"] = strconv.FormatInt(value, 10)
	}
	return set, w.write(ctx, e, func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.TenantSettingsWrite); err != nil {
			return err
		}
		if set.Name == "" {
			return fault.New(fault.NotFound, "There is no such tenant setting.")
		}
		if err := set.check(); err != nil {
			return err
		}
		return tx.PutTenantSetting(SettingRow{
			Tenant: c.Tenant, Name: name, Enabled: enabled, Value: value, Changed: w.time(), ChangedBy: c.Principal,
		})
	})
}

// check refuses a number that the setting cannot have.
func (s Setting) check() error {
	switch {
	case s.Value != 0 && (s.Property == "" || !s.Enabled):
		return fault.New(fault.InvalidArgument, "The tenant setting takes no properties, or none while it is off.")
	case s.Property != "" && s.Enabled && (s.Value < s.least || s.Value > s.most):
		return fault.New(fault.InvalidArgument, fmt.Sprintf("The tenant setting needs the property %s, a number from %d to %d.", s.Property, s.least, s.most))
	}
	return nil
}
