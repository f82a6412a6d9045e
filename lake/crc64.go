package lake

import "hash/crc64"

// CRC-64/NVME, which Azure calls CRC64
// (https://learn.microsoft.com/rest/api/storageservices/put-blob, x-ms-content-crc64).
var nvme = crc64.MakeTable(nvmePoly)

const nvmePoly = 0x9A6C9329AC4BC9B5 // bits reversed

// CRC64 continues a CRC-64/NVME with p; it begins with 0.
func CRC64(crc uint64, p []byte) uint64 { return crc64.Update(crc, nvme, p) }

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
