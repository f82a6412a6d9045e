package root

import "crypto/rand"

// Shamir's secret sharing over GF(2⁸) with the polynomial of AES, byte by byte:
// a secret byte is the value at 0 of a random polynomial, and share x its value
// at x. Nothing here branches on, or indexes by, a secret.

// gfMul multiplies in GF(2⁸), x⁸+x⁴+x³+x+1.
func gfMul(a, b byte) byte {
	var p byte
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// gfInv returns a's inverse, a²⁵⁴; that of 0 is 0.
func gfInv(a byte) byte {
	r := byte(1)
	for range 7 { // 254 = 2 + 4 + … + 128
		a = gfMul(a, a)
		r = gfMul(r, a)
	}
	return r
}

// split returns n shares of a secret, that of x = 1 first, of which any m give
// it back. 1 ≤ m ≤ n ≤ 255.
func split(secret []byte, n, m int) [][]byte {
	shares := make([][]byte, n)
	for i := range shares {
		shares[i] = make([]byte, len(secret))
	}
	coeff := make([]byte, m) // [0] is the secret
	defer clear(coeff)
	for at, s := range secret {
		rand.Read(coeff[1:])
		coeff[0] = s
		for i := range shares {
			shares[i][at] = evaluate(coeff, byte(i+1))
		}
	}
	return shares
}

// evaluate returns the polynomial's value at x, by Horner's rule.
func evaluate(coeff []byte, x byte) byte {
	var y byte
	for i := len(coeff) - 1; i >= 0; i-- {
		y = gfMul(y, x) ^ coeff[i]
	}
	return y
}

// combine interpolates at 0 from the shares ys at the distinct xs, none zero.
func combine(xs []byte, ys [][]byte) []byte {
	secret := make([]byte, len(ys[0]))
	for i, xi := range xs {
		weight := byte(1) // ∏ xj / (xj - xi)
		for j, xj := range xs {
			if j != i {
				weight = gfMul(weight, gfMul(xj, gfInv(xj^xi)))
			}
		}
		for at, y := range ys[i] {
			secret[at] ^= gfMul(weight, y)
		}
	}
	return secret
}
