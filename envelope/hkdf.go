package envelope

import (
	"crypto/hmac"
	"crypto/sha512"
)

// expand is HKDF-Expand-SHA-512 (RFC 5869 §2.3) for up to 255 blocks. crypto/hkdf gives
// the same, and leaves the last block of it, a key as a rule, in memory that nobody
// overwrites. The caller clears all that he is given, up to its capacity.
func expand(prk []byte, info string, n int) []byte {
	mac := hmac.New(sha512.New, prk)
	out := make([]byte, 0, (n+sha512.Size-1)/sha512.Size*sha512.Size)
	for block := byte(1); len(out) < n; block++ {
		mac.Reset()
		mac.Write(out[max(0, len(out)-sha512.Size):])
		mac.Write([]byte(info))
		mac.Write([]byte{block})
		out = mac.Sum(out)
	}
	return out[:n]
}

// extract is HKDF-Extract-SHA-512 without a salt (RFC 5869 §2.2).
func extract(secret []byte) []byte {
	mac := hmac.New(sha512.New, make([]byte, sha512.Size))
	mac.Write(secret)
	return mac.Sum(make([]byte, 0, sha512.Size))
}

// wipe overwrites a slice and what its array holds behind it.
func wipe(b []byte) { clear(b[:cap(b)]) }
