package ekm

import (
	"net/http"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
)

// A row is a reason in the protocol's words.
type row struct {
	status int
	code   string
}

var (
	badRequest  = row{400, "BadRequest"}
	forbidden   = row{403, "Forbidden"}
	notFound    = row{404, "NotFound"}
	keyNotFound = row{404, "KeyNotFound"}
	internal    = row{500, "InternalServerError"}
	unavailable = row{503, "ServiceUnavailable"}
)

// rows maps every reason that a vault or this package gives. The others are a
// mistake of ours if they come here.
var rows = map[fault.Reason]row{
	fault.Unauthenticated:       {401, "Unauthorized"},
	fault.TokenRevoked:          {401, "Unauthorized"},
	fault.Denied:                forbidden,
	fault.AccessPolicyDenied:    forbidden,
	fault.FirewallDenied:        forbidden,
	fault.ConnectionDenied:      forbidden,
	fault.InvalidArgument:       badRequest,
	fault.PayloadTooLarge:       badRequest,
	fault.NotSupported:          {400, "NotSupported"},
	fault.NotFound:              notFound,
	fault.MethodNotAllowed:      badRequest,
	fault.LengthRequired:        badRequest,
	fault.Throttled:             {429, "TooManyRequests"},
	fault.Internal:              internal,
	fault.Integrity:             internal,
	fault.Unavailable:           unavailable,
	fault.AuditFailed:           unavailable,
	fault.VaultNotFound:         keyNotFound,
	fault.KeyNotFound:           keyNotFound,
	fault.DeletedKeyNotFound:    keyNotFound,
	fault.HSMNotActivated:       forbidden,
	fault.KeyDisabled:           {403, "KeyDisabled"},
	fault.KeyNotYetValid:        {403, "KeyNotYetValid"},
	fault.KeyExpired:            {403, "KeyExpired"},
	fault.KeyOperationForbidden: {403, "OperationNotAllowed"},
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := fault.As(err)
	row, ok := rows[e.Reason]
	if !ok {
		row = internal
	}
	api.LogFailure(r.Context(), "ekm", err)
	message := e.Public()
	if row == internal || message == "" {
		message = "An unexpected error occurred. The server's log has it under request " + api.RequestID(r.Context()) + "."
	}
	if row.status == 429 || row.status == 503 {
		w.Header().Set("Retry-After", "1")
	}
	api.WriteJSON(w, row.status, errorBody{row.code, message})
}
