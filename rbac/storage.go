package rbac

// Azure's built-in roles that storage accounts know, with Azure's ids:
// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/storage
// They hold Azure's actions, for those who read them, and beside them the
// platform's own, by which an account's data and encryption are authorised like a
// workspace's.
const (
	StorageAccountContributor        RoleID = "17d1049b-9a84-46fb-8f53-869881c3d3ab"
	StorageAccountKeyOperatorService RoleID = "81a9662b-bebf-436f-a333-f67b29880f12"
	StorageBlobDataOwner             RoleID = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"
	StorageBlobDataContributor       RoleID = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
	StorageBlobDataReader            RoleID = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
	StorageBlobDelegator             RoleID = "db58b8e5-c6ad-4a2a-8342-4190687cbf4a"
)

// Azure's actions on storage accounts.
const (
	AccountsRead         Action = "Microsoft.Storage/storageAccounts/read"
	AccountsWrite        Action = "Microsoft.Storage/storageAccounts/write"
	AccountsDelete       Action = "Microsoft.Storage/storageAccounts/delete"
	AccountKeysList      Action = "Microsoft.Storage/storageAccounts/listKeys/action"
	AccountKeysRenew     Action = "Microsoft.Storage/storageAccounts/regenerateKey/action"
	AccountNameCheck     Action = "Microsoft.Storage/checknameavailability/read"
	BlobServicesRead     Action = "Microsoft.Storage/storageAccounts/blobServices/read"
	BlobServicesWrite    Action = "Microsoft.Storage/storageAccounts/blobServices/write"
	ContainersRead       Action = "Microsoft.Storage/storageAccounts/blobServices/containers/read"
	ContainersWrite      Action = "Microsoft.Storage/storageAccounts/blobServices/containers/write"
	ContainersDelete     Action = "Microsoft.Storage/storageAccounts/blobServices/containers/delete"
	ContainerACLRead     Action = "Microsoft.Storage/storageAccounts/blobServices/containers/getAcl/action"
	ContainerACLWrite    Action = "Microsoft.Storage/storageAccounts/blobServices/containers/setAcl/action"
	BlobPermissions      Action = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/modifyPermissions/action"
	DelegationKeysCreate Action = "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action"
)

const (
	blobActions = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
	encryptions = "Kluis.Platform/workspaces/encryption/"
)

// storageRoles are given at scopes of Resource Manager.
var storageRoles = []RoleDefinition{
	{
		ID: StorageAccountContributor, Name: "Storage Account Contributor",
		Description: "Manages storage accounts, their encryption and their keys.",
		Actions: []string{
			"Microsoft.Authorization/*/read", "Microsoft.Insights/alertRules/*", "Microsoft.Insights/diagnosticSettings/*",
			"Microsoft.ResourceHealth/availabilityStatuses/read", "Microsoft.Resources/deployments/*",
			"Microsoft.Resources/subscriptions/resourceGroups/read", "Microsoft.Storage/storageAccounts/*", "Microsoft.Support/*",
			string(AccountNameCheck), encryptions + "*",
		},
	},
	{
		ID: StorageAccountKeyOperatorService, Name: "Storage Account Key Operator Service Role",
		Description: "Lists and regenerates the keys of storage accounts.",
		Actions:     []string{string(AccountKeysList), string(AccountKeysRenew)},
	},
	{
		ID: StorageBlobDataOwner, Name: "Storage Blob Data Owner",
		Description: "Does everything with blobs and containers, access control included.",
		Actions: []string{
			"Microsoft.Storage/storageAccounts/blobServices/containers/*", string(DelegationKeysCreate),
		},
		DataActions: list([]string{blobActions + "*"}, allData),
	},
	{
		ID: StorageBlobDataContributor, Name: "Storage Blob Data Contributor",
		Description: "Reads, writes and deletes blobs and containers.",
		Actions: []string{
			string(ContainersDelete), string(ContainersRead), string(ContainersWrite), string(DelegationKeysCreate),
		},
		DataActions: list([]string{
			blobActions + "delete", blobActions + "read", blobActions + "write", blobActions + "move/action", blobActions + "add/action",
		}, allData),
	},
	{
		ID: StorageBlobDataReader, Name: "Storage Blob Data Reader",
		Description: "Reads and lists blobs and containers.",
		Actions:     []string{string(ContainersRead), string(DelegationKeysCreate)},
		DataActions: []string{blobActions + "read", string(DataRead)},
	},
	{
		ID: StorageBlobDelegator, Name: "Storage Blob Delegator",
		Description: "Gets user delegation keys, which give no more than their holder's other roles do.",
		Actions:     []string{string(DelegationKeysCreate)},
	},
}

// AccountRoles are the platform's roles that are given at scopes of Resource Manager:
// the general ones, and those of storage accounts. They are a set of their own, so
// that none of them reaches a workspace wherever it is given.
var AccountRoles = Define(append(managementRoles(), storageRoles...)...)

// PlatformRolesAt returns the roles that count at a scope of the operator's side.
func PlatformRolesAt(scope Scope) Definitions {
	if Scope("/subscriptions").Contains(scope) {
		return AccountRoles
	}
	return PlatformRoles
}

// managementRoles are Azure's general roles.
func managementRoles() (out []RoleDefinition) {
	for _, id := range []RoleID{Owner, Contributor, Reader, UserAccessAdministrator, RoleBasedAccessControlAdmin} {
		d, _ := VaultRoles.Lookup(id)
		out = append(out, d)
	}
	return out
}
