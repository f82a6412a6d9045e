package envelope

import (
	"crypto/cipher"
	"io"
)

// What the tests need beyond the package's own names: a chosen salt, a context of
// any bytes, a chosen chunk number, and a record of any padding.

func SealWithSalt(key *Key, ctx Context, salt [SaltSize]byte, plaintext []byte) []byte {
	return appendSeal(nil, key, ctx, &salt, plaintext)
}

func NewWriterWithSalt(dst io.Writer, key *Key, ctx Context, salt [SaltSize]byte) *Writer {
	return newWriter(dst, key, ctx, &salt)
}

func RawContext(encoded []byte) Context { return Context{string(encoded)} }

func (w *Writer) SetNextChunk(k uint64) { w.next = k }

func (m *message) Nonce(k uint64) []byte { return m.nonce(new([nonceSize]byte), k) }

func Derive(key *Key, ctx Context, salt [SaltSize]byte) (*message, error) {
	return derive(key, ctx, salt[:])
}

func (f *Folder) AEAD() cipher.AEAD { return f.aead }

const MaxChunks = maxChunks

var (
	Expand  = expand
	Extract = extract
)
