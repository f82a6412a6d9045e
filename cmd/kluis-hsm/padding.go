package main

import (
	"bytes"
	"crypto/subtle"
)

// block is AES's block size, in bytes.
const block = 16

// addPadding returns a copy of value with the padding of PKCS #7 (RFC 5652 §6.3).
func addPadding(value []byte) []byte {
	n := block - len(value)%block
	out := make([]byte, 0, len(value)+n)
	return append(append(out, value...), bytes.Repeat([]byte{byte(n)}, n)...)
}

// padding returns how many bytes of padding plain ends with, in a time that does
// not depend on them. That there is none shows all the same: CBC with padding is
// for old ciphertexts, as in Azure.
func padding(plain []byte) (n int, ok bool) {
	if len(plain) < block {
		return 0, false
	}
	n = int(plain[len(plain)-1])
	good := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, block)
	for i := 1; i <= block; i++ {
		inside := subtle.ConstantTimeLessOrEq(i, n)
		same := subtle.ConstantTimeByteEq(plain[len(plain)-i], byte(n))
		good &= subtle.ConstantTimeSelect(inside, same, 1)
	}
	return n, good == 1
}
