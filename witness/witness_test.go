package witness_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/objstore/local"
	"github.com/kluis-io/kluis/witness"
)

// A testRoot is a root of a name; equal names are equal roots.
type testRoot struct {
	id         string
	instance   string
	generation int
}

func (r testRoot) ID() string       { return r.id }
func (r testRoot) Instance() string { return r.instance }
func (r testRoot) Generation() int  { return r.generation }
func (r testRoot) Derive(purpose string) *envelope.Key {
	k := envelope.Key(sha256.Sum256([]byte(r.id + purpose)))
	return &k
}

var ours = testRoot{"root", "instance", 1}

const scope = "11111111-1111-4111-8111-111111111111"

func open(t *testing.T, s witness.Store, r testRoot, party string) *witness.Witness {
	t.Helper()
	w, err := witness.Open(t.Context(), s, r, party)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// always lets a checkpoint take any other's place.
func always([]byte) (bool, error) { return true, nil }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that an error is a clear refusal, with what to do.
func refused(t *testing.T, what string, err error) {
	t.Helper()
	if fault.ReasonOf(err) != fault.Integrity || fault.As(err).Mend == "" {
		t.Errorf("%s: %v; want Integrity and what to do", what, err)
	}
}

func TestHead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	w := open(t, local.RecordsIn(dir), ours, "vault")
	if note, err := w.Load(t.Context()); note != nil || err != nil {
		t.Errorf("a new witness: %q, %v", note, err)
	}
	must(t, w.Store(t.Context(), []byte("a note\n"), always))
	for _, w := range []*witness.Witness{w, open(t, local.RecordsIn(dir), ours, "vault")} {
		if note, err := w.Load(t.Context()); string(note) != "a note\n" || err != nil {
			t.Errorf("%q, %v", note, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "head.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// A record that is not one of this party's, as it was written, is refused.
func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	w := open(t, local.RecordsIn(dir), ours, "vault")
	must(t, w.Store(t.Context(), []byte("a note\n"), always))
	must(t, w.Advance(t.Context(), scope, 1, 1))
	path := filepath.Join(dir, "head.json")
	whole, err := os.ReadFile(path)
	must(t, err)
	mark, err := os.ReadFile(filepath.Join(dir, "scopes", scope+".json"))
	must(t, err)
	for name, c := range map[string]struct {
		head  []byte
		root  testRoot
		party string
	}{
		"empty":                {nil, ours, "vault"},
		"cut":                  {whole[:len(whole)/2], ours, "vault"},
		"followed by more":     {append(bytes.Clone(whole), "{}"...), ours, "vault"},
		"another checkpoint":   {bytes.Replace(whole, []byte("a note"), []byte("b note"), 1), ours, "vault"},
		"another restore":      {bytes.Replace(whole, []byte(`"checkpoint"`), []byte(`"restore": "ab", "checkpoint"`), 1), ours, "vault"},
		"a mark":               {mark, ours, "vault"},
		"of another root":      {whole, testRoot{"other", "instance", 1}, "vault"},
		"of another instance":  {whole, testRoot{"root", "elsewhere", 1}, "vault"},
		"of another party":     {whole, ours, "platform"},
		"of a newer root file": {bytes.Replace(whole, []byte(`"rootGeneration": 1`), []byte(`"rootGeneration": 2`), 1), ours, "vault"},
		"too long":             {bytes.Replace(whole, []byte("a note"), bytes.Repeat([]byte("n"), 200<<10), 1), ours, "vault"},
	} {
		must(t, os.WriteFile(path, c.head, 0o600))
		_, err := witness.Open(t.Context(), local.RecordsIn(dir), c.root, c.party)
		refused(t, name, err)
	}
	must(t, os.WriteFile(path, whole, 0o600))
	newer := open(t, local.RecordsIn(dir), testRoot{"root", "instance", 2}, "vault")
	must(t, newer.Store(t.Context(), []byte("a note\n"), always))
	_, err = witness.Open(t.Context(), local.RecordsIn(dir), ours, "vault")
	refused(t, "an older root", err)
}

func TestMarks(t *testing.T) {
	dir := t.TempDir()
	w := open(t, local.RecordsIn(dir), ours, "platform")
	for _, c := range []struct {
		what              string
		generation, epoch int64
		ok                bool
	}{
		{"a new scope", 1, 1, true},
		{"a change, told", 2, 2, true},
		{"and again", 2, 2, true},
		{"several changes at once, as after a crash", 2, 5, true},
		{"an older wrap", 2, 4, false},
		{"the key before it", 1, 1, false},
		{"another generation of the same epoch", 3, 5, false},
		{"an older generation under a new number", 1, 6, false},
		{"as it was", 2, 5, true},
		{"on", 3, 6, true},
	} {
		for _, w := range []*witness.Witness{w, open(t, local.RecordsIn(dir), ours, "platform")} {
			if err := w.Advance(t.Context(), scope, c.generation, c.epoch); (err == nil) != c.ok {
				t.Errorf("%s: %v", c.what, err)
			} else if err != nil {
				refused(t, c.what, err)
			}
		}
	}
	// One scope's mark is nobody else's.
	mark, err := os.ReadFile(filepath.Join(dir, "scopes", scope+".json"))
	must(t, err)
	other := strings.Replace(scope, "1", "2", 1)
	must(t, os.WriteFile(filepath.Join(dir, "scopes", other+".json"), mark, 0o600))
	refused(t, "another scope's mark", w.Advance(t.Context(), other, 3, 6))
	must(t, os.Remove(filepath.Join(dir, "scopes", scope+".json")))
	refused(t, "a lost mark", w.Advance(t.Context(), scope, 3, 6))
	if err := w.Advance(t.Context(), "../head", 3, 6); err == nil {
		t.Error("a scope that leaves the folder has a mark")
	}
}

// In the time of a declared restore the marks of before bind nobody, and new ones do.
func TestDeclaredRestore(t *testing.T) {
	dir := t.TempDir()
	w := open(t, local.RecordsIn(dir), ours, "platform")
	must(t, w.Store(t.Context(), []byte("a note\n"), always))
	must(t, w.Advance(t.Context(), scope, 1, 1))
	must(t, w.Advance(t.Context(), scope, 3, 7))

	restored := witness.Begin(local.RecordsIn(dir), ours, "platform")
	defer restored.Close()
	refused(t, "before it is stored", open(t, local.RecordsIn(dir), ours, "platform").Advance(t.Context(), scope, 2, 4))
	must(t, restored.Store(t.Context(), []byte("another\n"), always))
	w = open(t, local.RecordsIn(dir), ours, "platform")
	if w.Restore() == "" || w.Restore() != restored.Restore() {
		t.Errorf("%q; want %q", w.Restore(), restored.Restore())
	}
	must(t, w.Advance(t.Context(), scope, 2, 4))
	refused(t, "older than after the restore", w.Advance(t.Context(), scope, 1, 3))
	must(t, w.Advance(t.Context(), "a-scope-that-was-never-seen", 2, 4))
}

// Two processes that write to one witness never take a record back, and neither
// raises a false alarm: whoever comes later with what is older leaves it.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	ws := [3]*witness.Witness{}
	for i := range ws {
		ws[i] = open(t, local.RecordsIn(dir), ours, "platform")
	}
	must(t, ws[0].Advance(t.Context(), scope, 1, 1))
	newer := func(note string) func([]byte) (bool, error) {
		return func(old []byte) (bool, error) { return string(old) < note, nil }
	}
	const last = 200
	var next atomic.Int64
	next.Store(1)
	var all sync.WaitGroup
	for _, w := range ws {
		all.Go(func() {
			for n := next.Add(1); n <= last; n = next.Add(1) {
				note := fmt.Sprintf("%04d", n)
				if err := w.Store(t.Context(), []byte(note), newer(note)); err != nil {
					t.Error(err)
				}
				// Another may have told of a later epoch by now: then the database that this
				// one has read is old, and it reads it again.
				if err := w.Advance(t.Context(), scope, 1, n); err != nil && fault.ReasonOf(err) != fault.Integrity {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, w := range ws {
		if note, err := w.Load(t.Context()); string(note) != fmt.Sprintf("%04d", last) || err != nil {
			t.Errorf("head %q, %v", note, err)
		}
		must(t, w.Advance(t.Context(), scope, 1, last))
		refused(t, "an older epoch", w.Advance(t.Context(), scope, 1, last-1))
	}
	// A process that has not heard of a declared restore writes nothing into its time.
	restored := witness.Begin(local.RecordsIn(dir), ours, "platform")
	defer restored.Close()
	must(t, restored.Store(t.Context(), []byte("0001"), always))
	refused(t, "in another time", ws[0].Store(t.Context(), []byte("9999"), always))
}

// broken is a store that neither answers nor takes anything.
type broken struct{}

var errBroken = errors.New("no route to witness")

func (broken) Read(context.Context, string) ([]byte, error) { return nil, errBroken }
func (broken) Replace(context.Context, string, func([]byte) ([]byte, error)) error {
	return errBroken
}

// Silence is no refusal, and no consent.
func TestUnavailable(t *testing.T) {
	if _, err := witness.Open(t.Context(), broken{}, ours, "vault"); fault.ReasonOf(err) != fault.Unavailable || !errors.Is(err, errBroken) {
		t.Errorf("%v; want Unavailable", err)
	}
	w := witness.Begin(broken{}, ours, "vault")
	defer w.Close()
	for _, err := range []error{w.Store(t.Context(), nil, always), w.Advance(t.Context(), scope, 1, 1)} {
		if fault.ReasonOf(err) != fault.Unavailable {
			t.Errorf("%v; want Unavailable", err)
		}
	}
}

// Whatever lies in the place of a record is refused, and harms nothing.
func FuzzRecord(f *testing.F) {
	dir := f.TempDir()
	w, err := witness.Open(f.Context(), local.RecordsIn(dir), ours, "vault")
	if err != nil {
		f.Fatal(err)
	}
	if err := w.Store(f.Context(), []byte("a note\n"), always); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "head.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"version":1,"mac":"` + strings.Repeat("A", 43) + `=","rootGeneration":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := local.RecordsIn(t.TempDir())
		must(t, s.Replace(t.Context(), "head.json", func([]byte) ([]byte, error) { return b, nil }))
		w, err := witness.Open(t.Context(), s, ours, "vault")
		if err != nil {
			refused(t, "a made-up head", err)
			return
		}
		// Only other spellings of the same JSON are the same record.
		if note, err := w.Load(t.Context()); string(note) != "a note\n" || err != nil {
			t.Errorf("%q, %v", note, err)
		}
	})
}

// What an opening and a renewal cost a scope more, and what a change does.
func BenchmarkAdvance(b *testing.B) {
	for name, step := range map[string]int64{"unchanged": 0, "changed": 1} {
		b.Run(name, func(b *testing.B) {
			w, err := witness.Open(b.Context(), local.RecordsIn(b.TempDir()), ours, "platform")
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			epoch := int64(1)
			for b.Loop() {
				if err := w.Advance(b.Context(), scope, 1, epoch); err != nil {
					b.Fatal(err)
				}
				epoch += step
			}
		})
	}
}
