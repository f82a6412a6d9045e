package envelope_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"testing"
	"testing/iotest"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

var (
	testKey = func() *envelope.Key { k := envelope.Key(pattern("test key", 32)); return &k }()
	testCtx = envelope.NewContext("kluis/v1/test", "here")
)

// boundaries are the lengths at which the chunking changes.
var boundaries = []int{0, 1, 16383, 16384, 16385, 32767, 32768, 32769, 16 * 16384, 16*16384 + 1, 17*16384 - 1, 33*16384 + 5}

func TestEveryWayAgrees(t *testing.T) {
	for _, n := range boundaries {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			plain := pattern("plain", n)
			sealed := envelope.Seal(testKey, testCtx, plain)
			if int64(len(sealed)) != envelope.SealedSize(int64(n)) {
				t.Errorf("sealed to %d bytes, SealedSize says %d", len(sealed), envelope.SealedSize(int64(n)))
			}
			got, err := envelope.AppendOpen([]byte("before"), testKey, testCtx, sealed)
			if err != nil || !bytes.Equal(got, append([]byte("before"), plain...)) {
				t.Fatalf("AppendOpen: %d bytes, error %v", len(got), err)
			}
			checkReaders(t, testKey, testCtx, sealed, plain)
		})
	}
}

// TestWriterIgnoresHowItIsFed writes the same bytes in different portions and
// demands the same message.
func TestWriterIgnoresHowItIsFed(t *testing.T) {
	var salt [envelope.SaltSize]byte
	for _, n := range boundaries {
		plain := pattern("plain", n)
		want := refSeal(testKey[:], testCtx.Bytes(), salt[:], plain)
		feed := map[string]func(w *envelope.Writer) error{
			"ReadFrom": func(w *envelope.Writer) error { _, err := w.ReadFrom(bytes.NewReader(plain)); return err },
			"ReadFrom halves": func(w *envelope.Writer) error {
				_, err := w.ReadFrom(iotest.HalfReader(bytes.NewReader(plain)))
				return err
			},
			"ReadFrom dataErr": func(w *envelope.Writer) error {
				_, err := w.ReadFrom(iotest.DataErrReader(bytes.NewReader(plain)))
				return err
			},
		}
		for _, size := range []int{7, 1000, 16384, 16385, 300000} {
			feed[fmt.Sprintf("Write %d", size)] = func(w *envelope.Writer) error {
				for rest := plain; len(rest) > 0; {
					m, err := w.Write(rest[:min(size, len(rest))])
					if err != nil {
						return err
					}
					rest = rest[m:]
				}
				return nil
			}
		}
		for name, f := range feed {
			var out bytes.Buffer
			w := envelope.NewWriterWithSalt(&out, testKey, testCtx, salt)
			if err := f(w); err != nil {
				t.Fatalf("%d bytes by %s: %v", n, name, err)
			}
			if err := w.Close(); err != nil {
				t.Fatalf("%d bytes by %s: Close: %v", n, name, err)
			}
			if !bytes.Equal(out.Bytes(), want) {
				t.Errorf("%d bytes by %s: the message differs", n, name)
			}
			if err := w.Close(); err != nil {
				t.Errorf("a second Close: %v", err)
			}
			if _, err := w.Write([]byte("x")); err == nil {
				t.Error("Write after Close succeeded")
			}
		}
	}
}

func TestReaderIgnoresHowItIsFed(t *testing.T) {
	for _, n := range boundaries {
		plain := pattern("plain", n)
		sealed := envelope.Seal(testKey, testCtx, plain)
		for name, src := range map[string]io.Reader{
			"halves":     iotest.HalfReader(bytes.NewReader(sealed)),
			"data error": iotest.DataErrReader(bytes.NewReader(sealed)),
		} {
			r, err := envelope.NewReader(src, testKey, testCtx)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes fed as %s: got %d, error %v", n, name, len(got), err)
			}
		}
	}
}

// TestReaderDoesNotWait hands over one chunk at a time, and demands that each
// comes out before the next is there.
func TestReaderDoesNotWait(t *testing.T) {
	plain := pattern("plain", 40000)
	sealed := envelope.Seal(testKey, testCtx, plain)
	src, dst := io.Pipe()
	opened := make(chan struct{})
	go func() {
		dst.Write(sealed[:envelope.HeaderSize+sealedChunk])
		<-opened
		dst.Write(sealed[envelope.HeaderSize+sealedChunk:])
		dst.Close()
	}()
	r, err := envelope.NewReader(src, testKey, testCtx)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, envelope.ChunkSize)
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	close(opened)
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(first, rest...), plain) {
		t.Errorf("got %d bytes more, error %v", len(rest), err)
	}
}

var errBroken = errors.New("the line broke")

func TestBrokenStreams(t *testing.T) {
	plain := pattern("plain", 500_000)
	sealed := envelope.Seal(testKey, testCtx, plain)

	t.Run("a source that fails breaks the Writer", func(t *testing.T) {
		for _, n := range []int{0, 10, 16384, 300_000} {
			var out bytes.Buffer
			w := envelope.NewWriter(&out, testKey, testCtx)
			src := io.MultiReader(bytes.NewReader(plain[:n]), iotest.ErrReader(errBroken))
			if _, err := io.Copy(w, src); err != errBroken {
				t.Fatalf("Copy: %v", err)
			}
			if err := w.Close(); err != errBroken {
				t.Errorf("Close: %v, want the source's failure", err)
			}
			if _, err := envelope.Open(testKey, testCtx, out.Bytes()); err == nil {
				t.Errorf("what was written of %d bytes opens", n)
			}
		}
	})
	t.Run("a destination that fails breaks the Writer", func(t *testing.T) {
		for _, n := range []int64{0, 1, 300_000} {
			var out bytes.Buffer
			w := envelope.NewWriter(&limitedWriter{&out, n}, testKey, testCtx)
			_, err := w.Write(plain)
			if closeErr := w.Close(); closeErr != errBroken || (err != nil && err != errBroken) {
				t.Errorf("after %d bytes: Write %v, Close %v", n, err, closeErr)
			}
		}
	})
	t.Run("Abort leaves nothing that opens", func(t *testing.T) {
		var out bytes.Buffer
		w := envelope.NewWriter(&out, testKey, testCtx)
		w.Write(plain)
		w.Abort()
		if err := w.Close(); err == nil {
			t.Error("Close after Abort succeeded")
		}
		_, err := envelope.Open(testKey, testCtx, out.Bytes())
		wantIntegrity(t, "Open", err)
	})
	t.Run("Abort after Close does nothing", func(t *testing.T) {
		var out bytes.Buffer
		w := envelope.NewWriter(&out, testKey, testCtx)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		if _, err := envelope.Open(testKey, testCtx, out.Bytes()); err != nil {
			t.Error(err)
		}
	})
	t.Run("a failing source is not an integrity failure", func(t *testing.T) {
		for _, cause := range []error{errBroken, io.ErrUnexpectedEOF} {
			for _, n := range []int{0, 55, 56, 20000, len(sealed)} {
				r, err := envelope.NewReader(io.MultiReader(bytes.NewReader(sealed[:n]), iotest.ErrReader(cause)), testKey, testCtx)
				if err == nil {
					var got []byte
					got, err = io.ReadAll(r)
					if !bytes.HasPrefix(plain, got) {
						t.Errorf("after %d bytes: what was read is no prefix", n)
					}
				}
				if err != cause {
					t.Errorf("after %d bytes: %v, want %v", n, err, cause)
				}
			}
		}
	})
	t.Run("a stuck source is given up", func(t *testing.T) {
		if _, err := envelope.NewReader(stuck{}, testKey, testCtx); err != io.ErrNoProgress {
			t.Errorf("NewReader: %v", err)
		}
		w := envelope.NewWriter(io.Discard, testKey, testCtx)
		if _, err := w.ReadFrom(stuck{}); err != io.ErrNoProgress {
			t.Errorf("ReadFrom: %v", err)
		}
	})
	t.Run("a closed Reader reads nothing", func(t *testing.T) {
		r, err := envelope.NewReader(bytes.NewReader(sealed), testKey, testCtx)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{10, len(plain) - 20} { // the second leaves part of the last chunk
			if _, err := io.CopyN(io.Discard, struct{ io.Reader }{r}, int64(n)); err != nil {
				t.Fatal(err)
			}
		}
		r.Close()
		if n, err := r.Read(make([]byte, 10)); n > 0 || err == nil || err == io.EOF {
			t.Errorf("Read gave %d bytes, error %v", n, err)
		}
	})
	t.Run("a destination that fails stops WriteTo and loses nothing", func(t *testing.T) {
		r, err := envelope.NewReader(bytes.NewReader(sealed), testKey, testCtx)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := r.WriteTo(&limitedWriter{&out, 20000}); err != errBroken {
			t.Fatalf("WriteTo: %v", err)
		}
		if _, err := r.WriteTo(&out); err != nil || !bytes.Equal(out.Bytes(), plain) {
			t.Errorf("WriteTo again: %v", err)
		}
	})
}

// A limitedWriter fails once n bytes have been written.
type limitedWriter struct {
	w io.Writer
	n int64
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	n, _ := l.w.Write(p[:min(l.n, int64(len(p)))])
	l.n -= int64(n)
	if n < len(p) {
		return n, errBroken
	}
	return n, nil
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestSizes(t *testing.T) {
	for _, n := range []int64{0, 1, 16383, 16384, 16385, 1 << 40, envelope.MaxPlainSize} {
		if got, err := envelope.PlainSize(envelope.SealedSize(n)); err != nil || got != n {
			t.Errorf("PlainSize(SealedSize(%d)) = %d, %v", n, got, err)
		}
	}
	const chunk = sealedChunk
	for _, n := range []int64{-1 << 63, -1, 0, 55, 56, 71, 56 + chunk, 56 + chunk + 15, 56 + 5*chunk,
		envelope.SealedSize(envelope.MaxPlainSize) + 1, envelope.SealedSize(envelope.MaxPlainSize) + 17, 1<<63 - 1} {
		_, err := envelope.PlainSize(n)
		wantIntegrity(t, fmt.Sprintf("PlainSize(%d)", n), err)
	}
	for _, n := range []int64{-1, envelope.MaxPlainSize + 1} {
		wantPanic(t, fmt.Sprintf("SealedSize(%d)", n), func() { envelope.SealedSize(n) })
	}
}

func TestWriterStopsAtTheLastChunkNumber(t *testing.T) {
	w := envelope.NewWriter(io.Discard, testKey, testCtx)
	w.SetNextChunk(envelope.MaxChunks - 1)
	if _, err := w.Write(make([]byte, envelope.ChunkSize)); err != nil {
		t.Fatalf("the last chunk number is refused: %v", err)
	}
	if err := w.Close(); fault.ReasonOf(err) != fault.PayloadTooLarge {
		t.Errorf("Close: %v", err)
	}
}

// TestNonce compares the nonce with the XOR of two big numbers, at chunk numbers
// up to the largest.
func TestNonce(t *testing.T) {
	m, err := envelope.Derive(testKey, testCtx, [envelope.SaltSize]byte{})
	if err != nil {
		t.Fatal(err)
	}
	base := m.Nonce(0)
	for _, k := range []uint64{1, 255, 256, 1 << 16, 1<<32 - 1, 1 << 32, envelope.MaxChunks - 1} {
		want := new(big.Int).Xor(new(big.Int).SetBytes(base), new(big.Int).SetUint64(k)).FillBytes(make([]byte, 12))
		if got := m.Nonce(k); !bytes.Equal(got, want) {
			t.Errorf("nonce %d is %s, want %s", k, hex.EncodeToString(got), hex.EncodeToString(want))
		}
	}
}

// TestMisuse demands that the zero key and the zero context seal nothing.
func TestMisuse(t *testing.T) {
	cleared := envelope.NewKey()
	cleared.Clear()
	for name, c := range map[string]struct {
		key *envelope.Key
		ctx envelope.Context
	}{
		"zero key":     {cleared, testCtx},
		"zero context": {testKey, envelope.Context{}},
	} {
		wantPanic(t, "Seal with "+name, func() { envelope.Seal(c.key, c.ctx, nil) })
		sealed := refSeal(c.key[:], c.ctx.Bytes(), make([]byte, 24), []byte("text"))
		if _, err := envelope.Open(c.key, c.ctx, sealed); fault.ReasonOf(err) != fault.Internal {
			t.Errorf("Open with %s: %v", name, err)
		}
		var out bytes.Buffer
		w := envelope.NewWriter(&out, c.key, c.ctx)
		if _, err := w.Write([]byte("text")); err == nil {
			t.Errorf("Write with %s succeeded", name)
		}
		if err := w.Close(); err == nil || out.Len() > 0 {
			t.Errorf("Close with %s: %v, %d bytes written", name, err, out.Len())
		}
		w.Abort()
	}
	wantPanic(t, "NewContext without a purpose", func() { envelope.NewContext("", "field") })
	wantPanic(t, "DeriveScopeKey with a zero share", func() { envelope.DeriveScopeKey(cleared, testKey, testCtx) })
	wantPanic(t, "DeriveFolder with a zero key", func() { envelope.DeriveFolder(cleared, []byte("id"), [envelope.SaltSize]byte{}) })
}

func wantPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}
