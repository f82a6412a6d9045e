package load_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const mostClients = 16

// block is what bodies consist of.
var block = func() []byte {
	b := make([]byte, 256<<10)
	rand.Read(b)
	return b
}()

// A cell is one load: what each of a number of clients does again and again.
type cell struct {
	op      string
	size    int64 // of the file
	clients int
}

const (
	opGet   = "GET"
	opRange = "range" // 4 KiB from somewhere in the file
	opPut   = "PUT"
)

const rangeSize = 4 << 10

const (
	small  = 4 << 10
	medium = 1 << 20
	large  = 256 << 20
)

func (c cell) String() string {
	what := c.op
	if c.op == opRange {
		what = "4KiB_range_of"
	}
	return fmt.Sprintf("%s_%s_c=%d", what, bytes(c.size), c.clients)
}

func bytes(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprintf("%dKiB", n>>10)
}

// cells are the loads, reads before writes.
func cells() (all []cell) {
	for _, op := range []string{opGet, opRange, opPut} {
		for _, size := range []int64{small, medium, large} {
			if op == opRange && size != large {
				continue
			}
			for _, clients := range []int{1, mostClients} {
				all = append(all, cell{op, size, clients})
			}
		}
	}
	return all
}

// A run is what one load for a while came to.
type run struct {
	ops     int64
	elapsed time.Duration
	cpu     time.Duration // of the server
}

// files is how many files of a size below the large one the reads go round.
const files = 64

func source(size int64, i int64) string {
	if size == large {
		i = 0
	}
	return fmt.Sprintf("read/%s/%d", bytes(size), i%files)
}

// stock writes the files that a size's reads need.
func stock(ctx context.Context, s *target, size int64) error {
	n := int64(files)
	if size == large {
		n = 1
	}
	var g errgroup.Group
	g.SetLimit(4)
	for i := range n {
		g.Go(func() error { return s.put(ctx, source(size, i), size) })
	}
	return g.Wait()
}

// written numbers the files that writes make: each is a new one.
var written atomic.Int64

// once does what a cell's client does, for the i-th time.
func (c cell) once(ctx context.Context, s *target, i int64) error {
	switch c.op {
	case opGet:
		return s.get(ctx, source(c.size, i), -1, c.size)
	case opRange:
		// Neither in order nor at the edge of a chunk.
		return s.get(ctx, source(c.size, i), i*7_368_787%(c.size-rangeSize), rangeSize)
	default:
		n := written.Add(1)
		return s.put(ctx, fmt.Sprintf("written/%d/%d", n/256, n), c.size)
	}
}

// load lets the cell's clients loose on a server until the time is up: each ends
// what it has begun, and does at least one thing.
func (c cell) load(t testing.TB, s *target, limit time.Duration) run {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var next, ops atomic.Int64
	before := cpu(t, s.pid)
	begin := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range c.clients {
		g.Go(func() error {
			for {
				if err := c.once(ctx, s, next.Add(1)); err != nil {
					return err
				}
				ops.Add(1)
				if time.Since(begin) >= limit {
					return nil
				}
			}
		})
	}
	must(t, g.Wait())
	return run{ops.Load(), time.Since(begin), cpu(t, s.pid) - before}
}

// rate is in operations a second, cost in µs of CPU an operation.
func (r run) rate() float64 { return float64(r.ops) / r.elapsed.Seconds() }
func (r run) cost() float64 { return float64(r.cpu.Microseconds()) / float64(r.ops) }

// median returns the median of what of makes of the runs.
func median(runs []run, of func(run) float64) float64 {
	var v []float64
	for _, r := range runs {
		v = append(v, of(r))
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// limit is how long one run goes on.
const limit = time.Second

// BenchmarkLoad loads the servers with one cell after the other. One iteration is
// one run of each server in turn.
func BenchmarkLoad(b *testing.B) {
	servers := []*target{startBare(b), startKluis(b)}
	if s := startAzurite(b); s != nil {
		servers = append(servers, s)
	}
	stocked := map[int64]bool{}
	for _, c := range cells() {
		b.Run(c.String(), func(b *testing.B) {
			if c.op != opPut && !stocked[c.size] {
				for _, s := range servers {
					must(b, stock(b.Context(), s, c.size))
				}
				stocked[c.size] = true
			}
			for _, s := range servers { // connections, caches
				if c.op != opPut || c.size < large {
					c.load(b, s, 0)
				}
			}
			time.Sleep(200 * time.Millisecond)
			idle := make([]int64, len(servers))
			for i, s := range servers {
				resetPeak(b, s.pid)
				idle[i], _ = memory(b, s.pid)
			}
			runs := make([][]run, len(servers))
			for b.Loop() {
				for i, s := range servers {
					runs[i] = append(runs[i], c.load(b, s, limit))
				}
			}
			b.ReportMetric(0, "ns/op") // a round's length says nothing
			row := row{cell: c}
			for i, s := range servers {
				_, peak := memory(b, s.pid)
				f := figures{median(runs[i], run.rate), median(runs[i], run.cost), peak - idle[i]}
				b.ReportMetric(f.rate, s.name+"-op/s")
				b.ReportMetric(f.cost, s.name+"-cpu-µs/op")
				b.ReportMetric(float64(f.memory>>20), s.name+"-peak-MiB")
				row.servers = append(row.servers, f)
			}
			results.add(row)
		})
	}
}

// A row is one cell's figures, in the order of the servers.
type row struct {
	cell    cell
	servers []figures
}

type figures struct {
	rate, cost float64
	memory     int64 // bytes at the peak, above what it was before
}

// A table prints as docs/benchmarks.md has it.
type table []row

var results table

// add adds a row. With -count, a cell's last one counts.
func (t *table) add(r row) {
	if n := len(*t); n > 0 && (*t)[n-1].cell == r.cell {
		*t = (*t)[:n-1]
	}
	*t = append(*t, r)
}

func (t *table) String() string {
	var b strings.Builder
	if len(*t) == 0 {
		return ""
	}
	b.WriteString("\n| | clients | bare | kluis | Azurite | kluis/bare | kluis's peak |\n|---|---|---|---|---|---|---|\n")
	for _, r := range *t {
		what := r.cell.op + " " + bytes(r.cell.size)
		if r.cell.op == opRange {
			what = "4KiB range of " + bytes(r.cell.size)
		}
		fmt.Fprintf(&b, "| %s | %d |", what, r.cell.clients)
		for i := range 3 {
			if i < len(r.servers) {
				fmt.Fprintf(&b, " %s |", r.servers[i].of(r.cell))
			} else {
				b.WriteString(" - |")
			}
		}
		fmt.Fprintf(&b, " %.2f | %d MiB |\n", r.servers[1].cost/r.servers[0].cost, r.servers[1].memory>>20)
	}
	return b.String()
}

// of tells the figures in the units that fit the cell.
func (f figures) of(c cell) string {
	if c.op == opRange || c.size == small {
		return fmt.Sprintf("%.0f/s; %.0f µs", f.rate, f.cost)
	}
	size := float64(c.size)
	return fmt.Sprintf("%.0f MB/s; %.2f s/GiB", f.rate*size/1e6, f.cost/1e6*(1<<30)/size)
}

// TestLoad keeps the program working: every kind of load runs once against the
// servers that need no download, and what was written reads back to its length.
func TestLoad(t *testing.T) {
	for _, s := range []*target{startBare(t), startKluis(t)} {
		must(t, stock(t.Context(), s, small))
		for _, c := range []cell{{opGet, small, 1}, {opPut, small, mostClients}, {opPut, medium, 1}} {
			if r := c.load(t, s, 0); r.ops != int64(c.clients) || r.elapsed <= 0 {
				t.Errorf("%s of %s: %d operations in %v, want %d", c, s.name, r.ops, r.elapsed, c.clients)
			}
		}
		must(t, s.put(t.Context(), "one", medium))
		must(t, s.get(t.Context(), "one", -1, medium))
		must(t, s.get(t.Context(), "one", 12_345, rangeSize))
		if err := s.get(t.Context(), "none", -1, 0); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("%s gives what is not there: %v", s.name, err)
		}
	}
}
