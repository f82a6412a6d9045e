package blob

import (
	"net/http"
	"strconv"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// maxAppend is Azure's limit of one appended block, in bytes.
const maxAppend = 100 << 20

// createAppend answers Put Blob of an append blob, which is made empty.
func (s *server) createAppend(c *call) error {
	if err := emptyBody(c.r); err != nil {
		return err
	}
	o, err := putOptions(c.r, true)
	if err != nil {
		return err
	}
	takeFolderMark(o.Metadata)
	o.Append = true
	p, err := s.lake.Create(c.r.Context(), c.caller, c.path, lake.File, o)
	if err != nil {
		return existing(o.Conditions, err)
	}
	written(c.w, http.StatusCreated, p)
	return nil
}

// appendBlock answers Append Block, and Append Block From URL.
func (s *server) appendBlock(c *call) error {
	var o lake.AppendOptions
	var err error
	if o.Conditions, err = storagewire.ParseConditions(c.r.Header, ""); err != nil {
		return err
	}
	for _, n := range []struct {
		name string
		into **int64
	}{{"x-ms-blob-condition-appendpos", &o.Position}, {"x-ms-blob-condition-maxsize", &o.MaxSize}} {
		v := c.r.Header.Get(n.name)
		if v == "" {
			continue
		}
		number, err := strconv.ParseInt(v, 10, 64)
		if err != nil || number < 0 {
			return storagewire.Coded(fault.InvalidArgument, "InvalidHeaderValue", "The value of "+n.name+" is no length.")
		}
		*n.into = &number
	}
	a, err := s.appended(c, &o)
	if err != nil {
		return err
	}
	h := c.w.Header()
	storagewire.SetHashes(h, o.Hashes, &a.CRC64)
	h.Set("x-ms-blob-append-offset", strconv.FormatInt(a.Offset, 10))
	h.Set("x-ms-blob-committed-block-count", strconv.Itoa(a.Properties.Blocks))
	written(c.w, http.StatusCreated, a.Properties)
	return nil
}

func (s *server) appended(c *call, o *lake.AppendOptions) (a lake.Appended, err error) {
	if c.r.Header.Get("x-ms-copy-source") != "" {
		if err := emptyBody(c.r); err != nil {
			return a, err
		}
		src, _, err := s.config.Source(c.r, c.caller, s.tokens)
		if err != nil {
			return a, err
		}
		if o.Hashes, err = storagewire.ParseSourceHashes(c.r.Header); err != nil {
			return a, err
		}
		return s.lake.AppendBlockFrom(c.r.Context(), c.caller, c.path, src, *o)
	}
	body, err := storagewire.ParseBody(c.w, c.r, maxAppend)
	if err != nil {
		return a, err
	}
	if body.Size == 0 {
		return a, storagewire.Coded(fault.InvalidArgument, "InvalidHeaderValue", "An appended block is not empty.")
	}
	o.Hashes = body.Hashes
	return s.lake.AppendBlock(c.r.Context(), c.caller, c.path, body, body.Size, *o)
}
