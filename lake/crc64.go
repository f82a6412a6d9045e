package lake

import (
	"encoding/binary"
	"hash/crc64"
)

// CRC-64/NVME, which Azure calls CRC64
// (https://learn.microsoft.com/rest/api/storageservices/put-blob, x-ms-content-crc64).
const nvmePoly = 0x9A6C9329AC4BC9B5 // bits reversed

// nvme[n][b] is the checksum's change by a byte b with n bytes behind it. Package
// hash/crc64 keeps such tables for its own polynomials alone, and makes them anew
// at each call for others.
var nvme = func() (t [16][256]uint64) {
	t[0] = *crc64.MakeTable(nvmePoly)
	for b := range 256 {
		for n := 1; n < len(t); n++ {
			last := t[n-1][b]
			t[n][b] = t[0][byte(last)] ^ last>>8
		}
	}
	return t
}()

// CRC64 continues a CRC-64/NVME with p; it begins with 0.
func CRC64(crc uint64, p []byte) uint64 {
	crc = ^crc
	for len(p) >= 16 {
		a := crc ^ binary.LittleEndian.Uint64(p)
		b := binary.LittleEndian.Uint64(p[8:])
		crc = nvme[15][byte(a)] ^ nvme[14][byte(a>>8)] ^ nvme[13][byte(a>>16)] ^ nvme[12][byte(a>>24)] ^
			nvme[11][byte(a>>32)] ^ nvme[10][byte(a>>40)] ^ nvme[9][byte(a>>48)] ^ nvme[8][a>>56] ^
			nvme[7][byte(b)] ^ nvme[6][byte(b>>8)] ^ nvme[5][byte(b>>16)] ^ nvme[4][byte(b>>24)] ^
			nvme[3][byte(b>>32)] ^ nvme[2][byte(b>>40)] ^ nvme[1][byte(b>>48)] ^ nvme[0][b>>56]
		p = p[16:]
	}
	for _, b := range p {
		crc = nvme[0][byte(crc)^b] ^ crc>>8
	}
	return ^crc
}

// combineCRC64 returns the checksum of two runs of bytes, one behind the other,
// from their own and the second's length: crc(AB) = crc(A)·x^(8·|B|) + crc(B) in
// GF(2)[x] modulo the polynomial.
func combineCRC64(a, b uint64, lengthB int64) uint64 {
	power := uint64(1) << 62 // x, in reversed bits
	for range 3 {            // x^8
		power = multiplyCRC64(power, power)
	}
	for n := uint64(lengthB); n > 0; n >>= 1 {
		if n&1 != 0 {
			a = multiplyCRC64(a, power)
		}
		power = multiplyCRC64(power, power)
	}
	return a ^ b
}

// multiplyCRC64 multiplies two polynomials in reversed bits.
func multiplyCRC64(a, b uint64) uint64 {
	var product uint64
	for bit := uint64(1) << 63; bit > 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ nvmePoly
		} else {
			b >>= 1
		}
	}
	return product
}
