package lake_test

import (
	"fmt"
	"hash/crc64"
	"math/rand/v2"
	"testing"

	"github.com/kluis-io/kluis/lake"
)

// TestCRC64 compares the checksum with the standard library's, and with the
// catalogue's check value of CRC-64/NVME.
func TestCRC64(t *testing.T) {
	if got := lake.CRC64(0, []byte("123456789")); got != 0xAE8B14860A799888 {
		t.Errorf("the check value is %#x, want 0xAE8B14860A799888", got)
	}
	table := crc64.MakeTable(0x9A6C9329AC4BC9B5)
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 5000)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	for range 2000 {
		from := r.IntN(len(b))
		p, begin := b[from:from+r.IntN(len(b)-from)], r.Uint64()
		if got, want := lake.CRC64(begin, p), crc64.Update(begin, table, p); got != want {
			t.Fatalf("%d bytes from %d after %#x: %#x, want %#x", len(p), from, begin, got, want)
		}
	}
}

// BenchmarkCRC64 hashes as uploads do, and the same with the standard library.
func BenchmarkCRC64(b *testing.B) {
	table := crc64.MakeTable(0x9A6C9329AC4BC9B5)
	for _, size := range []int{4 << 10, 16 << 10} {
		p := make([]byte, size)
		b.Run(fmt.Sprintf("own/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				lake.CRC64(0, p)
			}
		})
		b.Run(fmt.Sprintf("hash-crc64/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				crc64.Update(0, table, p)
			}
		})
	}
}
