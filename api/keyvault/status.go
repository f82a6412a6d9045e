package keyvault

import "github.com/kluis-io/kluis/fault"

// Status returns the HTTP status by which the API tells a reason.
func Status(r fault.Reason) int {
	if row, ok := rows[r]; ok {
		return row.status
	}
	return internal.status
}
