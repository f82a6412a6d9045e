package ekm

import "github.com/kluis-io/kluis/fault"

// Verify judges a connection.
var Verify = verify

// Status returns a reason's row.
func Status(r fault.Reason) (status int, code string, ok bool) {
	row, ok := rows[r]
	return row.status, row.code, ok
}

// Unreachable are the reasons that no call of this protocol can give.
var Unreachable = []fault.Reason{
	fault.Conflict, fault.PreconditionFailed, fault.NotModified, fault.RangeNotSatisfiable, fault.HashMismatch,
	fault.InvalidClient, fault.InvalidScope, fault.UnsupportedGrant, fault.InvalidGrant, fault.TenantNotFound, fault.PrincipalNotFound,
	fault.PrincipalExists, fault.PrincipalProtected,
	fault.RoleDefinitionNotFound, fault.RoleAssignmentNotFound, fault.RoleAssignmentExists, fault.ResourceNotFound,
	fault.DutiesConflict, fault.ApprovalRequired, fault.ApprovalNotFound,
	fault.ResourceGroupNotFound, fault.SubscriptionNotFound,
	fault.VaultExists, fault.VaultDeleted, fault.KeyDeleted, fault.PurgeProtected,
	fault.KEKRefused, fault.KEKVaultGone, fault.KEKTokenRefused, fault.KEKUnreachable, fault.KEKIntegrity, fault.KEKUnsuitable,
	fault.InvalidKeyID,
	fault.WorkspaceNotFound, fault.WorkspaceNameTaken, fault.ItemNotFound, fault.ItemNameTaken, fault.InvalidItemType,
	fault.UnsupportedItemType, fault.TenantSwitchDisabled, fault.EncryptionInProgress, fault.EncryptionBlocked,
	fault.EncryptionChanged, fault.CapacityNotFound, fault.OperationNotFound,
	fault.PathNotFound, fault.PathExists, fault.PathConflict, fault.ContainerNotFound, fault.ContainerExists,
	fault.DirectoryNotEmpty, fault.ManagedPath, fault.InvalidBlockList, fault.InvalidBlockID, fault.InvalidPath,
	fault.InvalidPosition, fault.InvalidRename, fault.SourceNotFound, fault.LeaseHeld, fault.InvalidContinuation,
}
