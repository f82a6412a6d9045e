package root_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/root"
)

// mul multiplies polynomials over GF(2) and reduces them: the definition.
func mul(a, b byte) byte {
	var p uint16
	for i := range 8 {
		if b>>i&1 == 1 {
			p ^= uint16(a) << i
		}
	}
	for i := 15; i >= 8; i-- {
		if p>>i&1 == 1 {
			p ^= 0x11b << (i - 8)
		}
	}
	return byte(p)
}

func TestField(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			if got, want := root.GFMul(byte(a), byte(b)), mul(byte(a), byte(b)); got != want {
				t.Fatalf("%d·%d = %d, want %d", a, b, got, want)
			}
		}
		if a != 0 && root.GFMul(byte(a), root.GFInv(byte(a))) != 1 {
			t.Fatalf("%d has the wrong inverse", a)
		}
	}
	if root.GFInv(0) != 0 {
		t.Error("0 has an inverse")
	}
}

// Any m shares give the secret, in any order, and so do more.
func TestAnyThresholdOfSharesCombines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 1, 48).Draw(t, "secret")
		n := rapid.IntRange(1, 20).Draw(t, "n")
		m := rapid.IntRange(1, n).Draw(t, "m")
		shares := root.SplitSecret(secret, n, m)
		order := rapid.Permutation(indexes(n)).Draw(t, "order")
		k := rapid.IntRange(m, n).Draw(t, "k")
		var xs []byte
		var ys [][]byte
		for _, i := range order[:k] {
			xs, ys = append(xs, byte(i+1)), append(ys, shares[i])
		}
		if got := root.CombineAt(xs, ys); !bytes.Equal(got, secret) {
			t.Fatalf("%d of %d shares (threshold %d) give %x, want %x", k, n, m, got, secret)
		}
	})
}

func indexes(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// Fewer shares than the threshold fit every secret equally well: over all
// polynomials that split may draw, what two of three needed shares show is
// spread evenly, the same for each secret.
func TestTooFewSharesSayNothing(t *testing.T) {
	for _, secret := range []byte{0, 1, 0x53, 0xff} {
		seen := make([]bool, 1<<16)
		for c1 := range 256 {
			for c2 := range 256 {
				coeff := []byte{secret, byte(c1), byte(c2)}
				view := int(root.Evaluate(coeff, 2))<<8 | int(root.Evaluate(coeff, 5))
				if seen[view] {
					t.Fatalf("secret %#x: shares 2 and 5 show %04x more often than once", secret, view)
				}
				seen[view] = true
			}
		}
	}
}
