package keyvault

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// A kind is what a path names.
type kind int

const (
	keyList kind = iota
	key
	keyVersion
	keyVersions
	keyCreate
	keyRotate
	keyUse
	keyBackup
	keyPolicy
	keyUsage
	keyRestore
	random
	deletedList
	deletedKey
	deletedRecover
	changes
	left // a path of the protocol that kluis leaves out
)

// named reports whether paths of the kind name a key.
func (k kind) named() bool {
	return k != keyList && k != keyRestore && k != random && k != deletedList && k != changes && k != left
}

// A route is a path taken apart.
type route struct {
	kind    kind
	name    string
	version string // "" for the current one
	use     vault.Operation
}

// uses are the crypto operations by their lower-case path segment.
var uses = map[string]vault.Operation{
	"encrypt": vault.Encrypt, "decrypt": vault.Decrypt, "sign": vault.Sign, "verify": vault.Verify,
	"wrapkey": vault.WrapKey, "unwrapkey": vault.UnwrapKey,
}

// parse takes an escaped path apart by the rules that clients rely on: the case of
// the fixed segments does not matter, nor do double slashes or one at the end, and
// a version may be left out.
func parse(path string) (route, bool) {
	var seg []string
	for s := range strings.SplitSeq(path, "/") {
		if s == "" {
			continue
		}
		s, err := url.PathUnescape(s)
		if err != nil || len(seg) == 4 {
			return route{}, false
		}
		seg = append(seg, s)
	}
	if len(seg) == 0 {
		return route{}, false
	}
	is := func(i int, word string) bool { return i < len(seg) && strings.EqualFold(seg[i], word) }
	switch {
	case is(0, "changes") && len(seg) == 1:
		return route{kind: changes}, true
	case is(0, "rng") && len(seg) == 1:
		return route{kind: random}, true
	case is(0, "keys") && is(1, "restore") && len(seg) == 2:
		return route{kind: keyRestore}, true
	case is(0, "keys"):
		return parseKey(seg[1:])
	case is(0, "deletedkeys"):
		switch {
		case len(seg) == 1:
			return route{kind: deletedList}, true
		case len(seg) == 2:
			return route{kind: deletedKey, name: seg[1]}, true
		case len(seg) == 3 && is(2, "recover"):
			return route{kind: deletedRecover, name: seg[1]}, true
		}
	}
	return route{}, false
}

// parseKey takes apart what follows /keys.
func parseKey(seg []string) (route, bool) {
	if len(seg) == 0 {
		return route{kind: keyList}, true
	}
	r := route{kind: key, name: seg[0]}
	if len(seg) == 1 {
		return r, true
	}
	last := strings.ToLower(seg[len(seg)-1])
	use, isUse := uses[last]
	if len(seg) == 3 {
		r.version = seg[1]
	}
	switch {
	case isUse:
		r.kind, r.use = keyUse, use
	case slices.Contains([]string{"release", "attestation", "securewrapkey", "secureunwrapkey"}, last):
		r.kind = left
	case len(seg) == 3:
		return route{}, false
	case last == "create":
		r.kind = keyCreate
	case last == "versions":
		r.kind = keyVersions
	case last == "rotate":
		r.kind = keyRotate
	case last == "backup":
		r.kind = keyBackup
	case last == "rotationpolicy":
		r.kind = keyPolicy
	case last == "usage":
		r.kind = keyUsage
	default:
		r.kind, r.version = keyVersion, seg[1]
	}
	return r, true
}

// method returns the request's method, which a POST may override for clients
// behind proxies that know no others.
func method(r *http.Request) string {
	if r.Method == http.MethodPost {
		if m := strings.ToUpper(r.Header.Get("X-HTTP-Method")); m != "" {
			return m
		}
	}
	return r.Method
}

func allow(k kind) string {
	return strings.Join(slices.Sorted(maps.Keys(operations[k])), ", ")
}

// Azure's own clients send previews of the numbered versions too.
var versionPattern = regexp.MustCompile(`^(7\.[0-6](-preview(\.[0-9])?)?|2025-07-01)$`)

func checkVersion(v string) error {
	switch {
	case v == "":
		return fault.New(fault.InvalidArgument, "The query parameter api-version is missing.")
	case !versionPattern.MatchString(v):
		return fault.New(fault.InvalidArgument, "The api-version is not supported.").WithMend("Use 7.0 to 7.6, or 2025-07-01.")
	}
	return nil
}
