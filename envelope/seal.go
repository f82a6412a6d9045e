package envelope

import (
	"crypto/rand"
	"slices"
)

// Seal returns plaintext sealed under key and ctx, [SealedSize] bytes. It is for
// what fits in memory; use a [Writer] for the rest.
//
// It panics on the zero key or context: both are mistakes of the program that
// must not go unnoticed.
func Seal(key *Key, ctx Context, plaintext []byte) []byte {
	return AppendSeal(nil, key, ctx, plaintext)
}

// AppendSeal is [Seal] that appends the message to dst, which must not overlap
// plaintext, and returns the extended slice.
func AppendSeal(dst []byte, key *Key, ctx Context, plaintext []byte) []byte {
	var salt [SaltSize]byte
	rand.Read(salt[:])
	return appendSeal(dst, key, ctx, &salt, plaintext)
}

func appendSeal(dst []byte, key *Key, ctx Context, salt *[SaltSize]byte, plaintext []byte) []byte {
	m, err := derive(key, ctx, salt[:])
	if err != nil {
		panic(err)
	}
	dst = slices.Grow(dst, int(SealedSize(int64(len(plaintext)))))
	dst = append(dst, salt[:]...)
	dst = append(dst, m.commitment[:]...)
	var nonce [nonceSize]byte
	for k := uint64(0); ; k++ {
		chunk := plaintext[:min(len(plaintext), ChunkSize)]
		plaintext = plaintext[len(chunk):]
		dst = m.aead.Seal(dst, m.nonce(&nonce, k), chunk, nil)
		if len(chunk) < ChunkSize {
			return dst
		}
	}
}

// Open returns the plaintext of a message that [Seal] or a [Writer] has made
// under the same key and context. Anything else fails with [fault.Integrity], and
// then no plaintext is returned, not even of chunks that verified.
func Open(key *Key, ctx Context, sealed []byte) ([]byte, error) {
	return AppendOpen(nil, key, ctx, sealed)
}

// AppendOpen is [Open] that appends the plaintext to dst, which must not overlap
// sealed, and returns the extended slice; on failure it returns nil, and has
// overwritten what it had appended.
func AppendOpen(dst []byte, key *Key, ctx Context, sealed []byte) ([]byte, error) {
	size, err := PlainSize(int64(len(sealed)))
	if err != nil {
		return nil, err
	}
	m, err := deriveFor(key, ctx, sealed[:HeaderSize])
	if err != nil {
		return nil, err
	}
	start := len(dst)
	dst = slices.Grow(dst, int(size))
	sealed = sealed[HeaderSize:]
	var nonce [nonceSize]byte
	for k := uint64(0); len(sealed) > 0; k++ {
		chunk := sealed[:min(len(sealed), sealedChunk)]
		sealed = sealed[len(chunk):]
		opened, err := m.aead.Open(dst, m.nonce(&nonce, k), chunk, nil)
		if err != nil {
			clear(dst[start:])
			return nil, errChunk(k)
		}
		dst = opened
	}
	return dst, nil
}
