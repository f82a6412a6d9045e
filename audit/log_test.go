package audit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

// keys makes a signing key in a folder of its own.
func keys(t *testing.T) (note.Signer, note.Verifier) {
	t.Helper()
	s, v, err := audit.CreateSigner(filepath.Join(t.TempDir(), "key"), "test.example/log")
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

// config returns that of a new log without a ticker.
func config(t *testing.T, store audit.Store) audit.Config {
	t.Helper()
	s, v := keys(t)
	return audit.Config{Store: store, Signer: s, Verifier: v, CheckpointPath: filepath.Join(t.TempDir(), "outside"), Interval: -1}
}

func openLog(t *testing.T, c audit.Config) *audit.Log {
	t.Helper()
	l, err := audit.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func record(t *testing.T, l *audit.Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Record(t.Context(), audit.Entry{Operation: "test/act", Outcome: audit.Allowed, Resource: fmt.Sprint("/things/", i)}); err != nil {
			t.Fatal(err)
		}
	}
}

func checkpoint(t *testing.T, l *audit.Log) audit.Checkpoint {
	t.Helper()
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func outsideOf(t *testing.T, c audit.Config) []byte {
	t.Helper()
	b, err := os.ReadFile(c.CheckpointPath)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func verify(t *testing.T, c audit.Config) *audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), c.Store, c.Verifier, outsideOf(t, c))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLog(t *testing.T) {
	m := &memory{}
	c := config(t, m)
	l := openLog(t, c)
	record(t, l, 3)
	if got := checkpoint(t, l); got.Size != 3 || got.Serial != 1 {
		t.Errorf("checkpoint %+v, want number 1 of size 3", got)
	}
	if got := checkpoint(t, l); got.Serial != 1 {
		t.Errorf("nothing was added and there is a new checkpoint: %+v", got)
	}
	record(t, l, 2)
	r := verify(t, c)
	if !r.OK() || r.Entries != 5 || r.Covered != 3 || r.Checkpoints != 3 || !r.Outside || r.First.After(r.Last) {
		t.Errorf("two entries are not yet covered: %+v", r)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, c); !r.OK() || r.Covered != 5 {
		t.Errorf("after closing: %+v", r)
	}
	head, err := audit.OpenCheckpoint(outsideOf(t, c), c.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tlog.TreeHash(5, tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, tlog.Hash(m.hashes[i].Hash))
		}
		return out, nil
	}))
	if err != nil || head.Root != want {
		t.Errorf("root %s, %v; tlog says %s", head.Root, err, want)
	}

	l = openLog(t, c)
	record(t, l, 1)
	if got := checkpoint(t, l); got.Size != 6 || got.Serial != 3 {
		t.Errorf("after a restart: %+v, want number 3 of size 6", got)
	}
}

// The ticker covers what was added within its interval.
func TestTicker(t *testing.T) {
	c := config(t, &memory{})
	c.Interval = 0
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, c)
		defer l.Close()
		record(t, l, 2)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if r := verify(t, c); r.Covered != 2 {
			t.Errorf("covered %d of 2 after a second", r.Covered)
		}
	})
}

func TestConcurrent(t *testing.T) {
	c := config(t, &memory{})
	c.Interval = time.Millisecond
	l := openLog(t, c)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				if err := l.Record(context.Background(), audit.Entry{Operation: "test/act", Outcome: audit.Allowed}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			if _, err := l.Checkpoint(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, c); !r.OK() || r.Covered != 200 {
		t.Errorf("%+v", r)
	}
}

func TestRecordFailsClosed(t *testing.T) {
	m := &memory{}
	l := openLog(t, config(t, m))
	m.fail = errDisk
	err := l.Record(t.Context(), audit.Entry{Operation: "test/act", Outcome: audit.Allowed})
	if fault.ReasonOf(err) != fault.AuditFailed {
		t.Errorf("a failing store: %v; want AuditFailed", err)
	}
	m.fail = nil
	if err := l.Record(t.Context(), audit.Entry{Operation: "test/act"}); fault.ReasonOf(err) != fault.AuditFailed {
		t.Errorf("an entry without an outcome: %v; want AuditFailed", err)
	}
	if len(m.records) != 0 {
		t.Errorf("%d entries of failed records", len(m.records))
	}
}

// A checkpoint that cannot be written outside is an error, and is written there
// once that is possible, without a new one.
func TestCheckpointOutsideFails(t *testing.T) {
	m := &memory{}
	c := config(t, m)
	l := openLog(t, c)
	record(t, l, 1)
	dir := filepath.Dir(c.CheckpointPath)
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Checkpoint(t.Context()); err == nil {
		t.Error("no error though the folder is gone")
	}
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, c); !r.OK() {
		t.Errorf("in the database and not outside, as after a crash: %+v", r)
	}
	openLog(t, c) // as after a crash
	if got, err := audit.OpenCheckpoint(outsideOf(t, c), c.Verifier); err != nil || got.Serial != 1 {
		t.Errorf("outside: %+v, %v; want number 1", got, err)
	}
	if got := checkpoint(t, l); got.Serial != 1 {
		t.Errorf("%+v, want number 1", got)
	}
}

// Several processes append to one log and sign its checkpoints: the numbers have no
// gap, what lies outside never goes back, and whoever looks finds nothing wrong.
func TestSeveralProcesses(t *testing.T) {
	m := &memory{}
	c := config(t, m)
	const processes, each = 3, 40
	var all sync.WaitGroup
	for range processes {
		all.Go(func() {
			l, err := audit.Open(t.Context(), c) // they begin it together, too
			if err != nil {
				t.Error(err)
				return
			}
			var seen int64
			for range each {
				if err := l.Record(t.Context(), audit.Entry{Operation: "test/act", Outcome: audit.Allowed, Resource: "/"}); err != nil {
					t.Error(err)
				}
				if _, err := l.Checkpoint(t.Context()); err != nil {
					t.Error(err)
				}
				outside, err := audit.OpenCheckpoint(outsideOf(t, c), c.Verifier)
				if err != nil || outside.Serial < seen {
					t.Errorf("outside went back from number %d to %d: %v", seen, outside.Serial, err)
				}
				seen = outside.Serial
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if r := verify(t, c); !r.OK() || r.Covered != processes*each {
		t.Errorf("%+v", r)
	}
	openLog(t, c)
}

// A process that finds the log changed below what it has signed itself does not go on,
// though another one has signed that.
func TestAnotherProcessCannotRewrite(t *testing.T) {
	m := &memory{}
	c := config(t, m)
	ours := openLog(t, c)
	record(t, ours, 3)
	checkpoint(t, ours)
	old := m.clone()
	record(t, ours, 3)
	checkpoint(t, ours)
	m.rows = old
	theirs := c
	theirs.CheckpointPath = filepath.Join(t.TempDir(), "outside")
	theirs.Restored = true // which this process has heard nothing of
	l := openLog(t, theirs)
	record(t, l, 9)
	checkpoint(t, l)
	record(t, l, 1)
	checkpoint(t, l)
	if _, err := ours.Checkpoint(t.Context()); fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("%v; want Integrity", err)
	}
}

func TestStartRefuses(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, c audit.Config, m *memory, old rows){
		"an older database":     func(t *testing.T, c audit.Config, m *memory, old rows) { m.rows = old },
		"an emptied database":   func(t *testing.T, c audit.Config, m *memory, old rows) { m.rows = rows{} },
		"no checkpoints":        func(t *testing.T, c audit.Config, m *memory, old rows) { m.checkpoints = nil },
		"fewer entries":         func(t *testing.T, c audit.Config, m *memory, old rows) { m.records = m.records[:8] },
		"another tree":          func(t *testing.T, c audit.Config, m *memory, old rows) { m.hashes[14].Hash = make([]byte, 32) },
		"a hash gone":           func(t *testing.T, c audit.Config, m *memory, old rows) { m.hashes = m.hashes[:14] },
		"no checkpoint outside": func(t *testing.T, c audit.Config, m *memory, old rows) { os.Remove(c.CheckpointPath) },
		"an empty one outside":  func(t *testing.T, c audit.Config, m *memory, old rows) { os.WriteFile(c.CheckpointPath, nil, 0o644) },
		"an unsigned one outside": func(t *testing.T, c audit.Config, m *memory, old rows) {
			os.WriteFile(c.CheckpointPath, []byte("test.example/log\n0\nAAAA\nserial 0\n"), 0o644)
		},
		"another's key":                 func(t *testing.T, c audit.Config, m *memory, old rows) { other(t, c) },
		"an unsigned one as newest":     func(t *testing.T, c audit.Config, m *memory, old rows) { m.checkpoints[2].Note = []byte("x") },
		"an old one under a new number": func(t *testing.T, c audit.Config, m *memory, old rows) { m.checkpoints[2].Note = m.checkpoints[1].Note },
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{}
			c := config(t, m)
			l := openLog(t, c)
			record(t, l, 5)
			checkpoint(t, l)
			old := m.clone()
			record(t, l, 5)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, c, m, old)
			_, err := audit.Open(t.Context(), c)
			if fault.ReasonOf(err) != fault.Integrity || fault.As(err).Mend == "" {
				t.Errorf("%v; want Integrity and what to do", err)
			}
		})
	}
}

// other puts another log's checkpoint outside.
func other(t *testing.T, c audit.Config) {
	o := config(t, &memory{})
	openLog(t, o)
	if err := os.WriteFile(c.CheckpointPath, outsideOf(t, o), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDeclaredRestore(t *testing.T) {
	m := &memory{}
	c := config(t, m)
	l := openLog(t, c)
	record(t, l, 5)
	checkpoint(t, l)
	old := m.clone()
	record(t, l, 5)
	checkpoint(t, l)
	m.rows = old
	if _, err := audit.Open(t.Context(), c); fault.ReasonOf(err) != fault.Integrity {
		t.Fatalf("an undeclared restore: %v", err)
	}
	c.Restored = true
	l = openLog(t, c)
	got, err := l.Entries(t.Context(), audit.Query{NewestFirst: true, Limit: 1})
	if err != nil || len(got) != 1 || got[0].Operation != "audit/restore" || got[0].Sequence != 5 {
		t.Errorf("the restore is not recorded: %+v, %v", got, err)
	}
	c.Restored = false
	openLog(t, c)
	if r := verify(t, c); !r.OK() || r.Covered != 6 {
		t.Errorf("after the restore: %+v", r)
	}
	// A restore is no excuse for a database that contradicts itself.
	m.hashes[0].Hash = make([]byte, 32)
	m.hashes[2].Hash = make([]byte, 32)
	m.hashes[6].Hash = make([]byte, 32)
	c.Restored = true
	if _, err := audit.Open(t.Context(), c); fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("a restored log whose tree is not the signed one: %v", err)
	}
}

// Old checkpoints thin out, and what is left is still complete by the rule.
func TestRetention(t *testing.T) {
	m := &memory{}
	c := config(t, m)
	l := openLog(t, c)
	for range 300 {
		record(t, l, 1)
		checkpoint(t, l)
	}
	r := verify(t, c)
	if !r.OK() || len(m.checkpoints) > 70 || len(m.checkpoints) < 64 {
		t.Errorf("%d checkpoints kept; %+v", len(m.checkpoints), r)
	}
	if first := m.checkpoints[0].Serial; first != 0 {
		t.Errorf("the oldest kept is number %d", first)
	}
}

func TestSignerFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	s, v, err := audit.CreateSigner(path, "kluis.example/vault")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, %v", info.Mode().Perm(), err)
	}
	if _, _, err := audit.CreateSigner(path, "again"); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a signing key was replaced: %v", err)
	}
	s2, v2, err := audit.LoadSigner(path)
	if err != nil || s2.Name() != s.Name() || s2.KeyHash() != s.KeyHash() || v2.KeyHash() != v.KeyHash() {
		t.Errorf("another key: %v", err)
	}
	v3, err := audit.LoadVerifier(path + audit.VerifierSuffix)
	if err != nil || v3.Name() != v.Name() || v3.KeyHash() != v.KeyHash() {
		t.Errorf("another verifier key: %v", err)
	}
	msg, err := note.Sign(&note.Note{Text: "x\n"}, s2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(msg, note.VerifierList(v2)); err != nil {
		t.Errorf("the loaded pair does not fit: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := audit.LoadSigner(path); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a signing key that others can read: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("PRIVATE+KEY+x+00000000+c2VjcmV0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := audit.LoadSigner(bad); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("not a key: %v", err)
	}
	if _, _, err := audit.LoadSigner(bad + "none"); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
	if _, _, err := audit.CreateSigner(filepath.Join(t.TempDir(), "k"), "a name"); err == nil {
		t.Error("a log's name with a space")
	}
}

func TestEntries(t *testing.T) {
	m := &memory{}
	l := openLog(t, config(t, m))
	start := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	const n = 2500 // more than is read at a time
	err := m.Update(t.Context(), func(tx audit.Tx) error {
		for i := range n {
			e := audit.Entry{
				Time: start.Add(time.Duration(i) * time.Second), Operation: fmt.Sprint("op", i%5), Outcome: audit.Allowed,
				Principal: fmt.Sprint("p", i%7), Resource: fmt.Sprintf("/workspaces/W%d/items/%d", i%3, i),
			}
			if i%10 == 0 {
				e.Outcome = audit.Denied
			}
			if err := tx.AppendAudit(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		query audit.Query
		want  func(i int) bool
	}{
		{"all", audit.Query{}, func(int) bool { return true }},
		{"operation", audit.Query{Operation: "op3"}, func(i int) bool { return i%5 == 3 }},
		{"principal and outcome", audit.Query{Principal: "p2", Outcome: audit.Denied}, func(i int) bool { return i%7 == 2 && i%10 == 0 }},
		{"resource and below", audit.Query{Resource: "/Workspaces/w1"}, func(i int) bool { return i%3 == 1 }},
		{"no prefix of a name", audit.Query{Resource: "/workspaces/W"}, func(i int) bool { return false }},
		{"time", audit.Query{From: start.Add(100 * time.Second), Until: start.Add(1300 * time.Second)}, func(i int) bool { return i >= 100 && i < 1300 }},
		{"from", audit.Query{From: start.Add(2400 * time.Second)}, func(i int) bool { return i >= 2400 }},
		{"until", audit.Query{Until: start.Add(3 * time.Second)}, func(i int) bool { return i < 3 }},
		{"no such time", audit.Query{From: start.Add(n * time.Second)}, func(i int) bool { return false }},
	} {
		for _, newest := range []bool{false, true} {
			var want, got []int64
			for i := range n {
				if newest {
					i = n - 1 - i
				}
				if test.want(i) {
					want = append(want, int64(i))
				}
			}
			q := test.query
			q.NewestFirst, q.Limit = newest, 333
			for {
				page, err := l.Entries(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page {
					got = append(got, e.Sequence)
				}
				if len(page) < q.Limit {
					break
				}
				q.After = &page[len(page)-1].Sequence
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s, newest first %t: %d entries, want %d", test.name, newest, len(got), len(want))
			}
		}
	}
	if _, err := l.Entries(t.Context(), audit.Query{Limit: -1}); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("a negative limit: %v", err)
	}
	if got, err := l.Entries(t.Context(), audit.Query{}); err != nil || len(got) != 100 {
		t.Errorf("%d entries without a limit, %v", len(got), err)
	}
}
