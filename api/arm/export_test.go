package arm

import "github.com/kluis-io/kluis/fault"

// Row returns what a reason becomes.
func Row(r fault.Reason) (status int, code string) { return rows[r].status, rows[r].code }

// RowCount returns how many reasons have a row.
func RowCount() int { return len(rows) }

// Segments takes a path apart.
func Segments(path string) ([]string, error) { return segments(path) }
