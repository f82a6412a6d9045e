package rbac

// The platform's roles. Those of a workspace are given at "/workspaces/ID" and
// follow Fabric's: https://learn.microsoft.com/fabric/fundamentals/roles-workspaces
// Those of the tenant are given at "/".
const (
	WorkspaceAdmin       RoleID = "628f7b0b-9e55-4f1d-9b99-ebb79b036fd2"
	WorkspaceMember      RoleID = "e27e8d79-54bd-454d-8e67-fee1d628a27a"
	WorkspaceContributor RoleID = "b80ee113-2fed-477f-95cb-a5c95028c3cd"
	WorkspaceViewer      RoleID = "e1e3713c-b3c4-4536-91ba-1abce159e921"

	TenantAdministrator RoleID = "959c02cb-b572-4e55-9494-428b48f64483"
	WorkspaceCreator    RoleID = "8995f80b-0784-4053-98d7-94dfcb2ad63f"
	Auditor             RoleID = "6974df80-0d34-470b-9f52-4e9d381d7106"
	EmergencyOperator   RoleID = "0f6a1d9e-54c5-4c0b-9f2f-6a7d1b3c8e42"
)

// The platform's actions. Creating a workspace is asked for at "/" and is an
// action of its own, so that who may create one may not therefore write all.
const (
	WorkspacesCreate               Action = "Kluis.Platform/workspaces/create/action" // at "/"
	WorkspacesRead                 Action = "Kluis.Platform/workspaces/read"
	WorkspacesWrite                Action = "Kluis.Platform/workspaces/write"
	WorkspacesDelete               Action = "Kluis.Platform/workspaces/delete"
	WorkspaceRoleAssignmentsRead   Action = "Kluis.Platform/workspaces/roleAssignments/read"
	WorkspaceRoleAssignmentsWrite  Action = "Kluis.Platform/workspaces/roleAssignments/write"  // ask MayGrant
	WorkspaceRoleAssignmentsDelete Action = "Kluis.Platform/workspaces/roleAssignments/delete" // ask MayGrant
	EncryptionRead                 Action = "Kluis.Platform/workspaces/encryption/read"
	EncryptionWrite                Action = "Kluis.Platform/workspaces/encryption/write" // assign, reset, retry
	ItemsRead                      Action = "Kluis.Platform/workspaces/items/read"
	ItemsWrite                     Action = "Kluis.Platform/workspaces/items/write"
	ItemsDelete                    Action = "Kluis.Platform/workspaces/items/delete"

	CapacitiesRead              Action = "Kluis.Platform/capacities/read"
	CapacitiesWrite             Action = "Kluis.Platform/capacities/write"
	TenantSettingsRead          Action = "Kluis.Platform/tenantsettings/read"
	TenantSettingsWrite         Action = "Kluis.Platform/tenantsettings/write"
	TenantRoleAssignmentsRead   Action = "Kluis.Platform/roleAssignments/read"
	TenantRoleAssignmentsWrite  Action = "Kluis.Platform/roleAssignments/write"  // ask MayGrant
	TenantRoleAssignmentsDelete Action = "Kluis.Platform/roleAssignments/delete" // ask MayGrant
	AuditRead                   Action = "Kluis.Platform/audit/read"
	EmergencyAccessRead         Action = "Kluis.Platform/emergencyAccess/read"
	EmergencyAccessWrite        Action = "Kluis.Platform/emergencyAccess/write" // to ask for it, and to agree to another's
)

// The platform's data actions.
const (
	DataRead   Action = "Kluis.Platform/workspaces/items/data/read"
	DataWrite  Action = "Kluis.Platform/workspaces/items/data/write"
	DataDelete Action = "Kluis.Platform/workspaces/items/data/delete"
)

var itemActions = []string{string(ItemsRead), string(ItemsWrite), string(ItemsDelete)}

var allData = []string{string(DataRead), string(DataWrite), string(DataDelete)}

var grantActions = []string{
	string(WorkspaceRoleAssignmentsRead), string(WorkspaceRoleAssignmentsWrite), string(WorkspaceRoleAssignmentsDelete),
}

func list(parts ...[]string) []string {
	var all []string
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// PlatformRoles are the roles of the operator's side. No role at "/" reaches
// data.
var PlatformRoles = Define(
	RoleDefinition{
		ID: WorkspaceAdmin, Name: "Admin",
		Description: "Does everything in a workspace, its encryption and its deletion included.",
		Actions:     []string{"Kluis.Platform/workspaces/*"},
		NotActions:  []string{string(WorkspacesCreate)},
		DataActions: allData,
		Grants:      []RoleID{WorkspaceAdmin, WorkspaceMember, WorkspaceContributor, WorkspaceViewer},
	},
	RoleDefinition{
		ID: WorkspaceMember, Name: "Member",
		Description: "Writes items and data, and adds members and lower roles.",
		Actions:     list([]string{string(WorkspacesRead), string(EncryptionRead)}, itemActions, grantActions),
		DataActions: allData,
		Grants:      []RoleID{WorkspaceMember, WorkspaceContributor, WorkspaceViewer},
	},
	RoleDefinition{
		ID: WorkspaceContributor, Name: "Contributor",
		Description: "Writes items and data.",
		Actions:     list([]string{string(WorkspacesRead), string(EncryptionRead), string(WorkspaceRoleAssignmentsRead)}, itemActions),
		DataActions: allData,
	},
	RoleDefinition{
		ID: WorkspaceViewer, Name: "Viewer",
		Description: "Sees the workspace, its items and its encryption status; reads no data through the lake.",
		Actions: []string{
			string(WorkspacesRead), string(EncryptionRead), string(ItemsRead), string(WorkspaceRoleAssignmentsRead),
		},
	},
	RoleDefinition{
		ID: TenantAdministrator, Name: "Tenant Administrator",
		Description: "Manages tenant settings, capacities and the tenant's roles; sees all workspaces, and reads no data.",
		Actions: []string{
			string(TenantSettingsRead), string(TenantSettingsWrite), string(CapacitiesRead), string(CapacitiesWrite),
			string(TenantRoleAssignmentsRead), string(TenantRoleAssignmentsWrite), string(TenantRoleAssignmentsDelete),
			string(WorkspacesRead), string(WorkspaceRoleAssignmentsRead), string(EncryptionRead), string(AuditRead),
			string(EmergencyAccessRead), string(EmergencyAccessWrite),
		},
		Grants: []RoleID{TenantAdministrator, WorkspaceCreator, Auditor, EmergencyOperator},
	},
	RoleDefinition{
		ID: EmergencyOperator, Name: "Emergency Operator",
		Description: "Asks for emergency access to a workspace, and agrees to another's request.",
		Actions:     []string{string(EmergencyAccessRead), string(EmergencyAccessWrite)},
	},
	RoleDefinition{
		ID: WorkspaceCreator, Name: "Workspace Creator",
		Description: "Creates workspaces, and is the admin of those.",
		Actions:     []string{string(WorkspacesCreate), string(CapacitiesRead)},
	},
	RoleDefinition{
		ID: Auditor, Name: "Auditor",
		Description: "Reads settings, status and audit, and never data.",
		Actions:     []string{"Kluis.Platform/*/read"},
	},
)

// grants reports whether the action gives or takes roles.
func grants(a Action) bool {
	switch Action(fold(string(a))) {
	case Action(fold(string(RoleAssignmentsWrite))), Action(fold(string(RoleAssignmentsDelete))),
		Action(fold(string(WorkspaceRoleAssignmentsWrite))), Action(fold(string(WorkspaceRoleAssignmentsDelete))),
		Action(fold(string(TenantRoleAssignmentsWrite))), Action(fold(string(TenantRoleAssignmentsDelete))):
		return true
	}
	return false
}
