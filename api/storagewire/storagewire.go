// Package storagewire holds the conventions that Azure Storage's REST APIs have
// in common, which the Blob and the ADLS Gen2 (DFS) adapters share: how a request
// is authenticated, its query, range, conditional, hash and metadata headers, the
// common error codes, the headers that describe a file, and which of the two
// dialects a request on a shared endpoint speaks.
//
// It turns headers into package lake's types and back. What an operation means,
// its routes and the shape of its bodies are the adapters', which do not import
// each other.
package storagewire

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// Resource is the audience of Azure Storage's tokens: the same in every cloud.
const Resource = "https://storage.azure.com"

// Config is what both adapters need to know about the endpoint.
type Config struct {
	// Account is the storage account's name, "onelake" for workspaces. A rename's
	// source may begin with it.
	Account string
	// AuthorizationURI is where the 401 challenge sends clients:
	// "https://login.example/TENANT/oauth2/authorize".
	AuthorizationURI string
	// Audiences are accepted beside [Resource].
	Audiences []string

	DFS         bool        // the dialect is ADLS Gen2's; its adapter sets it
	Keys        Keys        // nil: requests cannot be signed with account keys
	Delegations Delegations // nil: nor with user delegation keys
	Issuances   Issuances   // needed with Delegations
	Policies    Policies    // nil: signatures name no stored access policies
	Services    Services    // nil: the endpoint has no setup of its own
}

// Storage returns the name of the storage account whose own containers these are,
// "" if they are workspaces.
func (c Config) Storage() string {
	if strings.EqualFold(c.Account, lake.WorkspaceAccount) {
		return ""
	}
	return c.Account
}

// ParsePath is [lake.ParsePath] for paths of this account.
func (c Config) ParsePath(escaped string) (lake.Path, error) {
	p, err := lake.ParsePath(escaped)
	p.Account = c.Storage()
	return p, err
}

// Challenge is the WWW-Authenticate header of a 401.
func (c Config) Challenge() string {
	return "Bearer authorization_uri=" + c.AuthorizationURI + " resource_id=" + Resource
}

// Stamp sets the headers that every answer carries. Any version is accepted, and
// echoed.
func Stamp(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("x-ms-version", "2026-06-06")
	for _, name := range []string{"x-ms-version", "x-ms-client-request-id"} {
		if v := r.Header.Get(name); v != "" && len(v) <= 1024 {
			h.Set(name, v)
		}
	}
	if h.Get("x-ms-request-id") == "" {
		h.Set("x-ms-request-id", api.RequestID(r.Context()))
	}
}

// A Query is a request's query parameters by their names in lower case: Azure's
// services do not mind the case, and the two dialects write the same name
// differently.
type Query map[string]string

// ParseQuery reads the request's query. A parameter that stands twice is refused,
// so that no two readers of it can choose differently.
func ParseQuery(r *http.Request) (Query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, Coded(fault.InvalidArgument, "InvalidUri", "The request's query is malformed.")
	}
	q := make(Query, len(values))
	for name, v := range values {
		key := strings.ToLower(name)
		if _, twice := q[key]; twice || len(v) != 1 {
			return nil, Coded(fault.InvalidArgument, "InvalidQueryParameterValue", "A query parameter is given twice.").about(key)
		}
		q[key] = v[0]
	}
	return q, nil
}

// Has reports whether a parameter is given, be it empty.
func (q Query) Has(name string) bool {
	_, ok := q[name]
	return ok
}

// Int returns a parameter that is a number of at least low; fallback if it is not
// given.
func (q Query) Int(name string, low, fallback int64) (int64, error) {
	s, ok := q[name]
	if !ok {
		return fallback, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, Coded(fault.InvalidArgument, "InvalidQueryParameterValue", "The query parameter is not a whole number.").about(name)
	}
	if n < low {
		return 0, Coded(fault.InvalidArgument, "OutOfRangeQueryParameterValue", "The query parameter is out of range.").about(name)
	}
	return n, nil
}

// Bool returns a parameter that is "true" or "false"; false if it is not given.
func (q Query) Bool(name string) (bool, error) {
	switch strings.ToLower(q[name]) {
	case "":
		return false, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, Coded(fault.InvalidArgument, "InvalidQueryParameterValue", "The query parameter is neither true nor false.").about(name)
}
