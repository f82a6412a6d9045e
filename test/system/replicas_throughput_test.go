package system_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/effort"
)

// TestThroughputOfReplicas measures what one, two and three of three replicas do a second
// on this machine, by turns, and what an operation costs in CPU: the servers, PostgreSQL,
// and the clients in this process. It promises nothing, and fails only if a request does.
func TestThroughputOfReplicas(t *testing.T) {
	if effort.Of(0, 0, 1) == 0 {
		t.Skip("SKIPPED: it measures for some minutes; KLUIS_EFFORT=full runs it")
	}
	const clients, lasting, rounds, size = 12, 10 * time.Second, 3, 60_000
	ctx := t.Context()
	f := newFleet(t, 3)
	f.furnish(ctx, t)
	must(t, f.assign(ctx))
	f.await(ctx, t, "Active")
	body := bytes.Repeat([]byte("60 kB."), size/6)
	path := func(i int) string { return fmt.Sprintf("lake.Lakehouse/Files/throughput/%d.bin", i) }
	each := []*site{f.at(t, 0), f.at(t, 1), f.at(t, 2)}
	for i := range clients {
		f.put(ctx, t, path(i), body)
		for _, s := range each {
			_, err := s.get(ctx, path(i))
			must(t, err)
		}
	}
	figures := map[string][]float64{}
	for range rounds {
		for n := 1; n <= len(each); n++ {
			for what, do := range map[string]func(s *site, i int) error{
				"GET": func(s *site, i int) error { _, err := s.get(ctx, path(i)); return err },
				"PUT": func(s *site, i int) error {
					_, err := s.engineer.Blobs.UploadBuffer(ctx, s.container, path(i), body, nil)
					return err
				},
			} {
				var operations atomic.Int64
				var busy sync.WaitGroup
				began, servers, database, own := time.Now(), f.cpu(t), f.cpuOfDatabase(t), cpuOf(t, "self", false)
				for i := range clients {
					busy.Go(func() {
						for time.Since(began) < lasting {
							if err := do(each[i%n], i); err != nil {
								t.Errorf("%s: %v", what, err)
								return
							}
							operations.Add(1)
						}
					})
				}
				busy.Wait()
				done := float64(operations.Load())
				note := func(figure string, v float64) {
					name := fmt.Sprintf("%s, %d replicas, %s", what, n, figure)
					figures[name] = append(figures[name], v)
				}
				note("a second", done/time.Since(began).Seconds())
				note("servers' CPU ms", (f.cpu(t)-servers)*1000/done)
				note("PostgreSQL's CPU ms", (f.cpuOfDatabase(t)-database)*1000/done)
				note("clients' CPU ms", (cpuOf(t, "self", false)-own)*1000/done)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		v := slices.Sorted(slices.Values(figures[name]))
		t.Logf("%s: %.2f (%.2f to %.2f)", name, v[len(v)/2], v[0], v[len(v)-1])
	}
}

// cpu returns what the fleet's servers have used, in seconds.
func (f *fleet) cpu(t *testing.T) (sum float64) {
	for _, p := range f.processes {
		sum += p.cpu(t)
	}
	return sum
}

// cpuOfDatabase returns what PostgreSQL's processes have used, with those that are gone.
func (f *fleet) cpuOfDatabase(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.pg.Socket(), "data", "postmaster.pid"))
	must(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	sum := cpuOf(t, first, true)
	children, err := os.ReadFile("/proc/" + first + "/task/" + first + "/children")
	must(t, err)
	for pid := range strings.FieldsSeq(string(children)) {
		sum += cpuOf(t, pid, false)
	}
	return sum
}
