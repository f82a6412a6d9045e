package rbac

// Azure's built-in roles that a vault knows, with Azure's ids and contents:
// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
const (
	Owner                           RoleID = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	Contributor                     RoleID = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	Reader                          RoleID = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	UserAccessAdministrator         RoleID = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9"
	RoleBasedAccessControlAdmin     RoleID = "f58310d9-a9f6-439a-9e8d-f62e7b41a168"
	KeyVaultContributor             RoleID = "f25e0fa2-a7c8-4377-a976-54943a77a395"
	KeyVaultAdministrator           RoleID = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
	KeyVaultReader                  RoleID = "21090545-7ca7-4776-b22c-e363652d74d2"
	KeyVaultCryptoOfficer           RoleID = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"
	KeyVaultCryptoServiceEncryption RoleID = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
	KeyVaultCryptoUser              RoleID = "12338af0-0e69-4776-bea7-57ae8d297424"
	KeyVaultCryptoServiceRelease    RoleID = "08bbd89e-9f13-488c-ac41-acfcb10c90ab"
	KeyVaultDataAccessAdministrator RoleID = "8b54135c-b56d-4d72-a534-26097cfdc8d8"
)

// Azure's actions on role assignments.
const (
	RoleAssignmentsRead   Action = "Microsoft.Authorization/roleAssignments/read"
	RoleAssignmentsWrite  Action = "Microsoft.Authorization/roleAssignments/write"
	RoleAssignmentsDelete Action = "Microsoft.Authorization/roleAssignments/delete"
	RoleDefinitionsRead   Action = "Microsoft.Authorization/roleDefinitions/read"
)

// ActivityLogRead is Azure's action of reading what happened in a subscription, here the
// vault's audit log.
const ActivityLogRead Action = "Microsoft.Insights/eventtypes/values/Read"

// vaultReads are the management actions that Azure gives with most vault roles.
// In Azure "vaults/*/read" reaches "vaults/read" as well; here that is spelt out,
// and "*" stands for characters only.
var vaultReads = []string{
	"Microsoft.Authorization/*/read",
	"Microsoft.Insights/alertRules/*",
	"Microsoft.Resources/deployments/*",
	"Microsoft.Resources/subscriptions/resourceGroups/read",
	"Microsoft.Support/*",
	"Microsoft.KeyVault/checkNameAvailability/read",
	"Microsoft.KeyVault/deletedVaults/read",
	"Microsoft.KeyVault/locations/*/read",
	"Microsoft.KeyVault/vaults/read",
	"Microsoft.KeyVault/vaults/*/read",
	"Microsoft.KeyVault/operations/read",
}

// VaultRoles are the roles of the custodian's side.
var VaultRoles = Define(
	RoleDefinition{
		ID: Owner, Name: "Owner",
		Description: "Manages everything, and gives roles.",
		Actions:     []string{"*"},
	},
	RoleDefinition{
		ID: Contributor, Name: "Contributor",
		Description: "Manages everything, and gives no roles.",
		Actions:     []string{"*"},
		NotActions: []string{
			"Microsoft.Authorization/*/Delete",
			"Microsoft.Authorization/*/Write",
			"Microsoft.Authorization/elevateAccess/Action",
			"Microsoft.Blueprint/blueprintAssignments/write",
			"Microsoft.Blueprint/blueprintAssignments/delete",
			"Microsoft.Compute/galleries/share/action",
			"Microsoft.Purview/consents/write",
			"Microsoft.Purview/consents/delete",
			"Microsoft.Resources/deploymentStacks/manageDenySetting/action",
			"Microsoft.Subscription/cancel/action",
			"Microsoft.Subscription/enable/action",
		},
	},
	RoleDefinition{
		ID: Reader, Name: "Reader",
		Description: "Sees everything, and changes nothing.",
		Actions:     []string{"*/read"},
	},
	RoleDefinition{
		ID: UserAccessAdministrator, Name: "User Access Administrator",
		Description: "Gives and takes roles.",
		Actions:     []string{"*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"},
	},
	RoleDefinition{
		ID: RoleBasedAccessControlAdmin, Name: "Role Based Access Control Administrator",
		Description: "Gives and takes roles by role assignments only.",
		Actions: []string{
			string(RoleAssignmentsWrite), string(RoleAssignmentsDelete), "*/read", "Microsoft.Support/*",
		},
	},
	RoleDefinition{
		ID: KeyVaultContributor, Name: "Key Vault Contributor",
		Description: "Manages vaults; gives no roles and reaches no key.",
		Actions: []string{
			"Microsoft.Authorization/*/read", "Microsoft.Insights/alertRules/*", "Microsoft.KeyVault/*",
			"Microsoft.Resources/deployments/*", "Microsoft.Resources/subscriptions/resourceGroups/read", "Microsoft.Support/*",
		},
		NotActions: []string{
			"Microsoft.KeyVault/locations/deletedVaults/purge/action", "Microsoft.KeyVault/hsmPools/*", "Microsoft.KeyVault/managedHsms/*",
		},
	},
	RoleDefinition{
		ID: KeyVaultAdministrator, Name: "Key Vault Administrator",
		Description: "Does everything with a vault's keys; neither manages vaults nor gives roles.",
		Actions:     vaultReads,
		DataActions: []string{"Microsoft.KeyVault/vaults/*"},
	},
	RoleDefinition{
		ID: KeyVaultReader, Name: "Key Vault Reader",
		Description: "Reads what keys there are, and uses none.",
		Actions:     vaultReads,
		DataActions: []string{"Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"},
	},
	RoleDefinition{
		ID: KeyVaultCryptoOfficer, Name: "Key Vault Crypto Officer",
		Description: "Does everything with keys; gives no roles.",
		Actions:     vaultReads,
		DataActions: []string{"Microsoft.KeyVault/vaults/keys/*", "Microsoft.KeyVault/vaults/keyrotationpolicies/*"},
	},
	RoleDefinition{
		ID: KeyVaultCryptoServiceEncryption, Name: "Key Vault Crypto Service Encryption User",
		Description: "Reads a key's public part, wraps and unwraps: what a service needs to protect data at rest.",
		Actions: []string{
			"Microsoft.EventGrid/eventSubscriptions/write", "Microsoft.EventGrid/eventSubscriptions/read",
			"Microsoft.EventGrid/eventSubscriptions/delete",
		},
		DataActions: []string{
			"Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/keys/wrap/action",
			"Microsoft.KeyVault/vaults/keys/unwrap/action",
		},
	},
	RoleDefinition{
		ID: KeyVaultCryptoUser, Name: "Key Vault Crypto User",
		Description: "Uses keys.",
		DataActions: []string{
			"Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/keys/update/action",
			"Microsoft.KeyVault/vaults/keys/backup/action", "Microsoft.KeyVault/vaults/keys/encrypt/action",
			"Microsoft.KeyVault/vaults/keys/decrypt/action", "Microsoft.KeyVault/vaults/keys/wrap/action",
			"Microsoft.KeyVault/vaults/keys/unwrap/action", "Microsoft.KeyVault/vaults/keys/sign/action",
			"Microsoft.KeyVault/vaults/keys/verify/action",
		},
	},
	RoleDefinition{
		ID: KeyVaultCryptoServiceRelease, Name: "Key Vault Crypto Service Release User",
		Description: "Releases keys to attested environments.",
		DataActions: []string{"Microsoft.KeyVault/vaults/keys/release/action"},
	},
	RoleDefinition{
		ID: KeyVaultDataAccessAdministrator, Name: "Key Vault Data Access Administrator",
		Description: "Gives and takes the vault roles, and no others.",
		Actions: []string{
			string(RoleAssignmentsWrite), string(RoleAssignmentsDelete), "Microsoft.Authorization/*/read",
			"Microsoft.Resources/deployments/*", "Microsoft.Resources/subscriptions/resourceGroups/read",
			"Microsoft.Resources/subscriptions/read", "Microsoft.Management/managementGroups/read", "Microsoft.Support/*",
			"Microsoft.KeyVault/vaults/read", "Microsoft.KeyVault/vaults/*/read",
		},
		Grants: []RoleID{
			KeyVaultAdministrator, KeyVaultReader, KeyVaultCryptoOfficer, KeyVaultCryptoServiceEncryption, KeyVaultCryptoUser,
		},
	},
)
