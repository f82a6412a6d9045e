package storagewire

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// MaxMetadata is the most that names and values of user metadata take together,
// in bytes: Azure's 8 KiB.
const MaxMetadata = 8 << 10

func invalidHeader(name string) error {
	return Coded(fault.InvalidArgument, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.").about(name)
}

// ParseRange reads the range of a read, and reports whether one is asked for.
// x-ms-range outranks Range. As in Azure there is one range; "the last n bytes",
// which Azure lacks, is one too.
func ParseRange(h http.Header) (lake.Range, bool, error) {
	name := "x-ms-range"
	v := h.Get(name)
	if v == "" {
		name = "Range"
		v = h.Get(name)
	}
	if v == "" {
		return lake.Range{}, false, nil
	}
	rng, err := parseRange(name, v)
	return rng, err == nil, err
}

func parseRange(name, v string) (lake.Range, error) {
	spec, ok := strings.CutPrefix(v, "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	if !ok || !dash {
		return lake.Range{}, invalidHeader(name)
	}
	if first == "" {
		n, err := parsePosition(last)
		if err != nil || n == 0 {
			return lake.Range{}, invalidHeader(name)
		}
		return lake.Range{Suffix: n}, nil
	}
	from, err := parsePosition(first)
	if err != nil {
		return lake.Range{}, invalidHeader(name)
	}
	if last == "" {
		return lake.Range{Offset: from}, nil
	}
	to, err := parsePosition(last)
	if err != nil || to < from {
		return lake.Range{}, invalidHeader(name)
	}
	if to-from == math.MaxInt64 { // one more would overflow, and means the end anyway
		return lake.Range{Offset: from}, nil
	}
	return lake.Range{Offset: from, Count: to - from + 1}, nil
}

// parsePosition reads digits only, where strconv would take a sign as well.
func parsePosition(s string) (int64, error) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 10, 64)
}

// ParseConditions reads the conditional headers, with "x-ms-source-" as prefix
// those on a source.
func ParseConditions(h http.Header, prefix string) (lake.Conditions, error) {
	c := lake.Conditions{
		IfMatch:     strings.Join(h.Values(prefix+"If-Match"), ","),
		IfNoneMatch: strings.Join(h.Values(prefix+"If-None-Match"), ","),
	}
	for _, d := range []struct {
		name string
		into *time.Time
	}{
		{prefix + "If-Modified-Since", &c.IfModifiedSince}, {prefix + "If-Unmodified-Since", &c.IfUnmodifiedSince},
		{"x-ms-access-tier-if-modified-since", &c.TierIfModifiedSince}, {"x-ms-access-tier-if-unmodified-since", &c.TierIfUnmodifiedSince},
	} {
		v := h.Get(d.name)
		if v == "" || prefix != "" && strings.HasPrefix(d.name, "x-ms-access-tier") { // those are not on a source
			continue
		}
		t, err := http.ParseTime(v)
		if err != nil { // the Go SDK writes UTC where HTTP has GMT
			if t, err = time.Parse(time.RFC1123, v); err != nil {
				return lake.Conditions{}, invalidHeader(d.name)
			}
		}
		*d.into = t
	}
	c.Lease = h.Get(leaseOf(prefix))
	return c, nil
}

func leaseOf(prefix string) string {
	if prefix == "" {
		return "x-ms-lease-id"
	}
	return prefix + "lease-id"
}

// ParseMD5 reads a header that holds an MD5; nil if it is not there.
func ParseMD5(h http.Header, name string) ([]byte, error) {
	v := h.Get(name)
	if v == "" {
		return nil, nil
	}
	sum, err := base64.StdEncoding.DecodeString(v)
	if err != nil || len(sum) != 16 {
		return nil, Coded(fault.InvalidArgument, "InvalidMd5", "The MD5 value specified in the request is invalid. The MD5 value must be 128 bits and Base64-encoded.").about(name)
	}
	return sum, nil
}

// ParseHashes reads what the client says of the body: Content-MD5 and
// x-ms-content-crc64, which is CRC-64/NVME, least significant byte first.
func ParseHashes(h http.Header) (lake.Hashes, error) {
	sum, err := ParseMD5(h, "Content-MD5")
	if err != nil {
		return lake.Hashes{}, err
	}
	hashes := lake.Hashes{MD5: sum}
	if v := h.Get("x-ms-content-crc64"); v != "" {
		b, err := base64.StdEncoding.DecodeString(v)
		if err != nil || len(b) != 8 {
			return lake.Hashes{}, invalidHeader("x-ms-content-crc64")
		}
		crc := binary.LittleEndian.Uint64(b)
		hashes.CRC64 = &crc
	}
	return hashes, nil
}

// SetHashes says in the answer what the body's hashes are: the MD5 if the client
// sent one, since computing it costs more than all else, and the CRC-64.
func SetHashes(h http.Header, sent lake.Hashes, crc *uint64) {
	if sent.MD5 != nil {
		h.Set("Content-MD5", base64.StdEncoding.EncodeToString(sent.MD5))
	}
	if crc != nil {
		h.Set("x-ms-content-crc64", base64.StdEncoding.EncodeToString(binary.LittleEndian.AppendUint64(nil, *crc)))
	}
}

// ParseContentHeaders reads the headers that are to be stored with a file, and
// counts those given. The prefix is "x-ms-blob-" or "x-ms-".
func ParseContentHeaders(h http.Header, prefix string) (c lake.ContentHeaders, given int, err error) {
	for _, f := range []struct {
		name string
		into *string
	}{
		{"content-type", &c.Type}, {"content-encoding", &c.Encoding}, {"content-language", &c.Language},
		{"content-disposition", &c.Disposition}, {"cache-control", &c.CacheControl},
	} {
		if v := h.Get(prefix + f.name); v != "" {
			*f.into = v
			given++
		}
	}
	if c.MD5, err = ParseMD5(h, prefix+"content-md5"); c.MD5 != nil {
		given++
	}
	return c, given, err
}

// ParseMetadata reads the user metadata of x-ms-meta-* headers. HTTP does not keep
// the case of names, so they become lower case.
func ParseMetadata(h http.Header) (map[string]string, error) {
	m := map[string]string{}
	for name, values := range h {
		if key, ok := strings.CutPrefix(strings.ToLower(name), "x-ms-meta-"); ok {
			m[key] = strings.Join(values, ",")
		}
	}
	return m, CheckMetadata(m)
}

// CheckMetadata says whether metadata can be stored and shown in both dialects:
// names are identifiers (Azure demands C#'s, of which we take those in ASCII),
// values are text without control characters.
func CheckMetadata(m map[string]string) error {
	size := 0
	for name, value := range m {
		size += len(name) + len(value)
		if name == "" {
			return Coded(fault.InvalidArgument, "EmptyMetadataKey", "The key for one of the metadata key-value pairs is empty.")
		}
		for i := range len(name) {
			c := name[i]
			if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
				return Coded(fault.InvalidArgument, "InvalidMetadata", "A metadata name is not an identifier: letters, digits and underscores, and no digit first.")
			}
		}
		if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			return Coded(fault.InvalidArgument, "InvalidMetadata", "A metadata value holds characters that no header can carry.")
		}
	}
	if size > MaxMetadata {
		return Coded(fault.InvalidArgument, "MetadataTooLarge", "The size of the specified metadata exceeds the maximum size permitted, 8 KiB.")
	}
	return nil
}

// CheckLength returns the body's length, which must be known beforehand.
func CheckLength(r *http.Request, most int64) (int64, error) {
	switch {
	case r.ContentLength < 0:
		return 0, fault.New(fault.LengthRequired, "")
	case r.ContentLength > most:
		return 0, fault.New(fault.PayloadTooLarge, "")
	}
	return r.ContentLength, nil
}

// Refuse refuses headers that ask for what is not offered and that would change
// the meaning of the request if they were ignored.
func Refuse(h http.Header) error {
	for _, name := range []string{
		"x-ms-if-tags", "x-ms-source-if-tags", "x-ms-tags", "x-ms-expiry-option", "x-ms-expiry-time", "x-ms-legal-hold",
		"x-ms-immutability-policy-mode", "x-ms-immutability-policy-until-date",
	} {
		if h.Get(name) != "" {
			return fault.New(fault.NotSupported, "The request has a header that is not supported: "+name+".")
		}
	}
	return nil
}

// KeyHeaders are those by which a client brings a key of its own, or asks for one.
var KeyHeaders = []string{
	"x-ms-encryption-key", "x-ms-encryption-key-sha256", "x-ms-encryption-algorithm", "x-ms-encryption-scope",
}

// RefuseKeys refuses a key that the request brings, or asks for.
func RefuseKeys(h http.Header) error {
	for _, name := range KeyHeaders {
		if h.Get(name) != "" {
			return Coded(fault.InvalidArgument, "UnsupportedHeader", "Keys that a request brings are not supported: the workspace's or account's own key protects the data.")
		}
	}
	return nil
}

// SetRejected names in the answer those headers that the request carries and that
// are ignored, as OneLake does.
func SetRejected(w http.ResponseWriter, r *http.Request, names ...string) {
	var rejected []string
	for _, name := range names {
		if r.Header.Get(name) != "" {
			rejected = append(rejected, name)
		}
	}
	if rejected != nil {
		w.Header().Set("x-ms-rejected-headers", strings.Join(rejected, ","))
	}
}
