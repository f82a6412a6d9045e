package arm

import (
	"encoding/json"

	"github.com/kluis-io/kluis/fault"
)

// ReadBody reads a vault's body as PUT and PATCH do.
func ReadBody(b []byte) {
	var v vaultBody
	if json.Unmarshal(b, &v) == nil {
		v.spec(true, "2022-07-01")
		v.spec(false, "2026-02-01")
	}
}

// Row returns what a reason becomes.
func Row(r fault.Reason) (status int, code string) { return rows[r].status, rows[r].code }

// RowCount returns how many reasons have a row.
func RowCount() int { return len(rows) }

// Segments takes a path apart.
func Segments(path string) ([]string, error) { return segments(path) }
