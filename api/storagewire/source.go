package storagewire

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// maxSourceURL is the longest URL of a copy's source, in bytes (Azure's 2 KiB).
const maxSourceURL = 2 << 10

// SourceURL is the address of what a copy reads.
type SourceURL struct {
	Path  lake.Path
	Shown string   // without its query, which may authorise: fit to be stored
	url   *url.URL // all of it
	below *url.URL // its path below the account
}

// Source reads what a copy is to read, and who reads it: the caller, or whoever
// the source's own authorisation speaks for. Sources outside this server are
// refused: it opens no connections for its clients.
func (c Config) Source(r *http.Request, caller identity.Caller, tokens api.Tokens) (src lake.Source, shown string, err error) {
	u, err := parseSourceURL(r.Header.Get("x-ms-copy-source"), r.Host, AccountPrefix(r), c.Account)
	if err != nil {
		return src, "", err
	}
	src.Path, src.Caller = u.Path, caller
	src.Path.Account = c.Storage()
	if src.Conditions, err = ParseConditions(r.Header, "x-ms-source-"); err != nil {
		return src, "", err
	}
	if v := r.Header.Get("x-ms-source-range"); v != "" {
		if src.Range, err = parseRange("x-ms-source-range", v); err != nil {
			return src, "", err
		}
		if src.Range.Suffix > 0 {
			return src, "", invalidHeader("x-ms-source-range")
		}
	}
	authorization := r.Header.Get("x-ms-copy-source-authorization")
	if authorization == "" && !u.url.Query().Has("sig") {
		if q, err := ParseQuery(r); err != nil || q["sig"] != "" { // a signature for what is written says nothing of other blobs
			return src, "", Coded(fault.Denied, "CannotVerifyCopySource", "The source carries no authorisation of its own.")
		}
		return src, u.Shown, nil
	}
	below := *u.url // without the account's name, as the router has it
	below.Path, below.RawPath = u.below.Path, u.below.RawPath
	read := &http.Request{
		Method: http.MethodGet, URL: &below, Host: u.url.Host, Header: http.Header{}, RequestURI: u.url.RequestURI(),
		RemoteAddr: r.RemoteAddr, TLS: r.TLS, // it is read over the connection that asks for the copy
	}
	if authorization != "" {
		read.Header.Set("Authorization", authorization)
	}
	read = read.WithContext(r.Context())
	q, err := ParseQuery(read)
	if err == nil {
		src.Caller, err = c.Caller(read, q, tokens)
	}
	if err != nil {
		e := Coded(fault.Denied, "CannotVerifyCopySource", "The authorisation of the source does not hold.")
		e.Err.Err = err
		return src, "", e
	}
	return src, u.Shown, nil
}

// ParseSourceHashes reads what the client says of the bytes of a source.
func ParseSourceHashes(h http.Header) (lake.Hashes, error) {
	as := http.Header{}
	if v := h.Get("x-ms-source-content-md5"); v != "" {
		as.Set("Content-MD5", v)
	}
	if v := h.Get("x-ms-source-content-crc64"); v != "" {
		as.Set("x-ms-content-crc64", v)
	}
	return ParseHashes(as)
}

// AccountPrefix returns what the router took off a path-style request's path:
// "/account", or "".
func AccountPrefix(r *http.Request) string {
	escaped, _, _ := strings.Cut(r.RequestURI, "?")
	seen := r.URL.EscapedPath()
	if seen == "/" && !strings.HasSuffix(escaped, "/") { // the account alone
		return escaped
	}
	prefix, ok := strings.CutSuffix(escaped, seen)
	if !ok || !strings.HasPrefix(prefix, "/") {
		return ""
	}
	return strings.TrimSuffix(prefix, "/")
}

// parseSourceURL reads the URL of a copy's source. It must be of the request's own
// host or, where the account stands in the host, of the account's other dialect.
func parseSourceURL(text, host, prefix, account string) (u SourceURL, err error) {
	invalid := func(detail string) (SourceURL, error) {
		return SourceURL{}, Coded(fault.InvalidArgument, "InvalidHeaderValue", detail).about("x-ms-copy-source")
	}
	if text == "" || len(text) > maxSourceURL {
		return invalid("The source of a copy is a URL of up to 2 KiB.")
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Host == "" || parsed.User != nil || parsed.Scheme != "https" && parsed.Scheme != "http" {
		return invalid("The source of a copy is an absolute URL.")
	}
	blob := func(host string) string {
		host = strings.ToLower(host)
		if rest, ok := strings.CutPrefix(host, strings.ToLower(account)+".dfs."); ok {
			return strings.ToLower(account) + ".blob." + rest
		}
		return host
	}
	if blob(parsed.Host) != blob(host) {
		return u, Coded(fault.SourceNotFound, "CannotVerifyCopySource", "The source is not of this server, which opens no connections for its clients.")
	}
	escaped, ok := strings.CutPrefix(parsed.EscapedPath(), prefix)
	if !ok || !strings.HasPrefix(escaped, "/") {
		return u, Coded(fault.SourceNotFound, "CannotVerifyCopySource", "The source is not of this account.")
	}
	q := parsed.Query()
	if q.Has("snapshot") || q.Has("versionid") {
		return u, fault.New(fault.NotSupported, "Snapshots and versions are not supported.")
	}
	if u.Path, err = lake.ParsePath(escaped); err != nil {
		return u, err
	}
	if len(u.Path.Segments) == 0 {
		return invalid("The source of a copy is a blob.")
	}
	shown := *parsed
	shown.RawQuery, shown.Fragment, shown.RawFragment = "", "", ""
	u.Shown, u.url = shown.String(), parsed
	if u.below, err = url.Parse(escaped); err != nil {
		return invalid("The source of a copy has no path.")
	}
	return u, nil
}
