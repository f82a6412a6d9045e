package vault

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

const (
	actionDiagnosticRead   rbac.Action = "Microsoft.Insights/diagnosticSettings/read"
	actionDiagnosticWrite  rbac.Action = "Microsoft.Insights/diagnosticSettings/write"
	actionDiagnosticDelete rbac.Action = "Microsoft.Insights/diagnosticSettings/delete"
)

// A DiagnosticSetting says where a vault's audit records are to go. They are always
// written to the vault's own log, which is the one destination that there is: a
// setting states it for those who look for a statement.
type DiagnosticSetting struct {
	Vault   ID
	Name    string
	Sink    rbac.Scope // resource id of a Log Analytics workspace; see [AuditWorkspace]
	Logs    []LogSetting
	Updated time.Time
}

// A LogSetting switches one category of records, or one group of them.
type LogSetting struct {
	Category string `json:"category,omitempty"`      // AuditEvent
	Group    string `json:"categoryGroup,omitempty"` // audit or allLogs
	Enabled  bool   `json:"enabled"`
}

// AuditWorkspace is the name of the Log Analytics workspace that stands for the
// vault's own audit log, in any resource group.
const AuditWorkspace = "kluis-audit"

var sinkPattern = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.OperationalInsights/workspaces/` + AuditWorkspace + `$`)

var settingPattern = regexp.MustCompile(`^[-\w. ()]{1,260}$`)

func (d *DiagnosticSetting) check() error {
	if !settingPattern.MatchString(d.Name) {
		return fault.New(fault.InvalidArgument, "A diagnostic setting's name has 1 to 260 letters, digits, spaces and -_.() characters.")
	}
	if !sinkPattern.MatchString(string(d.Sink)) {
		return fault.New(fault.NotSupported, "This destination is not supported: nothing would arrive there.").
			WithMend("The audit log is always written. Name the Log Analytics workspace " + AuditWorkspace + " to state so, and export the log to where it is to go.")
	}
	enabled := false
	for _, l := range d.Logs {
		known := strings.EqualFold(l.Category, "AuditEvent") || strings.EqualFold(l.Category, "AzurePolicyEvaluationDetails") ||
			l.Category == "" && (strings.EqualFold(l.Group, "audit") || strings.EqualFold(l.Group, "allLogs"))
		if !known {
			return fault.New(fault.InvalidArgument, "The log category is not one of a vault's: AuditEvent, or the groups audit and allLogs.")
		}
		enabled = enabled || l.Enabled
	}
	if !enabled {
		return fault.New(fault.InvalidArgument, "A diagnostic setting enables at least one log.")
	}
	return nil
}

// DiagnosticSettings lists a live vault's.
func (v *Vaults) DiagnosticSettings(ctx context.Context, c identity.Caller, p Path) (all []DiagnosticSetting, err error) {
	a := begin(c, "DiagnosticSettingsList", p.vault().Scope())
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err := v.liveAt(tx, a, p, actionDiagnosticRead)
		if err != nil {
			return err
		}
		all, err = tx.VaultDiagnosticSettings(vault.ID)
		return err
	})
	return all, err
}

// DiagnosticSetting returns one of a live vault.
func (v *Vaults) DiagnosticSetting(ctx context.Context, c identity.Caller, p Path, name string) (d DiagnosticSetting, err error) {
	all, err := v.DiagnosticSettings(ctx, c, p)
	for _, d := range all {
		if strings.EqualFold(d.Name, name) {
			return d, nil
		}
	}
	if err == nil {
		err = fault.New(fault.ResourceNotFound, fmt.Sprintf("The diagnostic setting '%s' was not found.", name))
	}
	return d, err
}

// PutDiagnosticSetting adds or replaces one of a live vault. It fails with
// [fault.NotSupported] for a destination that does not get the records.
func (v *Vaults) PutDiagnosticSetting(ctx context.Context, c identity.Caller, p Path, d DiagnosticSetting) (DiagnosticSetting, error) {
	a := begin(c, "DiagnosticSettingsPut", p.vault().Scope())
	err := v.write(ctx, a, func(tx Tx) error {
		vault, err := v.liveAt(tx, a, p, actionDiagnosticWrite)
		if err != nil {
			return err
		}
		if err := d.check(); err != nil {
			return err
		}
		d.Vault, d.Updated = vault.ID, v.clock()
		return tx.PutVaultDiagnosticSetting(d)
	})
	return d, err
}

// DeleteDiagnosticSetting removes one of a live vault.
func (v *Vaults) DeleteDiagnosticSetting(ctx context.Context, c identity.Caller, p Path, name string) error {
	a := begin(c, "DiagnosticSettingsDelete", p.vault().Scope())
	return v.write(ctx, a, func(tx Tx) error {
		vault, err := v.liveAt(tx, a, p, actionDiagnosticDelete)
		if err != nil {
			return err
		}
		if err := v.consent(tx, a, vault, actionDiagnosticDelete, false, vault.Scope(), strings.ToLower(name)); err != nil {
			return err
		}
		return tx.DropVaultDiagnosticSetting(vault.ID, name)
	})
}
