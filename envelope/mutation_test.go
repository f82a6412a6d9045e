package envelope_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/effort"
)

var mutations = flag.Int("mutations", effort.Of(5_000, 50_000, 1_000_000), "how many random mutations TestRandomMutations tries")

// tampered demands that no way of opening accepts sealed, that each reports an
// integrity failure, and that nothing leaves but a beginning of plain.
func tampered(t interface {
	Helper()
	Errorf(string, ...any)
}, what string, key *envelope.Key, ctx envelope.Context, sealed, plain []byte) {
	t.Helper()
	check := func(how string, got []byte, err error) {
		t.Helper()
		if fault.ReasonOf(err) != fault.Integrity {
			t.Errorf("%s: %s gave error %v, want %v", what, how, err, fault.Integrity)
		}
		if !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: %s let other bytes out", what, how)
		}
	}
	got, err := envelope.Open(key, ctx, sealed)
	check("Open", got, err)
	if got != nil {
		t.Errorf("%s: Open returned bytes beside its error", what)
	}
	r, err := envelope.NewReader(bytes.NewReader(sealed), key, ctx)
	got = nil
	if err == nil {
		got, err = io.ReadAll(r)
	}
	check("Reader", got, err)
	ra, err := envelope.NewReaderAt(bytes.NewReader(sealed), int64(len(sealed)), key, ctx)
	got = nil
	if err == nil {
		got, err = io.ReadAll(ra.Range(0, ra.Size()))
	}
	check("ReaderAt", got, err)
}

// TestMutationSweep tries every kind of damage at every place where the format
// changes.
func TestMutationSweep(t *testing.T) {
	for _, n := range []int{0, 1, 100, 16383, 16384, 16385, 32768, 49153} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			plain := pattern("plain", n)
			sealed := envelope.Seal(testKey, testCtx, plain)
			tries := 0
			try := func(what string, b []byte) {
				if bytes.Equal(b, sealed) {
					return
				}
				tries++
				tampered(t, what, testKey, testCtx, b, plain)
			}
			for i := range sealed {
				at := (i - envelope.HeaderSize) % sealedChunk
				edge := i < envelope.HeaderSize+2 || at < 2 || at >= envelope.ChunkSize-2 || i >= len(sealed)-18
				if edge || len(sealed) < 300 || i%1999 == 0 {
					b := bytes.Clone(sealed)
					b[i] ^= 1 << (i % 8)
					try(fmt.Sprintf("bit flipped in byte %d", i), b)
				}
			}
			var chunks [][]byte
			header := sealed[:envelope.HeaderSize]
			chunks = slices.Collect(slices.Chunk(sealed[envelope.HeaderSize:], sealedChunk))
			join := func(chunks ...[]byte) []byte { return slices.Concat(slices.Insert(chunks, 0, header)...) }
			for cut := range len(sealed) {
				at := (cut - envelope.HeaderSize) % sealedChunk
				if len(sealed) < 300 || cut < 80 || at < 18 || at > sealedChunk-18 || cut%4001 == 0 {
					try(fmt.Sprintf("cut to %d bytes", cut), sealed[:cut:cut])
				}
			}
			for _, k := range []int{1, 15, 16, 17, 100, sealedChunk} {
				try(fmt.Sprintf("%d zeros added", k), append(bytes.Clone(sealed), make([]byte, k)...))
			}
			for i := range chunks {
				try(fmt.Sprintf("chunk %d left out", i), join(slices.Delete(slices.Clone(chunks), i, i+1)...))
				try(fmt.Sprintf("chunk %d twice", i), join(slices.Insert(slices.Clone(chunks), i, chunks[i])...))
				try(fmt.Sprintf("chunk %d again at the end", i), join(append(slices.Clone(chunks), chunks[i])...))
				for j := range i {
					c := slices.Clone(chunks)
					c[i], c[j] = c[j], c[i]
					try(fmt.Sprintf("chunks %d and %d exchanged", i, j), join(c...))
				}
			}
			again := envelope.Seal(testKey, testCtx, plain)
			try("header of another message", slices.Concat(again[:envelope.HeaderSize], sealed[envelope.HeaderSize:]))
			try("salt of another message", slices.Concat(again[:envelope.SaltSize], sealed[envelope.SaltSize:]))
			if tries < 150 {
				t.Errorf("only %d mutations", tries)
			}
		})
	}
}

// TestRandomMutations changes random parts of small and large messages:
// go test -run RandomMutations -mutations 1000000.
func TestRandomMutations(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	type message struct{ plain, sealed []byte }
	var messages []message
	for _, n := range []int{0, 1, 40, 300, 2000} {
		for range 4 {
			plain := pattern(fmt.Sprint(rng.Uint64()), n)
			messages = append(messages, message{plain, envelope.Seal(testKey, testCtx, plain)})
		}
	}
	large := pattern("large", 33000)
	messages = append(messages, message{large, envelope.Seal(testKey, testCtx, large)})
	for i := range *mutations {
		m := messages[rng.IntN(len(messages))]
		other := messages[rng.IntN(len(messages))].sealed
		b := bytes.Clone(m.sealed)
		switch rng.IntN(5) {
		case 0:
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		case 1:
			b = b[:rng.IntN(len(b))]
		case 2: // a piece moved within the message
			from, to := rng.IntN(len(b)), rng.IntN(len(b))
			copy(b[to:], m.sealed[from:])
		case 3: // a piece of another message
			copy(b[rng.IntN(len(b)):], other[rng.IntN(len(other)):])
		case 4: // another message's rest
			b = append(b[:rng.IntN(len(b))], other[rng.IntN(len(other)):]...)
		}
		if slices.ContainsFunc(messages, func(m message) bool { return bytes.Equal(m.sealed, b) }) {
			continue
		}
		tampered(t, fmt.Sprintf("mutation %d", i), testKey, testCtx, b, m.plain)
		if t.Failed() {
			return
		}
	}
	effort.Proof(t, "mutations", *mutations, "accepted", 0)
}

// TestSwapBetweenPlaces seals a key for every place among many and tries each at
// every other.
func TestSwapBetweenPlaces(t *testing.T) {
	type place struct {
		key *envelope.Key
		ctx envelope.Context
	}
	var places []place
	for i := range 20 {
		key := envelope.NewKey()
		scope := envelope.NewContext("kluis/v1/dek", "instance", "tenant", fmt.Sprintf("scope-%d", i))
		shared := envelope.NewContext("kluis/v1/dek", "instance", "tenant", fmt.Sprint(i/5), fmt.Sprint(i%5))
		places = append(places,
			place{key, scope}, place{key, scope.WithUint64(1)}, place{key, scope.WithUint64(2)},
			place{testKey, shared}, place{testKey, shared.With("")},
		)
	}
	var sealed [][]byte
	deks := make([]*envelope.Key, len(places))
	for i, p := range places {
		deks[i] = envelope.NewKey()
		sealed = append(sealed, envelope.Seal(p.key, p.ctx, deks[i][:]))
	}
	for i, p := range places {
		for j := range places {
			got, err := envelope.Open(p.key, p.ctx, sealed[j])
			if i == j {
				if err != nil || !bytes.Equal(got, deks[i][:]) {
					t.Errorf("place %d does not open its own: %v", i, err)
				}
			} else if fault.ReasonOf(err) != fault.Integrity || got != nil {
				t.Errorf("place %d and what was sealed for %d: %v", i, j, err)
			}
		}
	}
}

// TestStreamProperties writes in random portions, reads in random portions and
// ranges, and damages a random byte.
func TestStreamProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(0, 300), rapid.SampledFrom(boundaries), rapid.IntRange(0, 100_000)).Draw(t, "size")
		plain := pattern("plain", n)
		ctx := envelope.NewContext(rapid.StringN(1, 20, 40).Draw(t, "purpose"), rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "fields")...)
		var out bytes.Buffer
		w := envelope.NewWriter(&out, testKey, ctx)
		for rest := plain; len(rest) > 0; {
			k := min(rapid.IntRange(1, 50_000).Draw(t, "portion"), len(rest))
			if _, err := w.Write(rest[:k]); err != nil {
				t.Fatal(err)
			}
			rest = rest[k:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		sealed := out.Bytes()
		if got, err := envelope.Open(testKey, ctx, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("Open: %d bytes, error %v", len(got), err)
		}
		ra, err := envelope.NewReaderAt(bytes.NewReader(sealed), int64(len(sealed)), testKey, ctx)
		if err != nil {
			t.Fatal(err)
		}
		from := rapid.IntRange(0, n).Draw(t, "from")
		to := rapid.IntRange(from, n).Draw(t, "to")
		r := ra.Range(int64(from), int64(to-from))
		var got []byte
		for len(got) < to-from {
			p := make([]byte, rapid.IntRange(1, 40_000).Draw(t, "read"))
			k, err := r.Read(p)
			got = append(got, p[:k]...)
			if err != nil {
				break
			}
		}
		if !bytes.Equal(got, plain[from:to]) {
			t.Fatalf("range [%d, %d) gave %d bytes", from, to, len(got))
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "damaged")
		sealed[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		tampered(t, "damaged", testKey, ctx, sealed, plain)
	})
}
