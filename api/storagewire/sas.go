package storagewire

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// A shared access signature is a query that says what its holder may do, signed by
// somebody who may: with an account's key, for the account (ss, srt) or for one
// container, folder or file (sr), or with a user delegation key (skoid, …), whose
// principal's roles must still allow it when it is used. See
// https://learn.microsoft.com/rest/api/storageservices/delegate-access-with-shared-access-signature.
type signature struct {
	q        Query
	version  string
	resource string // sr; "" for an account's
	depth    int    // sdd, for sr=d
	mac      []byte

	headers, parameters string // those of the request that are signed with it (srh, srq), with their values
}

// sasVersion is the form of sv; versions before 2018-11-09 leave the kind of resource
// unsigned, and are refused.
var sasVersion = regexp.MustCompile(`^20[0-9]{2}-[0-9]{2}-[0-9]{2}$`)

const (
	firstVersion      = "2018-11-09"
	delegationObjects = "2020-02-10" // saoid, suoid and scid are signed
	encryptionScopes  = "2020-12-06" // ses is signed
	delegatedUsers    = "2025-07-05" // skdutid and sduoid are signed
	requestBound      = "2026-04-06" // srh and srq are signed
)

// parseSignature reads what is common to all kinds, and refuses what would widen a
// signature if it were ignored.
func parseSignature(q Query, h http.Header) (s signature, err error) {
	s = signature{q: q, version: q["sv"], resource: q["sr"]}
	if !sasVersion.MatchString(s.version) || s.version < firstVersion {
		return s, authenticationFailed("sv is missing, or older than " + firstVersion + ".")
	}
	if s.mac, err = base64.StdEncoding.DecodeString(q["sig"]); err != nil || len(s.mac) != sha256.Size {
		return s, authenticationFailed("sig is not well formed.")
	}
	unsupported := []string{"saoid", "suoid", "skdutid", "sduoid", "ses"}
	if q["skoid"] == "" || s.version < requestBound {
		unsupported = append(unsupported, "srh", "srq")
	}
	for _, name := range unsupported {
		if q[name] != "" {
			return s, authenticationFailed("A shared access signature with " + name + " is not supported.")
		}
	}
	for name := range strings.SplitSeq(q["srh"], ",") {
		if name != "" {
			s.headers += name + ":" + strings.Join(h.Values(name), ",") + "\n"
		}
	}
	for name := range strings.SplitSeq(q["srq"], ",") {
		if name != "" {
			s.parameters += "\n" + name + ":" + q[strings.ToLower(name)]
		}
	}
	switch s.resource {
	case "", "c", "b":
	case "d":
		if s.depth, err = strconv.Atoi(q["sdd"]); err != nil || s.depth < 0 || s.depth > 63 {
			return s, authenticationFailed("sdd is not the depth of a folder.")
		}
	default:
		return s, authenticationFailed("sr names a resource that is not supported.")
	}
	return s, nil
}

// sasTimes are the forms of a time (ISO 8601, UTC).
var sasTimes = []string{"2006-01-02T15:04:05.0000000Z", time.RFC3339, "2006-01-02T15:04Z", "2006-01-02"}

// ParseTime reads a time in one of the forms that signatures and policies have.
func ParseTime(s string) (time.Time, bool) {
	for _, layout := range sasTimes {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// holds checks the times, addresses and protocols of a signature.
func (s signature) holds(r *http.Request, now time.Time) error {
	end, ok := ParseTime(s.q["se"])
	if !ok || !now.Before(end) {
		return authenticationFailed("The signature has expired, or se is missing.")
	}
	if v := s.q["st"]; v != "" {
		if start, ok := ParseTime(v); !ok || now.Before(start) {
			return authenticationFailed("The signature is not valid yet.")
		}
	}
	switch s.q["spr"] {
	case "", "https,http":
	case "https":
		if r.TLS == nil {
			return Coded(fault.Denied, "AuthorizationProtocolMismatch", "This request is not authorized to perform this operation using this protocol.")
		}
	default:
		return authenticationFailed("spr is https, or https,http.")
	}
	if v := s.q["sip"]; v != "" && !inRange(v, r.RemoteAddr) {
		return Coded(fault.Denied, "AuthorizationSourceIPMismatch", "This request is not authorized to perform this operation using this source IP.")
	}
	return nil
}

// inRange reports whether a client's address is the one, or between the two, of sip.
func inRange(sip, remote string) bool {
	low, high, two := strings.Cut(sip, "-")
	if !two {
		high = low
	}
	from, err := netip.ParseAddr(low)
	to, err2 := netip.ParseAddr(high)
	at, err3 := netip.ParseAddrPort(remote)
	if err != nil || err2 != nil || err3 != nil {
		return false
	}
	addr := at.Addr().Unmap()
	return addr.BitLen() == from.BitLen() && addr.BitLen() == to.BitLen() && !addr.Less(from) && !to.Less(addr)
}

// signature authenticates a request by its shared access signature.
func (c Config) signature(r *http.Request, q Query) (caller identity.Caller, err error) {
	s, err := parseSignature(q, r.Header)
	if err != nil {
		return caller, err
	}
	now := time.Now()
	t, err := c.target(r, q)
	if err != nil {
		return caller, err
	}
	if q["skoid"] != "" {
		caller, err = c.delegated(r.Context(), s, t.path, now)
	} else {
		caller, err = c.accountSigned(r, s, t.path)
	}
	if err != nil {
		return caller, err
	}
	if q["si"] != "" {
		if s, err = c.completed(r, s, caller, t.path); err != nil {
			return caller, err
		}
	}
	if err := s.holds(r, now); err != nil {
		return caller, err
	}
	return caller, s.permit(c, r, t)
}

// completed adds to a signature what the stored access policy says that it names. Each
// of times and permissions stands in one of the two, and the policy must be there.
func (c Config) completed(r *http.Request, s signature, caller identity.Caller, at lake.Path) (signature, error) {
	if s.resource == "" || s.q["skoid"] != "" || c.Policies == nil {
		return s, authenticationFailed("A stored access policy is for signatures with an account's key, of one container.")
	}
	_, policies, err := c.Policies.AccessPolicies(r.Context(), api.Describe(r, caller), lake.Path{Account: c.Storage(), Container: at.Container}, lake.Conditions{})
	if err != nil {
		return s, err
	}
	i := slices.IndexFunc(policies, func(p lake.AccessPolicy) bool { return p.ID == s.q["si"] })
	if i < 0 {
		return s, authenticationFailed("The container has no such stored access policy.")
	}
	s.q = maps.Clone(s.q)
	for _, f := range []struct{ name, value string }{
		{"st", formatSASTime(policies[i].Start)}, {"se", formatSASTime(policies[i].Expiry)}, {"sp", policies[i].Permissions},
	} {
		switch {
		case f.value == "":
		case s.q[f.name] != "":
			return s, authenticationFailed("The signature and its stored access policy both say " + f.name + ".")
		default:
			s.q[f.name] = f.value
		}
	}
	return s, nil
}

func formatSASTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(sasTimes[0])
}

// accountSigned verifies a signature made with an account's key.
func (c Config) accountSigned(r *http.Request, s signature, at lake.Path) (caller identity.Caller, err error) {
	if c.Keys == nil || c.Storage() == "" {
		return caller, authenticationFailed("Only user delegation signatures are accepted here.")
	}
	var message string
	if s.resource == "" {
		message = s.accountMessage(c.Storage())
	} else {
		where, ok := s.canonical(c.Account, at)
		if !ok {
			return caller, authenticationFailed("The signature is for another resource.")
		}
		message = s.serviceMessage(where)
	}
	caller, err = c.Keys.Verify(r.Context(), c.Storage(), message, s.mac)
	return caller, notSigned(err)
}

// OneLake's rules
// (https://learn.microsoft.com/fabric/onelake/onelake-shared-access-signature-overview).
func (s signature) oneLake(skt, ske time.Time) error {
	if s.resource != "b" && s.resource != "d" {
		return authenticationFailed("Here a signature is for a file or a folder: sr is b or d.")
	}
	if s.version > delegationObjects && s.version < encryptionScopes {
		return authenticationFailed("sv is one that is not supported here.")
	}
	for _, name := range []string{"scid", "sip", "rscc", "rscd", "rsce", "rscl", "rsct"} {
		if s.q[name] != "" {
			return authenticationFailed("A shared access signature with " + name + " is not supported here.")
		}
	}
	end, _ := ParseTime(s.q["se"])
	start, ok := ParseTime(s.q["st"])
	if !ok {
		start = skt
	}
	if ske.Sub(skt) > time.Hour || end.Sub(start) > time.Hour {
		return authenticationFailed("Here a signature, and its key, last for at most an hour.")
	}
	return nil
}

// delegated verifies a signature made with a user delegation key. The caller is who
// asked for the key: what his roles do not allow, the signature does not either, and
// what voids his tokens voids it.
func (c Config) delegated(ctx context.Context, s signature, at lake.Path, now time.Time) (caller identity.Caller, err error) {
	q := s.q
	start, ok := ParseTime(q["skt"])
	end, ok2 := ParseTime(q["ske"])
	switch {
	case c.Delegations == nil || c.Issuances == nil:
		return caller, authenticationFailed("User delegation signatures are not accepted here.")
	case !ok || !ok2 || now.Before(start) || !now.Before(end):
		return caller, authenticationFailed("The user delegation key is not valid now.")
	case q["sks"] != "b" || s.resource == "":
		return caller, authenticationFailed("The user delegation key is one of another service.")
	}
	if c.Storage() == "" {
		if err := s.oneLake(start, end); err != nil {
			return caller, err
		}
	}
	where, ok := s.canonical(c.Account, at)
	if !ok {
		return caller, authenticationFailed("The signature is for another resource.")
	}
	k := lake.DelegationKey{
		Account: c.Account, Principal: identity.PrincipalID(q["skoid"]), Tenant: identity.TenantID(q["sktid"]),
		Start: start.UTC(), Expiry: end.UTC(), Service: q["sks"], Version: q["skv"],
	}
	issuances, err := c.Issuances.Issuances(ctx, k.Tenant, k.Principal)
	if err != nil {
		return caller, err
	}
	holds := false
	for _, k.Issuance = range issuances {
		key, err := c.Delegations.DelegationValue(k)
		if err != nil {
			return caller, err
		}
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s.delegationMessage(where)))
		holds = holds || hmac.Equal(h.Sum(nil), s.mac)
		clear(key)
	}
	if !holds {
		return caller, authenticationFailed("The signature does not match, or its key's principal is disabled or gone.")
	}
	return identity.Caller{
		Tenant: identity.TenantID(q["sktid"]), Principal: identity.PrincipalID(q["skoid"]), Expires: end,
		Context: map[string]string{"signature": "user delegation"},
	}, nil
}

// canonical names what the signature is for, as the request has it: the same request
// elsewhere gives another message. It reports false if the request is not in it.
func (s signature) canonical(account string, at lake.Path) (string, bool) {
	segments := at.Segments
	switch s.resource {
	case "c":
		segments = nil
	case "d":
		if len(segments) < s.depth {
			return "", false
		}
		segments = segments[:s.depth]
	case "b":
		if len(segments) == 0 {
			return "", false
		}
	}
	if at.Container == "" {
		return "", false
	}
	return "/" + strings.Join(append([]string{"blob", account, at.Container}, segments...), "/"), true
}

func outside() error {
	return Coded(fault.Denied, "AuthorizationResourceMismatch", "This request is not authorized to perform this operation on this resource.")
}

func (s signature) accountMessage(account string) string {
	q := s.q
	lines := []string{account, q["sp"], q["ss"], q["srt"], q["st"], q["se"], q["sip"], q["spr"], s.version}
	if s.version >= encryptionScopes {
		lines = append(lines, q["ses"])
	}
	return strings.Join(append(lines, ""), "\n")
}

func (s signature) serviceMessage(where string) string {
	q := s.q
	lines := []string{q["sp"], q["st"], q["se"], where, q["si"], q["sip"], q["spr"], s.version, s.resource, ""}
	return strings.Join(s.overrides(lines), "\n")
}

func (s signature) delegationMessage(where string) string {
	q := s.q
	lines := []string{q["sp"], q["st"], q["se"], where, q["skoid"], q["sktid"], q["skt"], q["ske"], q["sks"], q["skv"]}
	if s.version >= delegationObjects {
		lines = append(lines, q["saoid"], q["suoid"], q["scid"])
	}
	if s.version >= delegatedUsers {
		lines = append(lines, q["skdutid"], q["sduoid"])
	}
	lines = append(lines, q["sip"], q["spr"], s.version, s.resource, "")
	return strings.Join(s.overrides(lines), "\n")
}

// overrides adds the fields with which all messages but an account's end.
func (s signature) overrides(lines []string) []string {
	if s.version >= encryptionScopes {
		lines = append(lines, s.q["ses"])
	}
	if s.q["skoid"] != "" && s.version >= requestBound {
		lines = append(lines, s.headers, s.parameters)
	}
	for _, name := range overridden {
		lines = append(lines, s.q[name.parameter])
	}
	return lines
}

// overridden are the headers of an answer that a signature can say, in the order in
// which they are signed.
var overridden = []struct{ parameter, header string }{
	{"rscc", "Cache-Control"}, {"rscd", "Content-Disposition"}, {"rsce", "Content-Encoding"},
	{"rscl", "Content-Language"}, {"rsct", "Content-Type"},
}

// Override makes an answer to a read carry the headers that the request's signature
// says.
func Override(w http.ResponseWriter, r *http.Request, q Query) http.ResponseWriter {
	if q["sig"] == "" || r.Method != http.MethodGet && r.Method != http.MethodHead ||
		!slices.ContainsFunc(overridden, func(o struct{ parameter, header string }) bool { return q[o.parameter] != "" }) {
		return w
	}
	return &overriding{ResponseWriter: w, q: q}
}

type overriding struct {
	http.ResponseWriter
	q Query
}

func (o *overriding) WriteHeader(status int) {
	if status < 300 {
		for _, name := range overridden {
			if v := o.q[name.parameter]; v != "" {
				o.Header().Set(name.header, v)
			}
		}
	}
	o.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (o *overriding) Unwrap() http.ResponseWriter { return o.ResponseWriter }
