package graph

import (
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// ParseFilter reads a $filter of service principals.
func ParseFilter(s string) (identity.Filter, error) { return parseFilter(s, applicationFilters) }

// Shape tells how a reason looks, and whether the table has it.
func Shape(r fault.Reason) (status int, code string, ok bool) {
	s, ok := shapes[r]
	return s.status, s.code, ok
}
