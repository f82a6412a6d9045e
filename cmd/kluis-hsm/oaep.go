package main

import (
	"crypto"
	_ "crypto/sha1" // RSA-OAEP
	_ "crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
)

// openOAEP takes off the padding of RFC 8017 §7.1.2 (EME-OAEP, empty label, MGF1
// with the same hash) from em, the result of the raw RSA operation, as long as the
// modulus. It overwrites em, and returns a copy of the message.
//
// Which part of the padding is wrong, and where the message begins, must not show:
// whoever could tell them apart would decrypt without the key (Manger, CRYPTO
// 2001). Until the verdict stands, nothing branches on em's bytes, indexes by them
// or stops early; time and memory touched depend on len(em) and the hash alone.
func openOAEP(h crypto.Hash, em []byte) (message []byte, ok bool) {
	defer clear(em)
	size := h.Size()
	if len(em) < 2*size+2 {
		return nil, false
	}
	seed, db := em[1:1+size], em[1+size:]
	xorMGF1(h, seed, db)
	xorMGF1(h, db, seed)

	good := subtle.ConstantTimeByteEq(em[0], 0)
	empty := h.New().Sum(nil) // the hash of no label
	good &= subtle.ConstantTimeCompare(db[:size], empty)

	// What follows is zeros, a one, and the message.
	rest := db[size:]
	seeking, begin := 1, 0
	for i, b := range rest {
		zero := subtle.ConstantTimeByteEq(b, 0)
		one := subtle.ConstantTimeByteEq(b, 1)
		begin = subtle.ConstantTimeSelect(seeking&one, i+1, begin)
		good &= 1 ^ seeking&(1^zero)&(1^one) // neither, before the one
		seeking &= 1 ^ one
	}
	good &= 1 ^ seeking
	if good != 1 {
		return nil, false
	}
	return append([]byte{}, rest[begin:]...), true
}

// xorMGF1 masks out with MGF1 of seed (RFC 8017 appendix B.2.1).
func xorMGF1(h crypto.Hash, out, seed []byte) {
	d := h.New()
	var counter [4]byte
	block := make([]byte, 0, h.Size())
	defer func() { clear(block[:cap(block)]) }()
	for i := uint32(0); len(out) > 0; i++ {
		binary.BigEndian.PutUint32(counter[:], i)
		d.Reset()
		d.Write(seed)
		d.Write(counter[:])
		block = d.Sum(block[:0])
		out = out[subtle.XORBytes(out, out, block):]
	}
}
