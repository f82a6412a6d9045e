package lake

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// What is sealed is a sequence of fields: a tag of one byte, the length of the
// value (unsigned varint), the value. Numbers are unsigned varints, times are
// Unix microseconds. A field may come more than once where it says so. Unknown
// tags are an error: an older release must not rewrite what it does not know.

const (
	tagName         = 1
	tagKind         = 2
	tagSize         = 3
	tagETag         = 4
	tagCreated      = 5
	tagModified     = 6
	tagType         = 7
	tagEncoding     = 8
	tagLanguage     = 9
	tagDisposition  = 10
	tagCacheControl = 11
	tagMD5          = 12
	tagCRC64        = 13 // 8 bytes, big-endian
	tagMetadata     = 14 // repeated: name's length (varint), name, value
	tagExtent       = 15 // repeated: id (16 bytes), plain length (varint), CRC-64/NVME (8 bytes)
	tagBlock        = 16 // repeated: number of extents (varint), id; blocks lie in the order of the extents
	tagAppend       = 17 // 1 for an append blob
	tagCopyID       = 18 // what the content is a copy of: the copy's id,
	tagCopySource   = 19 // its source's URL, without what authorised it,
	tagCopyTime     = 20 // when it was done
	tagCopySize     = 21 // and how much it was
	tagOwner        = 23
	tagGroup        = 24
	tagMode         = 25 // permissions, if they were said
	tagACL          = 26 // the access control list, if it is more than the mode
	tagTier         = 27 // access tier, if it was said,
	tagTierTime     = 28 // and when
	tagContext      = 29 // encryption context
	tagPolicy       = 22 // repeated: a container's stored access policy, as fields of its own
)

type fields []byte

func (f *fields) bytes(tag byte, v []byte) {
	*f = append(*f, tag)
	*f = binary.AppendUvarint(*f, uint64(len(v)))
	*f = append(*f, v...)
}

func (f *fields) text(tag byte, v string) {
	if v != "" {
		f.bytes(tag, []byte(v))
	}
}

func (f *fields) number(tag byte, v uint64) { f.bytes(tag, binary.AppendUvarint(nil, v)) }

// each calls fn with every field.
func (f fields) each(fn func(tag byte, v []byte) bool) error {
	for len(f) > 0 {
		tag := f[0]
		n, used := binary.Uvarint(f[1:])
		if used <= 0 || n > uint64(len(f)-1-used) {
			return errRecord()
		}
		v := f[1+used : 1+used+int(n)]
		f = f[1+used+int(n):]
		if !fn(tag, v) {
			return errRecord()
		}
	}
	return nil
}

func errRecord() error {
	return fault.New(fault.Integrity, "A sealed record is not one of this release.")
}

func number(v []byte, into *uint64) bool {
	n, used := binary.Uvarint(v)
	*into = n
	return used == len(v) && used > 0
}

// attributes are what a listing shows of a file or folder.
type attributes struct {
	kind     Kind
	size     int64
	etag     uint64
	created  time.Time
	modified time.Time
	headers  ContentHeaders
	crc64    *uint64
	appends  bool // an append blob

	owner, group string // "": the superuser
	mode         Mode   // zero: the default
	tier         Tier
	tiered       time.Time // when the tier was said
	context      string    // encryption context: a text of the client's, beside the metadata
}

func (a attributes) append(f *fields) {
	f.number(tagKind, uint64(a.kind))
	f.number(tagSize, uint64(a.size))
	f.number(tagETag, a.etag)
	f.number(tagCreated, uint64(a.created.UnixMicro()))
	f.number(tagModified, uint64(a.modified.UnixMicro()))
	f.text(tagType, a.headers.Type)
	f.text(tagEncoding, a.headers.Encoding)
	f.text(tagLanguage, a.headers.Language)
	f.text(tagDisposition, a.headers.Disposition)
	f.text(tagCacheControl, a.headers.CacheControl)
	f.text(tagMD5, string(a.headers.MD5))
	if a.crc64 != nil {
		f.bytes(tagCRC64, binary.BigEndian.AppendUint64(nil, *a.crc64))
	}
	if a.appends {
		f.number(tagAppend, 1)
	}
	f.text(tagOwner, a.owner)
	f.text(tagGroup, a.group)
	if a.mode != 0 {
		f.number(tagMode, uint64(a.mode))
	}
	if a.tier != "" {
		f.text(tagTier, string(a.tier))
		f.number(tagTierTime, uint64(a.tiered.UnixMicro()))
	}
	f.text(tagContext, a.context)
}

// field takes one field if it is an attribute's.
func (a *attributes) field(tag byte, v []byte) bool {
	var n uint64
	switch tag {
	case tagKind, tagSize, tagETag, tagCreated, tagModified, tagAppend, tagMode, tagTierTime:
		if !number(v, &n) {
			return false
		}
	}
	switch tag {
	case tagKind:
		a.kind = Kind(n)
	case tagSize:
		a.size = int64(n)
	case tagETag:
		a.etag = n
	case tagCreated:
		a.created = time.UnixMicro(int64(n)).UTC()
	case tagModified:
		a.modified = time.UnixMicro(int64(n)).UTC()
	case tagAppend:
		a.appends = n == 1
	case tagOwner:
		a.owner = string(v)
	case tagGroup:
		a.group = string(v)
	case tagMode:
		a.mode = Mode(n)
	case tagTier:
		a.tier = Tier(v)
	case tagTierTime:
		a.tiered = time.UnixMicro(int64(n)).UTC()
	case tagContext:
		a.context = string(v)
	case tagType:
		a.headers.Type = string(v)
	case tagEncoding:
		a.headers.Encoding = string(v)
	case tagLanguage:
		a.headers.Language = string(v)
	case tagDisposition:
		a.headers.Disposition = string(v)
	case tagCacheControl:
		a.headers.CacheControl = string(v)
	case tagMD5:
		a.headers.MD5 = append([]byte(nil), v...)
	case tagCRC64:
		if len(v) != 8 {
			return false
		}
		crc := binary.BigEndian.Uint64(v)
		a.crc64 = &crc
	default:
		return false
	}
	return true
}

// A record is what an entry seals: a name and the attributes of what has it.
type record struct {
	name string
	attributes
}

func (r record) encode() []byte {
	var f fields
	f.text(tagName, r.name)
	r.attributes.append(&f)
	return f
}

func decodeRecord(b []byte) (r record, err error) {
	err = fields(b).each(func(tag byte, v []byte) bool {
		if tag == tagName {
			r.name = string(v)
			return true
		}
		return r.attributes.field(tag, v)
	})
	return r, err
}

// An extentRef is an extent as a manifest lists it.
type extentRef struct {
	id    ExtentID
	plain int64 // bytes of content
	crc64 uint64
}

// A blockRef is a committed block: so many of the manifest's extents.
type blockRef struct {
	id      string
	extents int
}

// A manifest is a file's or folder's attributes, user metadata, and content. What
// is staged has one too, without most of it.
type manifest struct {
	attributes
	metadata map[string]string
	extents  []extentRef
	blocks   []blockRef
	copied   *Copied
	acl      ACL            // nil: what the mode says
	policies []AccessPolicy // of a storage account's container
	lease    Lease          // of the row, and not part of what is sealed
}

func (m manifest) encode() []byte {
	var f fields
	m.attributes.append(&f)
	for k, v := range m.metadata {
		b := binary.AppendUvarint(nil, uint64(len(k)))
		b = append(b, k...)
		f.bytes(tagMetadata, append(b, v...))
	}
	for _, e := range m.extents {
		b, _ := hex.AppendDecode(nil, []byte(e.id))
		b = binary.AppendUvarint(b, uint64(e.plain))
		f.bytes(tagExtent, binary.BigEndian.AppendUint64(b, e.crc64))
	}
	for _, bl := range m.blocks {
		f.bytes(tagBlock, append(binary.AppendUvarint(nil, uint64(bl.extents)), bl.id...))
	}
	if c := m.copied; c != nil {
		f.text(tagCopyID, c.ID)
		f.text(tagCopySource, c.Source)
		f.number(tagCopyTime, uint64(c.Completed.UnixMicro()))
		f.number(tagCopySize, uint64(c.Size))
	}
	f.text(tagACL, m.acl.String())
	for _, p := range m.policies {
		f.bytes(tagPolicy, p.encode())
	}
	return f
}

func decodeManifest(b []byte) (m manifest, err error) {
	err = fields(b).each(func(tag byte, v []byte) bool {
		switch tag {
		case tagMetadata:
			n, used := binary.Uvarint(v)
			if used <= 0 || n > uint64(len(v)-used) {
				return false
			}
			if m.metadata == nil {
				m.metadata = map[string]string{}
			}
			m.metadata[string(v[used:used+int(n)])] = string(v[used+int(n):])
		case tagExtent:
			if len(v) < 16+1+8 {
				return false
			}
			n, used := binary.Uvarint(v[16:])
			if used <= 0 || len(v) != 16+used+8 || n > 1<<62 {
				return false
			}
			m.extents = append(m.extents, extentRef{
				id: ExtentID(hex.EncodeToString(v[:16])), plain: int64(n), crc64: binary.BigEndian.Uint64(v[16+used:]),
			})
		case tagBlock:
			n, used := binary.Uvarint(v)
			if used <= 0 || n > uint64(len(m.extents)) {
				return false
			}
			m.blocks = append(m.blocks, blockRef{id: string(v[used:]), extents: int(n)})
		case tagCopyID, tagCopySource, tagCopyTime, tagCopySize:
			if m.copied == nil {
				m.copied = &Copied{}
			}
			return m.copied.field(tag, v)
		case tagACL:
			var err error
			m.acl, err = ParseACL(string(v), false)
			return err == nil
		case tagPolicy:
			p, ok := decodePolicy(v)
			m.policies = append(m.policies, p)
			return ok
		default:
			return m.attributes.field(tag, v)
		}
		return true
	})
	return m, err
}

// field takes one field of a copy's record.
func (c *Copied) field(tag byte, v []byte) bool {
	var n uint64
	switch tag {
	case tagCopyID:
		c.ID = string(v)
	case tagCopySource:
		c.Source = string(v)
	case tagCopyTime:
		if !number(v, &n) {
			return false
		}
		c.Completed = time.UnixMicro(int64(n)).UTC()
	case tagCopySize:
		if !number(v, &n) {
			return false
		}
		c.Size = int64(n)
	}
	return true
}
