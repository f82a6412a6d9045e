package storagewire

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// A Row is how one reason looks to a client.
type Row struct {
	Status     int
	Code       string // x-ms-error-code
	Message    string // said if the error itself has nothing to say
	RetryAfter int    // seconds; 0: no such header
}

// A Table has a row for every reason.
type Table map[fault.Reason]Row

// A CodedError is a refusal for which Azure Storage has a code that is closer than
// the reason's own.
type CodedError struct {
	Code string
	Err  *fault.Error
}

// Coded returns a refusal with a reason, a storage code and a text for people.
func Coded(r fault.Reason, code, detail string) *CodedError {
	return &CodedError{Code: code, Err: fault.New(r, detail)}
}

func (e *CodedError) about(subject string) *CodedError {
	return &CodedError{Code: e.Code, Err: e.Err.About(subject)}
}

func (e *CodedError) Error() string { return e.Err.Error() }

// Unwrap returns the refusal without its code.
func (e *CodedError) Unwrap() error { return e.Err }

// refusals are those for which storage clients know codes of their own, in both
// dialects.
var refusals = map[lake.Refusal]struct {
	status int
	code   string
}{
	lake.LeaseMissing:             {412, "LeaseIdMissing"},
	lake.LeaseMismatch:            {412, "LeaseIdMismatchWithBlobOperation"},
	lake.LeaseNotPresent:          {412, "LeaseNotPresentWithBlobOperation"},
	lake.LeaseLost:                {412, "LeaseLost"},
	lake.LeasePresent:             {409, "LeaseAlreadyPresent"},
	lake.LeaseNotThere:            {409, "LeaseNotPresentWithLeaseOperation"},
	lake.LeaseOtherThanThis:       {409, "LeaseIdMismatchWithLeaseOperation"},
	lake.LeaseBreakingNotAcquired: {409, "LeaseIsBreakingAndCannotBeAcquired"},
	lake.LeaseBreakingNotChanged:  {409, "LeaseIsBreakingAndCannotBeChanged"},
	lake.LeaseBrokenNotRenewed:    {409, "LeaseIsBrokenAndCannotBeRenewed"},
	lake.WrongContentType:         {409, "InvalidBlobType"},
	lake.AppendPosition:           {412, "AppendPositionConditionNotMet"},
	lake.AppendTooLarge:           {412, "MaxBlobSizeConditionNotMet"},
	lake.TooManyBlocks:            {409, "BlockCountExceedsLimit"},
	lake.Archived:                 {409, "BlobArchived"},
	lake.TierCondition:            {412, "AccessTierChangeTimeConditionNotMet"},
	lake.SourceCondition:          {412, "SourceConditionNotMet"},
}

// Row returns how an error of this request looks to its client.
func (t Table) Row(r *http.Request, err error) Row {
	e := fault.As(err)
	row, ok := t[e.Reason]
	if !ok {
		row = t[fault.Internal]
	}
	var refusal lake.Refusal
	if errors.As(err, &refusal) {
		if close, ok := refusals[refusal]; ok {
			row.Status, row.Code = close.status, close.code
			if ofContainer(r) {
				row.Code = strings.Replace(row.Code, "WithBlobOperation", "WithContainerOperation", 1)
			}
		}
	}
	var coded *CodedError
	if errors.As(err, &coded) {
		row.Code = coded.Code
	}
	if e.Reason == fault.HashMismatch && r.Header.Get("Content-MD5")+r.Header.Get("x-ms-source-content-md5") == "" &&
		r.Header.Get("x-ms-content-crc64")+r.Header.Get("x-ms-source-content-crc64") != "" {
		row.Code = "Crc64Mismatch"
	}
	if s := e.Public(); s != "" {
		row.Message = s
	}
	if e.Subject != "" && coded != nil {
		row.Message += " (" + e.Subject + ")"
	}
	return row
}

// ofContainer reports whether a request is about a container and nothing in it.
func ofContainer(r *http.Request) bool {
	q, err := ParseQuery(r)
	return err == nil && (q["restype"] == "container" || q["resource"] == "filesystem")
}

// Fail answers a failed request: write gives the body its dialect's shape. A HEAD has
// none, and says the same in its headers.
func (c Config) Fail(w http.ResponseWriter, r *http.Request, t Table, err error, write func(status int, code, message string)) {
	dialect := "blob"
	if c.DFS {
		dialect = "dfs"
	}
	api.LogFailure(r.Context(), dialect, err)
	row, h := t.Row(r, err), w.Header()
	h.Set("x-ms-error-code", row.Code)
	if row.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", c.Challenge())
	}
	if row.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(row.RetryAfter))
	}
	if r.Method == http.MethodHead || row.Status == http.StatusNotModified {
		w.WriteHeader(row.Status)
		return
	}
	// With the lines that Azure's services add to it.
	write(row.Status, row.Code, row.Message+"\nRequestId:"+h.Get("x-ms-request-id")+"\nTime:"+time.Now().UTC().Format("2006-01-02T15:04:05.0000000Z"))
}

// Common returns the rows that the storage services share; an adapter adds its
// own. See "Common REST API error codes" in Microsoft's storage services
// reference. The codes of a refusing vault are those of an account whose
// customer-managed key is out of reach: 403, which no SDK retries.
func Common() Table {
	internal := Row{500, "InternalError", "The server encountered an internal error. Please retry the request.", 0}
	busy := Row{503, "ServerBusy", "The server is currently unable to receive requests. Please retry your request.", 2}
	t := Table{
		fault.Unauthenticated:     {401, "InvalidAuthenticationInfo", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.", 0},
		fault.TokenRevoked:        {401, "InvalidAuthenticationInfo", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.", 0},
		fault.Denied:              {403, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission.", 0},
		fault.InvalidArgument:     {400, "InvalidInput", "One of the request inputs is not valid.", 0},
		fault.PayloadTooLarge:     {413, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit.", 0},
		fault.NotSupported:        {501, "NotImplemented", "The requested operation is not implemented on the specified resource.", 0},
		fault.NotFound:            {404, "ResourceNotFound", "The specified resource does not exist.", 0},
		fault.MethodNotAllowed:    {405, "UnsupportedHttpVerb", "The resource doesn't support the specified HTTP verb.", 0},
		fault.Conflict:            {409, "InvalidOperation", "The operation is not possible in the resource's current state.", 0},
		fault.PreconditionFailed:  {412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.", 0},
		fault.NotModified:         {304, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.", 0},
		fault.RangeNotSatisfiable: {416, "InvalidRange", "The range specified is invalid for the current size of the resource.", 0},
		fault.Throttled:           busy,
		fault.LengthRequired:      {411, "MissingContentLengthHeader", "The Content-Length header was not specified.", 0},
		fault.HashMismatch:        {400, "Md5Mismatch", "The hash specified in the request did not match the hash of the received content.", 0},

		fault.Internal:    internal,
		fault.Unavailable: busy,
		fault.AuditFailed: {500, "InternalError", "The operation was not done because it could not be recorded.", 0},
		fault.Integrity:   {500, "InternalError", "The stored data failed its integrity check and was not returned.", 0},

		fault.KEKRefused:      {403, "KeyVaultEncryptionKeyNotFound", "The key vault key is not found to unwrap the encryption key.", 0},
		fault.KEKVaultGone:    {403, "KeyVaultVaultNotFound", "The key vault is not found.", 0},
		fault.KEKTokenRefused: {403, "KeyVaultAccessTokenCannotBeAcquired", "The access token for the key vault cannot be acquired.", 0},
		fault.KEKUnreachable:  {503, "ServerBusy", "The key vault that holds this data's key does not answer. Please retry your request.", 15},
		fault.KEKIntegrity:    {503, "ServerBusy", "The key vault that holds this data's key gave no usable answer. Please retry your request.", 15},

		fault.TenantSwitchDisabled: {403, "AuthorizationFailure", "This request is not authorized to perform this operation.", 0},
		fault.EncryptionInProgress: {409, "InvalidOperation", "The data's encryption is being changed.", 0},
		fault.EncryptionBlocked:    {409, "InvalidOperation", "The data's encryption is in a state that does not allow this.", 0},
		fault.EncryptionChanged:    {503, "ServerBusy", "The data's encryption keys changed meanwhile, and nothing was written. Please retry your request.", 1},

		fault.ManagedPath:         {403, "OperationNotAllowedOnThePath", "The path belongs to the item and is not created, renamed or deleted by clients.", 0},
		fault.InvalidBlockList:    {400, "InvalidBlockList", "The specified block list is invalid.", 0},
		fault.InvalidBlockID:      {400, "InvalidBlockId", "The specified block ID is invalid. The block ID must be Base64-encoded.", 0},
		fault.InvalidPath:         {400, "InvalidResourceName", "The specified resource name contains invalid characters.", 0},
		fault.InvalidPosition:     {400, "InvalidFlushPosition", "The uploaded data is not contiguous or the position query parameter value is not equal to the length of the file after appending the uploaded data.", 0},
		fault.InvalidContinuation: {400, "InvalidQueryParameterValue", "The continuation marker is not one that this listing handed out.", 0},
	}
	// What no operation on data meets: if one does, that is a mistake of ours.
	for _, r := range []fault.Reason{
		fault.InvalidClient, fault.InvalidScope, fault.UnsupportedGrant, fault.InvalidGrant, fault.TenantNotFound, fault.PrincipalNotFound,
		fault.PrincipalExists, fault.PrincipalProtected, fault.RoleDefinitionNotFound, fault.RoleAssignmentNotFound,
		fault.RoleAssignmentExists, fault.ResourceNotFound, fault.ResourceGroupNotFound, fault.SubscriptionNotFound,
		fault.VaultNotFound, fault.VaultExists, fault.VaultDeleted, fault.KeyNotFound, fault.DeletedKeyNotFound,
		fault.KeyDeleted, fault.KeyDisabled, fault.KeyNotYetValid, fault.KeyExpired, fault.KeyOperationForbidden,
		fault.PurgeProtected, fault.AccessPolicyDenied, fault.FirewallDenied, fault.ConnectionDenied, fault.HSMNotActivated, fault.DutiesConflict,
		fault.ApprovalRequired, fault.ApprovalNotFound, fault.KEKUnsuitable, fault.InvalidKeyID, fault.WorkspaceNameTaken, fault.ItemNameTaken,
		fault.InvalidItemType, fault.UnsupportedItemType, fault.CapacityNotFound, fault.OperationNotFound,
	} {
		t[r] = internal
	}
	return t
}
