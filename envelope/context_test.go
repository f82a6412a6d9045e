package envelope_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/kluis-io/kluis/envelope"
	"pgregory.net/rapid"
)

// TestContextIsInjective draws pairs of field lists that are likely to collide if
// any can, and demands that equal encodings mean equal lists.
func TestContextIsInjective(t *testing.T) {
	field := rapid.OneOf(
		rapid.SampledFrom([]string{"", "\x00", "\x00\x00\x00\x01", "\x00\x00\x00\x01a", "a", "ab", "aba", "b"}),
		rapid.StringN(0, 6, 12),
	)
	list := rapid.Custom(func(t *rapid.T) []string {
		purpose := rapid.SampledFrom([]string{"a", "ab", "kluis/v1/a"}).Draw(t, "purpose")
		return append([]string{purpose}, rapid.SliceOfN(field, 0, 4).Draw(t, "fields")...)
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := list.Draw(t, "a"), list.Draw(t, "b")
		same := bytes.Equal(envelope.NewContext(a[0], a[1:]...).Bytes(), envelope.NewContext(b[0], b[1:]...).Bytes())
		if same != slices.Equal(a, b) {
			t.Fatalf("%q and %q: encodings equal is %v", a, b, same)
		}
	})
}

// TestContextDecodes reads fields back from the encoding alone, which is what
// makes it unambiguous.
func TestContextDecodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fields := rapid.SliceOfN(rapid.String(), 0, 6).Draw(t, "fields")
		b := envelope.NewContext("purpose", fields...).Bytes()
		var got []string
		for len(b) > 0 {
			n := int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
			got, b = append(got, string(b[4:4+n])), b[4+n:]
		}
		if want := append([]string{"purpose"}, fields...); !slices.Equal(got, want) {
			t.Fatalf("decoded %q, want %q", got, want)
		}
	})
}

func TestContextIsImmutable(t *testing.T) {
	scope := envelope.NewContext("purpose", "scope")
	before := scope.Bytes()
	a, b := scope.With("a"), scope.With("b")
	clear(a.Bytes())
	if bytes.Equal(a.Bytes(), b.Bytes()) || !bytes.Equal(scope.Bytes(), before) {
		t.Error("adding a field to one context changed another")
	}
	if scope.With("x", "y") != scope.With("x").WithBytes([]byte("y")) {
		t.Error("fields added at once and one by one differ")
	}
}
