package dfs

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// maxAppend is Azure's limit of one append, in bytes.
const maxAppend = 4000 << 20

// emptyBody refuses a body where there must be none.
func emptyBody(r *http.Request) error {
	if r.ContentLength != 0 {
		return storagewire.Coded(fault.InvalidArgument, "ContentLengthMustBeZero", "The Content-Length request header must be zero.")
	}
	return nil
}

// create answers Path - Create.
func (s *server) create(c *call) error {
	var kind lake.Kind
	switch c.query["resource"] {
	case "file":
		kind = lake.File
	case "directory":
		kind = lake.Folder
	default:
		return storagewire.Coded(fault.InvalidArgument, "InvalidQueryParameterValue", "resource is file or directory.")
	}
	if err := emptyBody(c.r); err != nil {
		return err
	}
	var o lake.PutOptions
	var err error
	if o.Conditions, err = storagewire.ParseConditions(c.r.Header, ""); err != nil {
		return err
	}
	if o.Headers, _, err = storagewire.ParseContentHeaders(c.r.Header, "x-ms-"); err != nil {
		return err
	}
	if o.Metadata, err = parseProperties(c.r.Header.Get("x-ms-properties")); err != nil {
		return err
	}
	if s.config.Storage() != "" {
		if o.Access, err = storagewire.ParseAccess(c.r.Header); err != nil {
			return err
		}
		if o.Lease, err = storagewire.ParseMadeLease(c.r.Header); err != nil {
			return err
		}
		o.Context = c.r.Header.Get("x-ms-encryption-context")
	}
	p, err := s.lake.Create(c.r.Context(), c.caller, c.path, kind, o)
	if err != nil {
		return existing(o.Conditions, err)
	}
	written(c.w, http.StatusCreated, p)
	return nil
}

// existing turns a failed If-None-Match: * of a write into what Azure says of it.
func existing(c lake.Conditions, err error) error {
	if c.IfNoneMatch == "*" && errors.Is(err, fault.PreconditionFailed) {
		return fault.Wrap(fault.PathExists, err, "")
	}
	return err
}

// written answers a write.
func written(w http.ResponseWriter, status int, p lake.Properties) {
	h := w.Header()
	storagewire.SetVersion(h, p)
	h.Set("x-ms-request-server-encrypted", "true")
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
}

// append answers Path - Update with action=append, which may flush as well.
func (s *server) append(c *call) error {
	position, err := c.query.Int("position", 0, -1)
	if err != nil {
		return err
	}
	if position < 0 {
		return missingPosition()
	}
	flush, err := c.query.Bool("flush")
	if err != nil {
		return err
	}
	body, err := storagewire.ParseBody(c.w, c.r, maxAppend)
	if err != nil {
		return err
	}
	lease, err := s.leased(c)
	if err != nil {
		return err
	}
	crc, err := s.lake.Append(c.r.Context(), c.caller, c.path, position, body, body.Size, lake.StageOptions{Hashes: body.Hashes, Lease: lease})
	if err != nil {
		return err
	}
	h := c.w.Header()
	storagewire.SetHashes(h, body.Hashes, &crc)
	if flush {
		o := lake.FlushOptions{Conditions: lake.Conditions{Lease: lease}}
		p, err := s.lake.Flush(c.r.Context(), c.caller, c.path, position+body.Size, o)
		if err != nil {
			return err
		}
		if err := s.release(c, lease); err != nil {
			return err
		}
		written(c.w, http.StatusAccepted, p)
		return nil
	}
	h.Set("x-ms-request-server-encrypted", "true")
	h.Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

func missingPosition() error {
	return storagewire.Coded(fault.InvalidArgument, "MissingRequiredQueryParameter", "A query parameter that's mandatory for this request is not specified: position.")
}

// flush answers Path - Update with action=flush.
func (s *server) flush(c *call) error {
	position, err := c.query.Int("position", 0, -1)
	if err != nil {
		return err
	}
	if position < 0 {
		return missingPosition()
	}
	if err := emptyBody(c.r); err != nil {
		return err
	}
	var o lake.FlushOptions
	if o.KeepUncommitted, err = c.query.Bool("retainuncommitteddata"); err != nil {
		return err
	}
	if o.Conditions, err = storagewire.ParseConditions(c.r.Header, ""); err != nil {
		return err
	}
	given, n, err := storagewire.ParseContentHeaders(c.r.Header, "x-ms-")
	if err != nil {
		return err
	}
	if n > 0 {
		headers, err := s.completed(c, given, false)
		if err != nil {
			return err
		}
		o.Headers = &headers
	}
	if o.Conditions.Lease, err = s.leased(c); err != nil {
		return err
	}
	p, err := s.lake.Flush(c.r.Context(), c.caller, c.path, position, o)
	if err != nil {
		return err
	}
	if err := s.release(c, o.Conditions.Lease); err != nil {
		return err
	}
	written(c.w, http.StatusOK, p)
	return nil
}

// completed fills in, from the file as it is, the headers that a request leaves
// unsaid: in this dialect they stay. The MD5 does only with the content.
func (s *server) completed(c *call, given lake.ContentHeaders, sameContent bool) (lake.ContentHeaders, error) {
	p, err := s.lake.Stat(c.r.Context(), c.caller, c.path, lake.Conditions{})
	if err != nil {
		return lake.ContentHeaders{}, err
	}
	for _, f := range []struct {
		into *string
		was  string
	}{
		{&given.Type, p.Headers.Type}, {&given.Encoding, p.Headers.Encoding}, {&given.Language, p.Headers.Language},
		{&given.Disposition, p.Headers.Disposition}, {&given.CacheControl, p.Headers.CacheControl},
	} {
		if *f.into == "" {
			*f.into = f.was
		}
	}
	if sameContent && given.MD5 == nil {
		given.MD5 = p.Headers.MD5
	}
	return given, nil
}

// setProperties answers Path - Update with action=setProperties: user metadata, and
// content headers if any are given.
func (s *server) setProperties(c *call) error {
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	headers, n, err := storagewire.ParseContentHeaders(c.r.Header, "x-ms-")
	if err != nil {
		return err
	}
	properties := c.r.Header.Get("x-ms-properties")
	metadata, err := parseProperties(properties)
	if err != nil {
		return err
	}
	var p lake.Properties
	if n > 0 {
		if headers, err = s.completed(c, headers, true); err != nil {
			return err
		}
		if p, err = s.lake.SetHeaders(c.r.Context(), c.caller, c.path, headers, conditions); err != nil {
			return err
		}
		conditions = lake.Conditions{IfMatch: p.ETag, Lease: conditions.Lease} // what held for the first step holds for the second
	}
	if properties != "" || n == 0 {
		if p, err = s.lake.SetMetadata(c.r.Context(), c.caller, c.path, metadata, conditions); err != nil {
			return err
		}
	}
	written(c.w, http.StatusOK, p)
	return nil
}

// head answers Path - Get Properties, with its actions.
func (s *server) head(c *call, action string) error {
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	switch action {
	case "", "getstatus", "getaccesscontrol":
	default:
		return notSupported()
	}
	p, err := s.lake.Stat(c.r.Context(), c.caller, c.path, conditions)
	if err != nil {
		return err
	}
	h := c.w.Header()
	if action == "getaccesscontrol" {
		if err := s.setAccess(c, p); err != nil {
			return err
		}
	}
	s.config.SetProperties(h, p)
	if action == "" {
		h.Set("x-ms-properties", formatProperties(p))
		storagewire.SetHashes(h, lake.Hashes{MD5: p.Headers.MD5}, nil)
	}
	h.Set("Content-Length", strconv.FormatInt(p.Size, 10))
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// read answers Path - Read.
func (s *server) read(c *call) error {
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	rng, ranged, err := storagewire.ParseRange(c.r.Header)
	if err != nil {
		return err
	}
	content, err := s.lake.Open(c.r.Context(), c.caller, c.path, conditions, rng)
	if err != nil {
		return err
	}
	defer content.Close()
	return storagewire.ServeContent(c.w, c.r, storagewire.Content{
		Properties: content.Properties, Offset: content.Offset, Length: content.Length, Ranged: ranged, Body: content,
	}, func(h http.Header) {
		s.config.SetProperties(h, content.Properties)
		h.Set("x-ms-properties", formatProperties(content.Properties))
	})
}

// delete answers Path - Delete. It is done in one step, so there is never a
// continuation.
func (s *server) delete(c *call) error {
	recursive, err := c.query.Bool("recursive")
	if err != nil {
		return err
	}
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	if err := s.lake.Delete(c.r.Context(), c.caller, c.path, recursive, conditions); err != nil {
		return err
	}
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusOK)
	return nil
}
