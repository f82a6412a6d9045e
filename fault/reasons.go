package fault

// The request itself.
const (
	Unauthenticated     Reason = "Unauthenticated"     // no token, or one that does not hold
	TokenRevoked        Reason = "TokenRevoked"        // a token voided before its end, whose client can answer a claims challenge
	Denied              Reason = "Denied"              // the caller lacks the right
	InvalidArgument     Reason = "InvalidArgument"     // malformed or out of range
	PayloadTooLarge     Reason = "PayloadTooLarge"     // body above the operation's limit
	NotSupported        Reason = "NotSupported"        // part of the protocol that kluis leaves out
	NotFound            Reason = "NotFound"            // no such route or thing, where no closer reason fits
	MethodNotAllowed    Reason = "MethodNotAllowed"    // the route exists, the method does not
	Conflict            Reason = "Conflict"            // the state forbids it, where no closer reason fits
	PreconditionFailed  Reason = "PreconditionFailed"  // a conditional header did not hold
	NotModified         Reason = "NotModified"         // a conditional read found nothing new
	RangeNotSatisfiable Reason = "RangeNotSatisfiable" // a byte range outside the content
	Throttled           Reason = "Throttled"           // too much at once; try again later
	LengthRequired      Reason = "LengthRequired"      // the operation needs the body's length beforehand
	HashMismatch        Reason = "HashMismatch"        // the body is not what the client's hash says
)

// kluis itself.
const (
	Internal    Reason = "Internal"    // unexpected; the log has the cause
	Unavailable Reason = "Unavailable" // starting, stopping, out of space, or a state that passes; try again
	AuditFailed Reason = "AuditFailed" // the audit entry could not be made durable, so nothing was done
	Integrity   Reason = "Integrity"   // stored bytes are not what was stored, or not where
)

// The directory and its issuer.
const (
	InvalidClient      Reason = "InvalidClient"      // unknown client or wrong secret
	InvalidScope       Reason = "InvalidScope"       // no such audience
	UnsupportedGrant   Reason = "UnsupportedGrant"   // a grant type that the issuer does not offer
	InvalidGrant       Reason = "InvalidGrant"       // an authorization code or refresh token that does not hold
	TenantNotFound     Reason = "TenantNotFound"     // no such directory
	PrincipalNotFound  Reason = "PrincipalNotFound"  // no such principal in the directory
	PrincipalExists    Reason = "PrincipalExists"    // the name or application is taken
	PrincipalProtected Reason = "PrincipalProtected" // the principal holds a role that the caller lacks
)

// Roles and Resource Manager.
const (
	RoleDefinitionNotFound Reason = "RoleDefinitionNotFound"
	RoleAssignmentNotFound Reason = "RoleAssignmentNotFound"
	RoleAssignmentExists   Reason = "RoleAssignmentExists"
	ResourceNotFound       Reason = "ResourceNotFound"
	ResourceGroupNotFound  Reason = "ResourceGroupNotFound"
	SubscriptionNotFound   Reason = "SubscriptionNotFound"
	DutiesConflict         Reason = "DutiesConflict"   // the principal would hold two roles that must lie apart
	ApprovalRequired       Reason = "ApprovalRequired" // a second person must agree first
	ApprovalNotFound       Reason = "ApprovalNotFound"
)

// The vault.
const (
	VaultNotFound         Reason = "VaultNotFound"
	VaultExists           Reason = "VaultExists"           // the name is taken
	VaultDeleted          Reason = "VaultDeleted"          // soft-deleted, so the name is not free
	KeyNotFound           Reason = "KeyNotFound"           // no such key or version, soft-deleted ones included
	DeletedKeyNotFound    Reason = "DeletedKeyNotFound"    // no such soft-deleted key
	KeyDeleted            Reason = "KeyDeleted"            // soft-deleted, so the name is not free
	KeyDisabled           Reason = "KeyDisabled"           // the key or version is switched off
	KeyNotYetValid        Reason = "KeyNotYetValid"        // before nbf
	KeyExpired            Reason = "KeyExpired"            // after exp
	KeyOperationForbidden Reason = "KeyOperationForbidden" // not among the key's key_ops
	PurgeProtected        Reason = "PurgeProtected"        // retention cannot be cut short
	AccessPolicyDenied    Reason = "AccessPolicyDenied"    // no access policy of the vault gives the caller the permission
	FirewallDenied        Reason = "FirewallDenied"        // the vault's network rules do not let the caller's address in
	ConnectionDenied      Reason = "ConnectionDenied"      // the vault is closed to public networks
	HSMNotActivated       Reason = "HSMNotActivated"       // the managed HSM's security domain was neither taken out nor brought in
)

// A customer's key, as the platform meets it.
const (
	KEKRefused      Reason = "KEKRefused"      // the vault says no to the key: disabled, deleted, not granted
	KEKVaultGone    Reason = "KEKVaultGone"    // the vault says that it does not exist
	KEKTokenRefused Reason = "KEKTokenRefused" // the directory says no to the platform's principal
	KEKUnreachable  Reason = "KEKUnreachable"  // no answer, or none that decides
	KEKIntegrity    Reason = "KEKIntegrity"    // an answer that is not what was asked for; counts as no answer
	KEKUnsuitable   Reason = "KEKUnsuitable"   // a key that cannot protect a scope: type, size, recovery level
	InvalidKeyID    Reason = "InvalidKeyID"    // a key identifier that is malformed or not allowed
)

// Workspaces and encryption.
const (
	WorkspaceNotFound    Reason = "WorkspaceNotFound"
	WorkspaceNameTaken   Reason = "WorkspaceNameTaken"
	ItemNotFound         Reason = "ItemNotFound"
	ItemNameTaken        Reason = "ItemNameTaken"
	InvalidItemType      Reason = "InvalidItemType"      // not a published item type
	UnsupportedItemType  Reason = "UnsupportedItemType"  // published, but not under a customer-managed key
	TenantSwitchDisabled Reason = "TenantSwitchDisabled" // the tenant setting forbids it
	EncryptionInProgress Reason = "EncryptionInProgress" // wait until every item is done
	EncryptionBlocked    Reason = "EncryptionBlocked"    // a precondition of assign or reset does not hold
	EncryptionChanged    Reason = "EncryptionChanged"    // the scope's keys moved on meanwhile; the write was not made; try again
	CapacityNotFound     Reason = "CapacityNotFound"
	OperationNotFound    Reason = "OperationNotFound"
)

// The lake.
const (
	PathNotFound        Reason = "PathNotFound"
	PathExists          Reason = "PathExists"
	PathConflict        Reason = "PathConflict" // a file where a folder is needed, or the reverse
	ContainerNotFound   Reason = "ContainerNotFound"
	ContainerExists     Reason = "ContainerExists"
	DirectoryNotEmpty   Reason = "DirectoryNotEmpty"
	ManagedPath         Reason = "ManagedPath" // a folder that the item owns: not created, renamed or deleted by clients
	InvalidBlockList    Reason = "InvalidBlockList"
	InvalidBlockID      Reason = "InvalidBlockID"
	InvalidPath         Reason = "InvalidPath"
	InvalidPosition     Reason = "InvalidPosition" // append or flush at an offset that is not the end
	InvalidRename       Reason = "InvalidRename"   // source and destination do not fit together
	SourceNotFound      Reason = "SourceNotFound"
	LeaseHeld           Reason = "LeaseHeld"
	InvalidContinuation Reason = "InvalidContinuation" // a paging token that this listing did not hand out
)

// Reasons returns the whole list, for tests that demand a row for each.
func Reasons() []Reason {
	return []Reason{
		Unauthenticated, TokenRevoked, Denied, InvalidArgument, PayloadTooLarge, NotSupported, NotFound, MethodNotAllowed, Conflict,
		PreconditionFailed, NotModified, RangeNotSatisfiable, Throttled, LengthRequired, HashMismatch,
		Internal, Unavailable, AuditFailed, Integrity,
		InvalidClient, InvalidScope, UnsupportedGrant, InvalidGrant, TenantNotFound, PrincipalNotFound, PrincipalExists, PrincipalProtected,
		RoleDefinitionNotFound, RoleAssignmentNotFound, RoleAssignmentExists, ResourceNotFound, ResourceGroupNotFound,
		SubscriptionNotFound, DutiesConflict, ApprovalRequired, ApprovalNotFound,
		VaultNotFound, VaultExists, VaultDeleted, KeyNotFound, DeletedKeyNotFound, KeyDeleted, KeyDisabled, KeyNotYetValid,
		KeyExpired, KeyOperationForbidden, PurgeProtected, AccessPolicyDenied, FirewallDenied, ConnectionDenied,
		HSMNotActivated,
		KEKRefused, KEKVaultGone, KEKTokenRefused, KEKUnreachable, KEKIntegrity, KEKUnsuitable, InvalidKeyID,
		WorkspaceNotFound, WorkspaceNameTaken, ItemNotFound, ItemNameTaken, InvalidItemType, UnsupportedItemType,
		TenantSwitchDisabled, EncryptionInProgress, EncryptionBlocked, EncryptionChanged, CapacityNotFound, OperationNotFound,
		PathNotFound, PathExists, PathConflict, ContainerNotFound, ContainerExists, DirectoryNotEmpty, ManagedPath,
		InvalidBlockList, InvalidBlockID, InvalidPath, InvalidPosition, InvalidRename, SourceNotFound, LeaseHeld,
		InvalidContinuation,
	}
}
