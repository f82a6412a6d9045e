package envelope_test

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/kluis-io/kluis/envelope"
)

// A watchedReaderAt remembers the bytes that were asked for.
type watchedReaderAt struct {
	io.ReaderAt
	mu    sync.Mutex
	spans [][2]int64
}

func (w *watchedReaderAt) ReadAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	w.spans = append(w.spans, [2]int64{off, off + int64(len(p))})
	w.mu.Unlock()
	return w.ReaderAt.ReadAt(p, off)
}

func (w *watchedReaderAt) take() [][2]int64 {
	defer func() { w.spans = nil }()
	return w.spans
}

func TestRangesReadOnlyTheirChunks(t *testing.T) {
	const chunks = 60
	const size = chunks * envelope.ChunkSize // so that the last chunk is empty
	plain := pattern("plain", size)
	src := &watchedReaderAt{ReaderAt: bytes.NewReader(envelope.Seal(testKey, testCtx, plain))}
	sealedSize := envelope.SealedSize(size)
	ra, err := envelope.NewReaderAt(src, sealedSize, testKey, testCtx)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(src.take()); got != "[[0 56]]" {
		t.Errorf("opening read %s, want the header only", got)
	}
	for _, c := range []struct {
		off, n, first, last int64
		reads               int
	}{
		{0, 0, 0, -1, 0},
		{0, 1, 0, 0, 1},
		{16383, 1, 0, 0, 1},
		{16383, 2, 0, 1, 1},
		{16384, 1, 1, 1, 1},
		{5 * 16384, 16384, 5, 5, 1},
		{5*16384 + 1, 16384, 5, 6, 1},
		{100, 16 * 16384, 0, 16, 2},
		{16384, 40 * 16384, 1, 40, 3},
		{size - 2, 1, chunks - 1, chunks - 1, 1},
		{size - 1, 1, chunks - 1, chunks, 1}, // reaches the end: the empty last chunk too
		{size - 1, 1 << 62, chunks - 1, chunks, 1},
		{size, 10, chunks, chunks, 1},
		{size + 100000, 10, chunks, chunks, 1},
	} {
		got, err := io.ReadAll(ra.Range(c.off, c.n))
		if err != nil {
			t.Fatal(err)
		}
		end := min(size, c.off+min(c.n, size))
		if want := plain[min(c.off, size):end]; !bytes.Equal(got, want) {
			t.Errorf("range %d+%d gave %d bytes, want %d", c.off, c.n, len(got), len(want))
		}
		lo := envelope.HeaderSize + c.first*sealedChunk
		hi := min(envelope.HeaderSize+(c.last+1)*sealedChunk, sealedSize)
		spans := src.take()
		if len(spans) != c.reads {
			t.Errorf("range %d+%d took %d reads, want %d", c.off, c.n, len(spans), c.reads)
		}
		for i, s := range spans {
			if s[0] < lo || s[1] > hi || (i == 0 && s[0] != lo) {
				t.Errorf("range %d+%d read [%d, %d), outside of its chunks [%d, %d)", c.off, c.n, s[0], s[1], lo, hi)
			}
			if s[1]-s[0] > 16*sealedChunk {
				t.Errorf("range %d+%d read %d bytes at once", c.off, c.n, s[1]-s[0])
			}
		}
	}
	for _, c := range [][2]int64{{-1, 10}, {0, -1}} {
		if _, err := ra.Range(c[0], c[1]).Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("Range(%d, %d) did not fail", c[0], c[1])
		}
	}
}

// TestEndIsProven cuts a message to a length that a shorter message could have:
// no way of asking for the end may believe it.
func TestEndIsProven(t *testing.T) {
	sealed := envelope.Seal(testKey, testCtx, pattern("plain", 50000))
	for _, n := range []int64{envelope.SealedSize(0), envelope.SealedSize(100), envelope.SealedSize(16384), envelope.SealedSize(20000), envelope.SealedSize(49999)} {
		ra, err := envelope.NewReaderAt(bytes.NewReader(sealed[:n]), n, testKey, testCtx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ra.ReadAt(make([]byte, 1), ra.Size())
		wantIntegrity(t, "ReadAt at the end", err)
		_, err = ra.ReadAt(make([]byte, 10), max(ra.Size()-5, 0))
		wantIntegrity(t, "ReadAt across the end", err)
		_, err = io.Copy(io.Discard, ra.Range(0, 1<<62))
		wantIntegrity(t, "Range", err)
	}
	// A source that is shorter than its stated size.
	ra, err := envelope.NewReaderAt(bytes.NewReader(sealed[:20000]), int64(len(sealed)), testKey, testCtx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ra.ReadAt(make([]byte, 50000), 0)
	wantIntegrity(t, "ReadAt of a short source", err)
	// A shorter message behind a longer stated size.
	short := envelope.Seal(testKey, testCtx, pattern("plain", 100))
	ra, err = envelope.NewReaderAt(bytes.NewReader(short), envelope.SealedSize(40000), testKey, testCtx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ra.ReadAt(make([]byte, 10), 0)
	wantIntegrity(t, "ReadAt of a message with a wrong size", err)
}

func TestReaderAtIsConcurrent(t *testing.T) {
	plain := pattern("plain", 700_000)
	sealed := envelope.Seal(testKey, testCtx, plain)
	ra, err := envelope.NewReaderAt(bytes.NewReader(sealed), int64(len(sealed)), testKey, testCtx)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for off := i * 1000; off < len(plain); off += 50_000 {
				p := make([]byte, min(40_000, len(plain)-off))
				if _, err := ra.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, plain[off:off+len(p)]) {
					t.Errorf("ReadAt(%d): %v", off, err)
				}
			}
		})
	}
	wg.Wait()
}
