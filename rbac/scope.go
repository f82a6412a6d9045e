package rbac

import (
	"strings"

	"github.com/kluis-io/kluis/fault"
)

// The bounds of a scope. The deepest of Azure's, a key, has 10 segments.
const (
	maxScopeBytes    = 1024
	maxScopeSegments = 24
)

// ParseScope checks that s is a scope with one reading only: a path from "/" of
// printable ASCII, without empty, "." or ".." segments, escapes, queries or
// backslashes. One slash at the end is dropped. It fails with
// [fault.InvalidArgument].
func ParseScope(s string) (Scope, error) {
	if short := strings.TrimSuffix(s, "/"); short != "" && short != "/" {
		s = short
	}
	if !Scope(s).valid() {
		return "", fault.New(fault.InvalidArgument, "The scope is not a well-formed path.")
	}
	return Scope(s), nil
}

// valid reports whether the scope can be read in one way only. The evaluator
// gives and finds nothing at a scope that is not.
func (s Scope) valid() bool {
	if s == "/" {
		return true
	}
	if len(s) > maxScopeBytes || !strings.HasPrefix(string(s), "/") {
		return false
	}
	segments := strings.Split(string(s[1:]), "/")
	if len(segments) > maxScopeSegments {
		return false
	}
	for _, seg := range segments {
		if seg == "" || seg == "." || seg == ".." {
			return false
		}
		for _, c := range []byte(seg) {
			if c <= 0x20 || c >= 0x7f || strings.IndexByte(`%?#\*`, c) >= 0 {
				return false
			}
		}
	}
	return true
}

// fold makes ASCII letters lower case and leaves everything else alone.
func fold(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				b[i] = lower(b[i])
			}
			return string(b)
		}
	}
	return s
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
