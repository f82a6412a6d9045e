package system_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/objstore/servertest"
)

// TestSoakReplicas serves readers and writers with three replicas for as long as KLUIS_SOAK
// says, while the key is rotated each hour and a random fault comes every five minutes, both
// sooner if there is less time: a replica is killed, or stands still for longer than its
// lease, the database crashes, the object store fails, or the key is switched off and on.
// No acknowledged write is lost; memory and goroutines stay as they are within each life of
// a replica; and fsck, each hour, finds nothing.
func TestSoakReplicas(t *testing.T) {
	v := os.Getenv("KLUIS_SOAK")
	if v == "" {
		t.Skip("SKIPPED: it takes as long as it is given; make proof runs it for hours (KLUIS_SOAK=1h)")
	}
	lasting, err := time.ParseDuration(v)
	must(t, err)
	ctx := t.Context()
	store := inS3(t)
	const lease = 10 * time.Second
	f := makeFleet(t, 3, "KLUIS_LEASE="+lease.String(), "KLUIS_BOUND=20s")
	f.patience = lease // a server that a busy machine keeps from answering is not away
	var addresses []string
	for i := range f.own {
		addresses = append(addresses, "127.0.0.1:"+devtest.FreePort(t))
		f.own[i] = []string{"KLUIS_METRICS=" + addresses[i]}
	}
	f.serve(t)
	f.furnish(ctx, t)
	must(t, f.assign(ctx))
	f.await(ctx, t, "Active")
	at := make([]*site, len(f.replicas))
	for i := range at {
		at[i] = f.at(t, i)
	}
	var files []*versioned
	for i, words := range []int{8, 500, 4_000, 12_000} { // what they replace stays for the backup horizon
		files = append(files, &versioned{path: fmt.Sprintf("lake.Lakehouse/Files/v/%d.bin", i), size: words, conditional: true})
	}

	lives := make([][]sample, len(at)) // of each replica, since it was started
	var usage growth
	ended := func(i int) {
		usage.add(lives[i])
		lives[i] = nil
	}
	var kills, pauses, crashes, outages, revocations, rotations, checks int
	var reads, failed atomic.Int64
	began := time.Now()
	life, hour := min(lasting/12, 5*time.Minute), min(lasting/4, time.Hour)
	each := func(what string, want func(error) bool) {
		t.Helper()
		for i, s := range at {
			eventually(ctx, t, 2*time.Minute, func() error {
				if _, err := s.get(ctx, s.smallest()); !want(err) {
					return fmt.Errorf("%s: replica %d answers a read with %w", what, i, err)
				}
				return nil
			})
		}
	}
	serves := func(err error) bool { return err == nil }
	faults := []struct {
		name string
		do   func()
	}{
		{"a replica is killed", func() {
			i := rand.N(len(at))
			ended(i)
			f.processes[i].kill()
			f.start(t, i)
			kills++
		}},
		{"a replica stands still", func() {
			i := rand.N(len(at))
			must(t, f.processes[i].cmd.Process.Signal(syscall.SIGSTOP))
			time.Sleep(lease + lease/2)
			must(t, f.processes[i].cmd.Process.Signal(syscall.SIGCONT))
			pauses++
		}},
		{"the database crashes", func() {
			must(t, f.pg.Stop("immediate"))
			must(t, f.pg.Restart())
			crashes++
		}},
		{"the object store fails", func() {
			store.Reset(func(_ *http.Request, n int) servertest.Fault {
				return []servertest.Fault{servertest.Fails, servertest.Lost, servertest.Cut}[n%3]
			})
			time.Sleep(5 * time.Second)
			store.Reset(nil)
			outages++
		}},
		{"the key is switched off", func() {
			must(t, f.setEnabled(ctx, keyName, false))
			each("the key is off", refusedByKey)
			must(t, f.setEnabled(ctx, keyName, true))
			revocations++
		}},
	}
	var disk []float64
	for time.Since(began) < lasting {
		work, stop := context.WithTimeout(ctx, life)
		var working sync.WaitGroup
		for _, v := range files {
			working.Go(func() {
				for work.Err() == nil {
					one, done := context.WithTimeout(work, 10*time.Second)
					if v.write(one, f.site) != nil {
						failed.Add(1)
					}
					done()
					time.Sleep(rand.N(400 * time.Millisecond))
				}
			})
		}
		for i := range 3 * len(at) {
			working.Go(func() {
				for work.Err() == nil {
					if _, err := at[i%len(at)].get(work, f.smallest()); err != nil {
						failed.Add(1)
					} else {
						reads.Add(1)
					}
					time.Sleep(rand.N(40 * time.Millisecond))
				}
			})
		}
		for work.Err() == nil {
			select {
			case <-work.Done():
			case <-time.After(max(life/20, time.Second)):
				for i, s := range f.replicas {
					if now, err := s.sampled(ctx, addresses[i]); err == nil {
						lives[i] = append(lives[i], now)
					}
				}
			}
		}
		// The fault comes under load, and the load has to outlive it.
		fault := faults[rand.N(len(faults))]
		fault.do()
		stop()
		working.Wait()
		each(fault.name, serves)
		for i, v := range files {
			if err := answered(ctx, func() error { return v.check(ctx, at[i%len(at)]) }); err != nil {
				t.Fatalf("after this: %s: %v", fault.name, err)
			}
		}
		size, err := f.stored(ctx, store)
		must(t, err)
		disk = append(disk, size)
		t.Logf("%s: %s; %d reads, %d failed, %.0f MB stored", time.Since(began).Round(time.Second), fault.name, reads.Load(), failed.Load(), size/1e6)
		if rotations < int(time.Since(began)/hour) {
			eventually(ctx, t, time.Minute, func() error { _, err := f.keys.RotateKey(ctx, keyName, nil); return err })
			rotations++
		}
		if checks < int(time.Since(began)/hour) {
			for i, p := range f.processes {
				ended(i)
				p.stop(t)
			}
			f.balancer.close()
			f.fsck(t)
			checks++
			f.serve(t)
			each("after fsck", serves)
		}
	}
	for i, p := range f.processes {
		ended(i)
		p.stop(t)
	}
	f.balancer.close()
	f.once(t)
	f.fsck(t)
	var acknowledged uint64
	for _, v := range files {
		acknowledged += v.acks
	}
	if lasting >= time.Hour && usage.heap > 0.5 {
		t.Errorf("memory in use grew by %.0f %% within one life of a replica, after it was warm", 100*usage.heap)
	}
	if usage.goroutines > 50 {
		t.Errorf("%.0f goroutines came to be in one life of a replica, after it was warm", usage.goroutines)
	}
	effort.Proof(t, "replica-minutes", len(at)*int(time.Since(began).Minutes()), "replicas-killed", kills, "paused", pauses, "database-crashes", crashes, "object-store-outages", outages,
		"keys-switched", revocations, "rotations-at-replicas", rotations, "writes-acknowledged-by-replicas", acknowledged, "of-them-lost", 0, "fsck-runs-clean", checks+1,
		"replica-heap-growth-percent-at-most", int(100*max(0, usage.heap)), "replica-goroutines-more-at-most", int(max(0, usage.goroutines)),
		"stored-megabytes-at-most", int(slices.Max(append(disk, 0))/1e6))
}

// stored is what the installation keeps, in bytes: rows and objects.
func (f *fleet) stored(ctx context.Context, store *servertest.Server) (bytes float64, err error) {
	db, err := sql.Open("pgx", f.platform)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT sum(pg_database_size(datname)) FROM pg_database").Scan(&bytes)
	return bytes + folderSize(store.Dir), err
}
