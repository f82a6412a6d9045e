package posture

import (
	"net/http"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
)

// statuses are those of the reasons that governance gives; any other is a failure of
// our own.
var statuses = map[fault.Reason]int{
	fault.Unauthenticated:     http.StatusUnauthorized,
	fault.TokenRevoked:        http.StatusUnauthorized,
	fault.Denied:              http.StatusForbidden,
	fault.InvalidArgument:     http.StatusBadRequest,
	fault.InvalidContinuation: http.StatusBadRequest,
	fault.PayloadTooLarge:     http.StatusRequestEntityTooLarge,
	fault.NotSupported:        http.StatusNotImplemented,
	fault.NotFound:            http.StatusNotFound,
	fault.MethodNotAllowed:    http.StatusMethodNotAllowed,
	fault.Conflict:            http.StatusConflict,

	fault.RoleAssignmentExists: http.StatusConflict,
	fault.Throttled:            http.StatusTooManyRequests,
	fault.Unavailable:          http.StatusServiceUnavailable,
	fault.AuditFailed:          http.StatusServiceUnavailable,
}

// writeError answers with the reason as the code, and what helps.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	reason := fault.ReasonOf(err)
	status, ok := statuses[reason]
	if !ok {
		status, reason = http.StatusInternalServerError, fault.Internal
	}
	message := api.Failing(w, r, "posture", err, status)
	if status == http.StatusUnauthorized {
		challenge := "Bearer"
		if reason == fault.TokenRevoked {
			challenge = `Bearer realm=""` + api.ClaimsChallenge(time.Now())
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	api.WriteJSON(w, status, map[string]any{"error": map[string]string{"code": string(reason), "message": message, "requestId": api.RequestID(r.Context())}})
}
