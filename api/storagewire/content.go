package storagewire

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// MaxHashedRange is the longest range of which a client may ask the hash, in
// bytes: Azure's 4 MiB.
const MaxHashedRange = 4 << 20

// CRC64 is the table of CRC-64/NVME, which Azure calls CRC64.
var CRC64 = crc64.MakeTable(0x9A6C9329AC4BC9B5)

// SetVersion sets the headers by which a client knows what it wrote.
func SetVersion(h http.Header, p lake.Properties) {
	h.Set("ETag", p.ETag)
	h.Set("Last-Modified", p.Modified.UTC().Format(http.TimeFormat))
}

// SetProperties sets the headers that describe a file or folder in both dialects,
// but for its length and its metadata.
func (c Config) SetProperties(h http.Header, p lake.Properties) {
	SetVersion(h, p)
	c.SetAccess(h, p.Access)
	if c.Storage() != "" {
		SetTier(h, p)
	}
	contentType := p.Headers.Type
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	resource := "file"
	if p.Kind == lake.Folder {
		resource = "directory"
	}
	status, state, duration := LeaseStatus(p.Lease)
	for name, v := range map[string]string{
		"Content-Type":            contentType,
		"Content-Encoding":        p.Headers.Encoding,
		"Content-Language":        p.Headers.Language,
		"Content-Disposition":     p.Headers.Disposition,
		"Cache-Control":           p.Headers.CacheControl,
		"Accept-Ranges":           "bytes",
		"x-ms-resource-type":      resource,
		"x-ms-server-encrypted":   "true",
		"x-ms-lease-status":       status,
		"x-ms-lease-state":        state,
		"x-ms-lease-duration":     duration,
		"x-ms-encryption-context": p.Context,
	} {
		if v != "" {
			h.Set(name, v)
		}
	}
	if !p.Created.IsZero() {
		h.Set("x-ms-creation-time", p.Created.UTC().Format(http.TimeFormat))
	}
}

// What OneLake says of everybody's files: rights come from the workspace's roles.
const (
	Superuser   = lake.Superuser
	Permissions = "---------"
)

// SetMetadata sets user metadata as headers. The names are written as they are:
// some clients read them with their case.
func SetMetadata(h http.Header, m map[string]string) {
	for k, v := range m {
		h["x-ms-meta-"+k] = []string{v}
	}
}

// A Content is a file, or a range of it, on its way to a client.
type Content struct {
	Properties lake.Properties
	Offset     int64 // of the first byte
	Length     int64 // bytes that Body writes if it succeeds
	Ranged     bool  // whether a range was asked for
	Body       io.WriterTo
}

// ServeContent answers a read: with the headers that describe sets, and with
// length, range and hashes. An error that it returns came before anything was
// written. A later one breaks the connection off, so that no client can take a part
// for the whole.
func ServeContent(w http.ResponseWriter, r *http.Request, c Content, describe func(http.Header)) error {
	if c.Ranged && c.Length == 0 {
		return fault.New(fault.RangeNotSatisfiable, "")
	}
	if v := r.Header.Get(structuredHeader); v != "" {
		if err := checkStructured(v); err != nil {
			return err
		}
	}
	hashes, crc, err := rangeHashes(r, &c)
	if err != nil {
		return err
	}
	h := w.Header()
	describe(h)
	SetHashes(h, hashes, crc)
	status := http.StatusOK
	if c.Ranged {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", c.Offset, c.Offset+c.Length-1, c.Properties.Size))
	}
	if sum := c.Properties.Headers.MD5; len(sum) > 0 {
		name := "Content-MD5"
		if c.Ranged { // there it would be taken for the range's
			name = "x-ms-blob-content-md5"
		}
		h.Set(name, base64.StdEncoding.EncodeToString(sum))
	}
	length := c.Length
	if r.Header.Get(structuredHeader) != "" {
		h.Set(structuredHeader, structuredValue)
		h.Set(structuredLength, strconv.FormatInt(c.Length, 10))
		_, length = newStructuredWriter(nil, c.Length)
		c.Body = structured{c.Body, c.Length}
	}
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	w.WriteHeader(status)
	stream(w, r, c)
	return nil
}

// rangeHashes computes what the client wants to know of a small range beforehand.
// The range is then in memory, and c.Body gives it from there.
func rangeHashes(r *http.Request, c *Content) (hashes lake.Hashes, crc *uint64, err error) {
	md5Wanted := strings.EqualFold(r.Header.Get("x-ms-range-get-content-md5"), "true")
	crcWanted := strings.EqualFold(r.Header.Get("x-ms-range-get-content-crc64"), "true")
	switch {
	case !md5Wanted && !crcWanted:
		return hashes, nil, nil
	case !c.Ranged || md5Wanted && crcWanted:
		return hashes, nil, Coded(fault.InvalidArgument, "InvalidHeaderValue", "The hash of a range needs a range, and is one of MD5 and CRC64.")
	case c.Length > MaxHashedRange:
		return hashes, nil, Coded(fault.InvalidArgument, "OutOfRangeInput", "The hash of a range is given for up to 4 MiB.")
	}
	buf := bytes.NewBuffer(make([]byte, 0, c.Length))
	if _, err := c.Body.WriteTo(buf); err != nil {
		return hashes, nil, err
	}
	c.Body = buf
	if md5Wanted {
		sum := md5.Sum(buf.Bytes())
		hashes.MD5 = sum[:]
		return hashes, nil, nil
	}
	sum := crc64.Checksum(buf.Bytes(), CRC64)
	return hashes, &sum, nil
}

// stream writes a body whose headers are out. If it fails or ends early, the
// connection is broken off.
func stream(w io.Writer, r *http.Request, c Content) {
	to := &sink{w: w}
	n, err := c.Body.WriteTo(to)
	if err == nil && n == c.Length {
		return
	}
	if !to.failed { // else the client went away
		if err == nil {
			err = fmt.Errorf("content of %d bytes ended after %d", c.Length, n)
		}
		api.LogFailure(r.Context(), "storage", err)
	}
	panic(http.ErrAbortHandler)
}

// A sink remembers whether it was the client's side that failed.
type sink struct {
	w      io.Writer
	failed bool
}

func (s *sink) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.failed = s.failed || err != nil
	return n, err
}
