package fabric

import (
	"errors"
	"net/http"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
)

// A row is a reason in Fabric's words. Codes of our own begin where the published
// ones end: the reference documents none for encryption.
type row struct {
	status    int
	code      string
	retriable bool
}

var (
	internal = row{500, "UnknownError", false}
	notFound = row{404, "EntityNotFound", false}
)

// rows maps every reason. Those of other protocols and of the vault's side are a
// mistake of ours if they come here.
var rows = map[fault.Reason]row{
	fault.Unauthenticated:    {401, "Unauthorized", false},
	fault.TokenRevoked:       {401, "Unauthorized", false},
	fault.Denied:             {403, "InsufficientPrivileges", false},
	fault.InvalidArgument:    {400, "InvalidInput", false},
	fault.PayloadTooLarge:    {413, "PayloadTooLarge", false},
	fault.NotSupported:       {400, "FeatureNotAvailable", false},
	fault.NotFound:           notFound,
	fault.MethodNotAllowed:   {405, "MethodNotAllowed", false},
	fault.Conflict:           {409, "Conflict", false},
	fault.PreconditionFailed: {412, "PreconditionFailed", false},
	fault.Throttled:          {429, "TooManyRequests", true},
	fault.NotModified:        internal, fault.RangeNotSatisfiable: internal, fault.LengthRequired: internal, fault.HashMismatch: internal,

	fault.Internal:    internal,
	fault.Unavailable: {503, "ServiceUnavailable", true},
	fault.AuditFailed: {503, "AuditFailed", true},
	fault.Integrity:   {500, "IntegrityCheckFailed", false},

	fault.RoleAssignmentNotFound: notFound,
	fault.RoleAssignmentExists:   {409, "PrincipalAlreadyHasWorkspaceRolePermissions", false},
	fault.PrincipalNotFound:      {404, "PrincipalNotFound", false},
	fault.TenantNotFound:         internal, fault.InvalidClient: internal, fault.InvalidScope: internal, fault.UnsupportedGrant: internal, fault.InvalidGrant: internal,
	fault.PrincipalExists: internal, fault.PrincipalProtected: internal, fault.RoleDefinitionNotFound: internal,
	fault.ResourceNotFound: internal, fault.ResourceGroupNotFound: internal, fault.SubscriptionNotFound: internal,
	fault.DutiesConflict:   {409, "DutiesConflict", false},
	fault.ApprovalRequired: {403, "ApprovalRequired", false},
	fault.ApprovalNotFound: {404, "ApprovalNotFound", false},

	fault.VaultNotFound: internal, fault.VaultExists: internal, fault.VaultDeleted: internal, fault.KeyNotFound: internal,
	fault.DeletedKeyNotFound: internal, fault.KeyDeleted: internal, fault.KeyDisabled: internal, fault.KeyNotYetValid: internal,
	fault.KeyExpired: internal, fault.KeyOperationForbidden: internal, fault.PurgeProtected: internal, fault.HSMNotActivated: internal,
	fault.AccessPolicyDenied: internal, fault.FirewallDenied: internal, fault.ConnectionDenied: internal,

	// The vault's no is 403 and its silence 503: clients retry only the second.
	fault.KEKRefused:      {403, "CustomerManagedKeyRefused", false},
	fault.KEKVaultGone:    {403, "CustomerManagedKeyVaultNotFound", false},
	fault.KEKTokenRefused: {403, "CustomerManagedKeyPrincipalRefused", false},
	fault.KEKUnreachable:  {503, "CustomerManagedKeyUnreachable", true},
	fault.KEKIntegrity:    {503, "CustomerManagedKeyAnswerInvalid", true},
	fault.KEKUnsuitable:   {400, "CustomerManagedKeyUnsuitable", false},
	fault.InvalidKeyID:    {400, "InvalidKeyIdentifier", false},

	fault.WorkspaceNotFound:    {404, "WorkspaceNotFound", false},
	fault.WorkspaceNameTaken:   {409, "WorkspaceNameAlreadyExists", false},
	fault.ItemNotFound:         {404, "ItemNotFound", false},
	fault.ItemNameTaken:        {409, "ItemDisplayNameAlreadyInUse", false},
	fault.InvalidItemType:      {400, "InvalidItemType", false},
	fault.UnsupportedItemType:  {400, "UnsupportedItemType", false},
	fault.TenantSwitchDisabled: {403, "TenantSwitchDisabled", false},
	fault.EncryptionInProgress: {409, "EncryptionInProgress", true},
	fault.EncryptionBlocked:    {400, "EncryptionBlocked", false},
	fault.EncryptionChanged:    {409, "EncryptionChanged", true},
	fault.CapacityNotFound:     {404, "CapacityNotFound", false},
	fault.OperationNotFound:    {404, "OperationNotFound", false},
	fault.InvalidContinuation:  {400, "InvalidContinuationToken", false},

	fault.PathNotFound: internal, fault.PathExists: internal, fault.PathConflict: internal, fault.ContainerNotFound: internal,
	fault.ContainerExists: internal, fault.DirectoryNotEmpty: internal, fault.ManagedPath: internal, fault.InvalidBlockList: internal,
	fault.InvalidBlockID: internal, fault.InvalidPath: internal, fault.InvalidPosition: internal, fault.InvalidRename: internal,
	fault.SourceNotFound: internal, fault.LeaseHeld: internal,
}

// wire is an error with a published code that its reason does not tell.
type wire struct {
	error
	code string
}

func (e wire) Unwrap() error { return e.error }

// errorResponse is Fabric's
// (learn.microsoft.com/rest/api/fabric/articles/error-response-format).
type errorResponse struct {
	RequestID       string           `json:"requestId"`
	ErrorCode       string           `json:"errorCode"`
	Message         string           `json:"message"`
	RelatedResource *relatedResource `json:"relatedResource,omitempty"`
	IsRetriable     bool             `json:"isRetriable"`
}

type relatedResource struct {
	ResourceID string `json:"resourceId"`
}

// retryAfter is told, in seconds, with what may go better soon.
const retryAfter = "2"

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := fault.As(err)
	row, ok := rows[e.Reason]
	if !ok {
		row = internal
	}
	var own wire
	if errors.As(err, &own) {
		row.code = own.code
	}
	api.LogFailure(r.Context(), "fabric", err)
	body := errorResponse{
		RequestID: api.RequestID(r.Context()), ErrorCode: row.code, Message: e.Public(), IsRetriable: row.retriable,
	}
	if row.status == http.StatusInternalServerError || body.Message == "" {
		body.Message = "The request failed: " + row.code + ". The server's log has it under this request's id."
	}
	if e.Subject != "" && row != internal {
		body.RelatedResource = &relatedResource{e.Subject}
	}
	h := w.Header()
	h.Set("x-ms-public-api-error-code", row.code)
	switch row.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if h.Get("Retry-After") == "" {
			h.Set("Retry-After", retryAfter)
		}
	}
	api.WriteJSON(w, row.status, body)
}
