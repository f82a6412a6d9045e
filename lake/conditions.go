package lake

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// newETag returns a random version of a file or folder.
func newETag() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

func formatETag(v uint64) string { return fmt.Sprintf("\"0x%016X\"", v) }

func describe(name string, a attributes) Properties {
	return Properties{
		Name: name, Kind: a.kind, Size: a.size, ETag: formatETag(a.etag), Created: a.created, Modified: a.modified,
		Headers: a.headers, CRC64: a.crc64, Append: a.appends,
		Access: a.access(), Tier: a.tier, Tiered: a.tiered, Context: a.context,
	}
}

// names reports whether a conditional header's list names the ETag. "*" names
// any.
func namesETag(list, etag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		if one == "*" || strings.Trim(one, `"`) == strings.Trim(etag, `"`) {
			return true
		}
	}
	return false
}

// The wire carries whole seconds only.
func seconds(t time.Time) time.Time { return t.Truncate(time.Second) }

// forRead checks the conditions of a read of what exists.
func (c Conditions) forRead(p Properties) error {
	if err := p.Lease.allowsRead(c.Lease); err != nil {
		return err
	}
	if c.IfMatch != "" && !namesETag(c.IfMatch, p.ETag) ||
		!c.IfUnmodifiedSince.IsZero() && seconds(p.Modified).After(c.IfUnmodifiedSince) {
		return errPrecondition()
	}
	if c.IfNoneMatch != "" {
		if namesETag(c.IfNoneMatch, p.ETag) {
			return fault.New(fault.NotModified, "It has not changed.")
		}
		return nil // RFC 9110 §13.2.2: If-Modified-Since only counts without it
	}
	if !c.IfModifiedSince.IsZero() && !seconds(p.Modified).After(c.IfModifiedSince) {
		return fault.New(fault.NotModified, "It has not changed.")
	}
	return nil
}

// forWrite checks the conditions of a write; p is nil if nothing is there yet.
func (c Conditions) forWrite(p *attributes) error {
	if p == nil {
		if c.IfMatch != "" || !c.IfUnmodifiedSince.IsZero() || !c.TierIfModifiedSince.IsZero() || !c.TierIfUnmodifiedSince.IsZero() {
			return errPrecondition()
		}
		return nil
	}
	etag := formatETag(p.etag)
	switch {
	case strings.TrimSpace(c.IfNoneMatch) == "*":
		return fault.New(fault.PathExists, "Something with this name exists already.")
	case c.IfMatch != "" && !namesETag(c.IfMatch, etag),
		c.IfNoneMatch != "" && namesETag(c.IfNoneMatch, etag),
		!c.IfModifiedSince.IsZero() && !seconds(p.modified).After(c.IfModifiedSince),
		!c.IfUnmodifiedSince.IsZero() && seconds(p.modified).After(c.IfUnmodifiedSince):
		return errPrecondition()
	case !c.TierIfModifiedSince.IsZero() && !seconds(p.tiered).After(c.TierIfModifiedSince),
		!c.TierIfUnmodifiedSince.IsZero() && seconds(p.tiered).After(c.TierIfUnmodifiedSince):
		return refuse(fault.PreconditionFailed, TierCondition, "A conditional header on the access tier does not hold.")
	}
	return nil
}

// allow checks the conditions and the lease of a write; m is nil if nothing is
// there yet.
func (c Conditions) allow(m *manifest) error {
	if m == nil {
		if err := (Lease{}).allowsWrite(c.Lease); err != nil {
			return err
		}
		return c.forWrite(nil)
	}
	if err := m.lease.allowsWrite(c.Lease); err != nil {
		return err
	}
	return c.forWrite(&m.attributes)
}

func errSourceCondition() error {
	return refuse(fault.PreconditionFailed, SourceCondition, "A conditional header on the source does not hold.")
}

func errPrecondition() error {
	return fault.New(fault.PreconditionFailed, "A conditional header does not hold.")
}
