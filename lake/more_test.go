package lake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/faulty"
	"github.com/kluis-io/kluis/objstore/remote"
	"github.com/kluis-io/kluis/objstore/servertest"
)

func TestList(t *testing.T) {
	p := start(t, t.TempDir())
	ctx := t.Context()
	files := []string{"Files/a/b", "Files/a/c/d", "Files/a.txt", "Files/a0", "Files/b", "Tables/t/_delta_log/0.json"}
	for _, f := range files {
		p.put(t, f, []byte(f))
	}
	ws := lake.Path{Container: "ws"}
	names := func(l lake.Listing) (out []string) {
		for _, e := range l.Entries {
			name := strings.TrimPrefix(e.Name, "lh.Lakehouse/")
			if e.Kind == lake.Folder {
				name += "!"
			}
			out = append(out, name)
		}
		for _, pre := range l.Prefixes {
			out = append(out, "P:"+strings.TrimPrefix(pre, "lh.Lakehouse/"))
		}
		return out
	}
	for _, tc := range []struct {
		name string
		path lake.Path
		o    lake.ListOptions
		want string
	}{
		{"dfs recursive", at("Files"), lake.ListOptions{Recursive: true}, "Files/a! Files/a.txt Files/a/b Files/a/c! Files/a/c/d Files/a0 Files/b"},
		{"dfs flat", at("Files"), lake.ListOptions{}, "Files/a! Files/a.txt Files/a0 Files/b"},
		{"dfs folder", at("Files/a"), lake.ListOptions{Recursive: true}, "Files/a/b Files/a/c! Files/a/c/d"},
		{"item", at(""), lake.ListOptions{}, "Files! Tables!"},
		{"workspace", ws, lake.ListOptions{}, "lh.Lakehouse! nb.Notebook!"},
		{"blob flat", ws, lake.ListOptions{Recursive: true, Prefix: "lh.Lakehouse/Files/a"}, "Files/a! Files/a.txt Files/a/b Files/a/c! Files/a/c/d Files/a0"},
		{"blob level", ws, lake.ListOptions{Delimited: true, Prefix: "lh.Lakehouse/Files/"}, "Files/a.txt Files/a0 Files/b P:Files/a/"},
		{"blob partial", ws, lake.ListOptions{Delimited: true, Prefix: "lh.Lakehouse/Files/a"}, "Files/a.txt Files/a0 P:Files/a/"},
		{"blob items", ws, lake.ListOptions{Delimited: true}, "P: P:nb.Notebook/"},
		{"blob item", ws, lake.ListOptions{Delimited: true, Prefix: "lh.Lakehouse/"}, "P:Files/ P:Tables/"},
		{"start", at("Files"), lake.ListOptions{Recursive: true, StartFrom: "lh.Lakehouse/Files/a/b"}, "Files/a/b Files/a/c! Files/a/c/d Files/a0 Files/b"},
		{"start between", at("Files"), lake.ListOptions{Recursive: true, StartFrom: "lh.Lakehouse/Files/a/bb"}, "Files/a/c! Files/a/c/d Files/a0 Files/b"},
		{"nowhere", ws, lake.ListOptions{Recursive: true, Prefix: "lh.Lakehouse/Files/zz/"}, ""},
		{"no item", ws, lake.ListOptions{Recursive: true, Prefix: "zz.Lakehouse/Files/"}, ""},
		{"all", ws, lake.ListOptions{Recursive: true}, "lh.Lakehouse! Files! Files/a! Files/a.txt Files/a/b Files/a/c! Files/a/c/d Files/a0 Files/b Tables! Tables/t! Tables/t/_delta_log! Tables/t/_delta_log/0.json nb.Notebook! nb.Notebook/Files!"},
	} {
		got, err := p.List(ctx, p.caller, tc.path, tc.o)
		must(t, err)
		if text := strings.Join(names(got), " "); text != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, text, tc.want)
		}
		// Page by page it is the same.
		for _, max := range []int{1, 2, 3} {
			o := tc.o
			o.Max = max
			var paged lake.Listing
			for {
				page, err := p.List(ctx, p.caller, tc.path, o)
				must(t, err)
				if len(page.Entries)+len(page.Prefixes) > max {
					t.Fatalf("%s: a page of %d has more", tc.name, max)
				}
				paged.Entries = append(paged.Entries, page.Entries...)
				paged.Prefixes = append(paged.Prefixes, page.Prefixes...)
				if page.Continuation == "" {
					break
				}
				o.Continuation = page.Continuation
			}
			if !slices.Equal(names(paged), names(got)) {
				t.Errorf("%s: by %d: %v", tc.name, max, names(paged))
			}
		}
	}
	_, err := p.List(ctx, p.caller, at("Files/none"), lake.ListOptions{})
	wantReason(t, err, fault.PathNotFound)
	first, err := p.List(ctx, p.caller, at("Files"), lake.ListOptions{Max: 1})
	must(t, err)
	for name, o := range map[string]lake.ListOptions{
		"another listing": {Max: 1, Recursive: true, Continuation: first.Continuation},
		"changed":         {Max: 1, Continuation: first.Continuation[:len(first.Continuation)-2] + "AA"},
		"nonsense":        {Max: 1, Continuation: "x"},
	} {
		_, err := p.List(ctx, p.caller, at("Files"), o)
		if fault.ReasonOf(err) != fault.InvalidContinuation {
			t.Errorf("%s: %v", name, err)
		}
	}
	if strings.Contains(first.Continuation, "Files") {
		t.Error("a continuation tells names")
	}
}

// A page keeps no more of a large folder in memory than it needs, and misses
// nothing.
func TestListLargeFolder(t *testing.T) {
	p := start(t, t.TempDir())
	const n = 700
	want := map[string]bool{}
	var wg sync.WaitGroup
	for i := range n {
		name := fmt.Sprintf("Files/big/%04d", (i*7919)%n)
		want["lh.Lakehouse/"+name] = true
		wg.Go(func() { p.put(t, name, nil) })
	}
	wg.Wait()
	o := lake.ListOptions{Max: 13}
	last := ""
	for {
		page, err := p.List(t.Context(), p.caller, at("Files/big"), o)
		must(t, err)
		for _, e := range page.Entries {
			if e.Name <= last || !want[e.Name] {
				t.Fatalf("%s after %s", e.Name, last)
			}
			last = e.Name
			delete(want, e.Name)
		}
		if o.Continuation = page.Continuation; o.Continuation == "" {
			break
		}
	}
	if len(want) > 0 {
		t.Errorf("%d of %d entries are missing", len(want), n)
	}
	// 700 names are more than re-encryption does at once.
	p.assign(t)
	p.wantOneKey(t)
	page, err := p.List(t.Context(), p.caller, at("Files/big"), lake.ListOptions{})
	must(t, err)
	if len(page.Entries) != n {
		t.Errorf("after re-encryption %d of %d entries are listed", len(page.Entries), n)
	}
	p.wantContent(t, "Files/big/0003", nil)
}

func TestDelete(t *testing.T) {
	p := start(t, t.TempDir())
	ctx := t.Context()
	for i := range 450 {
		p.put(t, fmt.Sprintf("Files/d/%d/x", i%10), []byte("x"))
		if i < 20 {
			p.put(t, fmt.Sprintf("Files/d/big%d", i), random(50_000, uint64(i)))
		}
	}
	wantReason(t, p.Delete(ctx, p.caller, at("Files/d"), false, lake.Conditions{}), fault.DirectoryNotEmpty)
	must(t, p.Delete(ctx, p.caller, at("Files/d"), true, lake.Conditions{}))
	wantReason(t, p.Delete(ctx, p.caller, at("Files/d"), true, lake.Conditions{}), fault.PathNotFound)
	must(t, p.Sweep(ctx))
	if n := p.countObjects(t); n != 20 {
		t.Errorf("%d objects are kept for backups, want 20", n)
	}
	p.now.Add(8 * 24)
	must(t, p.Sweep(ctx))
	if n := p.countObjects(t); n != 0 {
		t.Errorf("%d objects are left after the backup horizon", n)
	}
	if rows := p.rows(t); len(rows) != 1 {
		t.Errorf("%d entries are left, want that of Files", len(rows))
	}
}

// wantOneKey checks that nothing of the item is under any but the current keys.
func (p *platform) wantOneKey(t logging) {
	t.Helper()
	must(t, p.db.Lake().View(t.Context(), func(tx lake.Tx) error {
		keys, err := tx.ItemKeys(lakeID)
		if err == nil && len(keys) != 2 {
			t.Fatalf("the item has %d keys", len(keys))
		}
		return err
	}))
}

// After a change of key everything reads as before, nothing is under the old
// keys, and what they sealed is gone from the disk.
func TestReencrypt(t *testing.T) {
	defer lake.SetMaxExtent(100_000)()
	p := start(t, t.TempDir())
	ctx := t.Context()
	content := map[string][]byte{}
	for i, n := range sizes {
		path := fmt.Sprintf("Files/%d/f", i)
		content[path] = random(min(n, 1<<20), uint64(i))
		p.put(t, path, content[path])
	}
	p.put(t, "Files/over", random(30_000, 1))
	p.put(t, "Files/over", random(30_000, 2)) // leaves a doomed extent
	content["Files/over"] = random(30_000, 2)
	p.put(t, "Files/gone/x", random(30_000, 3))
	must(t, p.Delete(ctx, p.caller, at("Files/gone"), true, lake.Conditions{}))
	_, err := p.StageBlock(ctx, p.caller, at("Files/staged"), "QQ", bytes.NewReader(random(250_000, 4)), -1, lake.StageOptions{})
	must(t, err)
	_, err = p.StageBlock(ctx, p.caller, at("Files/staged"), "RR", bytes.NewReader(random(10, 5)), -1, lake.StageOptions{})
	must(t, err)
	before, err := p.Stat(ctx, p.caller, at("Files/over"), lake.Conditions{})
	must(t, err)
	c, err := p.Open(ctx, p.caller, at("Files/8/f"), lake.Conditions{}, lake.Range{}) // a reader under way
	must(t, err)
	defer c.Close()
	var old []string
	must(t, p.objects.List(ctx, func(id string, _ time.Time) error { old = append(old, id); return nil }))

	p.assign(t)
	p.wantOneKey(t)
	for path, want := range content {
		p.wantContent(t, path, want)
	}
	after, err := p.Stat(ctx, p.caller, at("Files/over"), lake.Conditions{})
	must(t, err)
	if after.ETag != before.ETag || !after.Modified.Equal(before.Modified) || after.KeyID == before.KeyID {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	var b bytes.Buffer
	_, err = c.WriteTo(&b)
	must(t, err)
	if !bytes.Equal(b.Bytes(), content["Files/8/f"]) {
		t.Error("a reader under way read something else")
	}
	_, err = p.CommitBlocks(ctx, p.caller, at("Files/staged"), []lake.BlockRef{{ID: "RR"}, {ID: "QQ"}}, lake.PutOptions{})
	must(t, err)
	p.wantContent(t, "Files/staged", append(random(10, 5), random(250_000, 4)...))
	must(t, p.objects.List(ctx, func(id string, _ time.Time) error {
		if slices.Contains(old, id) {
			t.Errorf("object %s of before is still there", id)
		}
		return nil
	}))
}

// Readers, writers and renames go on while everything is re-encrypted under them.
func TestReencryptUnderLoad(t *testing.T) {
	defer lake.SetMaxAtOnce(3)()
	defer lake.SetMaxExtent(50_000)()
	p := start(t, t.TempDir())
	for i := range 8 {
		p.put(t, fmt.Sprintf("Files/%d/f", i), random(120_000, uint64(i)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			dir := fmt.Sprintf("Files/%d", i)
			seed := uint64(i)
			for n := 0; ctx.Err() == nil; n++ {
				got, err := p.get(t.Context(), dir+"/f", lake.Range{})
				if err != nil || !bytes.Equal(got, random(120_000, seed)) {
					t.Errorf("reading: %d bytes, %v", len(got), err)
					return
				}
				body := random(120_000, seed+100)
				_, err = p.Put(t.Context(), p.caller, at(dir+"/f"), bytes.NewReader(body), -1, lake.PutOptions{})
				switch {
				case err == nil:
					seed += 100
				case !errors.Is(err, fault.EncryptionChanged):
					t.Errorf("writing: %v", err)
					return
				}
				next := fmt.Sprintf("Files/%d-%d", i, n)
				if _, err := p.Rename(t.Context(), p.caller, at(dir), at(next), lake.RenameOptions{}); err != nil {
					t.Errorf("renaming: %v", err)
					return
				}
				dir = next
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	must(t, p.scopes.Assign(t.Context(), p.caller, wsID, keyID))
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		time.Sleep(300 * time.Millisecond)
		cancel()
	}()
	p.settle(t)
	<-settled
	wg.Wait()
	p.wantOneKey(t)
	p.wantNoStaged(t)
}

// Whatever call of the object store fails during re-encryption, trying again
// finishes it.
func TestReencryptWithFailures(t *testing.T) {
	for nth := 1; ; nth++ {
		for _, f := range []faulty.Fault{faulty.Fails, faulty.FailsDone} {
			p := start(t, t.TempDir())
			p.put(t, "Files/x", random(40_000, 1))
			must(t, p.scopes.Assign(t.Context(), p.caller, wsID, keyID))
			p.objects.Set(faulty.Nth(nth, f))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { p.scopes.Run(ctx); close(done) }()
			for p.objects.Calls() < nth && !p.allDone(t) {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(5 * time.Millisecond)
			cancel()
			<-done
			all := p.objects.Calls() < nth
			p.objects.Set(nil)
			p.wantContent(t, "Files/x", random(40_000, 1))
			// The state machine waits for seconds before it tries again what the
			// object store has refused.
			must(t, p.db.Encryption().Update(t.Context(), func(tx encryption.Tx) error {
				items, err := tx.ItemStates(wsID)
				for _, i := range items {
					i.NextRun, i.Until = time.Time{}, time.Time{}
					if err := tx.UpdateItem(i, i.Fence); err != nil {
						return err
					}
				}
				return err
			}))
			p.settle(t)
			p.wantOneKey(t)
			p.wantContent(t, "Files/x", random(40_000, 1))
			if all {
				return
			}
		}
	}
}

// allDone reports whether every item is under the sealing generation.
func (p *platform) allDone(t logging) bool {
	t.Helper()
	return len(p.behind(t)) == 0
}

// A broken upload leaves nothing that a sweep does not remove.
func TestFailuresWhileWriting(t *testing.T) {
	defer lake.SetMaxExtent(100_000)()
	p := start(t, t.TempDir())
	body := random(350_000, 1)
	for _, f := range []faulty.Fault{faulty.Fails, faulty.FailsDone, faulty.Short} {
		for nth := 1; ; nth++ {
			p.objects.Set(faulty.Nth(nth, f))
			path := fmt.Sprintf("Files/%d-%d", f, nth)
			_, err := p.Put(t.Context(), p.caller, at(path), bytes.NewReader(body), -1, lake.PutOptions{})
			calls := p.objects.Calls()
			p.objects.Set(nil)
			if err == nil {
				p.wantContent(t, path, body)
				if calls < nth {
					break
				}
				continue
			}
			wantReason(t, err, fault.Unavailable)
			_, err = p.Stat(t.Context(), p.caller, at(path), lake.Conditions{})
			wantReason(t, err, fault.PathNotFound)
		}
	}
	p.wantNoStaged(t)
	p.now.Add(25)
	must(t, p.Sweep(t.Context()))
	if n, want := p.countObjects(t), 3*4; n != want {
		t.Errorf("%d objects are left after the sweep, want %d of the three files", n, want)
	}
}

func TestSweepOrphans(t *testing.T) {
	p := start(t, t.TempDir())
	ctx := t.Context()
	w, err := p.objects.Create(ctx, strings.Repeat("ab", 16))
	must(t, err)
	_, err = w.Write([]byte("orphan"))
	must(t, err)
	must(t, w.Commit())
	_, err = p.StageBlock(ctx, p.caller, at("Files/never"), "AA", bytes.NewReader(random(50_000, 1)), -1, lake.StageOptions{})
	must(t, err)
	must(t, p.Sweep(ctx))
	if n := p.countObjects(t); n != 2 {
		t.Errorf("%d objects, want 2: the sweep was too early", n)
	}
	p.now.Add(25)
	must(t, p.Sweep(ctx))
	if n := p.countObjects(t); n != 1 {
		t.Errorf("%d objects, want that of the block", n)
	}
	p.now.Add(7 * 24)
	must(t, p.Sweep(ctx))
	if n := p.countObjects(t); n != 0 {
		t.Errorf("%d objects, want none", n)
	}
	_, err = p.Blocks(ctx, p.caller, at("Files/never"))
	wantReason(t, err, fault.PathNotFound)
}

// When the keys of an item are shredded, its rows go, and its objects after the
// backup horizon.
func TestSweepShreddedItem(t *testing.T) {
	p := start(t, t.TempDir())
	for i := range 30 {
		p.put(t, fmt.Sprintf("Files/%d/x", i%3), random(1000*i, uint64(i)))
	}
	must(t, p.db.Lake().Update(t.Context(), func(tx lake.Tx) error {
		return errors.Join(tx.ShredItem(lakeID), tx.ShredItem(encryption.ScopeItem(wsID))) // as the end of a workspace does
	}))
	must(t, p.Sweep(t.Context()))
	must(t, p.db.Lake().View(t.Context(), func(tx lake.Tx) error {
		_, ok, err := tx.LakeFolderAs(lakeID, lake.Root)
		if ok {
			t.Error("the item's root is still there")
		}
		return err
	}))
	p.now.Add(8 * 24)
	must(t, p.Sweep(t.Context()))
	must(t, p.Sweep(t.Context()))
	if n := p.countObjects(t); n != 0 {
		t.Errorf("%d objects are left", n)
	}
	must(t, p.db.Lake().View(t.Context(), func(tx lake.Tx) error {
		keys, err := tx.ItemKeys(lakeID)
		if len(keys) > 0 {
			t.Errorf("%d key rows are left", len(keys))
		}
		own, ownErr := tx.ItemKeys(encryption.ScopeItem(wsID))
		if len(own) == 0 {
			t.Error("the scope is still there, and the rows of its own keys are gone: they go with it")
		}
		return errors.Join(err, ownErr)
	}))
}

// A slowWriter takes its time over each write.
type slowWriter struct{ n int }

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	w.n += len(p)
	return len(p), nil
}

// A download under way breaks off when the vault says no, and the next ones do
// not begin.
func TestRevokedWhileReading(t *testing.T) {
	defer lake.SetMaxExtent(10 << 20)()
	p := startLeased(t, t.TempDir(), 2*time.Second)
	go p.ring.Run(t.Context())
	const size = 60 << 20
	_, err := p.Put(t.Context(), p.caller, at("Files/x"), io.LimitReader(zeros{}, size), size, lake.PutOptions{})
	must(t, err)
	p.assign(t)
	c, err := p.Open(t.Context(), p.caller, at("Files/x"), lake.Conditions{}, lake.Range{})
	must(t, err)
	defer c.Close()
	w := &slowWriter{}
	p.vault.no.Store(true)
	n, err := c.WriteTo(w)
	// On a slow machine a lease this short may run out before the answer is there.
	if r := fault.ReasonOf(err); !r.RefusedByVault() && r != fault.KEKUnreachable {
		t.Errorf("the download ended with %v", err)
	}
	if n == size || n != int64(w.n) {
		t.Errorf("%d bytes are said to have left, %d have", n, w.n)
	}
	_, err = p.get(t.Context(), "Files/x", lake.Range{})
	wantReason(t, err, fault.KEKRefused)
	_, err = p.List(t.Context(), p.caller, at("Files"), lake.ListOptions{})
	wantReason(t, err, fault.KEKRefused)
	_, err = p.Put(t.Context(), p.caller, at("Files/y"), strings.NewReader(""), 0, lake.PutOptions{})
	wantReason(t, err, fault.KEKRefused)
}

// A stopper has the key refused as the first bytes come, and waits until nobody else
// gets anything; what comes after that is too late.
type stopper struct {
	stop func()
	once sync.Once
	late int
}

func (w *stopper) Write(b []byte) (int, error) {
	stopped := false
	w.once.Do(func() { w.stop(); stopped = true })
	if !stopped {
		w.late += len(b)
	}
	return len(b), nil
}

// Not a byte leaves after the vault's no has been heard, of an extent that is open and
// being read neither.
func TestNoByteAfterTheRefusal(t *testing.T) {
	p := startLeased(t, t.TempDir(), 2*time.Second)
	go p.ring.Run(t.Context())
	const size = 5 << 20 // one extent
	_, err := p.Put(t.Context(), p.caller, at("Files/x"), io.LimitReader(zeros{}, size), size, lake.PutOptions{})
	must(t, err)
	p.assign(t)
	c, err := p.Open(t.Context(), p.caller, at("Files/x"), lake.Conditions{}, lake.Range{})
	must(t, err)
	defer c.Close()
	w := &stopper{stop: func() {
		p.vault.no.Store(true)
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if _, err := p.List(t.Context(), p.caller, at("Files"), lake.ListOptions{}); err != nil {
				return
			}
		}
		t.Error("the vault's no is not heard")
	}}
	n, err := c.WriteTo(w)
	if err == nil || w.late > 0 || n == size {
		t.Errorf("%d bytes left, %d of them after the vault's no: %v", n, w.late, err)
	}
}

// latch marks the scope as revoked in the database, as another replica would.
func (p *platform) latch(t *testing.T) {
	t.Helper()
	must(t, p.db.Encryption().Update(t.Context(), func(tx encryption.Tx) error {
		s, err := tx.Scope(wsID)
		if err != nil {
			return err
		}
		s.Serving, s.Reason, s.Serial, s.ServingSince = encryption.Revoked, fault.KEKRefused, s.Serial+1, time.Now()
		return tx.UpdateScope(s, s.Epoch)
	}))
}

// A write that began before the revocation is not published after it.
func TestRevokedWhileWriting(t *testing.T) {
	p := start(t, t.TempDir())
	p.assign(t)
	r, w := io.Pipe()
	result := make(chan error)
	go func() {
		_, err := p.Put(t.Context(), p.caller, at("Files/x"), r, -1, lake.PutOptions{})
		result <- err
	}()
	w.Write(random(100, 1))
	p.latch(t)
	w.Close()
	wantReason(t, <-result, fault.KEKRefused)
}

// Reading and writing large files takes a bounded amount of memory.
func TestMemoryIsBounded(t *testing.T) {
	p := start(t, t.TempDir())
	const size = 200 << 20
	measure := func(what string, do func()) {
		t.Helper()
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		most := uint64(16 << 20)
		if servertest.Elsewhere() {
			most += remote.PartSize
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > most {
			t.Errorf("%s %d MiB allocates %d MiB", what, size>>20, used>>20)
		}
	}
	measure("writing", func() {
		_, err := p.Put(t.Context(), p.caller, at("Files/large"), io.LimitReader(zeros{}, size), size, lake.PutOptions{})
		must(t, err)
	})
	measure("reading", func() {
		c, err := p.Open(t.Context(), p.caller, at("Files/large"), lake.Conditions{}, lake.Range{})
		must(t, err)
		defer c.Close()
		n, err := c.WriteTo(io.Discard)
		must(t, err)
		if n != size {
			t.Errorf("read %d bytes", n)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// No content, name, header, block id or metadata is ever readable on the disk,
// the write-ahead log included.
func TestCanaries(t *testing.T) {
	defer lake.SetMaxExtent(100_000)()
	p := start(t, t.TempDir())
	ctx := t.Context()
	var needles []string
	canary := func() string {
		c := fmt.Sprintf("canary%x", random(12, uint64(len(needles))))
		needles = append(needles, c)
		return c
	}
	for _, n := range []int{1, 2000, 20_000} { // in a row, in a row, in objects
		folder, file := canary(), canary()
		path := "Files/" + folder + "/" + file
		body := []byte(strings.Repeat(canary()+" ", n))
		_, err := p.Put(ctx, p.caller, at(path), bytes.NewReader(body), -1, lake.PutOptions{
			Headers:  lake.ContentHeaders{Type: canary(), Disposition: canary()},
			Metadata: map[string]string{"k" + canary(): canary()},
		})
		must(t, err)
		staged := "Files/" + folder + "/" + canary()
		_, err = p.StageBlock(ctx, p.caller, at(staged), canary(), bytes.NewReader(body), -1, lake.StageOptions{})
		must(t, err)
		appended := "Files/" + folder + "/" + canary()
		_, err = p.Create(ctx, p.caller, at(appended), lake.File, lake.PutOptions{})
		must(t, err)
		_, err = p.Append(ctx, p.caller, at(appended), 0, bytes.NewReader(body), -1, lake.StageOptions{})
		must(t, err)
		renamed := "Files/" + canary()
		_, err = p.Rename(ctx, p.caller, at(path), at(renamed), lake.RenameOptions{})
		must(t, err)
		_, err = p.get(ctx, renamed, lake.Range{})
		must(t, err)
		l, err := p.List(ctx, p.caller, at("Files"), lake.ListOptions{Max: 1})
		must(t, err)
		_, err = p.List(ctx, p.caller, at("Files"), lake.ListOptions{Max: 1, Continuation: l.Continuation})
		must(t, err)
		_, err = p.Stat(ctx, p.caller, at("Files/"+canary()), lake.Conditions{})
		wantReason(t, err, fault.PathNotFound)
		if found := p.grep(t, needles...); len(found) > 0 {
			t.Fatalf("readable on the disk: %v", found)
		}
	}
	p.assign(t)
	if found := p.grep(t, needles...); len(found) > 0 {
		t.Fatalf("readable on the disk after re-encryption: %v", found)
	}
	if found := p.grep(t, string(lakeID)); len(found) == 0 {
		t.Error("the search finds nothing at all")
	}
}

// A folder whose salt is used up gets a new one, and nothing of it is lost.
func TestSaltIsReplaced(t *testing.T) {
	defer lake.SetMaxSeals(7)()
	p := start(t, t.TempDir())
	for i := range 40 {
		p.put(t, fmt.Sprintf("Files/%d", i%5), []byte(fmt.Sprint(i)))
	}
	for i := range 5 {
		p.wantContent(t, fmt.Sprintf("Files/%d", i), []byte(fmt.Sprint(35+i)))
	}
}

// An upload that takes too long does not hold re-encryption up: it is refused,
// and its client sends it again.
func TestUploadMeetsReencryption(t *testing.T) {
	defer lake.SetMaxExtent(100_000)()
	defer lake.SetInFlightGrace(time.Millisecond)()
	p := start(t, t.TempDir())
	r, w := io.Pipe()
	result := make(chan error)
	go func() {
		_, err := p.Put(t.Context(), p.caller, at("Files/x"), r, -1, lake.PutOptions{})
		r.Close() // as a server does, so that the client does not write for ever
		result <- err
	}()
	body := random(350_000, 1)
	w.Write(body[:250_000]) // two extents are done, the third is under way
	p.assign(t)
	p.wantOneKey(t)
	w.Write(body[250_000:])
	w.Close()
	wantReason(t, <-result, fault.EncryptionChanged)
	p.put(t, "Files/x", body)
	p.wantContent(t, "Files/x", body)
	p.wantNoStaged(t)
}

// An upload that is between two extents goes on under the new key, with what it
// has stored brought along.
func TestUploadGoesOnUnderNewKey(t *testing.T) {
	defer lake.SetMaxExtent(100_000)()
	p := start(t, t.TempDir())
	r, w := io.Pipe()
	result := make(chan error)
	go func() {
		_, err := p.Put(t.Context(), p.caller, at("Files/x"), r, -1, lake.PutOptions{})
		r.Close() // as a server does, so that the client does not write for ever
		result <- err
	}()
	body := random(350_000, 1)
	w.Write(body[:250_000])
	must(t, p.scopes.Assign(t.Context(), p.caller, wsID, keyID))
	settled := make(chan struct{})
	go func() { p.settle(t); close(settled) }()
	time.Sleep(50 * time.Millisecond) // the first extents are brought along; the third is waited for
	w.Write(body[250_000:])
	w.Close()
	if err := <-result; err != nil {
		t.Error(err)
	}
	<-settled
	p.wantOneKey(t)
	p.wantContent(t, "Files/x", body)
}

// Whoever writes the database or the objects cannot make the lake serve other
// bytes than were stored: each of these is an integrity failure.
func TestTampering(t *testing.T) {
	defer lake.SetMaxExtent(100_000)()
	swapRows := func(t *testing.T, p *platform) {
		must(t, p.db.Lake().Update(t.Context(), func(tx lake.Tx) error {
			keys, err := tx.ItemKeys(lakeID)
			if err != nil {
				return err
			}
			var same []lake.ExtentRow
			for _, k := range keys {
				rows, err := tx.LakeExtentsUnder(k.ID, lake.Live, 100)
				if err != nil {
					return err
				}
				for _, r := range rows {
					row, _, err := tx.LakeExtent(r.ID)
					if err != nil {
						return err
					}
					if row.Inline != nil {
						same = append(same, row)
					}
				}
			}
			for i := range same {
				row := same[i]
				row.Inline = same[(i+1)%len(same)].Inline
				if err := tx.PutLakeExtent(row); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	onObjects := func(change func(b []byte) []byte) func(*testing.T, *platform) {
		return func(t *testing.T, p *platform) {
			for id, b := range p.stored(t) {
				p.replace(t, id, change(b))
			}
		}
	}
	onNodes := func(change func(a, b *lake.NodeRow)) func(*testing.T, *platform) {
		return func(t *testing.T, p *platform) {
			must(t, p.db.Lake().Update(t.Context(), func(tx lake.Tx) error {
				keys, err := tx.ItemKeys(lakeID)
				if err != nil {
					return err
				}
				for _, k := range keys {
					rows, err := tx.LakeNodesUnder(k.ID, 100)
					if err != nil {
						return err
					}
					rows = slices.DeleteFunc(rows, func(n lake.NodeRow) bool { return n.Kind != lake.File })
					if len(rows) < 2 {
						continue
					}
					change(&rows[0], &rows[1])
					if err := errors.Join(tx.PutLakeNode(rows[0]), tx.PutLakeNode(rows[1])); err != nil {
						return err
					}
				}
				return nil
			}))
		}
	}
	for name, tc := range map[string]struct {
		size   int
		tamper func(*testing.T, *platform)
	}{
		"rows swapped":  {100, swapRows},
		"row flipped":   {100, onNodes(func(a, b *lake.NodeRow) { a.Manifest[60] ^= 1; b.Manifest[60] ^= 1 })},
		"files swapped": {100, onNodes(func(a, b *lake.NodeRow) { a.Manifest, b.Manifest = b.Manifest, a.Manifest })},
		"objects swapped": {90_000, func(t *testing.T, p *platform) {
			all := p.stored(t)
			ids := slices.Collect(maps.Keys(all))
			p.replace(t, ids[0], all[ids[1]])
			p.replace(t, ids[1], all[ids[0]])
		}},
		"object cut": {90_000, onObjects(func(b []byte) []byte { return b[:56+16400] })},
		"object missing": {90_000, func(t *testing.T, p *platform) {
			for id := range p.stored(t) {
				must(t, p.objects.Delete(t.Context(), id))
			}
		}},
		"last chunk flipped": {90_000, onObjects(func(b []byte) []byte {
			b[len(b)-1] ^= 1
			return b
		})},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, t.TempDir())
			for i := range 2 {
				p.put(t, fmt.Sprintf("Files/%d", i), random(tc.size, uint64(i)))
			}
			tc.tamper(t, p)
			for i := range 2 {
				_, err := p.get(t.Context(), fmt.Sprintf("Files/%d", i), lake.Range{})
				wantReason(t, err, fault.Integrity)
			}
		})
	}
}
