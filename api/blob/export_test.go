package blob

import (
	"io"
	"net/http"
)

var (
	Faults         = faults
	ParseBlockList = parseBlockList
	ParsePolicies  = parsePolicies

	ParseServiceProperties = parseServiceProperties
	ParseKeyTime           = parseDelegationTime
)

// ParseBatch returns the requests of a batch.
func ParseBatch(contentType string, body io.Reader) ([]*http.Request, error) {
	parts, err := parseBatch(contentType, body)
	var out []*http.Request
	for _, p := range parts {
		out = append(out, p.request)
	}
	return out, err
}
