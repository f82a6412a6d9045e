package tiles_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/tiles"
	"github.com/kluis-io/kluis/fault"
)

// A log is a source in memory, which a test signs and damages as it likes.
type log struct {
	audit.Tx // what is not asked for

	signer   note.Signer
	verifier note.Verifier

	mu      sync.Mutex
	records []audit.Record
	hashes  []tlog.Hash
	newest  audit.StoredCheckpoint
}

func newLog(t testing.TB, name string) *log {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	must(t, err)
	l := &log{}
	l.signer, err = note.NewSigner(skey)
	must(t, err)
	l.verifier, err = note.NewVerifier(vkey)
	must(t, err)
	l.newest.Serial = -1
	l.sign(t)
	return l
}

// grow adds entries until there are n, and signs them.
func (l *log) grow(t testing.TB, n int) {
	t.Helper()
	for i := len(l.records); i < n; i++ {
		body, err := audit.Encode(audit.Entry{Time: time.Unix(int64(i), 0), Operation: fmt.Sprint("op", i), Outcome: audit.Allowed})
		must(t, err)
		l.add(t, body)
	}
	l.sign(t)
}

func (l *log) add(t testing.TB, body []byte) {
	hashes, err := tlog.StoredHashes(int64(len(l.records)), body, l)
	must(t, err)
	l.hashes = append(l.hashes, hashes...)
	l.records = append(l.records, audit.Record{Sequence: int64(len(l.records)), Body: body})
}

func (l *log) ReadHashes(indexes []int64) (out []tlog.Hash, err error) {
	for _, i := range indexes {
		out = append(out, l.hashes[i])
	}
	return out, nil
}

func (l *log) root(t testing.TB) tlog.Hash {
	root, err := tlog.TreeHash(int64(len(l.records)), l)
	must(t, err)
	return root
}

func (l *log) sign(t testing.TB) {
	t.Helper()
	serial := l.newest.Serial + 1
	text := fmt.Sprintf("%s\n%d\n%s\nserial %d\n", l.signer.Name(), len(l.records), l.root(t), serial)
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	must(t, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = audit.StoredCheckpoint{Serial: serial, Note: signed}
}

func (l *log) View(_ context.Context, fn func(audit.Tx) error) error { return fn(l) }

func (l *log) NewestAuditCheckpoint() (audit.StoredCheckpoint, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest, true, nil
}

func (l *log) AuditRecords(from int64, limit int) ([]audit.Record, error) {
	return l.records[min(int(from), len(l.records)):min(int(from)+limit, len(l.records))], nil
}

// A place is a store in memory that fails when it is told to.
type place struct {
	mu      sync.Mutex
	records map[string][]byte
	writes  int
	fails   int  // the write that fails; 0 is none
	done    bool // though it was done
}

var errInjected = errors.New("injected")

func newPlace() *place { return &place{records: map[string][]byte{}} }

func (p *place) Read(_ context.Context, name string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records[name], nil
}

// write does what a change is, or fails.
func (p *place) write(change func()) error {
	p.writes++
	if p.writes != p.fails || p.done {
		change()
	}
	if p.writes == p.fails {
		return errInjected
	}
	return nil
}

func (p *place) Create(_ context.Context, name string, record []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.records[name]; ok {
		if !bytes.Equal(old, record) {
			return fault.New(fault.Conflict, "another")
		}
		return nil
	}
	return p.write(func() { p.records[name] = record })
}

func (p *place) Replace(_ context.Context, name string, decide func([]byte) ([]byte, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	record, err := decide(p.records[name])
	if err != nil || record == nil {
		return err
	}
	return p.write(func() { p.records[name] = record })
}

func (p *place) List(_ context.Context, prefix string, each func(string) error) error {
	p.mu.Lock()
	names := slices.Sorted(maps.Keys(p.records))
	p.mu.Unlock()
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			if err := each(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *place) Delete(_ context.Context, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.write(func() { delete(p.records, name) })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func publisher(l *log, p *place) *tiles.Publisher {
	return &tiles.Publisher{Name: "test", Log: l, Verifier: l.verifier, Store: p}
}

// verify returns what the offline verifier finds.
func verify(t testing.TB, l *log, p *place) *audit.Report {
	t.Helper()
	c, err := tiles.OpenCopy(t.Context(), p, l.verifier)
	must(t, err)
	r, err := audit.VerifyCopy(t.Context(), c, l.verifier, c.Checkpoint())
	must(t, err)
	return r
}

// sizes are those at which bundles and tiles of each level begin and end.
var sizes = []int{0, 1, 2, 255, 256, 257, 300, 511, 512, 600, 256 * 255, 256*257 + 3}

func TestPublish(t *testing.T) {
	l, p := newLog(t, "kluis/test"), newPlace()
	for _, n := range sizes {
		l.grow(t, n)
		for range 2 { // the second time there is nothing to do
			c, err := publisher(l, p).Publish(t.Context())
			must(t, err)
			if c.Size != int64(n) || c.Root != l.root(t) {
				t.Fatalf("%d entries: %+v is published", n, c)
			}
		}
		if r := verify(t, l, p); !r.OK() || r.Entries != int64(n) || r.Covered != int64(n) || r.Root != l.root(t) {
			t.Fatalf("%d entries: %+v", n, r)
		}
		others(t, l, p)
		if n == 600 {
			want := []string{
				"checkpoint", "tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/1", "tile/1/000.p/2",
				"tile/entries/000", "tile/entries/001", "tile/entries/002.p/88",
			}
			if got := slices.Sorted(maps.Keys(p.records)); !slices.Equal(got, want) {
				t.Errorf("published is %v; want %v", got, want)
			}
		}
	}
	if p.records["tile/2/000.p/1"] == nil || p.records["tile/1/000"] == nil || p.records["tile/entries/257.p/3"] == nil {
		t.Error("a tile or bundle of a log of three levels is missing")
	}
}

// others reads what is published as other people's software does: every leaf by its proof
// in tiles.
func others(t *testing.T, l *log, p *place) {
	t.Helper()
	n := int64(len(l.records))
	if n == 0 {
		return
	}
	reader := tlog.TileHashReader(tlog.Tree{N: n, Hash: l.root(t)}, tileReader{p})
	for _, seq := range []int64{0, n / 2, n - 1} {
		h, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, seq)})
		if err != nil || h[0] != tlog.RecordHash(l.records[seq].Body) {
			t.Errorf("entry %d of %d: %v", seq, n, err)
		}
	}
}

type tileReader struct{ *place }

func (tileReader) Height() int                     { return 8 }
func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
func (r tileReader) ReadTiles(all []tlog.Tile) (out [][]byte, err error) {
	for _, t := range all {
		record := r.records["tile/"+strings.TrimPrefix(t.Path(), "tile/8/")]
		if record == nil {
			return nil, errors.New("no " + t.Path())
		}
		out = append(out, record)
	}
	return out, nil
}

// A publication that ends at any write, done or not, leaves what verifies, and the next
// one goes on.
func TestCrash(t *testing.T) {
	l := newLog(t, "kluis/test")
	l.grow(t, 300)
	before := newPlace()
	_, err := publisher(l, before).Publish(t.Context())
	must(t, err)
	l.grow(t, 900)
	for fails := 1; ; fails++ {
		for _, done := range []bool{false, true} {
			p := newPlace()
			p.records, p.fails, p.done = maps.Clone(before.records), fails, done
			_, err := publisher(l, p).Publish(t.Context())
			if p.writes < fails {
				if fails < 8 {
					t.Errorf("it takes %d writes only", p.writes)
				}
				return
			}
			r := verify(t, l, p)
			if !r.OK() || r.Entries != 300 && r.Entries != 900 || (err == nil) != (r.Entries == 900) && !done {
				t.Errorf("write %d fails, done %t: %v, %+v", fails, done, err, r)
			}
			_, err = publisher(l, p).Publish(t.Context())
			if r := verify(t, l, p); err != nil || !r.OK() || r.Entries != 900 {
				t.Errorf("after write %d, done %t: %v, %+v", fails, done, err, r)
			}
		}
	}
}

// What was changed in the published copy is found, wherever it is.
func TestDamaged(t *testing.T) {
	l, p := newLog(t, "kluis/test"), newPlace()
	l.grow(t, 700)
	_, err := publisher(l, p).Publish(t.Context())
	must(t, err)
	for name, whole := range maps.Clone(p.records) {
		flipped := bytes.Clone(whole)
		flipped[len(flipped)/2] ^= 1
		for what, record := range map[string][]byte{"missing": nil, "flipped": flipped, "cut": whole[:len(whole)-1], "longer": append(bytes.Clone(whole), 0), "empty": {}} {
			if p.records[name] = record; record == nil {
				delete(p.records, name)
			}
			if name == tiles.CheckpointName && record == nil {
				if _, err := tiles.OpenCopy(t.Context(), p, l.verifier); err == nil {
					t.Error("a copy without a checkpoint opens")
				}
			} else if r := verify(t, l, p); r.OK() {
				t.Errorf("%s is %s, and nothing is found", name, what)
			}
		}
		p.records[name] = whole
	}
	if r := verify(t, l, p); !r.OK() {
		t.Errorf("%+v", r)
	}
	// Neither does a copy of an earlier time stand for the log that somebody has seen.
	seen := l.newest.Note
	older := newPlace()
	short := newLog(t, "kluis/test")
	short.signer, short.verifier = l.signer, l.verifier
	short.grow(t, 300)
	_, err = publisher(short, older).Publish(t.Context())
	must(t, err)
	c, err := tiles.OpenCopy(t.Context(), older, l.verifier)
	must(t, err)
	if r, err := audit.VerifyCopy(t.Context(), c, l.verifier, c.Checkpoint(), seen); err != nil || r.OK() {
		t.Errorf("%+v, %v", r, err)
	}
}

// A publisher goes on from nothing but a beginning of the log, and publishes no entry that
// was not signed.
func TestRefuses(t *testing.T) {
	for what, spoil := range map[string]func(l *log, p *place){
		"an entry that is not the one that was signed": func(l *log, _ *place) {
			l.records[610].Body = l.records[611].Body
		},
		"an entry that is missing": func(l *log, _ *place) { l.records = l.records[:650] },
		"an older database":        func(l *log, _ *place) { l.records = l.records[:400]; l.newest.Serial = 0; l.sign(t) },
		"another's checkpoint":     func(_ *log, p *place) { p.records["checkpoint"] = newLog(t, "kluis/other").newest.Note },
		"an unsigned checkpoint":   func(_ *log, p *place) { p.records["checkpoint"] = []byte("kluis/test\n0\n") },
		"another tile":             func(_ *log, p *place) { p.records["tile/0/002.p/188"] = []byte("x") },
		"a lost tile":              func(_ *log, p *place) { delete(p.records, "tile/1/000.p/1") },
		"another upper tile": func(_ *log, p *place) {
			p.records["tile/1/000.p/1"] = make([]byte, tlog.HashSize)
		},
		"another log of the same key": func(l *log, _ *place) {
			other := newLog(t, "kluis/test")
			other.signer, other.verifier = l.signer, l.verifier
			body, err := audit.Encode(audit.Entry{Time: time.Unix(1, 0), Operation: "other", Outcome: audit.Allowed})
			must(t, err)
			other.add(t, body)
			other.grow(t, 700)
			l.records, l.newest = other.records, other.newest
		},
	} {
		l, p := newLog(t, "kluis/test"), newPlace()
		l.grow(t, 500)
		_, err := publisher(l, p).Publish(t.Context())
		must(t, err)
		was := maps.Clone(p.records)
		l.grow(t, 700)
		spoil(l, p)
		checkpoint := p.records["checkpoint"]
		if _, err = publisher(l, p).Publish(t.Context()); fault.ReasonOf(err) != fault.Integrity || fault.As(err).Mend == "" {
			t.Errorf("%s: %v; want Integrity, and what to do", what, err)
		}
		if !bytes.Equal(p.records["checkpoint"], checkpoint) {
			t.Errorf("%s: it is published", what)
		}
		if strings.HasPrefix(what, "an entry") && !maps.EqualFunc(was, p.records, bytes.Equal) {
			t.Errorf("%s: tiles of it were written", what)
		}
	}
}

// Several that publish one log while it grows, as replicas may, come to one copy.
func TestSeveral(t *testing.T) {
	l, p := newLog(t, "kluis/test"), newPlace()
	var all sync.WaitGroup
	for n := 100; n <= 1000; n += 100 {
		l.grow(t, n)
		for range 3 {
			all.Go(func() {
				if _, err := publisher(l, p).Publish(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	if r := verify(t, l, p); !r.OK() || r.Entries != 1000 {
		t.Errorf("%+v", r)
	}
}

// Whatever lies in the place of a bundle is read, and is right only if it is the bundle.
func FuzzBundle(f *testing.F) {
	l, p := newLog(f, "kluis/test"), newPlace()
	l.grow(f, 3)
	if _, err := publisher(l, p).Publish(f.Context()); err != nil {
		f.Fatal(err)
	}
	whole := p.records["tile/entries/000.p/3"]
	f.Add(whole)
	f.Add([]byte{0, 0, 0, 0, 0, 0})
	f.Add([]byte{255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &place{records: maps.Clone(p.records)}
		p.records["tile/entries/000.p/3"] = b
		if r := verify(t, l, p); r.OK() != bytes.Equal(b, whole) {
			t.Errorf("%q: %+v", b, r)
		}
	})
}
