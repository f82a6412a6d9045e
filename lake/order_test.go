package lake_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/lake"
)

// all lists everything in pages, folders' prefixes included.
func (p *platform) all(t logging, path lake.Path, o lake.ListOptions) (names []string) {
	t.Helper()
	for {
		l, err := p.List(t.Context(), p.caller, path, o)
		must(t, err)
		page := slices.Clone(l.Prefixes)
		for _, e := range l.Entries {
			page = append(page, fmt.Sprintf("%s %d", e.Name, e.Size))
		}
		slices.Sort(page)
		if o.Max > 0 && len(page) > o.Max {
			t.Fatalf("a page of %d, want %d at most", len(page), o.Max)
		}
		names = append(names, page...)
		if o.Continuation = l.Continuation; o.Continuation == "" {
			return names
		}
	}
}

// Listings are the same whether or not a folder's order is kept, whatever happens
// to its names.
func TestOrder(t *testing.T) {
	for _, size := range []int{128, 2} {
		t.Run(fmt.Sprintf("blocks of %d", size), func(t *testing.T) {
			defer lake.SetBlocks(size, 3*size, 4*size)()
			testOrder(t)
		})
	}
}

func testOrder(t *testing.T) {
	p := start(t, t.TempDir())
	rnd := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "a!", "a-b", "a.txt", "a/b", "a/b.c", "a0", "b", "b/a.c", "b/a/c", "é", "z z"}
	for range 25 {
		names = append(names, fmt.Sprintf("n%d/%x", rnd.IntN(3), rnd.Uint32()), fmt.Sprintf("%x", rnd.Uint32()))
	}
	compare := func(what string) {
		t.Helper()
		base := "lh.Lakehouse/Files/"
		for _, prefix := range []string{"", "lh", base, base + "a", base + "a/", base + "b/a", base + "n1/", base + "none"} {
			for _, delimited := range []bool{false, true} {
				for _, start := range []string{"", base + "a.", base + "a/b", base + "n1/8"} {
					for _, most := range []int{0, 4} {
						if most == 0 && start == "" && prefix != "" {
							continue
						}
						o := lake.ListOptions{Prefix: prefix, Delimited: delimited, Recursive: !delimited, StartFrom: start, Max: most}
						restore := lake.SetOrdered(1<<60, 1<<30)
						want := p.all(t, lake.Path{Container: "ws"}, o)
						restore()
						restore = lake.SetOrdered(0, 1<<30)
						got := p.all(t, lake.Path{Container: "ws"}, o)
						restore()
						if diff := cmp.Diff(want, got); diff != "" {
							t.Fatalf("%s, %+v: without and with orders:\n%s", what, o, diff)
						}
					}
				}
			}
		}
		for _, recursive := range []bool{false, true} {
			o := lake.ListOptions{Recursive: recursive, Max: 7}
			restore := lake.SetOrdered(1<<60, 1<<30)
			want := p.all(t, at("Files"), o)
			restore()
			restore = lake.SetOrdered(0, 1<<30)
			got := p.all(t, at("Files"), o)
			restore()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s, folder, %+v: without and with orders:\n%s", what, o, diff)
			}
		}
	}
	for i, n := range names {
		if n != "a" && n != "b" {
			p.put(t, "Files/"+n, make([]byte, i))
		}
	}
	compare("made")
	p.put(t, "Files/"+names[12], make([]byte, 999))
	p.put(t, "Files/a,", nil)
	p.put(t, "Files/n1/7", nil)
	compare("written")
	_, err := p.Rename(t.Context(), p.caller, at("Files/a.txt"), at("Files/n1/a.txt"), lake.RenameOptions{})
	must(t, err)
	_, err = p.Rename(t.Context(), p.caller, at("Files/b"), at("Files/B"), lake.RenameOptions{})
	must(t, err)
	_, err = p.Rename(t.Context(), p.caller, at("Files/B"), at("Files/b"), lake.RenameOptions{}) // and back
	must(t, err)
	must(t, p.Delete(t.Context(), p.caller, at("Files/a!"), false, lake.Conditions{}))
	must(t, p.Delete(t.Context(), p.caller, at("Files/a"), true, lake.Conditions{}))
	p.put(t, "Files/a", []byte("a file now"))
	compare("moved and removed")
	p.assign(t)
	compare("under other keys")
	for _, n := range names {
		if strings.HasPrefix(n, "n2/") {
			must(t, p.Delete(t.Context(), p.caller, at("Files/"+n), false, lake.Conditions{}))
		}
	}
	compare("mostly gone")
}

// No order outlives the right to read the names in it.
func TestOrderIsForgotten(t *testing.T) {
	defer lake.SetOrdered(0, 1<<30)()
	p := start(t, t.TempDir())
	p.put(t, "Files/f", nil)
	p.assign(t)
	p.all(t, at("Files"), lake.ListOptions{})
	if n, _ := p.Orders(); n == 0 {
		t.Fatal("no order is kept")
	}
	p.Forget(wsID)
	if n, _ := p.Orders(); n != 0 {
		t.Errorf("%d orders are kept of a scope that is to be forgotten", n)
	}
}

// Above its bound no order is kept, and listings are as they were.
func TestOrderIsBounded(t *testing.T) {
	defer lake.SetOrdered(0, 79)()
	p := start(t, t.TempDir())
	for i := range 20 {
		p.put(t, fmt.Sprintf("Files/large/%02d", i), nil)
	}
	got := p.all(t, at("Files/large"), lake.ListOptions{Max: 3})
	if n, _ := p.Orders(); len(got) != 20 || n != 0 {
		t.Errorf("%d names, %d orders", len(got), n)
	}
}

// BenchmarkList reads one page in the middle of a folder of 10,000 files.
func BenchmarkList(b *testing.B) {
	p := start(b, b.TempDir())
	const n = 10_000
	if err := p.fill(b.Context(), "Files/large", n); err != nil {
		b.Fatal(err)
	}
	for _, kept := range []bool{false, true} {
		for _, most := range []int{100, 1000, 5000} {
			b.Run(fmt.Sprintf("order=%t/page=%d", kept, most), func(b *testing.B) {
				if !kept {
					defer lake.SetOrdered(1<<60, 1<<30)()
				}
				o := lake.ListOptions{Max: most, StartFrom: fmt.Sprintf("lh.Lakehouse/Files/large/part-%08d.parquet", n/3)}
				for b.Loop() {
					l, err := p.List(b.Context(), p.caller, at("Files/large"), o)
					if err != nil || len(l.Entries) != most {
						b.Fatal(len(l.Entries), err)
					}
				}
			})
		}
	}
}

// BenchmarkListLarge lists a folder of names that came in no order, 100,000 unless
// KLUIS_BENCH_NAMES says how many: its first page, when the order is made, and pages
// in its midst.
func BenchmarkListLarge(b *testing.B) {
	n := 100_000
	if v := os.Getenv("KLUIS_BENCH_NAMES"); v != "" {
		var err error
		n, err = strconv.Atoi(v)
		must(b, err)
	}
	p := start(b, b.TempDir())
	go p.ring.Run(b.Context())
	_, err := p.Create(b.Context(), p.caller, at("Files/large"), lake.Folder, lake.PutOptions{})
	must(b, err)
	must(b, p.Enter(b.Context(), p.caller, at("Files/large"), n, func(i int) string {
		return fmt.Sprintf("part-%016x.c000.snappy.parquet", uint64(i+1)*0x9e3779b97f4a7c15)
	}))
	pages := func(b *testing.B, most int, from func() string) {
		before := cpuTime(b)
		for b.Loop() {
			l, err := p.List(b.Context(), p.caller, at("Files/large"), lake.ListOptions{Max: most, StartFrom: "lh.Lakehouse/Files/large/part-" + from()})
			if err != nil || len(l.Entries) != most {
				b.Fatal(len(l.Entries), err)
			}
		}
		b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/1e3/float64(b.N), "cpu-ms/op")
	}
	b.Run("first", func(b *testing.B) {
		peak := peakHeap(b, func() {
			pages(b, 5000, func() string {
				p.Forget(wsID)
				return ""
			})
		})
		_, bytes := p.Orders()
		b.ReportMetric(float64(bytes)/1e6, "MB-kept")
		b.ReportMetric(float64(peak)/1e6, "MB-peak")
	})
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int{100, 5000} {
		b.Run(fmt.Sprintf("page=%d", most), func(b *testing.B) {
			pages(b, most, func() string { return fmt.Sprintf("%x", rnd.IntN(14)) })
		})
	}
	b.Run("without", func(b *testing.B) {
		defer lake.SetOrdered(1<<60, 1<<30)()
		pages(b, 5000, func() string { return "" })
	})
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakHeap returns the most that the heap's live and not yet swept objects took, in
// bytes, above what they took before fn.
func peakHeap(b *testing.B, fn func()) uint64 {
	b.Helper()
	heap := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	runtime.GC()
	before, peak := heap(), uint64(0)
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			peak = max(peak, heap())
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	fn()
	close(done)
	<-over
	return peak - min(peak, before)
}

// fill makes empty files, many at a time.
func (p *platform) fill(ctx context.Context, folder string, n int) error {
	free, failed := make(chan struct{}, 64), make(chan error, n)
	for i := range n {
		free <- struct{}{}
		go func() {
			defer func() { <-free }()
			_, err := p.Create(ctx, p.caller, at(fmt.Sprintf("%s/part-%08d.parquet", folder, i)), lake.File, lake.PutOptions{})
			failed <- err
		}()
	}
	for range n {
		if err := <-failed; err != nil {
			return err
		}
	}
	return nil
}
