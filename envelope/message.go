package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/kluis-io/kluis/fault"
)

// The sizes of the format, in bytes (c2sp.org/chunked-encryption, "Message
// chunking" and "AEAD usage").
const (
	SaltSize       = 24                        // random, in front of every message
	CommitmentSize = 32                        // to key, salt and context, after the salt
	HeaderSize     = SaltSize + CommitmentSize // where chunk 0 starts
	ChunkSize      = 16 << 10                  // plaintext of every chunk but the last, which is shorter
	TagSize        = 16                        // what sealing adds to a chunk

	// MaxPlainSize is the longest plaintext of one message: 2³⁸ chunks, the last
	// of them short.
	MaxPlainSize = maxChunks*ChunkSize - 1
)

const (
	maxChunks   = 1 << 38
	sealedChunk = ChunkSize + TagSize
	nonceSize   = 12
)

// SealedSize returns the length of the message that holds plain bytes of
// plaintext. It panics if plain is negative or above [MaxPlainSize].
func SealedSize(plain int64) int64 {
	if plain < 0 || plain > MaxPlainSize {
		panic(fmt.Sprintf("envelope: no message holds %d bytes", plain))
	}
	return HeaderSize + plain + (plain/ChunkSize+1)*TagSize
}

// PlainSize returns the length of the plaintext in a message of sealed bytes. It
// fails with [fault.Integrity] if no message has that length.
//
// The length that it computes is as trustworthy as the one that it is given: only
// opening the last chunk proves it.
func PlainSize(sealed int64) (int64, error) {
	body := sealed - HeaderSize
	chunks, last := body/sealedChunk, body%sealedChunk
	if body < 0 || last < TagSize || chunks >= maxChunks {
		return 0, errSize()
	}
	return chunks*ChunkSize + last - TagSize, nil
}

// A message holds what is derived for one sealed message. It is safe for
// concurrent use.
type message struct {
	aead       cipher.AEAD
	baseNonce  [nonceSize]byte
	commitment [CommitmentSize]byte
}

const messageInfo = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"

// derive returns the message of a key, a salt and a context. It fails only where
// the program is wrong: on the zero key and the zero context.
func derive(key *Key, ctx Context, salt []byte) (*message, error) {
	if key.isZero() {
		return nil, fault.New(fault.Internal, "A key was used after it was cleared.")
	}
	if ctx.encoded == "" {
		return nil, fault.New(fault.Internal, "A message has no context.")
	}
	okm := expand(key[:], messageInfo+string(salt)+ctx.encoded, KeySize+nonceSize+CommitmentSize)
	defer wipe(okm)
	m := &message{aead: newAEAD(okm[:KeySize])}
	copy(m.baseNonce[:], okm[KeySize:])
	copy(m.commitment[:], okm[KeySize+nonceSize:])
	return m, nil
}

// deriveFor is derive for a message that exists: it checks the commitment, before
// any of its chunks can be looked at.
func deriveFor(key *Key, ctx Context, header []byte) (*message, error) {
	m, err := derive(key, ctx, header[:SaltSize])
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(m.commitment[:], header[SaltSize:HeaderSize]) != 1 {
		return nil, errCommitment()
	}
	return m, nil
}

// nonce writes the nonce of chunk k into n: the base nonce with k XORed into its
// low-order end.
func (m *message) nonce(n *[nonceSize]byte, k uint64) []byte {
	copy(n[:4], m.baseNonce[:4])
	binary.BigEndian.PutUint64(n[4:], binary.BigEndian.Uint64(m.baseNonce[4:])^k)
	return n[:]
}

// newAEAD is where this package gets its cipher for messages and records, so that
// another can take its place.
func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has another length than KeySize
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // a mode that allows no GCM at all (fips140=only), which we do not run in
	}
	return aead
}

func errSize() error {
	return fault.New(fault.Integrity, "The sealed bytes have a length that no message has: they are truncated or not a message.")
}

func errCommitment() error {
	return fault.New(fault.Integrity, "The sealed bytes belong to another key or another place.")
}

func errChunk(k uint64) error {
	return fault.New(fault.Integrity, fmt.Sprintf("Chunk %d of the sealed bytes does not verify: it was changed, moved or cut.", k))
}

func errTruncated(k uint64) error {
	return fault.New(fault.Integrity, fmt.Sprintf("The sealed bytes end before their last chunk: chunk %d is missing or cut.", k))
}
