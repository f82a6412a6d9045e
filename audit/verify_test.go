package audit_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/audit"
)

// sample returns a log of 41 entries under six checkpoints, all covered.
func sample(t *testing.T) (audit.Config, *memory) {
	t.Helper()
	m := &memory{}
	c := config(t, m)
	l := openLog(t, c)
	for _, n := range []int{1, 2, 5, 13, 20} {
		record(t, l, n)
		checkpoint(t, l)
	}
	if r := verify(t, c); !r.OK() || r.Covered != 41 {
		t.Fatalf("an untouched log: %+v", r)
	}
	return c, m
}

// Whatever is done to any single part of a covered log is found.
func TestEveryMutationIsFound(t *testing.T) {
	c, m := sample(t)
	outside := outsideOf(t, c)
	property := func(t *rapid.T) {
		changed := &memory{rows: m.clone()}
		mutated := slices.Clone(outside)
		switch rapid.SampledFrom([]string{"entry", "hash", "checkpoint", "outside"}).Draw(t, "part") {
		case "entry":
			changed.records = mutate(t, changed.records,
				func(r *audit.Record) *[]byte { return &r.Body },
				func(r *audit.Record, by int64) {
					if rapid.Bool().Draw(t, "time instead") {
						r.Time = r.Time.Add(time.Duration(by) * time.Microsecond)
					} else {
						r.Sequence += by
					}
				})
			slices.SortStableFunc(changed.records, func(a, b audit.Record) int { return int(a.Sequence - b.Sequence) })
		case "hash":
			changed.hashes = mutate(t, changed.hashes,
				func(h *audit.StoredHash) *[]byte { return &h.Hash },
				func(h *audit.StoredHash, by int64) { h.Index += by })
			slices.SortStableFunc(changed.hashes, func(a, b audit.StoredHash) int { return int(a.Index - b.Index) })
		case "checkpoint":
			changed.checkpoints = mutate(t, changed.checkpoints,
				func(c *audit.StoredCheckpoint) *[]byte { return &c.Note },
				func(c *audit.StoredCheckpoint, by int64) { c.Serial += by })
			slices.SortStableFunc(changed.checkpoints, func(a, b audit.StoredCheckpoint) int { return int(a.Serial - b.Serial) })
		case "outside":
			// Not the signature's last character, of which base64 ignores bits.
			mutated = change(t, mutated, len(mutated)-4)
		}
		r, err := audit.Verify(t.Context(), changed, c.Verifier, mutated)
		if err != nil {
			t.Fatal(err)
		}
		if r.OK() || len(r.Problems) == 0 {
			t.Fatalf("not found: %+v", r)
		}
	}
	for range 3 { // times rapid's hundred; ten thousand with -rapid.checks=3334
		rapid.Check(t, property)
	}
}

// A bit of an entry is changed, and it reads as an entry all the same, filed under the time
// that it names: nothing but its hash says that it is not the one that was written. All bytes
// of the newest entry are changed, and of each other every tenth.
func TestEveryByteOfAnEntryCounts(t *testing.T) {
	c, m := sample(t)
	outside := outsideOf(t, c)
	read := 0 // of the changed ones, as entries
	for i, rec := range m.records {
		step := 10
		if i == len(m.records)-1 {
			step = 1
		}
		of := 0
		for at := i % step; at < len(rec.Body); at += step {
			changed := &memory{rows: m.clone()}
			body := bytes.Clone(rec.Body)
			body[at] ^= 1
			changed.records[i].Body = body
			if e, err := audit.Parse(body); err == nil && e.Time.Equal(rec.Time) {
				of++
			}
			r, err := audit.Verify(t.Context(), changed, c.Verifier, outside)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(r.Problems, func(p audit.Problem) bool { return p.Part == audit.EntryPart && p.Number == rec.Sequence }) {
				t.Errorf("a changed bit of byte %d of entry %d is not found: %s\n%v", at, rec.Sequence, body, r.Problems)
			}
		}
		if of == 0 {
			t.Errorf("no changed entry %d reads as one: it proves nothing", rec.Sequence)
		}
		read += of
	}
	t.Logf("%d changed entries read as entries, and were found", read)
}

// mutate drops, changes, swaps, inserts, renumbers or cuts.
func mutate[T any](t *rapid.T, rows []T, body func(*T) *[]byte, renumber func(*T, int64)) []T {
	i := rapid.IntRange(0, len(rows)-1).Draw(t, "row")
	switch rapid.SampledFrom([]string{"drop", "modify", "swap", "insert", "renumber", "truncate"}).Draw(t, "how") {
	case "drop":
		return slices.Delete(rows, i, i+1)
	case "modify":
		*body(&rows[i]) = change(t, *body(&rows[i]), len(*body(&rows[i])))
	case "swap":
		j := rapid.IntRange(0, len(rows)-1).Filter(func(j int) bool { return j != i }).Draw(t, "with")
		a, b := body(&rows[i]), body(&rows[j])
		if bytes.Equal(*a, *b) {
			t.Skip("nothing is changed")
		}
		*a, *b = *b, *a
	case "insert":
		extra := rows[i]
		renumber(&extra, int64(len(rows)))
		return append(rows, extra)
	case "renumber":
		renumber(&rows[i], rapid.SampledFrom([]int64{-1000, 1000, 1 << 30}).Draw(t, "by"))
	case "truncate":
		return rows[:i]
	}
	return rows
}

// change flips a bit, cuts or extends bytes, among the first n.
func change(t *rapid.T, b []byte, n int) []byte {
	b = slices.Clone(b)
	at := rapid.IntRange(0, n-1).Draw(t, "at")
	switch rapid.SampledFrom([]string{"flip", "cut", "extend"}).Draw(t, "bytes") {
	case "flip":
		b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	case "cut":
		return slices.Delete(b, at, at+1)
	case "extend":
		return slices.Insert(b, at, rapid.Byte().Draw(t, "byte"))
	}
	return b
}

// The report names what is wrong.
func TestReportSaysWhich(t *testing.T) {
	c, m := sample(t)
	outside := outsideOf(t, c)
	other, _, err := audit.CreateSigner(filepath.Join(t.TempDir(), "key"), "test.example/log")
	if err != nil {
		t.Fatal(err)
	}
	alter := func(b []byte) []byte { return bytes.Replace(b, []byte("allowed"), []byte("denied"), 1) }
	for _, test := range []struct {
		name    string
		damage  func(*memory)
		outside []byte
		want    []audit.Problem // their texts are looked for in the report's
		found   int
	}{
		{"an entry", func(m *memory) { m.records[7].Body = alter(m.records[7].Body) }, outside, []audit.Problem{
			{Part: audit.EntryPart, Number: 7, Text: "differ"},
			{Part: audit.CheckpointPart, Number: 3, Text: "the first 8 entries are not those that it signed; the first 3 are as signed"},
			{Part: audit.OutsidePart, Number: 5, Text: "the first 41"},
		}, 5},
		{"an entry and all its hashes", func(m *memory) {
			*m = *rewritten(t, m, 7, alter)
		}, outside, []audit.Problem{
			{Part: audit.CheckpointPart, Number: 3, Text: "the first 8 entries are not those that it signed; the first 3 are as signed"},
		}, 4},
		{"a missing entry", func(m *memory) { m.records = slices.Delete(m.records, 7, 8) }, outside, []audit.Problem{
			{Part: audit.EntryPart, Number: 7, Text: "missing"},
		}, 1},
		{"an inner hash", func(m *memory) { m.hashes[tlog.StoredHashIndex(2, 3)].Hash = make([]byte, 32) }, outside, []audit.Problem{
			{Part: audit.HashPart, Number: tlog.StoredHashIndex(2, 3), Text: "does not follow"},
			{Part: audit.HashPart, Number: tlog.StoredHashIndex(3, 1), Text: "does not follow"},
		}, 2},
		{"a missing hash", func(m *memory) { m.hashes = slices.Delete(m.hashes, 2, 3) }, outside, []audit.Problem{
			{Part: audit.HashPart, Number: 2, Text: "missing"},
		}, 1},
		{"an entry far outside", func(m *memory) {
			m.records = append(m.records, audit.Record{Sequence: math.MaxInt64, Time: m.records[0].Time, Body: m.records[0].Body})
		}, outside, []audit.Problem{
			{Part: audit.EntryPart, Number: 41, Text: "missing"},
			{Part: audit.EntryPart, Number: math.MaxInt64, Text: "not in its place"},
		}, 2},
		{"a missing checkpoint", func(m *memory) { m.checkpoints = slices.Delete(m.checkpoints, 2, 3) }, outside, []audit.Problem{
			{Part: audit.CheckpointPart, Number: 2, Text: "missing"},
		}, 1},
		{"the newest checkpoint", func(m *memory) { m.checkpoints = m.checkpoints[:5] }, outside, []audit.Problem{
			{Part: audit.OutsidePart, Number: 5, Text: "newer than the newest"},
		}, 1},
		{"a checkpoint by another key of that name", func(m *memory) {
			n, err := note.Sign(&note.Note{Text: strings.SplitAfter(string(m.checkpoints[4].Note), "serial 4\n")[0]}, other)
			if err != nil {
				t.Fatal(err)
			}
			m.checkpoints[4].Note = n
		}, outside, []audit.Problem{
			{Part: audit.CheckpointPart, Number: 4, Text: "verif"},
			{Part: audit.CheckpointPart, Number: 4, Text: "missing or not as it was signed"},
		}, 2},
		{"a cut of everything", func(m *memory) {
			m.records, m.hashes, m.checkpoints = m.records[:8], m.hashes[:tlog.StoredHashCount(8)], m.checkpoints[:4]
		}, outside, []audit.Problem{
			{Part: audit.OutsidePart, Number: 5, Text: "covers 41 entries, and there are 8"},
		}, 2},
		{"a cut of everything, nothing outside", func(m *memory) {
			m.records, m.hashes, m.checkpoints = m.records[:8], m.hashes[:tlog.StoredHashCount(8)], m.checkpoints[:4]
		}, nil, nil, 0}, // nobody can know: the report says that nothing outside was given
	} {
		t.Run(test.name, func(t *testing.T) {
			damaged := &memory{rows: m.clone()}
			test.damage(damaged)
			r, err := audit.Verify(t.Context(), damaged, c.Verifier, test.outside)
			if err != nil {
				t.Fatal(err)
			}
			if r.Found != test.found || r.OK() != (test.found == 0) || r.Outside != (test.outside != nil) {
				t.Errorf("%d problems, want %d: %v", r.Found, test.found, r.Problems)
			}
			for _, want := range test.want {
				if !slices.ContainsFunc(r.Problems, func(p audit.Problem) bool {
					return p.Part == want.Part && p.Number == want.Number && strings.Contains(p.Text, want.Text)
				}) {
					t.Errorf("no problem %v among %v", want, r.Problems)
				}
			}
		})
	}
}

// rewritten is what an insider leaves who alters an entry and computes all
// hashes anew, but has not the key.
func rewritten(t *testing.T, m *memory, at int, alter func([]byte) []byte) *memory {
	out := &memory{}
	for i, r := range m.records {
		body := r.Body
		if i == at {
			body = alter(body)
		}
		e, err := audit.Parse(body)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Update(t.Context(), func(tx audit.Tx) error { return tx.AppendAudit(e) }); err != nil {
			t.Fatal(err)
		}
	}
	out.checkpoints = m.checkpoints
	return out
}

func FuzzOpenCheckpoint(f *testing.F) {
	s, v, err := audit.CreateSigner(filepath.Join(f.TempDir(), "key"), "test.example/log")
	if err != nil {
		f.Fatal(err)
	}
	l, err := audit.Open(f.Context(), audit.Config{Store: &memory{}, Signer: s, Verifier: v, CheckpointPath: filepath.Join(f.TempDir(), "o"), Interval: -1})
	if err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(l.CheckpointPath)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	text, _, _ := strings.Cut(string(b), "\n\n")
	f.Add([]byte(text + "\n"))
	// The signature would stop everything but the seed: the fuzzer's text is
	// signed here, and must be taken only in its one spelling.
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := audit.OpenCheckpoint(text, v); err == nil && !bytes.Equal(text, b) {
			t.Errorf("an unsigned note was taken: %q", text)
		}
		signed, err := note.Sign(&note.Note{Text: string(text)}, s)
		if err != nil {
			return
		}
		c, err := audit.OpenCheckpoint(signed, v)
		if err == nil && (c.Size < 0 || c.Serial < 0 || !strings.HasPrefix(string(text), "test.example/log\n")) {
			t.Errorf("%q was taken as %+v", text, c)
		}
	})
}
