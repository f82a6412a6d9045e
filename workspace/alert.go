package workspace

import "github.com/kluis-io/kluis/audit"

// alerting are the acts of which a tenant's security contact is to hear. Of changes
// of a key only those count that made a generation: asking for the key that a
// workspace is under already changes none.
var alerting = map[string]string{
	"ApplyWorkspaceEncryption":   "generation",
	"DisableWorkspaceEncryption": "generation",
	"RotateWorkspaceEncryption":  "generation",
	"RevokeWorkspaceAccess":      "",
	"RestoreWorkspaceAccess":     "",
	"DeclareWorkspaceKeyLost":    "",
	"UpdateTenantSetting":        "",
	grantEmergency:               "",
	shredItem:                    "",
	shredWorkspace:               "",
}

// Alerts reports whether an entry of the platform's log is one that the security
// contact of the tenant is to hear of.
func Alerts(e audit.Entry, tenant string) bool {
	detail, is := alerting[e.Operation]
	return is && e.Outcome == audit.Allowed && e.Tenant == tenant && (detail == "" || e.Detail[detail] != "")
}
