package graph

import (
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// applicationFilters and userFilters are the properties by which clients look for
// service principals and for users.
var (
	applicationFilters = map[string]func(*identity.Filter) *string{
		"appId":       func(f *identity.Filter) *string { return &f.Application },
		"displayName": func(f *identity.Filter) *string { return &f.Name },
	}
	userFilters = map[string]func(*identity.Filter) *string{
		"userPrincipalName": func(f *identity.Filter) *string { return &f.UserName },
		"displayName":       func(f *identity.Filter) *string { return &f.Name },
	}
)

// parseFilter reads the OData filters that clients send:
//
//	servicePrincipalNames/any(c:c eq 'APPID')
//	appId eq 'APPID'
//	userPrincipalName eq 'NAME'
//	displayName eq 'NAME'
//	startswith(displayName,'BEGINNING')
//
// and none at all. In a literal, two quotes stand for one. It fails with
// [fault.NotSupported]: a filter that is not understood must not select
// everything.
func parseFilter(s string, properties map[string]func(*identity.Filter) *string) (identity.Filter, error) {
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
		ok = ok && colon && isName(strings.TrimSpace(name)) && strings.HasSuffix(s, ")") && properties["appId"] != nil
		f.Application = literal
	} else if inner, begins := strings.CutPrefix(s, "startswith("); begins {
		inner, closed := strings.CutSuffix(inner, ")")
		name, text, comma := strings.Cut(inner, ",")
		literal, ok = quoted(strings.TrimSpace(text))
		ok = ok && closed && comma && strings.TrimSpace(name) == "displayName"
		f.Prefix = literal
	} else {
		for name, field := range properties {
			if literal, ok = equals(s, name); ok {
				*field(&f) = literal
				break
			}
		}
	}
	if !ok || literal == "" {
		return identity.Filter{}, fault.New(fault.NotSupported, "The $filter is none that is served here.").
			WithMend("Use displayName eq, startswith(displayName,'…'), and of applications appId eq or servicePrincipalNames/any, of users userPrincipalName eq.")
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
	literal, quotes := quoted(strings.TrimSpace(s))
	return literal, ok && quotes
}

// quoted reads 'literal'.
func quoted(s string) (literal string, ok bool) {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
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
