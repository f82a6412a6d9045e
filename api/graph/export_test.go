package graph

import "github.com/kluis-io/kluis/fault"

// ParseFilter reads a $filter.
var ParseFilter = parseFilter

// Shape tells how a reason looks, and whether the table has it.
func Shape(r fault.Reason) (status int, code string, ok bool) {
	s, ok := shapes[r]
	return s.status, s.code, ok
}
