package account

import (
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
)

// A CORSRule lets pages of other origins use an account from a browser. It lets nobody
// do anything that the request itself is not authorised to. See
// https://learn.microsoft.com/rest/api/storageservices/cross-origin-resource-sharing--cors--support-for-the-azure-storage-services.
type CORSRule struct {
	Origins []string // matched exactly; "*" is any
	Methods []string
	Headers []string // of requests: whole, with "*" at the end of a prefix, or "*"
	Exposed []string // of answers, likewise
	MaxAge  int      // for which a browser may keep the preflight's answer, in seconds
}

// The most that an account's rules may have, after Azure.
const (
	maxCORSRules    = 5
	maxCORSText     = 2 << 10 // bytes, of all rules
	maxCORSOrigins  = 64
	maxCORSHeaders  = 64 // whole ones
	maxCORSPrefixes = 2
	maxCORSName     = 256 // bytes, of an origin or header
)

// anyOf matches whatever there is.
const anyOf = "*"

var corsMethods = []string{"DELETE", "GET", "HEAD", "MERGE", "OPTIONS", "PATCH", "POST", "PUT"}

func checkCORS(rules []CORSRule) error {
	if len(rules) > maxCORSRules {
		return fault.New(fault.InvalidArgument, "An account has at most five CORS rules.")
	}
	text := 0
	for _, r := range rules {
		if err := r.check(); err != nil {
			return err
		}
		for _, list := range [][]string{r.Origins, r.Methods, r.Headers, r.Exposed} {
			text += len(strings.Join(list, ","))
		}
	}
	if text > maxCORSText {
		return fault.New(fault.InvalidArgument, "An account's CORS rules have at most 2 KiB in all.")
	}
	return nil
}

func (r CORSRule) check() error {
	bad := func(detail string) error { return fault.New(fault.InvalidArgument, detail) }
	switch {
	case len(r.Origins) == 0 || len(r.Origins) > maxCORSOrigins:
		return bad("A CORS rule allows between 1 and 64 origins.")
	case len(r.Methods) == 0:
		return bad("A CORS rule allows at least one method.")
	case r.MaxAge < 0:
		return bad("The age of a CORS rule is not negative.")
	}
	for _, o := range r.Origins {
		if o != anyOf && (len(o) > maxCORSName || !printable(o) || strings.Contains(o, anyOf)) {
			return bad("An origin of a CORS rule is a scheme, host and port, of at most 256 characters, or * for any.")
		}
	}
	for _, m := range r.Methods {
		if !slices.Contains(corsMethods, m) {
			return bad("The methods of a CORS rule are " + strings.Join(corsMethods, ", ") + ".")
		}
	}
	for _, list := range [][]string{r.Headers, r.Exposed} {
		whole, prefixes := 0, 0
		for _, h := range list {
			name, prefix := strings.CutSuffix(h, anyOf)
			if len(h) > maxCORSName || !printable(h) || strings.Contains(name, anyOf) {
				return bad("A header of a CORS rule is a name of at most 256 characters, * at the end of a prefix, or * for any.")
			}
			if !prefix {
				whole++
			} else if name != "" {
				prefixes++
			}
		}
		if whole > maxCORSHeaders || prefixes > maxCORSPrefixes {
			return bad("A CORS rule has at most 64 whole headers and two prefixes in a list.")
		}
	}
	return nil
}

// printable reports whether s may stand in a list of a header.
func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == ',' })
}

// Any reports whether the rule allows all origins.
func (r CORSRule) Any() bool { return slices.Contains(r.Origins, anyOf) }

// Exposes reports whether pages may see an answer's header.
func (r CORSRule) Exposes(header string) bool { return matches(r.Exposed, header) }

func matches(list []string, header string) bool {
	return slices.ContainsFunc(list, func(h string) bool {
		if prefix, ok := strings.CutSuffix(h, anyOf); ok {
			return len(header) >= len(prefix) && strings.EqualFold(header[:len(prefix)], prefix)
		}
		return strings.EqualFold(h, header)
	})
}

// Rule returns the first rule that lets pages of the origin send requests with the
// method and headers. A request that is no preflight is judged without its headers.
func (s BlobService) Rule(origin, method string, headers []string) (CORSRule, bool) {
	i := slices.IndexFunc(s.CORS, func(r CORSRule) bool {
		return (r.Any() || slices.Contains(r.Origins, origin)) && slices.Contains(r.Methods, method) &&
			!slices.ContainsFunc(headers, func(h string) bool { return !matches(r.Headers, h) })
	})
	if i < 0 {
		return CORSRule{}, false
	}
	return s.CORS[i], true
}
