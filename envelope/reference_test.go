package envelope_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
)

// This file is the format once more, written from the specification in the
// plainest way and sharing nothing with the package. The vectors come from it.

// refExpand is HKDF-Expand with SHA-512 (RFC 5869 §2.3).
func refExpand(prk, info []byte, n int) []byte {
	var out, t []byte
	for i := byte(1); len(out) < n; i++ {
		h := hmac.New(sha512.New, prk)
		h.Write(t)
		h.Write(info)
		h.Write([]byte{i})
		t = h.Sum(nil)
		out = append(out, t...)
	}
	return out[:n]
}

func refGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func refNonce(base []byte, k uint64) []byte {
	x := new(big.Int).Xor(new(big.Int).SetBytes(base), new(big.Int).SetUint64(k))
	return x.FillBytes(make([]byte, 12))
}

func refSeal(key, context, salt, plaintext []byte) []byte {
	info := []byte("c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00")
	info = append(append(info, salt...), context...)
	okm := refExpand(key, info, 32+12+32)
	sealed := append(append([]byte(nil), salt...), okm[44:]...)
	aead := refGCM(okm[:32])
	for k := 0; ; k++ {
		chunk := plaintext[k*16384 : min(len(plaintext), (k+1)*16384)]
		sealed = append(sealed, aead.Seal(nil, refNonce(okm[32:44], uint64(k)), chunk, nil)...)
		if len(chunk) < 16384 {
			return sealed
		}
	}
}

func refContext(fields ...[]byte) []byte {
	var b []byte
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

func refFolder(namespace, folderID, salt []byte) (sealing, lookup []byte) {
	okm := refExpand(namespace, refContext([]byte("kluis/v1/folder"), folderID, salt), 64)
	return okm[:32], okm[32:]
}

func refSealRecord(sealing, entryID []byte, revision uint64, nonce, record []byte) []byte {
	padded := append(append([]byte(nil), record...), 0x80)
	for len(padded)%64 != 0 {
		padded = append(padded, 0)
	}
	data := binary.BigEndian.AppendUint64(append([]byte(nil), entryID...), revision)
	return append(append([]byte(nil), nonce...), refGCM(sealing).Seal(nil, nonce, padded, data)...)
}

func refLookup(lookup []byte, kind, name string) []byte {
	h := hmac.New(sha256.New, lookup)
	h.Write(refContext([]byte(kind), []byte(name)))
	return h.Sum(nil)
}

func refScopeKey(customer, platform, context []byte) (key, commitment []byte) {
	h := hmac.New(sha512.New, make([]byte, 64)) // HKDF-Extract without a salt
	h.Write(customer)
	h.Write(platform)
	okm := refExpand(h.Sum(nil), context, 64)
	return okm[:32], okm[32:]
}

// pattern returns n bytes that do not repeat and are the same in every run.
func pattern(seed string, n int) []byte {
	var s [32]byte
	copy(s[:], seed)
	b := make([]byte, n)
	rand.NewChaCha8(s).Read(b)
	return b
}
