package blob

import (
	"bytes"
	"crypto/md5"
	"errors"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// Azure's limits since version 2019-12-12, in bytes.
const (
	maxPut   = 5000 << 20
	maxBlock = 4000 << 20
)

// folderMark is the metadata by which Blob clients tell, and make, folders.
const folderMark = "hdi_isfolder"

// get answers Get Blob.
func (s *server) get(c *call) error {
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
	}, func(h http.Header) { s.describe(h, content.Properties) })
}

// head answers Get Blob Properties and Get Blob Metadata.
func (s *server) head(c *call) error {
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	p, err := s.lake.Stat(c.r.Context(), c.caller, c.path, conditions)
	if err != nil {
		return err
	}
	h := c.w.Header()
	if c.query["comp"] == "metadata" {
		storagewire.SetVersion(h, p)
		setMetadata(h, p)
	} else {
		s.describe(h, p)
		storagewire.SetHashes(h, lake.Hashes{MD5: p.Headers.MD5}, nil)
		h.Set("Content-Length", strconv.FormatInt(p.Size, 10))
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) describe(h http.Header, p lake.Properties) {
	s.config.SetProperties(h, p)
	h.Set("x-ms-blob-type", blobType(p))
	if p.Append {
		h.Set("x-ms-blob-committed-block-count", strconv.Itoa(p.Blocks))
	}
	setCopy(h, p)
	setMetadata(h, p)
}

func blobType(p lake.Properties) string {
	if p.Append {
		return "AppendBlob"
	}
	return "BlockBlob"
}

func setMetadata(h http.Header, p lake.Properties) {
	storagewire.SetMetadata(h, p.Metadata)
	if p.Kind == lake.Folder {
		h["x-ms-meta-"+folderMark] = []string{"true"}
	}
}

// putOptions reads what goes with new content. Put Blob takes the plain headers
// too, for what the x-ms-blob- ones leave unsaid.
func putOptions(r *http.Request, plain bool) (o lake.PutOptions, err error) {
	if o.Conditions, err = storagewire.ParseConditions(r.Header, ""); err != nil {
		return o, err
	}
	if o.Metadata, err = storagewire.ParseMetadata(r.Header); err != nil {
		return o, err
	}
	if o.Headers, _, err = storagewire.ParseContentHeaders(r.Header, "x-ms-blob-"); err != nil {
		return o, err
	}
	if plain {
		for name, into := range map[string]*string{
			"Content-Type": &o.Headers.Type, "Content-Encoding": &o.Headers.Encoding, "Content-Language": &o.Headers.Language,
			"Cache-Control": &o.Headers.CacheControl,
		} {
			if *into == "" {
				*into = r.Header.Get(name)
			}
		}
	}
	return o, nil
}

// put answers Put Blob.
func (s *server) put(c *call) error {
	switch t := c.r.Header.Get("x-ms-blob-type"); strings.ToLower(t) {
	case "blockblob":
	case "":
		return storagewire.Coded(fault.InvalidArgument, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified: x-ms-blob-type.")
	case "appendblob":
		return s.createAppend(c)
	case "pageblob":
		return fault.New(fault.NotSupported, "Page blobs are not supported.")
	default:
		return storagewire.Coded(fault.InvalidArgument, "InvalidHeaderValue", "The value of x-ms-blob-type is none that exists.")
	}
	body, err := storagewire.ParseBody(c.w, c.r, maxPut)
	if err != nil {
		return err
	}
	o, err := putOptions(c.r, true)
	if err != nil {
		return err
	}
	o.Hashes = body.Hashes
	switch { // both headers are the MD5 of the same bytes here
	case o.Hashes.MD5 == nil:
		o.Hashes.MD5 = o.Headers.MD5
	case o.Headers.MD5 == nil:
		o.Headers.MD5 = o.Hashes.MD5
	case !bytes.Equal(o.Hashes.MD5, o.Headers.MD5):
		return fault.New(fault.HashMismatch, "")
	}

	if err := s.tier(c, &o); err != nil {
		return err
	}
	var p lake.Properties
	if body.Size == 0 && takeFolderMark(o.Metadata) {
		o.Hashes = lake.Hashes{}
		p, err = s.lake.Create(c.r.Context(), c.caller, c.path, lake.Folder, o)
	} else {
		p, err = s.lake.Put(c.r.Context(), c.caller, c.path, body, body.Size, o)
	}
	if err != nil {
		return existing(o.Conditions, err)
	}
	storagewire.SetHashes(c.w.Header(), o.Hashes, p.CRC64)
	written(c.w, http.StatusCreated, p)
	return nil
}

// takeFolderMark takes the mark of a folder out of the metadata, and reports
// whether it was there.
func takeFolderMark(m map[string]string) bool {
	marked := strings.EqualFold(m[folderMark], "true")
	delete(m, folderMark)
	return marked
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
	storagewire.SetVersion(w.Header(), p)
	w.Header().Set("x-ms-request-server-encrypted", "true")
	w.WriteHeader(status)
}

// putBlock answers Put Block.
func (s *server) putBlock(c *call) error {
	id := c.query["blockid"]
	if id == "" {
		return storagewire.Coded(fault.InvalidArgument, "MissingRequiredQueryParameter", "A query parameter that's mandatory for this request is not specified: blockid.")
	}
	if c.r.Header.Get("x-ms-copy-source") != "" {
		return s.putBlockFromURL(c, id)
	}
	body, err := storagewire.ParseBody(c.w, c.r, maxBlock)
	if err != nil {
		return err
	}
	crc, err := s.lake.StageBlock(c.r.Context(), c.caller, c.path, id, body, body.Size,
		lake.StageOptions{Hashes: body.Hashes, Lease: c.r.Header.Get("x-ms-lease-id")})
	if err != nil {
		return err
	}
	storagewire.SetHashes(c.w.Header(), body.Hashes, &crc)
	c.w.Header().Set("x-ms-request-server-encrypted", "true")
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// putBlockList answers Put Block List. The hashes of the request are those of its
// XML; x-ms-blob-content-md5 is stored unchecked.
func (s *server) putBlockList(c *call) error {
	if _, err := storagewire.CheckLength(c.r, maxBlockListXML); err != nil {
		return err
	}
	o, err := putOptions(c.r, false)
	if err != nil {
		return err
	}
	hashes, err := storagewire.ParseHashes(c.r.Header)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(c.r.Body, maxBlockListXML))
	if err != nil {
		return fault.Wrap(fault.InvalidArgument, err, "The request body could not be read.")
	}
	if sum := md5.Sum(body); hashes.MD5 != nil && !bytes.Equal(sum[:], hashes.MD5) {
		return fault.New(fault.HashMismatch, "")
	}
	if hashes.CRC64 != nil && crc64.Checksum(body, storagewire.CRC64) != *hashes.CRC64 {
		return fault.New(fault.HashMismatch, "")
	}
	blocks, err := parseBlockList(body)
	if err != nil {
		return err
	}
	if err := s.tier(c, &o); err != nil {
		return err
	}
	var p lake.Properties
	if len(blocks) == 0 && takeFolderMark(o.Metadata) {
		p, err = s.lake.Create(c.r.Context(), c.caller, c.path, lake.Folder, o)
	} else {
		p, err = s.lake.CommitBlocks(c.r.Context(), c.caller, c.path, blocks, o)
	}
	if err != nil {
		return existing(o.Conditions, err)
	}
	storagewire.SetHashes(c.w.Header(), hashes, nil)
	written(c.w, http.StatusCreated, p)
	return nil
}

// setMetadata answers Set Blob Metadata.
func (s *server) setMetadata(c *call) error {
	o, err := putOptions(c.r, false)
	if err != nil {
		return err
	}
	takeFolderMark(o.Metadata)
	p, err := s.lake.SetMetadata(c.r.Context(), c.caller, c.path, o.Metadata, o.Conditions)
	if err != nil {
		return err
	}
	written(c.w, http.StatusOK, p)
	return nil
}

// setProperties answers Set Blob Properties, which clears what it does not name.
func (s *server) setProperties(c *call) error {
	o, err := putOptions(c.r, false)
	if err != nil {
		return err
	}
	p, err := s.lake.SetHeaders(c.r.Context(), c.caller, c.path, o.Headers, o.Conditions)
	if err != nil {
		return err
	}
	written(c.w, http.StatusOK, p)
	return nil
}

// delete answers Delete Blob. A folder must be empty.
func (s *server) delete(c *call) error {
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	if err := s.lake.Delete(c.r.Context(), c.caller, c.path, false, conditions); err != nil {
		return err
	}
	c.w.Header().Set("x-ms-delete-type-permanent", "true")
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// tier reads the access tier that goes with new content. In a workspace it is ignored,
// and named as such.
func (s *server) tier(c *call, o *lake.PutOptions) (err error) {
	if s.config.Storage() == "" {
		storagewire.SetRejected(c.w, c.r, "x-ms-access-tier")
		return nil
	}
	o.Tier, err = storagewire.ParseTier(c.r.Header)
	return err
}
