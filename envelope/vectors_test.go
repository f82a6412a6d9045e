package envelope_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew, from the reference in reference_test.go")

// A vector is one stanza of a file in testdata: see testdata/README.md.
type vector map[string]string

func (v vector) bytes(t *testing.T, name string) []byte {
	t.Helper()
	s, ok := v[name]
	if !ok {
		t.Fatalf("the vector has no %q", name)
	}
	var b []byte
	var err error
	if name == "sealed" {
		b, err = base64.StdEncoding.DecodeString(s)
	} else {
		b, err = hex.DecodeString(s)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return b
}

func (v vector) key(t *testing.T, name string) *envelope.Key {
	t.Helper()
	k := envelope.Key(v.bytes(t, name))
	return &k
}

func (v vector) number(t *testing.T, name string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(v[name], 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func readVectors(t testing.TB, file string) []vector {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for stanza := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n\n") {
		v, last := vector{}, ""
		for line := range strings.SplitSeq(stanza, "\n") {
			if rest, ok := strings.CutPrefix(line, " "); ok {
				v[last] += rest
				continue
			}
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				t.Fatalf("%s: a line without a name: %q", file, line)
			}
			last = name
			v[name] = strings.TrimSpace(value)
		}
		all = append(all, v)
	}
	return all
}

// each runs f on every vector of a file.
func each(t *testing.T, file string, f func(t *testing.T, v vector)) {
	vectors := readVectors(t, file)
	for i, v := range vectors {
		t.Run(fmt.Sprintf("%d %s", i, v["comment"]), func(t *testing.T) { f(t, v) })
	}
}

func TestMessageVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/messages/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			v := readVectors(t, file)[0]
			key, ctx := v.key(t, "key"), envelope.RawContext(v.bytes(t, "context"))
			sealed := v.bytes(t, "sealed")
			if v["expect"] != "success" {
				checkRefused(t, v["expect"], key, ctx, sealed)
				return
			}
			plain, err := envelope.Open(key, ctx, sealed)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%x", sha256.Sum256(plain)); got != v["plaintext-sha256"] {
				t.Errorf("SHA-256 of the plaintext is %s, want %s", got, v["plaintext-sha256"])
			}
			if uint64(len(plain)) != v.number(t, "plaintext-size") {
				t.Errorf("plaintext of %d bytes, want %s", len(plain), v["plaintext-size"])
			}
			checkReaders(t, key, ctx, sealed, plain)
			salt := [envelope.SaltSize]byte(v.bytes(t, "salt"))
			if !bytes.Equal(envelope.SealWithSalt(key, ctx, salt, plain), sealed) {
				t.Error("sealed again with the same salt, the message differs")
			}
			var out bytes.Buffer
			w := envelope.NewWriterWithSalt(&out, key, ctx, salt)
			if _, err := w.Write(plain); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), sealed) {
				t.Error("written again with the same salt, the message differs")
			}
		})
	}
}

// checkRefused demands that every way of opening refuses the message, at the
// point that its class names.
func checkRefused(t *testing.T, class string, key *envelope.Key, ctx envelope.Context, sealed []byte) {
	t.Helper()
	_, err := envelope.Open(key, ctx, sealed)
	wantIntegrity(t, "Open", err)

	r, newErr := envelope.NewReader(bytes.NewReader(sealed), key, ctx)
	if class == "commitment" {
		wantIntegrity(t, "NewReader", newErr)
	} else if newErr == nil {
		_, err = io.Copy(io.Discard, r)
		wantIntegrity(t, "Reader", err)
	} else {
		wantIntegrity(t, "NewReader", newErr)
	}

	ra, newErr := envelope.NewReaderAt(bytes.NewReader(sealed), int64(len(sealed)), key, ctx)
	switch class {
	case "size", "commitment":
		wantIntegrity(t, "NewReaderAt", newErr)
	case "chunk":
		if newErr != nil {
			t.Fatalf("NewReaderAt: %v, although the header is good", newErr)
		}
		_, err = io.Copy(io.Discard, ra.Range(0, ra.Size()))
		wantIntegrity(t, "ReaderAt", err)
	default:
		t.Fatalf("unknown class %q", class)
	}
}

func wantIntegrity(t *testing.T, what string, err error) {
	t.Helper()
	if fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("%s: got error %v, want %v", what, err, fault.Integrity)
	}
}

func TestContextVectors(t *testing.T) {
	each(t, "testdata/contexts.txt", func(t *testing.T, v vector) {
		ctx := envelope.NewContext(v["purpose"])
		for name := range strings.FieldsSeq(v["fields"]) {
			kind, value, _ := strings.Cut(name, "=")
			switch kind {
			case "text":
				ctx = ctx.With(value)
			case "number":
				n, err := strconv.ParseUint(value, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				ctx = ctx.WithUint64(n)
			case "hex":
				b, err := hex.DecodeString(value)
				if err != nil {
					t.Fatal(err)
				}
				ctx = ctx.WithBytes(b)
			default:
				t.Fatalf("unknown field %q", name)
			}
		}
		if want := v.bytes(t, "encoded"); !bytes.Equal(ctx.Bytes(), want) {
			t.Errorf("got  %x\nwant %x", ctx.Bytes(), want)
		}
	})
}

func TestScopeKeyVectors(t *testing.T) {
	each(t, "testdata/scope-keys.txt", func(t *testing.T, v vector) {
		key, commitment := envelope.DeriveScopeKey(v.key(t, "customer"), v.key(t, "platform"),
			envelope.RawContext(v.bytes(t, "context")))
		if want := v.bytes(t, "scope-key"); !bytes.Equal(key[:], want) {
			t.Errorf("scope key %x, want %x", key[:], want)
		}
		if want := v.bytes(t, "commitment"); !commitment.Equal(envelope.Commitment(want)) {
			t.Errorf("commitment %x, want %x", commitment, want)
		}
	})
}

func TestRecordVectors(t *testing.T) {
	each(t, "testdata/records.txt", func(t *testing.T, v vector) {
		f := envelope.DeriveFolder(v.key(t, "namespace"), v.bytes(t, "folder"), [envelope.SaltSize]byte(v.bytes(t, "salt")))
		if _, ok := v["lookup"]; ok {
			if got := f.LookupMAC(v["kind"], v["name"]); !bytes.Equal(got[:], v.bytes(t, "lookup")) {
				t.Errorf("look-up code %x, want %s", got, v["lookup"])
			}
			return
		}
		record, err := f.OpenRecord(v.bytes(t, "entry"), v.number(t, "revision"), v.bytes(t, "sealed"))
		if v["expect"] != "success" {
			wantIntegrity(t, "OpenRecord", err)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := v.bytes(t, "record"); !bytes.Equal(record, want) {
			t.Errorf("record %x, want %x", record, want)
		}
	})
}

// TestVectorsAreCurrent keeps the reference and the files from drifting apart;
// with -update it writes the files.
func TestVectorsAreCurrent(t *testing.T) {
	files := generateVectors()
	if *update {
		for name, content := range files {
			if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, content := range files {
		if b, err := os.ReadFile(name); err != nil || string(b) != content {
			t.Errorf("%s is not what the reference gives (%v): run go test -update", name, err)
		}
	}
	stored, err := filepath.Glob("testdata/messages/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stored {
		if _, ok := files[name]; !ok {
			t.Errorf("%s is no longer generated", name)
		}
	}
}

// checkReaders demands that every way of opening a good message gives plain.
func checkReaders(t *testing.T, key *envelope.Key, ctx envelope.Context, sealed, plain []byte) {
	t.Helper()
	for _, size := range []int{1000, envelope.ChunkSize, 3*envelope.ChunkSize + 7} {
		r, err := envelope.NewReader(bytes.NewReader(sealed), key, ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for p := make([]byte, size); ; {
			n, err := r.Read(p)
			got = append(got, p[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, plain) {
			t.Errorf("read %d bytes at a time, the plaintext differs", size)
		}
	}
	r, err := envelope.NewReader(bytes.NewReader(sealed), key, ctx)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if n, err := r.WriteTo(&out); err != nil || n != int64(len(plain)) || !bytes.Equal(out.Bytes(), plain) {
		t.Errorf("WriteTo gave %d bytes, error %v, want %d bytes", n, err, len(plain))
	}

	ra, err := envelope.NewReaderAt(bytes.NewReader(sealed), int64(len(sealed)), key, ctx)
	if err != nil {
		t.Fatal(err)
	}
	if ra.Size() != int64(len(plain)) {
		t.Fatalf("Size is %d, want %d", ra.Size(), len(plain))
	}
	edges := []int{0, 1, 100, len(plain) / 2, len(plain) - 1, len(plain), len(plain) + 1, len(plain) + 5*envelope.ChunkSize}
	for _, k := range []int{1, 2, 16, 33} { // first chunks, a run's end, the longest's end
		if k*envelope.ChunkSize <= len(plain)+1 {
			edges = append(edges, k*envelope.ChunkSize-1, k*envelope.ChunkSize, k*envelope.ChunkSize+1)
		}
	}
	for _, from := range edges {
		for _, to := range edges {
			if from < 0 || to < from {
				continue
			}
			want := plain[min(from, len(plain)):min(to, len(plain))]
			got, err := io.ReadAll(ra.Range(int64(from), int64(to-from)))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("range [%d, %d) gave %d bytes, error %v, want %d bytes", from, to, len(got), err, len(want))
			}
			p := make([]byte, to-from)
			n, err := ra.ReadAt(p, int64(from))
			if !bytes.Equal(p[:n], want) {
				t.Fatalf("ReadAt [%d, %d) gave %d bytes, want %d", from, to, n, len(want))
			}
			if short := n < len(p); short != (err == io.EOF) || (!short && err != nil) {
				t.Fatalf("ReadAt [%d, %d) gave %d bytes and error %v", from, to, n, err)
			}
		}
	}
}

func stanza(lines ...string) string {
	var b strings.Builder
	for i := 0; i < len(lines); i += 2 {
		name, value := lines[i], lines[i+1]
		if name != "sealed" {
			b.WriteString(strings.TrimSuffix(name+": "+value, " ") + "\n")
			continue
		}
		b.WriteString(name + ":\n")
		for chunk := range slices.Chunk([]byte(value), 76) {
			b.WriteString(" " + string(chunk) + "\n")
		}
	}
	return b.String()
}
