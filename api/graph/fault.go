package graph

import (
	"net/http"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// A shape is how a reason looks in Graph:
// https://learn.microsoft.com/graph/errors
type shape struct {
	status int
	code   string
}

var (
	badRequest = shape{http.StatusBadRequest, "Request_BadRequest"}
	notFound   = shape{http.StatusNotFound, "Request_ResourceNotFound"}
	denied     = shape{http.StatusForbidden, "Authorization_RequestDenied"}
	busy       = shape{http.StatusServiceUnavailable, "ServiceNotAvailable"}
	unknown    = shape{http.StatusInternalServerError, "InternalServerError"}
)

// shapes has a row for every reason.
var shapes = map[fault.Reason]shape{
	fault.Unauthenticated:    {http.StatusUnauthorized, "InvalidAuthenticationToken"},
	fault.TokenRevoked:       {http.StatusUnauthorized, "InvalidAuthenticationToken"},
	fault.Denied:             denied,
	fault.PrincipalProtected: denied,
	fault.InvalidArgument:    badRequest,
	fault.PayloadTooLarge:    {http.StatusRequestEntityTooLarge, "Request_BadRequest"},
	fault.NotSupported:       {http.StatusNotImplemented, "Request_UnsupportedQuery"},
	fault.MethodNotAllowed:   {http.StatusMethodNotAllowed, "Request_BadRequest"},
	fault.NotFound:           notFound,
	fault.PrincipalNotFound:  notFound,
	fault.TenantNotFound:     notFound,
	fault.PrincipalExists:    {http.StatusConflict, "Request_MultipleObjectsWithSameKeyValue"},
	fault.Conflict:           {http.StatusConflict, "Request_BadRequest"},
	fault.Throttled:          {http.StatusTooManyRequests, "TooManyRequests"},
	fault.Unavailable:        busy,
	fault.AuditFailed:        busy,
	fault.Internal:           unknown,
	fault.Integrity:          unknown,

	// Not of this protocol: a directory that gives one of these is wrong.
	fault.PreconditionFailed: unknown, fault.NotModified: unknown, fault.RangeNotSatisfiable: unknown,
	fault.LengthRequired: unknown, fault.HashMismatch: unknown,
	fault.InvalidClient: unknown, fault.InvalidScope: unknown, fault.UnsupportedGrant: unknown, fault.InvalidGrant: unknown,
	fault.RoleDefinitionNotFound: unknown, fault.RoleAssignmentNotFound: unknown, fault.RoleAssignmentExists: unknown,
	fault.ResourceNotFound: unknown, fault.ResourceGroupNotFound: unknown, fault.SubscriptionNotFound: unknown,
	fault.VaultNotFound: unknown, fault.VaultExists: unknown, fault.VaultDeleted: unknown, fault.KeyNotFound: unknown,
	fault.DeletedKeyNotFound: unknown, fault.KeyDeleted: unknown, fault.KeyDisabled: unknown, fault.KeyNotYetValid: unknown,
	fault.KeyExpired: unknown, fault.KeyOperationForbidden: unknown, fault.PurgeProtected: unknown, fault.HSMNotActivated: unknown,
	fault.AccessPolicyDenied: unknown, fault.FirewallDenied: unknown, fault.ConnectionDenied: unknown,
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

// writeError answers with Graph's error body.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	s, ok := shapes[fault.ReasonOf(err)]
	if !ok {
		s = unknown
	}
	message := api.Failing(w, r, "graph", err, s.status)
	if s.status == http.StatusUnauthorized {
		challenge := "Bearer"
		if fault.ReasonOf(err) == fault.TokenRevoked {
			challenge = `Bearer realm=""` + api.ClaimsChallenge(time.Now())
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	api.WriteJSON(w, s.status, map[string]any{"error": map[string]any{
		"code": s.code, "message": message,
		"innerError": map[string]string{
			"date":              time.Now().UTC().Format("2006-01-02T15:04:05"),
			"request-id":        api.RequestID(r.Context()),
			"client-request-id": api.Describe(r, identity.Caller{}).Correlation,
		},
	}})
}
