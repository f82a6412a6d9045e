package arm

import (
	"errors"
	"net/http"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
)

// A row is a reason in Resource Manager's words.
type row struct {
	status int
	code   string
}

var (
	internal    = row{500, "InternalServerError"}
	unavailable = row{503, "ServiceUnavailable"}
	conflict    = row{409, "Conflict"}
)

// rows maps every reason. Those of keys and of the platform, which management of
// vaults does not give, are a mistake of ours if they come here.
var rows = map[fault.Reason]row{
	fault.Unauthenticated:     {401, "InvalidAuthenticationToken"},
	fault.TokenRevoked:        {401, "InvalidAuthenticationToken"},
	fault.Denied:              {403, "AuthorizationFailed"},
	fault.InvalidArgument:     {400, "BadRequest"},
	fault.PayloadTooLarge:     {413, "RequestEntityTooLarge"},
	fault.NotSupported:        {400, "NotSupported"},
	fault.NotFound:            {404, "NotFound"},
	fault.MethodNotAllowed:    {405, "MethodNotAllowed"},
	fault.Conflict:            conflict,
	fault.PreconditionFailed:  {412, "PreconditionFailed"},
	fault.NotModified:         {304, "NotModified"},
	fault.RangeNotSatisfiable: {416, "RangeNotSatisfiable"},
	fault.Throttled:           {429, "TooManyRequests"},
	fault.LengthRequired:      {411, "LengthRequired"},
	fault.HashMismatch:        {400, "BadRequest"},

	fault.Internal:    internal,
	fault.Unavailable: unavailable,
	fault.AuditFailed: unavailable,
	fault.Integrity:   internal,

	fault.RoleDefinitionNotFound: {404, "RoleDefinitionDoesNotExist"},
	fault.RoleAssignmentNotFound: {404, "RoleAssignmentNotFound"},
	fault.RoleAssignmentExists:   {409, "RoleAssignmentExists"},
	fault.ResourceNotFound:       {404, "ResourceNotFound"},
	fault.ResourceGroupNotFound:  {404, "ResourceGroupNotFound"},
	fault.SubscriptionNotFound:   {404, "SubscriptionNotFound"},
	fault.DutiesConflict:         {409, "RoleAssignmentConflict"},
	fault.ApprovalRequired:       {403, "ApprovalRequired"},
	fault.ApprovalNotFound:       {404, "ApprovalNotFound"},

	fault.VaultNotFound:  {404, "DeletedVaultNotFound"},
	fault.VaultExists:    {409, "VaultAlreadyExists"},
	fault.VaultDeleted:   {409, "ConflictError"},
	fault.PurgeProtected: {403, "DeletedVaultPurge"},

	fault.KeyNotFound: internal, fault.DeletedKeyNotFound: internal, fault.KeyDeleted: internal, fault.KeyDisabled: internal,
	fault.KeyNotYetValid: internal, fault.KeyExpired: internal, fault.KeyOperationForbidden: internal,
	fault.AccessPolicyDenied: internal, fault.FirewallDenied: internal, fault.ConnectionDenied: internal, fault.HSMNotActivated: internal,
	fault.InvalidClient: internal, fault.InvalidScope: internal, fault.UnsupportedGrant: internal, fault.InvalidGrant: internal, fault.TenantNotFound: internal,
	fault.PrincipalNotFound: internal, fault.PrincipalExists: internal, fault.PrincipalProtected: internal,
	fault.KEKRefused: {400, "KeyVaultEncryptionKeyNotFound"}, fault.KEKVaultGone: {400, "KeyVaultVaultNotFound"}, fault.KEKTokenRefused: {400, "KeyVaultAccessTokenCannotBeAcquired"}, fault.KEKUnreachable: unavailable,
	fault.KEKIntegrity: unavailable, fault.KEKUnsuitable: {400, "BadRequest"}, fault.InvalidKeyID: {400, "BadRequest"},
	fault.WorkspaceNotFound: {404, "ResourceNotFound"}, fault.WorkspaceNameTaken: internal, fault.ItemNotFound: internal, fault.ItemNameTaken: internal,
	fault.InvalidItemType: internal, fault.UnsupportedItemType: conflict, fault.TenantSwitchDisabled: {403, "RequestDisallowedByPolicy"},
	fault.EncryptionInProgress: conflict, fault.EncryptionBlocked: {400, "KeyVaultAuthenticationFailure"}, fault.EncryptionChanged: conflict,
	fault.CapacityNotFound: internal, fault.OperationNotFound: internal,
	fault.PathNotFound: internal, fault.PathExists: internal, fault.PathConflict: internal, fault.ContainerNotFound: internal,
	fault.ContainerExists: internal, fault.DirectoryNotEmpty: internal, fault.ManagedPath: internal, fault.InvalidBlockList: internal,
	fault.InvalidBlockID: internal, fault.InvalidPath: internal, fault.InvalidPosition: internal, fault.InvalidRename: internal,
	fault.SourceNotFound: internal, fault.LeaseHeld: internal, fault.InvalidContinuation: internal,
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	row, ok := rows[fault.ReasonOf(err)]
	if !ok {
		row = internal
	}
	message := api.Failing(w, r, "arm", err, row.status)
	var own coded
	if errors.As(err, &own) {
		row.code = own.code
	}
	api.WriteJSON(w, row.status, map[string]any{"error": map[string]string{"code": row.code, "message": message}})
}
