package envelope_test

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"github.com/kluis-io/kluis/envelope"
)

func addMessages(f *testing.F) {
	for _, n := range []int{0, 1, 100, 16384, 16390} {
		sealed := refSeal(testKey[:], testCtx.Bytes(), pattern("salt", 24), pattern("plain", n))
		f.Add(sealed)
		f.Add(sealed[:len(sealed)-1])
	}
	f.Add([]byte{})
}

// FuzzOpen opens any bytes: what opens is the one message of its salt and
// plaintext, and everything else is an integrity failure.
func FuzzOpen(f *testing.F) {
	addMessages(f)
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := envelope.Open(testKey, testCtx, sealed)
		if err != nil {
			wantIntegrity(t, "Open", err)
			return
		}
		if again := envelope.SealWithSalt(testKey, testCtx, [24]byte(sealed[:24]), plain); !bytes.Equal(again, sealed) {
			t.Error("another message than ours opens")
		}
	})
}

// FuzzReader reads any bytes as a stream and by ranges: both must agree with Open
// on success, on the plaintext and on the reason.
func FuzzReader(f *testing.F) {
	addMessages(f)
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, openErr := envelope.Open(testKey, testCtx, sealed)
		agree := func(how string, got []byte, err error) {
			t.Helper()
			if openErr != nil {
				wantIntegrity(t, how, err)
			} else if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s gave %d bytes, error %v; Open gave %d", how, len(got), err, len(plain))
			}
		}
		for how, src := range map[string]io.Reader{
			"a Reader":           bytes.NewReader(sealed),
			"a Reader of halves": iotest.HalfReader(bytes.NewReader(sealed)),
		} {
			var got []byte
			r, err := envelope.NewReader(src, testKey, testCtx)
			if err == nil {
				got, err = io.ReadAll(r)
			}
			agree(how, got, err)
		}
		var got bytes.Buffer
		ra, err := envelope.NewReaderAt(bytes.NewReader(sealed), int64(len(sealed)), testKey, testCtx)
		if err == nil {
			_, err = ra.Range(0, 1<<62).WriteTo(&got)
		}
		agree("a ReaderAt", got.Bytes(), err)
	})
}
