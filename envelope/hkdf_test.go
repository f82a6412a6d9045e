package envelope_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha512"
	"testing"

	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/envelope"
)

// Our HKDF is the standard library's.
func TestHKDF(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "secret")
		info := rapid.String().Draw(t, "info")
		n := rapid.IntRange(1, 255*sha512.Size).Draw(t, "length")
		prk, err := hkdf.Extract(sha512.New, secret, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(envelope.Extract(secret), prk) {
			t.Fatal("Extract differs")
		}
		want, err := hkdf.Expand(sha512.New, prk, info, n)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(envelope.Expand(prk, info, n), want) {
			t.Fatal("Expand differs")
		}
	})
}
