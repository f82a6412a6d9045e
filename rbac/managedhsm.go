package rbac

// A managed HSM's own roles, with Azure's ids
// (learn.microsoft.com/azure/key-vault/managed-hsm/built-in-roles). Their split is
// the separation of duties: who administers uses no key, and who uses keys gives no
// roles and brings nothing deleted back.
const (
	ManagedHSMAdministrator           RoleID = "a290e904-7015-4bba-90c8-60543313cdb4"
	ManagedHSMCryptoOfficer           RoleID = "515eb02d-2335-4d2d-92f2-b1cbdf9c3778"
	ManagedHSMCryptoUser              RoleID = "21dbd100-6940-42c2-9190-5d6cb909625b"
	ManagedHSMPolicyAdministrator     RoleID = "4bd23610-cdcf-4971-bdee-bdc562cc28e4"
	ManagedHSMCryptoAuditor           RoleID = "2c18b078-7c48-4d3a-af88-5a3a1b3f82b3"
	ManagedHSMCryptoServiceEncryption RoleID = "33413926-3206-4cdd-b39a-83574fe37a17"
	ManagedHSMCryptoServiceRelease    RoleID = "21dbd100-6940-42c2-9190-5d6cb909625c"
	ManagedHSMBackup                  RoleID = "7b127d3c-77bd-4e3e-bbe0-dbb8971fa7f8"
	ManagedHSMRestore                 RoleID = "6efe6056-5259-49d2-8b3d-d3d73544b20b"
)

// A managed HSM's actions on its own roles.
const (
	HSMAssignmentsRead   Action = "Microsoft.KeyVault/managedHsm/roleAssignments/read/action"
	HSMAssignmentsWrite  Action = "Microsoft.KeyVault/managedHsm/roleAssignments/write/action"
	HSMAssignmentsDelete Action = "Microsoft.KeyVault/managedHsm/roleAssignments/delete/action"
	HSMDefinitionsRead   Action = "Microsoft.KeyVault/managedHsm/roleDefinitions/read/action"
)

func hsmActions(names ...string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = "Microsoft.KeyVault/managedHsm/" + n
	}
	return out
}

// HSMRoles are the roles that reach a managed HSM's keys.
var HSMRoles = Define(
	RoleDefinition{
		ID: ManagedHSMAdministrator, Name: "Managed HSM Administrator",
		Description: "Manages the HSM, its backups and its roles; uses no key.",
		DataActions: hsmActions("roleAssignments/*", "roleDefinitions/*", "securitydomain/*", "backup/*", "restore/*", "keys/read/action", "keys/deletedKeys/read/action"),
	},
	RoleDefinition{
		ID: ManagedHSMCryptoOfficer, Name: "Managed HSM Crypto Officer",
		Description: "Manages roles, and recovers and purges deleted keys; uses no key.",
		DataActions: hsmActions("roleAssignments/*", "roleDefinitions/read/action", "keys/deletedKeys/read/action", "keys/deletedKeys/recover/action",
			"keys/deletedKeys/delete", "keys/read/action", "keys/export/action"),
	},
	RoleDefinition{
		ID: ManagedHSMCryptoUser, Name: "Managed HSM Crypto User",
		Description: "Makes, uses and deletes keys; gives no roles, and purges and recovers none.",
		DataActions: hsmActions("keys/read/action", "keys/write/action", "keys/create", "keys/delete", "keys/import/action", "keys/rotate/action",
			"keys/backup/action", "keys/restore/action", "keys/encrypt/action", "keys/decrypt/action", "keys/wrap/action", "keys/unwrap/action",
			"keys/sign/action", "keys/verify/action", "rng/action"),
	},
	RoleDefinition{
		ID: ManagedHSMPolicyAdministrator, Name: "Managed HSM Policy Administrator",
		Description: "Gives and takes roles.",
		DataActions: hsmActions("roleAssignments/*", "roleDefinitions/read/action"),
	},
	RoleDefinition{
		ID: ManagedHSMCryptoAuditor, Name: "Managed HSM Crypto Auditor",
		Description: "Reads keys and roles, and uses none.",
		DataActions: hsmActions("keys/read/action", "keys/deletedKeys/read/action", "roleAssignments/read/action", "roleDefinitions/read/action"),
	},
	RoleDefinition{
		ID: ManagedHSMCryptoServiceEncryption, Name: "Managed HSM Crypto Service Encryption User",
		Description: "Reads a key's public part, wraps and unwraps: what a service needs to protect data at rest.",
		DataActions: hsmActions("keys/read/action", "keys/wrap/action", "keys/unwrap/action"),
	},
	RoleDefinition{
		ID: ManagedHSMCryptoServiceRelease, Name: "Managed HSM Crypto Service Release User",
		Description: "Releases keys to attested environments.",
		DataActions: hsmActions("keys/release/action"),
	},
	RoleDefinition{
		ID: ManagedHSMBackup, Name: "Managed HSM Backup",
		Description: "Makes backups of keys.",
		DataActions: hsmActions("backup/*", "keys/backup/action"),
	},
	RoleDefinition{
		ID: ManagedHSMRestore, Name: "Managed HSM Restore",
		Description: "Restores keys from backups.",
		DataActions: hsmActions("restore/*", "keys/restore/action"),
	},
)
