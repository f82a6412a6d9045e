package token

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

var noCaller identity.Caller

// ManagedIdentities hands out tokens without a secret of the principal.
type ManagedIdentities interface {
	Token(ctx context.Context, from identity.Caller, header, client, resource string) (identity.Token, error)
}

// managedVersion is the only version of the contract:
// https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
const managedVersion = "2019-08-01"

// NewManagedIdentity returns the handler of the App Service managed-identity
// contract, which every Azure SDK speaks if IDENTITY_ENDPOINT and IDENTITY_HEADER
// are set. It is plain HTTP, and so answers on loopback only.
func NewManagedIdentity(identities ManagedIdentities) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		t, err := managedToken(identities, r)
		if err != nil {
			api.LogFailure(r.Context(), "managed identity", err)
			api.WriteJSON(w, shapeOf(err).status, map[string]any{
				"statusCode": shapeOf(err).status, "message": fault.As(err).Public(), "correlationId": api.RequestID(r.Context()),
			})
			return
		}
		api.WriteJSON(w, http.StatusOK, map[string]string{
			"access_token": t.Text,
			"expires_on":   strconv.FormatInt(t.Expires.Unix(), 10), // a string, as in App Service
			"resource":     t.Audience,
			"token_type":   "Bearer",
			"client_id":    r.URL.Query().Get("client_id"),
		})
	})
}

func managedToken(identities ManagedIdentities, r *http.Request) (identity.Token, error) {
	q := r.URL.Query()
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	switch {
	case err != nil || !from.Addr().Unmap().IsLoopback():
		return identity.Token{}, fault.New(fault.Denied, "Managed identities are for programs on this host.")
	case r.Method != http.MethodGet:
		return identity.Token{}, fault.New(fault.MethodNotAllowed, "The address takes GET.")
	case q.Get("api-version") != managedVersion:
		return identity.Token{}, fault.New(fault.InvalidArgument, "The api-version is not "+managedVersion+".")
	case q.Get("resource") == "":
		return identity.Token{}, fault.New(fault.InvalidArgument, "The parameter resource is missing.")
	case q.Has("principal_id"), q.Has("object_id"), q.Has("mi_res_id"):
		return identity.Token{}, fault.New(fault.NotSupported, "A managed identity is named by its client_id here.")
	}
	return identities.Token(r.Context(), api.Describe(r, noCaller), r.Header.Get("X-IDENTITY-HEADER"), q.Get("client_id"), q.Get("resource"))
}
