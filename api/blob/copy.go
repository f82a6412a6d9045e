package blob

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// copy answers Copy Blob, and Put Blob From URL. Both are done when they answer.
func (s *server) copy(c *call) error {
	fromURL := c.r.Header.Get("x-ms-blob-type") != ""
	if fromURL && !strings.EqualFold(c.r.Header.Get("x-ms-blob-type"), "BlockBlob") {
		return fault.New(fault.NotSupported, "Only block blobs are made from a URL.")
	}
	if err := emptyBody(c.r); err != nil {
		return err
	}
	src, shown, err := s.config.Source(c.r, c.caller, s.tokens)
	if err != nil {
		return err
	}
	var o lake.CopyOptions
	if o.PutOptions, err = putOptions(c.r, false); err != nil {
		return err
	}
	if o.Hashes, err = storagewire.ParseSourceHashes(c.r.Header); err != nil {
		return err
	}
	_, given, err := storagewire.ParseContentHeaders(c.r.Header, "x-ms-blob-")
	if err != nil {
		return err
	}
	o.KeepHeaders = given == 0 && !strings.EqualFold(c.r.Header.Get("x-ms-copy-source-blob-properties"), "false")
	o.KeepMetadata = len(o.Metadata) == 0
	takeFolderMark(o.Metadata)
	if !fromURL {
		o.Source = shown
	}
	if err := s.tier(c, &o.PutOptions); err != nil {
		return err
	}
	p, err := s.lake.Copy(c.r.Context(), c.caller, c.path, src, o)
	if err != nil {
		return existing(o.Conditions, err)
	}
	if fromURL {
		storagewire.SetHashes(c.w.Header(), o.Hashes, p.CRC64)
		written(c.w, http.StatusCreated, p)
		return nil
	}
	h := c.w.Header()
	h.Set("x-ms-copy-id", p.Copy.ID)
	h.Set("x-ms-copy-status", "success")
	if strings.EqualFold(c.r.Header.Get("x-ms-requires-sync"), "true") {
		storagewire.SetHashes(h, o.Hashes, p.CRC64)
	}
	written(c.w, http.StatusAccepted, p)
	return nil
}

// abortCopy answers Abort Copy Blob: no copy is ever pending.
func (s *server) abortCopy(c *call) error {
	if _, err := s.lake.Stat(c.r.Context(), c.caller, c.path, lake.Conditions{}); err != nil {
		return err
	}
	return storagewire.Coded(fault.Conflict, "NoPendingCopyOperation", "There is currently no pending copy operation.")
}

// setCopy tells what a blob is a copy of.
func setCopy(h http.Header, p lake.Properties) {
	if p.Copy == nil {
		return
	}
	h.Set("x-ms-copy-id", p.Copy.ID)
	h.Set("x-ms-copy-source", p.Copy.Source)
	h.Set("x-ms-copy-status", "success")
	h.Set("x-ms-copy-progress", copyProgress(p.Copy))
	h.Set("x-ms-copy-completion-time", p.Copy.Completed.UTC().Format(http.TimeFormat))
}

func copyProgress(c *lake.Copied) string { return fmt.Sprintf("%d/%d", c.Size, c.Size) }

// putBlockFromURL answers Put Block From URL.
func (s *server) putBlockFromURL(c *call, id string) error {
	if err := emptyBody(c.r); err != nil {
		return err
	}
	src, _, err := s.config.Source(c.r, c.caller, s.tokens)
	if err != nil {
		return err
	}
	o := lake.StageOptions{Lease: c.r.Header.Get("x-ms-lease-id")}
	if o.Hashes, err = storagewire.ParseSourceHashes(c.r.Header); err != nil {
		return err
	}
	crc, err := s.lake.StageBlockFrom(c.r.Context(), c.caller, c.path, id, src, o)
	if err != nil {
		return err
	}
	storagewire.SetHashes(c.w.Header(), o.Hashes, &crc)
	c.w.Header().Set("x-ms-request-server-encrypted", "true")
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// emptyBody refuses a body where there must be none.
func emptyBody(r *http.Request) error {
	if r.ContentLength > 0 {
		return storagewire.Coded(fault.InvalidArgument, "InvalidHeaderValue", "The request has no body: Content-Length must be zero.")
	}
	return nil
}

// delegationTime is how times are written with user delegation keys.
const delegationTime = "2006-01-02T15:04:05Z"

func parseDelegationTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, storagewire.Coded(fault.InvalidArgument, "InvalidXmlNodeValue", "The value for one of the XML nodes is not in the correct format.")
}
