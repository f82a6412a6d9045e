package storagewire

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// Services says and changes how the endpoints of a storage account are set up.
// [account.Accounts] does.
type Services interface {
	BlobServiceOf(ctx context.Context, name string) (account.BlobService, error)
	BlobService(ctx context.Context, caller identity.Caller, name string) (account.BlobService, error)
	SetBlobService(ctx context.Context, caller identity.Caller, name string, change account.BlobServiceChange) error
}

// An Adapter answers what is asked of an account that is set up so.
type Adapter func(w http.ResponseWriter, r *http.Request, setup account.BlobService) error

// Serve answers a request: as far as that goes by how the account is set up, with CORS
// headers and a preflight's whole answer, and the rest by serve. What fails is answered
// by fail.
func (c Config) Serve(w http.ResponseWriter, r *http.Request, serve Adapter, fail func(http.ResponseWriter, *http.Request, error)) {
	Stamp(w, r)
	var setup account.BlobService
	var err error
	if c.Services != nil {
		setup, err = c.Services.BlobServiceOf(r.Context(), c.Account)
	}
	switch {
	case err != nil:
	case c.Services != nil && r.Method == http.MethodOptions: // signed by nobody
		err = preflight(w, r, setup)
	default:
		w = share(w, r, setup)
		err = serve(w, r, setup)
	}
	if err != nil {
		fail(w, r, err)
	}
}

// preflight answers Preflight Blob Request
// (https://learn.microsoft.com/rest/api/storageservices/preflight-blob-request).
func preflight(w http.ResponseWriter, r *http.Request, s account.BlobService) error {
	origin, method := r.Header.Get("Origin"), r.Header.Get("Access-Control-Request-Method")
	if origin == "" || method == "" {
		return Coded(fault.InvalidArgument, "InvalidHeaderValue", "A required CORS header is not present: a preflight has Origin and Access-Control-Request-Method.")
	}
	asked := strings.Join(r.Header.Values("Access-Control-Request-Headers"), ",")
	rule, ok := s.Rule(origin, method, SplitList(asked))
	if !ok {
		return Coded(fault.Denied, "CorsPreflightFailure", "CORS not enabled or no matching rule found for this request.")
	}
	h := w.Header()
	allow(h, rule, origin)
	h.Set("Access-Control-Allow-Methods", method)
	if asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", strconv.Itoa(rule.MaxAge))
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

// allow names the origin whose pages may see the answer.
func allow(h http.Header, rule account.CORSRule, origin string) {
	if rule.Any() {
		h.Set("Access-Control-Allow-Origin", "*")
		return
	}
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
}

// share gives the answer to a request its CORS headers. Without a rule that matches
// there are none, and a browser keeps the answer from the page.
func share(w http.ResponseWriter, r *http.Request, s account.BlobService) http.ResponseWriter {
	origin := r.Header.Get("Origin")
	rule, ok := s.Rule(origin, r.Method, nil)
	switch {
	case len(s.CORS) == 0:
		return w
	case !ok || origin == "" && !rule.Any():
		w.Header().Add("Vary", "Origin") // another origin gets another answer
		return w
	}
	allow(w.Header(), rule, origin)
	if len(rule.Exposed) == 0 {
		return w
	}
	return &exposing{ResponseWriter: w, rule: rule}
}

// An exposing writer names the headers that pages may see once it is known which
// there are.
type exposing struct {
	http.ResponseWriter
	rule account.CORSRule
	done bool
}

func (e *exposing) WriteHeader(status int) {
	if !e.done && status >= http.StatusOK {
		e.done = true
		h := e.Header()
		var names []string
		for name := range h {
			if e.rule.Exposes(name) && !strings.HasPrefix(name, "Access-Control-") {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			slices.Sort(names)
			h.Set("Access-Control-Expose-Headers", strings.Join(names, ","))
		}
	}
	e.ResponseWriter.WriteHeader(status)
}

func (e *exposing) Write(b []byte) (int, error) {
	if !e.done {
		e.WriteHeader(http.StatusOK)
	}
	return e.ResponseWriter.Write(b)
}

// Unwrap returns the writer below, for [http.ResponseController].
func (e *exposing) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// DefaultVersion gives a request that names no version that of the account's setup. It
// comes after authentication, which signs the headers that the client sent.
func DefaultVersion(w http.ResponseWriter, r *http.Request, q Query, s account.BlobService) {
	if s.Version == "" || r.Header.Get("x-ms-version") != "" || q["sv"] != "" {
		return
	}
	r.Header.Set("x-ms-version", s.Version)
	w.Header().Set("x-ms-version", s.Version)
}

// SplitList splits a list at its commas. Empty elements are left out.
func SplitList(s string) (out []string) {
	for v := range strings.SplitSeq(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}
