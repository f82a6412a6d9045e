package softkey

import (
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"math/big"
)

// decryptPKCS1 decrypts RSAES-PKCS1-v1_5 with implicit rejection
// (draft-irtf-cfrg-rsa-guidance §7): a ciphertext with bad padding decrypts to bytes
// that only the key and the ciphertext determine, of a length that they determine
// too, so that nobody learns whether the padding was good. Only what anybody can
// see, a ciphertext of another length or above the modulus, is an error.
func decryptPKCS1(key *rsa.PrivateKey, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) != key.Size() || new(big.Int).SetBytes(ciphertext).Cmp(key.N) >= 0 {
		return nil, errNotMade
	}
	substitute := reject(key, ciphertext) // always, so that it takes no time of its own
	//lint:ignore SA1019 nobody learns whether it failed
	plain, err := rsa.DecryptPKCS1v15(nil, key, ciphertext)
	if err != nil {
		return substitute, nil
	}
	clear(substitute)
	return plain, nil
}

// reject returns the bytes that take a plaintext's place.
func reject(key *rsa.PrivateKey, ciphertext []byte) []byte {
	d := key.D.FillBytes(make([]byte, key.Size()))
	secret := sha256.Sum256(d)
	clear(d)
	derive := hmac.New(sha256.New, secret[:])
	derive.Write(ciphertext)
	kdk := derive.Sum(nil)
	defer clear(kdk)

	longest := key.Size() - 11
	mask := 1
	for mask < longest {
		mask = mask<<1 | 1
	}
	length := 0
	for candidates := prf(kdk, "length", 256); len(candidates) > 0; candidates = candidates[2:] {
		n := int(binary.BigEndian.Uint16(candidates)) & mask
		length = subtle.ConstantTimeSelect(subtle.ConstantTimeLessOrEq(n, longest), n, length)
	}
	message := prf(kdk, "message", key.Size())
	return message[len(message)-length:]
}

// prf returns n bytes: HMAC-SHA-256 of a counter, a label and n in bits.
func prf(kdk []byte, label string, n int) []byte {
	var out []byte
	for i := uint16(0); len(out) < n; i++ {
		h := hmac.New(sha256.New, kdk)
		binary.Write(h, binary.BigEndian, i)
		h.Write([]byte(label))
		binary.Write(h, binary.BigEndian, uint16(n*8))
		out = h.Sum(out)
	}
	return out[:n]
}
