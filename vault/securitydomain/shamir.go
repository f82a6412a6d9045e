package securitydomain

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
)

// Shamir's secret sharing over GF(257), byte by byte, as Azure's clients undo it: a
// secret byte is the value at 0 of a random polynomial, and share x its value at x.
// Nothing here branches on, or indexes by, a secret. Package root shares over GF(2⁸),
// which those clients do not know.

// A share is, for each byte of the secret, x in the upper 7 bits and the value, up
// to 256, in the lower 9, little-endian.
const (
	valueBits = 9
	valueMask = 1<<valueBits - 1
	shareWord = 2 // bytes
)

// reduce returns n mod 257, for n up to 256².
func reduce(n int32) int32 {
	n = n&0xff - n>>8 // 256 is -1
	return n + 257&(n>>31)
}

func mul(a, b int32) int32 { return reduce(a * b) }
func add(a, b int32) int32 { return reduce(a + b) }
func sub(a, b int32) int32 { return reduce(a - b + 257) }

// inverse returns a²⁵⁵; that of 0 is 0.
func inverse(a int32) int32 {
	r := a
	for range 7 {
		r = mul(mul(r, r), a)
	}
	return r
}

// element returns a random element of the field.
func element() int32 {
	var b [2]byte
	for {
		rand.Read(b[:])
		if n := int32(binary.LittleEndian.Uint16(b[:]) & valueMask); n <= 256 {
			return n
		}
	}
}

// split returns n shares of a secret, that of x = 1 first, of which any m give it
// back.
func split(secret []byte, n, m int) [][]byte {
	shares := make([][]byte, n)
	for i := range shares {
		shares[i] = make([]byte, 0, shareWord*len(secret))
	}
	coeff := make([]int32, m) // [0] is the secret
	defer clear(coeff)
	for _, s := range secret {
		coeff[0] = int32(s)
		for i := range coeff[1:] {
			coeff[1+i] = element()
		}
		for i := range shares {
			x, y := int32(i+1), int32(0)
			for j := m - 1; j >= 0; j-- {
				y = add(mul(y, x), coeff[j])
			}
			shares[i] = binary.LittleEndian.AppendUint16(shares[i], uint16(x<<valueBits|y))
		}
	}
	return shares
}

// combine returns the secret of which these are shares, as many as it takes.
func combine(shares [][]byte) ([]byte, error) {
	if len(shares) == 0 {
		return nil, errors.New("no shares")
	}
	size := len(shares[0])
	if size == 0 || size%shareWord != 0 {
		return nil, errors.New("a share has a wrong length")
	}
	xs := make([]int32, len(shares))
	for i, s := range shares {
		if len(s) != size {
			return nil, errors.New("the shares are of different lengths")
		}
		xs[i] = int32(binary.LittleEndian.Uint16(s) >> valueBits)
		for at := 0; at < size; at += shareWord {
			if x := int32(binary.LittleEndian.Uint16(s[at:]) >> valueBits); x != xs[i] || x == 0 {
				return nil, errors.New("a share makes no sense")
			}
		}
		for _, x := range xs[:i] {
			if x == xs[i] {
				return nil, fmt.Errorf("share %d comes twice", x)
			}
		}
	}
	secret, wrong := make([]byte, size/shareWord), int32(0)
	for at := range secret {
		sum := int32(0)
		for i, s := range shares {
			weight := int32(1) // ∏ xj / (xj - xi)
			for j, xj := range xs {
				if j != i {
					weight = mul(weight, mul(xj, inverse(sub(xj, xs[i]))))
				}
			}
			v := int32(binary.LittleEndian.Uint16(s[shareWord*at:]) & valueMask)
			wrong |= (256 - v) >> 31
			sum = add(sum, mul(weight, reduce(v)))
		}
		wrong |= sum >> 8
		secret[at] = byte(sum)
	}
	if wrong != 0 {
		clear(secret)
		return nil, errors.New("the shares do not fit together")
	}
	return secret, nil
}
