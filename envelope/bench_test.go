package envelope_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/kluis-io/kluis/envelope"
)

// The ceiling of every figure is AES-256-GCM alone, measured in the same run:
// "bare=16KiB" works chunk by chunk like the format, "bare=whole" all at once, and
// "bare=copied" chunk by chunk after a copy, which is what a source that hands its
// bytes to a reader costs before any cryptography.

var benchSizes = []struct {
	name string
	n    int
}{{"4KiB", 4 << 10}, {"1MiB", 1 << 20}, {"64MiB", 64 << 20}}

func BenchmarkSeal(b *testing.B) {
	for _, size := range benchSizes {
		plain := pattern("plain", size.n)
		run := func(how string, f func()) {
			b.Run(fmt.Sprintf("%s/%s", size.name, how), func(b *testing.B) {
				b.SetBytes(int64(size.n))
				b.ReportAllocs()
				for b.Loop() {
					f()
				}
			})
		}
		aead, nonce := refGCM(testKey[:]), make([]byte, 12)
		out := make([]byte, 0, envelope.SealedSize(int64(size.n)))
		run("bare=16KiB", func() {
			dst := out
			for p := plain; len(p) > 0; p = p[min(len(p), 16384):] {
				dst = aead.Seal(dst, nonce, p[:min(len(p), 16384)], nil)
			}
		})
		run("bare=whole", func() { aead.Seal(out, nonce, plain, nil) })
		buf := make([]byte, sealedChunk)
		run("bare=copied", func() {
			for p := plain; len(p) > 0; p = p[min(len(p), 16384):] {
				n := copy(buf[:16384], p)
				aead.Seal(buf[:0], nonce, buf[:n], nil)
			}
		})
		run("Seal", func() { envelope.AppendSeal(out, testKey, testCtx, plain) })
		run("Write", func() {
			w := envelope.NewWriter(io.Discard, testKey, testCtx)
			if _, err := w.Write(plain); err != nil {
				b.Fatal(err)
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		})
		src := bytes.NewReader(nil)
		run("ReadFrom", func() {
			src.Reset(plain)
			w := envelope.NewWriter(io.Discard, testKey, testCtx)
			if _, err := w.ReadFrom(src); err != nil {
				b.Fatal(err)
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, size := range benchSizes {
		plain := pattern("plain", size.n)
		sealed := envelope.Seal(testKey, testCtx, plain)
		run := func(how string, f func() error) {
			b.Run(fmt.Sprintf("%s/%s", size.name, how), func(b *testing.B) {
				b.SetBytes(int64(size.n))
				b.ReportAllocs()
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		aead, nonce := refGCM(testKey[:]), make([]byte, 12)
		var chunks [][]byte
		for p := plain; len(p) > 0; p = p[min(len(p), 16384):] {
			chunks = append(chunks, aead.Seal(nil, nonce, p[:min(len(p), 16384)], nil))
		}
		whole := aead.Seal(nil, nonce, plain, nil)
		out := make([]byte, 0, size.n)
		run("bare=16KiB", func() (err error) {
			dst := out
			for _, c := range chunks {
				if dst, err = aead.Open(dst, nonce, c, nil); err != nil {
					return err
				}
			}
			return nil
		})
		run("bare=whole", func() error { _, err := aead.Open(out, nonce, whole, nil); return err })
		buf := make([]byte, 16*sealedChunk)
		run("bare=copied", func() error {
			for run := range slices.Chunk(chunks, 16) {
				lo := buf
				for _, c := range run {
					lo = lo[copy(lo, c):]
				}
				lo = buf
				for _, c := range run {
					if _, err := aead.Open(lo[:0], nonce, lo[:len(c)], nil); err != nil {
						return err
					}
					lo = lo[len(c):]
				}
			}
			return nil
		})
		run("Open", func() error { _, err := envelope.AppendOpen(out, testKey, testCtx, sealed); return err })
		src := bytes.NewReader(nil)
		run("Read", func() error {
			src.Reset(sealed)
			r, err := envelope.NewReader(src, testKey, testCtx)
			if err == nil {
				_, err = io.ReadFull(r, out[:size.n])
			}
			r.Close()
			return err
		})
		run("WriteTo", func() error {
			src.Reset(sealed)
			r, err := envelope.NewReader(src, testKey, testCtx)
			if err == nil {
				_, err = r.WriteTo(io.Discard)
			}
			return err
		})
		src.Reset(sealed)
		ra, err := envelope.NewReaderAt(src, int64(len(sealed)), testKey, testCtx)
		if err != nil {
			b.Fatal(err)
		}
		run("Range", func() error { _, err := ra.Range(0, int64(size.n)).WriteTo(io.Discard); return err })
		run("ReadAt", func() error { _, err := ra.ReadAt(out[:size.n], 0); return err })
	}
}

func BenchmarkReadAt100BytesOf64MiB(b *testing.B) {
	sealed := envelope.Seal(testKey, testCtx, make([]byte, 64<<20))
	ra, err := envelope.NewReaderAt(bytes.NewReader(sealed), int64(len(sealed)), testKey, testCtx)
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ra.ReadAt(p, 30<<20); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDerive(b *testing.B) {
	b.Run("message", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := envelope.Derive(testKey, testCtx, [envelope.SaltSize]byte{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("folder", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			envelope.DeriveFolder(testKey, []byte("folder"), [envelope.SaltSize]byte{})
		}
	})
	b.Run("scope", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			envelope.DeriveScopeKey(testKey, testKey, testCtx)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	entry, record := pattern("entry", 16), pattern("record", 150)
	sealed := testFolder.SealRecord(entry, 1, record)
	b.Run("Seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			testFolder.SealRecord(entry, 1, record)
		}
	})
	b.Run("Open", func(b *testing.B) {
		b.ReportAllocs()
		out := make([]byte, 0, 256)
		for b.Loop() {
			if _, err := testFolder.AppendOpenRecord(out, entry, 1, sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("LookupMAC", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			testFolder.LookupMAC("entry", "part-00000.parquet")
		}
	})
}
