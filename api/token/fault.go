package token

import (
	"net/http"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
)

// A shape is how a reason looks in OAuth (RFC 6749 §5.2), with the number that
// Entra gives it in error_codes, 0 if it has none.
type shape struct {
	status int
	code   string
	number int
}

var (
	malformed = shape{http.StatusBadRequest, "invalid_request", 900144}
	unknown   = shape{http.StatusInternalServerError, "server_error", 0}
	busy      = shape{http.StatusServiceUnavailable, "temporarily_unavailable", 90033}
)

// shapes has a row for every reason. Clients take invalid_client, and no other
// answer, for a decision about their principal.
var shapes = map[fault.Reason]shape{
	fault.InvalidClient:    {http.StatusUnauthorized, "invalid_client", 7000215},
	fault.InvalidScope:     {http.StatusBadRequest, "invalid_scope", 70011},
	fault.UnsupportedGrant: {http.StatusBadRequest, "unsupported_grant_type", 70003},
	fault.InvalidGrant:     {http.StatusBadRequest, "invalid_grant", 70000},
	fault.TenantNotFound:   {http.StatusBadRequest, "invalid_tenant", 90002},
	fault.Unauthenticated:  {http.StatusUnauthorized, "invalid_request", 0}, // managed identities: the header is wrong
	fault.Denied:           {http.StatusForbidden, "access_denied", 0},
	fault.InvalidArgument:  malformed,
	fault.NotSupported:     malformed,
	fault.PayloadTooLarge:  {http.StatusRequestEntityTooLarge, "invalid_request", 0},
	fault.NotFound:         {http.StatusNotFound, "invalid_request", 0},
	fault.MethodNotAllowed: {http.StatusMethodNotAllowed, "invalid_request", 900561},
	fault.Throttled:        {http.StatusTooManyRequests, "temporarily_unavailable", 90055},
	fault.Unavailable:      busy,
	fault.AuditFailed:      busy,
	fault.Internal:         unknown,
	fault.Integrity:        unknown,

	// Not of this protocol: an issuer that gives one of these is wrong.
	fault.Conflict: unknown, fault.PreconditionFailed: unknown, fault.NotModified: unknown, fault.RangeNotSatisfiable: unknown,
	fault.LengthRequired: unknown, fault.HashMismatch: unknown,
	fault.PrincipalNotFound: unknown, fault.PrincipalExists: unknown, fault.PrincipalProtected: unknown,
	fault.RoleDefinitionNotFound: unknown, fault.RoleAssignmentNotFound: unknown, fault.RoleAssignmentExists: unknown,
	fault.ResourceNotFound: unknown, fault.ResourceGroupNotFound: unknown, fault.SubscriptionNotFound: unknown,
	fault.VaultNotFound: unknown, fault.VaultExists: unknown, fault.VaultDeleted: unknown, fault.KeyNotFound: unknown,
	fault.DeletedKeyNotFound: unknown, fault.KeyDeleted: unknown, fault.KeyDisabled: unknown, fault.KeyNotYetValid: unknown,
	fault.KeyExpired: unknown, fault.KeyOperationForbidden: unknown, fault.PurgeProtected: unknown, fault.HSMNotActivated: unknown,
	fault.AccessPolicyDenied: unknown, fault.FirewallDenied: unknown, fault.ConnectionDenied: unknown, fault.TokenRevoked: unknown,
	fault.DutiesConflict: unknown, fault.ApprovalRequired: unknown, fault.ApprovalNotFound: unknown,
	fault.KEKRefused: unknown, fault.KEKVaultGone: unknown, fault.KEKTokenRefused: unknown, fault.KEKUnreachable: unknown,
	fault.KEKIntegrity: unknown, fault.KEKUnsuitable: unknown, fault.InvalidKeyID: unknown,
	fault.WorkspaceNotFound: unknown, fault.WorkspaceNameTaken: unknown, fault.ItemNotFound: unknown, fault.ItemNameTaken: unknown,
	fault.InvalidItemType: unknown, fault.UnsupportedItemType: unknown, fault.TenantSwitchDisabled: unknown,
	fault.EncryptionInProgress: unknown, fault.EncryptionBlocked: unknown, fault.EncryptionChanged: unknown,
	fault.CapacityNotFound: unknown, fault.OperationNotFound: unknown,
	fault.PathNotFound: unknown, fault.PathExists: unknown, fault.PathConflict: unknown, fault.ContainerNotFound: unknown,
	fault.ContainerExists: unknown, fault.DirectoryNotEmpty: unknown, fault.ManagedPath: unknown, fault.InvalidBlockList: unknown,
	fault.InvalidBlockID: unknown, fault.InvalidPath: unknown, fault.InvalidPosition: unknown, fault.InvalidRename: unknown,
	fault.SourceNotFound: unknown, fault.LeaseHeld: unknown, fault.InvalidContinuation: unknown,
}

func shapeOf(err error) shape {
	if s, ok := shapes[fault.ReasonOf(err)]; ok {
		return s
	}
	return unknown
}

// writeError answers with OAuth's error body and the fields that Entra adds.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	s := shapeOf(err)
	body := map[string]any{
		"error":             s.code,
		"error_description": api.Failing(w, r, "token", err, s.status),
		"timestamp":         time.Now().UTC().Format("2006-01-02 15:04:05Z"),
		"trace_id":          api.RequestID(r.Context()),
		"correlation_id":    api.Describe(r, noCaller).Correlation,
	}
	if s.number != 0 {
		body["error_codes"] = []int{s.number}
	}
	if _, _, basic := r.BasicAuth(); basic && s.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="kluis"`) // RFC 6749 §5.2
	}
	api.WriteJSON(w, s.status, body)
}
