package keyvault

import (
	"net/http"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
)

// A row is a reason in Key Vault's words.
type row struct {
	status int
	code   string
	inner  string
}

var (
	badParameter = row{400, "BadParameter", ""}
	unavailable  = row{503, "ServiceUnavailable", ""}
	internal     = row{500, "InternalServerError", ""}
	notFound     = row{404, "NotFound", ""}
	conflict     = row{409, "Conflict", ""}
)

// rows maps every reason. Those of the platform, which no vault gives, are a
// mistake of ours if they come here.
var rows = map[fault.Reason]row{
	fault.Unauthenticated:     {401, "Unauthorized", ""},
	fault.TokenRevoked:        {401, "Unauthorized", ""},
	fault.Denied:              {403, "Forbidden", "ForbiddenByRbac"},
	fault.InvalidArgument:     badParameter,
	fault.PayloadTooLarge:     {413, "RequestEntityTooLarge", ""},
	fault.NotSupported:        {400, "NotSupported", ""},
	fault.NotFound:            notFound,
	fault.MethodNotAllowed:    {405, "MethodNotAllowed", ""},
	fault.Conflict:            conflict,
	fault.PreconditionFailed:  {412, "PreconditionFailed", ""},
	fault.NotModified:         {304, "", ""},
	fault.RangeNotSatisfiable: {416, "RangeNotSatisfiable", ""},
	fault.Throttled:           {429, "Throttled", "VaultRequestTypeLimitReached"},
	fault.LengthRequired:      {411, "LengthRequired", ""},
	fault.HashMismatch:        badParameter,

	fault.Internal:    internal,
	fault.Unavailable: unavailable,
	fault.AuditFailed: unavailable,
	fault.Integrity:   internal,

	fault.VaultNotFound:         {404, "VaultNotFound", ""},
	fault.VaultExists:           {409, "Conflict", "VaultAlreadyExists"},
	fault.VaultDeleted:          {409, "Conflict", "VaultIsDeletedButRecoverable"},
	fault.KeyNotFound:           {404, "KeyNotFound", ""},
	fault.DeletedKeyNotFound:    {404, "KeyNotFound", ""},
	fault.KeyDeleted:            {409, "Conflict", "ObjectIsDeletedButRecoverable"},
	fault.KeyDisabled:           {403, "Forbidden", "KeyDisabled"},
	fault.KeyNotYetValid:        {403, "Forbidden", "KeyNotYetValid"},
	fault.KeyExpired:            {403, "Forbidden", "KeyExpired"},
	fault.KeyOperationForbidden: {403, "Forbidden", "KeyOperationForbidden"},
	fault.PurgeProtected:        {403, "Forbidden", ""},
	fault.AccessPolicyDenied:    {403, "Forbidden", "AccessDenied"},
	fault.FirewallDenied:        {403, "Forbidden", "ForbiddenByFirewall"},
	fault.ConnectionDenied:      {403, "Forbidden", "ForbiddenByConnection"},
	fault.HSMNotActivated:       {403, "Forbidden", "HSMNotActivated"},
	fault.ApprovalRequired:      {403, "Forbidden", "ApprovalRequired"},
	fault.ApprovalNotFound:      notFound,
	fault.DutiesConflict:        conflict,

	fault.InvalidClient: internal, fault.InvalidScope: internal, fault.UnsupportedGrant: internal, fault.InvalidGrant: internal, fault.TenantNotFound: internal,
	fault.PrincipalNotFound: internal, fault.PrincipalExists: internal, fault.PrincipalProtected: internal,
	fault.RoleDefinitionNotFound: notFound, fault.RoleAssignmentNotFound: notFound, fault.RoleAssignmentExists: conflict,
	fault.ResourceNotFound: notFound, fault.ResourceGroupNotFound: notFound, fault.SubscriptionNotFound: notFound,

	fault.KEKRefused: internal, fault.KEKVaultGone: internal, fault.KEKTokenRefused: internal, fault.KEKUnreachable: internal,
	fault.KEKIntegrity: internal, fault.KEKUnsuitable: internal, fault.InvalidKeyID: internal,
	fault.WorkspaceNotFound: internal, fault.WorkspaceNameTaken: internal, fault.ItemNotFound: internal, fault.ItemNameTaken: internal,
	fault.InvalidItemType: internal, fault.UnsupportedItemType: internal, fault.TenantSwitchDisabled: internal,
	fault.EncryptionInProgress: internal, fault.EncryptionBlocked: internal, fault.EncryptionChanged: internal,
	fault.CapacityNotFound: internal, fault.OperationNotFound: internal,
	fault.PathNotFound: internal, fault.PathExists: internal, fault.PathConflict: internal, fault.ContainerNotFound: internal,
	fault.ContainerExists: internal, fault.DirectoryNotEmpty: internal, fault.ManagedPath: internal, fault.InvalidBlockList: internal,
	fault.InvalidBlockID: internal, fault.InvalidPath: internal, fault.InvalidPosition: internal, fault.InvalidRename: internal,
	fault.SourceNotFound: internal, fault.LeaseHeld: internal, fault.InvalidContinuation: internal,
}

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Inner   *innerError `json:"innererror,omitempty"`
}

type innerError struct {
	Code string `json:"code"`
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := fault.As(err)
	row, ok := rows[e.Reason]
	if !ok {
		row = internal
	}
	message := api.Failing(w, r, "keyvault", err, row.status)
	if row.status == http.StatusUnauthorized {
		message = "AKV10000: Request is missing a Bearer or PoP token."
		if _, ok := api.Bearer(r); ok {
			message = "AKV10022: Invalid bearer token. " + e.Detail
		}
	}
	body := errorBody{errorDetail{Code: row.code, Message: message}}
	if row.inner != "" {
		body.Error.Inner = &innerError{row.inner}
	}
	api.WriteJSON(w, row.status, body)
}
