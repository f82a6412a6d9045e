// Package api holds what the wire adapters below it share: request ids,
// authentication of a bearer token, and JSON bodies. It knows no protocol's
// shapes; each folder below is one protocol and imports none of the others.
//
// An adapter turns a request into a call on a domain package, and the answer or
// error back into its protocol's own shape. It holds no rule of its own.
package api

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// Tokens turns a bearer token into the caller that it speaks for. It fails with
// [fault.Unauthenticated] unless the token holds for one of the audiences.
type Tokens interface {
	Verify(ctx context.Context, token string, audiences ...string) (identity.Caller, error)
}

// WithRequestID gives each request an id, in its context and in the response's
// x-ms-request-id.
func WithRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := uuid.NewString()
		w.Header().Set("x-ms-request-id", id)
		next.ServeHTTP(w, r.WithContext(audit.WithRequest(r.Context(), id)))
	})
}

// RequestID returns the id of the request that ctx belongs to, "" outside one.
func RequestID(ctx context.Context) string { return audit.RequestOf(ctx) }

// Bearer returns the request's bearer token, and false if it has none.
func Bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", false
	}
	return token, true
}

// Authenticate returns the caller of a request from its bearer token, completed
// with what the request itself says: its id, the client's id and the address.
func Authenticate(r *http.Request, tokens Tokens, audiences ...string) (identity.Caller, error) {
	token, ok := Bearer(r)
	if !ok {
		return Describe(r, identity.Caller{}), fault.New(fault.Unauthenticated, "The request has no bearer token.")
	}
	c, err := tokens.Verify(r.Context(), token, audiences...)
	return Describe(r, c), err
}

// Describe completes a caller with what the request says about itself.
func Describe(r *http.Request, c identity.Caller) identity.Caller {
	c.Request = RequestID(r.Context())
	c.Correlation = Clip(r.Header.Get("x-ms-client-request-id"), 128)
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Address = ap.Addr().Unmap()
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.Certificate = CertificateName(r.TLS.VerifiedChains[0][0])
	}
	return c
}

// CertificateName returns the name of whom a client's certificate is for: the first of its
// DNS names, or its common name if it has none.
func CertificateName(c *x509.Certificate) string {
	if len(c.DNSNames) > 0 {
		return strings.ToLower(c.DNSNames[0])
	}
	return strings.ToLower(c.Subject.CommonName)
}

// Clip keeps a client's own text short and printable before it is stored.
func Clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), n)]
}

// ReadJSON reads a JSON body of at most limit bytes. It fails with
// [fault.PayloadTooLarge] or [fault.InvalidArgument].
func ReadJSON(r *http.Request, limit int64, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return fault.New(fault.PayloadTooLarge, "The request body is too large.")
	case err != nil:
		return fault.Wrap(fault.InvalidArgument, err, "The request body could not be read.")
	case len(body) == 0:
		return fault.New(fault.InvalidArgument, "The request body is empty.")
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fault.Wrap(fault.InvalidArgument, err, "The request body is not the JSON that this operation takes.")
	}
	return nil
}

// WriteJSON writes v as a JSON body.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only a programming error gets here
		http.Error(w, "{}", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(body)
}

// LogFailure logs the cause of a failure that the client is only told the
// outside of. Refusals are the audit log's, and are not logged again.
func LogFailure(ctx context.Context, protocol string, err error) {
	switch fault.ReasonOf(err) {
	case fault.Internal, fault.AuditFailed, fault.Integrity, fault.KEKIntegrity:
		slog.ErrorContext(ctx, "request failed", "protocol", protocol, "request", RequestID(ctx), "error", err)
	}
}

// Failing begins the answer to a failure, for every protocol the same: it logs the cause
// where that is not the caller's, says when to come back, and which approval is waited
// for. It returns what the client is told: of a failure of our own, where to look.
func Failing(w http.ResponseWriter, r *http.Request, protocol string, err error, status int) (message string) {
	LogFailure(r.Context(), protocol, err)
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	e := fault.As(err)
	if e.Reason == fault.ApprovalRequired && e.Subject != "" {
		w.Header().Set("x-kluis-approval", e.Subject)
	}
	message = strings.TrimSpace(e.Public())
	if status == http.StatusInternalServerError || message == "" {
		message = "An unexpected error occurred. The server's log has it under request " + RequestID(r.Context()) + "."
	}
	return message
}
