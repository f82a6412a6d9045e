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
// but for its length and its metadata. Owner, group and permissions are OneLake's.
func SetProperties(h http.Header, p lake.Properties) {
	SetVersion(h, p)
	contentType := p.Headers.Type
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	resource := "file"
	if p.Kind == lake.Folder {
		resource = "directory"
	}
	for name, v := range map[string]string{
		"Content-Type":          contentType,
		"Content-Encoding":      p.Headers.Encoding,
		"Content-Language":      p.Headers.Language,
		"Content-Disposition":   p.Headers.Disposition,
		"Cache-Control":         p.Headers.CacheControl,
		"Accept-Ranges":         "bytes",
		"x-ms-resource-type":    resource,
		"x-ms-server-encrypted": "true",
		"x-ms-lease-status":     "unlocked",
		"x-ms-lease-state":      "available",
		"x-ms-owner":            Superuser,
		"x-ms-group":            Superuser,
		"x-ms-permissions":      Permissions,
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
	Superuser   = "$superuser"
	Permissions = "---------"
)

// SetMetadata sets user metadata as headers. The names are written as they are:
// some clients read them with their case.
func SetMetadata(h http.Header, m map[string]string) {
	for k, v := range m {
		h["x-ms-meta-"+k] = []string{v}
	}
}

// A Body is content on its way to a client.
type Body interface {
	WriteTo(io.Writer) (int64, error)
}

// ServeContent answers a read with a file or a range of it. The headers that
// describe the file are set; ServeContent adds length, range and hashes. An error
// that it returns came before the first byte. A later one breaks the connection
// off, so that no client can take a part for the whole.
func ServeContent(w http.ResponseWriter, r *http.Request, p lake.Properties, body Body, offset, length int64, ranged bool) error {
	h := w.Header()
	if ranged && length == 0 {
		return fault.New(fault.RangeNotSatisfiable, "")
	}
	md5Wanted := strings.EqualFold(r.Header.Get("x-ms-range-get-content-md5"), "true")
	crcWanted := strings.EqualFold(r.Header.Get("x-ms-range-get-content-crc64"), "true")
	if md5Wanted || crcWanted {
		switch {
		case !ranged, md5Wanted && crcWanted:
			return Coded(fault.InvalidArgument, "InvalidHeaderValue", "The hash of a range needs a range, and is one of MD5 and CRC64.")
		case length > MaxHashedRange:
			return Coded(fault.InvalidArgument, "OutOfRangeInput", "The hash of a range is given for up to 4 MiB.")
		}
		buf := bytes.NewBuffer(make([]byte, 0, length))
		if _, err := body.WriteTo(buf); err != nil {
			return err
		}
		if md5Wanted {
			sum := md5.Sum(buf.Bytes())
			SetHashes(h, lake.Hashes{MD5: sum[:]}, nil)
		} else {
			crc := crc64.Checksum(buf.Bytes(), CRC64)
			SetHashes(h, lake.Hashes{}, &crc)
		}
		body = buf
	}

	status := http.StatusOK
	if ranged {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, offset+length-1, p.Size))
	}
	if len(p.Headers.MD5) > 0 {
		name := "Content-MD5"
		if ranged { // there it would be taken for the range's
			name = "x-ms-blob-content-md5"
		}
		h.Set(name, base64.StdEncoding.EncodeToString(p.Headers.MD5))
	}
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	w.WriteHeader(status)
	Stream(w, body, length)
	return nil
}

// Stream writes a body whose headers are out. If it fails or ends early, the
// connection is broken off.
func Stream(w io.Writer, body Body, length int64) {
	if n, err := body.WriteTo(w); err != nil || n != length {
		panic(http.ErrAbortHandler)
	}
}
