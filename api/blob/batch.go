package blob

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
)

// Azure's limits of a batch
// (https://learn.microsoft.com/rest/api/storageservices/blob-batch).
const (
	maxBatch      = 4 << 20 // bytes
	maxBatchParts = 256
)

// batch answers Blob Batch: deletes, and settings of tiers. Each part is a request
// of its own, with its own authorisation, and has its own answer. below is the
// container that they must be in, "" for any.
func (s *server) batch(c *call, below string) error {
	if _, err := storagewire.CheckLength(c.r, maxBatch); err != nil {
		return err
	}
	parts, err := parseBatch(c.r.Header.Get("Content-Type"), io.LimitReader(c.r.Body, maxBatch))
	if err != nil {
		return err
	}
	prefix := storagewire.AccountPrefix(c.r)
	var body bytes.Buffer
	out := multipart.NewWriter(&body)
	for _, p := range parts {
		answer := &partAnswer{header: http.Header{}}
		s.part(answer, c.r, p, prefix, below)
		h := textproto.MIMEHeader{"Content-Type": {"application/http"}}
		if p.id != "" {
			h["Content-ID"] = []string{p.id} // clients compare the case here
		}
		w, err := out.CreatePart(h)
		if err != nil {
			return err
		}
		answer.write(w)
	}
	if err := out.Close(); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "multipart/mixed; boundary="+out.Boundary())
	c.w.WriteHeader(http.StatusAccepted)
	c.w.Write(body.Bytes())
	return nil
}

// A batchPart is one request of a batch.
type batchPart struct {
	id      string // Content-ID
	request *http.Request
}

func invalidBatch(err error) error {
	e := storagewire.Coded(fault.InvalidArgument, "InvalidInput", "The batch is malformed.")
	e.Err.Err = err
	return e
}

// parseBatch reads the requests of a batch. They have no bodies.
func parseBatch(contentType string, body io.Reader) (parts []batchPart, err error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/mixed" || params["boundary"] == "" {
		return nil, invalidBatch(err)
	}
	for r := multipart.NewReader(body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, invalidBatch(err)
		}
		if len(parts) == maxBatchParts {
			return nil, storagewire.Coded(fault.InvalidArgument, "ExceedsMaxBatchRequestCount", "A batch has at most 256 requests.")
		}
		if t, _, err := mime.ParseMediaType(p.Header.Get("Content-Type")); err != nil || t != "application/http" {
			return nil, invalidBatch(err)
		}
		text, err := io.ReadAll(p)
		if err != nil {
			return nil, invalidBatch(err)
		}
		// Some clients leave out the empty line behind the last header.
		text = append(bytes.TrimRight(text, "\r\n"), "\r\n\r\n"...)
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
		if err != nil {
			return nil, invalidBatch(err)
		}
		if request.ContentLength > 0 || len(request.TransferEncoding) > 0 {
			return nil, invalidBatch(errors.New("a part has a body"))
		}
		parts = append(parts, batchPart{p.Header.Get("Content-ID"), request})
	}
	if len(parts) == 0 {
		return nil, invalidBatch(nil)
	}
	return parts, nil
}

// part serves one part.
func (s *server) part(w *partAnswer, outer *http.Request, p batchPart, prefix, below string) {
	r := p.request.WithContext(outer.Context())
	r.RemoteAddr, r.Host, r.TLS = outer.RemoteAddr, outer.Host, outer.TLS
	storagewire.Stamp(w, r)
	if v := outer.Header.Get("x-ms-version"); r.Header.Get("x-ms-version") == "" && v != "" { // which the part has not signed
		w.header.Set("x-ms-version", v)
	}
	if p.id != "" {
		w.header.Set("x-ms-client-request-id", p.id)
	}
	err := func() error {
		escaped, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
		if !ok || !strings.HasPrefix(escaped, "/") {
			return fault.New(fault.InvalidPath, "A part of the batch is not of this account.")
		}
		u, err := r.URL.Parse(escaped)
		if err != nil {
			return fault.Wrap(fault.InvalidPath, err, "A part of the batch has no path.")
		}
		r.URL.Path, r.URL.RawPath = u.Path, u.RawPath
		q, err := storagewire.ParseQuery(r)
		if err != nil {
			return err
		}
		comp := strings.ToLower(q["comp"])
		if q.Has("restype") || !(r.Method == http.MethodDelete && comp == "" || r.Method == http.MethodPut && comp == "tier") {
			return fault.New(fault.NotSupported, "A batch deletes blobs and sets their tiers.")
		}
		if first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/"); below != "" && first != below {
			return fault.New(fault.InvalidPath, "A part of the batch is not in its container.")
		}
		return s.serve(w, r, account.BlobService{})
	}()
	if err != nil {
		s.fail(w, r, err)
	}
}

// A partAnswer collects the answer to one part.
type partAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *partAnswer) Header() http.Header { return a.header }

func (a *partAnswer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *partAnswer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

func (a *partAnswer) write(w io.Writer) {
	a.WriteHeader(http.StatusOK)
	fmt.Fprintf(w, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
	a.header.Set("Content-Length", fmt.Sprint(a.body.Len()))
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		as := name
		if strings.HasPrefix(name, "X-Ms-") {
			as = strings.ToLower(name)
		}
		for _, v := range a.header[name] {
			fmt.Fprintf(w, "%s: %s\r\n", as, v)
		}
	}
	io.WriteString(w, "\r\n")
	w.Write(a.body.Bytes())
}
