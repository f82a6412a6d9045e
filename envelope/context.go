package envelope

import "encoding/binary"

// A Context names the one place and purpose that a message or key belongs to. A
// message opens only under the context that it was sealed under, so that sealed
// bytes are of no use anywhere else.
//
// It is a sequence of fields, each written as its length in bytes (4 bytes,
// big-endian) and then its bytes. The first field is the purpose, and the purpose
// fixes the number, order and kind of the fields that follow. Two different
// sequences never have the same encoding.
//
// A Context is immutable: the methods that add a field return a new one, so a
// common beginning can be kept and shared. The zero Context is refused by
// everything that takes one.
type Context struct{ encoded string }

// NewContext returns the context of a purpose, such as "kluis/v1/extent", with
// its first fields. An empty purpose is a mistake of the program and panics.
func NewContext(purpose string, fields ...string) Context {
	if purpose == "" {
		panic("envelope: a context needs a purpose")
	}
	return Context{string(appendField(nil, purpose))}.With(fields...)
}

// With returns c with the fields added.
func (c Context) With(fields ...string) Context {
	if len(fields) == 0 {
		return c
	}
	n := len(c.encoded)
	for _, f := range fields {
		n += fieldHeader + len(f)
	}
	b := append(make([]byte, 0, n), c.encoded...)
	for _, f := range fields {
		b = appendField(b, f)
	}
	return Context{string(b)}
}

// WithBytes returns c with one field of bytes added.
func (c Context) WithBytes(field []byte) Context { return c.With(string(field)) }

// WithUint64 returns c with one number added, a field of 8 bytes, big-endian.
func (c Context) WithUint64(n uint64) Context {
	return c.WithBytes(binary.BigEndian.AppendUint64(nil, n))
}

// Bytes returns the encoding, for those who bind a context to something other
// than a message of this package.
func (c Context) Bytes() []byte { return []byte(c.encoded) }

const fieldHeader = 4 // bytes of a field's length

func appendField[T string | []byte](b []byte, field T) []byte {
	if uint64(len(field)) > 1<<32-1 {
		panic("envelope: a context's field exceeds 4 GiB")
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}
