package token

import "github.com/kluis-io/kluis/fault"

// Shape tells how a reason looks, and whether the table has it.
func Shape(r fault.Reason) (status int, code string, ok bool) {
	s, ok := shapes[r]
	return s.status, s.code, ok
}
