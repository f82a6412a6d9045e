package rbac

// The roles of governance, given at "/".
const (
	GovernanceOfficer RoleID = "c3f3a1de-6f0e-4a56-9c0b-2f4b8d1f7a31"
	GovernanceReader  RoleID = "5d1c7f42-8a35-4b6e-b2a9-7e9d5c0f64b8"
)

// The actions of governance.
const (
	FindingsRead      Action = "Kluis.Governance/findings/read" // scans, findings, exceptions, figures
	AlertsRead        Action = "Kluis.Governance/alerts/read"
	AlertsAcknowledge Action = "Kluis.Governance/alerts/acknowledge/action"
	ScansRun          Action = "Kluis.Governance/scans/run/action"
	ExceptionsWrite   Action = "Kluis.Governance/exceptions/write"
	EvidenceMake      Action = "Kluis.Governance/evidence/make/action"

	GovernanceRolesRead   Action = "Kluis.Governance/roleAssignments/read"
	GovernanceRolesWrite  Action = "Kluis.Governance/roleAssignments/write"
	GovernanceRolesDelete Action = "Kluis.Governance/roleAssignments/delete"
)

// GovernanceActions are all of them.
var GovernanceActions = []Action{
	FindingsRead, AlertsRead, AlertsAcknowledge, ScansRun, ExceptionsWrite, EvidenceMake, GovernanceRolesRead, GovernanceRolesWrite, GovernanceRolesDelete,
}

// GovernanceRoles are the roles of those who watch. None of them reaches a key or
// data.
var GovernanceRoles = Define(
	RoleDefinition{
		ID: GovernanceOfficer, Name: "Governance Officer",
		Description: "Reads what was found, has the estate scanned, excepts findings, acknowledges alerts, takes evidence packs and gives these roles to others.",
		Actions:     []string{"Kluis.Governance/*"},
	},
	RoleDefinition{
		ID: GovernanceReader, Name: "Governance Reader",
		Description: "Reads what was found, and takes evidence packs.",
		Actions:     []string{"Kluis.Governance/*/read", string(EvidenceMake)},
	},
)
