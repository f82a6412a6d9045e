package fabric

import "github.com/kluis-io/kluis/fault"

// PageToken and ParsePageToken are the paging tokens'.
var (
	PageToken      = pageToken
	ParsePageToken = parsePageToken
)

// Row returns what a reason is on the wire.
func Row(r fault.Reason) (status int, code string, ok bool) {
	w, ok := rows[r]
	return w.status, w.code, ok
}
