package graph

import (
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// parseFilter reads the OData filters that clients send for service principals:
//
//	servicePrincipalNames/any(c:c eq 'APPID')
//	appId eq 'APPID'
//	displayName eq 'NAME'
//
// and none at all. In a literal, two quotes stand for one. It fails with
// [fault.NotSupported]: a filter that is not understood must not select
// everything.
func parseFilter(s string) (identity.Filter, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return identity.Filter{}, nil
	}
	var f identity.Filter
	var literal string
	var ok bool
	if inner, any := strings.CutPrefix(s, "servicePrincipalNames/any("); any {
		name, test, colon := strings.Cut(strings.TrimSuffix(inner, ")"), ":")
		literal, ok = equals(test, strings.TrimSpace(name))
		ok = ok && colon && isName(strings.TrimSpace(name)) && strings.HasSuffix(s, ")")
		f.Application = literal
	} else if literal, ok = equals(s, "appId"); ok {
		f.Application = literal
	} else if literal, ok = equals(s, "displayName"); ok {
		f.Name = literal
	}
	if !ok || literal == "" {
		return identity.Filter{}, fault.New(fault.NotSupported, "The $filter is not one of appId eq, displayName eq and servicePrincipalNames/any.")
	}
	return f, nil
}

// equals reads "property eq 'literal'".
func equals(s, property string) (literal string, ok bool) {
	s, ok = strings.CutPrefix(strings.TrimSpace(s), property)
	if !ok || !strings.HasPrefix(s, " ") {
		return "", false
	}
	s, ok = strings.CutPrefix(strings.TrimLeft(s, " "), "eq ")
	s = strings.TrimSpace(s)
	if !ok || len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return "", false
	}
	s = s[1 : len(s)-1]
	if strings.Contains(strings.ReplaceAll(s, "''", ""), "'") {
		return "", false // the literal ends earlier, and something follows
	}
	return strings.ReplaceAll(s, "''", "'"), true
}

// isName reports whether s can be a range variable.
func isName(s string) bool {
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_') {
			return false
		}
	}
	return s != ""
}
