package identity

import (
	"strings"

	"github.com/kluis-io/kluis/fault"
)

// ParseTenantID reads a directory id. It fails with [fault.InvalidArgument].
func ParseTenantID(s string) (TenantID, error) {
	id, ok := parseUUID(s)
	if !ok {
		return "", fault.New(fault.InvalidArgument, "The tenant id is not a UUID.")
	}
	return TenantID(id), nil
}

// ParsePrincipalID reads an object id. It fails with [fault.InvalidArgument].
func ParsePrincipalID(s string) (PrincipalID, error) {
	id, ok := parseUUID(s)
	if !ok {
		return "", fault.New(fault.InvalidArgument, "The object id is not a UUID.")
	}
	return PrincipalID(id), nil
}

// parseUUID returns the lower-case form of a UUID in its 36 character form, the
// only one that Azure's APIs exchange.
func parseUUID(s string) (string, bool) {
	if len(s) != 36 {
		return "", false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return "", false
			}
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
		default:
			return "", false
		}
	}
	return strings.ToLower(s), true
}
