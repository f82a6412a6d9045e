package system_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/kluis-io/kluis/internal/effort"
)

// TestKills kills the server at any moment, KLUIS_KILLS times, while files of all sizes
// are written, the key is rotated, and it is switched off and on: after each restart each
// acknowledged write is there and each file is whole, the key says what its custodian was
// told, and in the end, and after each hundred kills, fsck finds nothing. KLUIS_RIGS servers
// are killed side by side.
func TestKills(t *testing.T) {
	t.Parallel()
	var all kills
	sideBySide(t, times(t, "KLUIS_KILLS", 3, 20), func(t *testing.T, n int) {
		for n > 0 { // what is replaced stays, so that an installation grows
			t.Run("installation", func(t *testing.T) { all.add(killed(t, min(n, 100))) })
			n -= 100
		}
	})
	if all.acknowledged == 0 {
		t.Error("no write was acknowledged: it proves nothing")
	}
	if t.Failed() {
		return
	}
	effort.Proof(t, "kills", all.kills, "acknowledged-writes", all.acknowledged, "acknowledged-writes-lost", 0, "rotations-acknowledged", all.rotations, "rotations-lost", 0,
		"keys-switched-off", all.switches, "of-them-on-again", 0)
}

// sideBySide divides n rounds among KLUIS_RIGS installations, one by default, and has them run
// side by side.
func sideBySide(t *testing.T, n int, run func(t *testing.T, n int)) {
	t.Helper()
	build(t)
	rigs := times(t, "KLUIS_RIGS", 1, 1)
	t.Run("rigs", func(t *testing.T) {
		for i := range rigs {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				run(t, (n+i)/rigs)
			})
		}
	})
}

// Kills is what came of killing servers.
type kills struct {
	mu                         sync.Mutex
	kills, rotations, switches int
	acknowledged               uint64
}

func (k *kills) add(o *kills) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kills += o.kills
	k.rotations += o.rotations
	k.switches += o.switches
	k.acknowledged += o.acknowledged
}

// keepWriting has each file written over and over until a function that it returns is called,
// and counts what is acknowledged.
func keepWriting(ctx context.Context, files []*versioned, told *atomic.Int64, at func(i int) (*site, *process)) (stop func()) {
	work, cancel := context.WithCancel(ctx)
	var writers sync.WaitGroup
	for i, v := range files {
		s, p := at(i)
		writers.Go(func() {
			for work.Err() == nil && p.alive() {
				one, done := context.WithTimeout(work, 5*time.Second)
				if v.write(one, s) == nil {
					told.Add(1)
				}
				done()
			}
		})
	}
	return func() {
		cancel()
		writers.Wait()
	}
}

// filesOf are files of so many words.
func filesOf(words ...int) (files []*versioned) {
	for i, w := range words {
		files = append(files, &versioned{path: fmt.Sprintf("lake.Lakehouse/Files/v/%d.bin", i), size: w})
	}
	return files
}

// unanswered reports whether err is what storage clients get while the vault or the directory
// does not answer: nothing is lost, and on a busy machine it happens.
func unanswered(err error) bool {
	var re *azcore.ResponseError
	return errors.As(err, &re) && re.StatusCode == http.StatusServiceUnavailable
}

// answered tries until there is an answer, and returns that.
func answered(ctx context.Context, try func() error) (err error) {
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = try(); !unanswered(err) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// killed kills a server n times.
func killed(t *testing.T, n int) *kills {
	t.Helper()
	ctx := t.Context()
	s, p := underKey(ctx, t)
	again := func() {
		p.kill()
		p = start(t, s.data, s.port)
		s.clients.HTTP.CloseIdleConnections()
	}
	files := filesOf(8, 500, 4_000, 20_000, 60_000)
	done := &kills{}
	wanted := 0 // rotations that were asked for
	for i := range n {
		var told atomic.Int64
		stop := keepWriting(ctx, files, &told, func(int) (*site, *process) { return s, p })
		var rotation sync.WaitGroup
		if i%20 == 7 || i%20 == 17 {
			wanted++
			rotation.Go(func() {
				if _, err := s.keys.RotateKey(ctx, keyName, nil); err == nil {
					done.rotations++
				}
			})
		}
		if i%20 == 17 { // as soon as the rotation is acknowledged
			rotation.Wait()
		} else {
			time.Sleep(time.Duration(10+rand.IntN(190)) * time.Millisecond)
		}
		p.kill()
		done.kills++
		stop()
		rotation.Wait()
		again()
		// Switched off for somebody to have switched it off, on for the reads below.
		if i%20 == 13 {
			must(t, s.setEnabled(ctx, keyName, false))
			again()
			done.kills++
			got, err := s.keys.GetKey(ctx, keyName, "", nil)
			must(t, err)
			if *got.Attributes.Enabled {
				t.Fatalf("after kill %d: the key was switched off, and is on", done.kills)
			}
			done.switches++
			must(t, s.setEnabled(ctx, keyName, true))
		}
		for _, v := range files {
			eventually(ctx, t, 2*time.Minute, func() error {
				err := v.check(ctx, s)
				if refusedByKey(err) || unanswered(err) {
					return err // until the platform has heard that the key is on again
				}
				if err != nil {
					t.Fatalf("after kill %d: %v", done.kills, err)
				}
				return nil
			})
		}
	}
	for _, v := range files {
		done.acknowledged += v.acks
	}
	there := 0
	for pager := s.keys.NewListKeyPropertiesVersionsPager(keyName, nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		must(t, err)
		there += len(page.Value)
	}
	if there < 1+done.rotations || there > 1+wanted {
		t.Errorf("%d versions of the key are there; %d were made, and %d asked for", there, 1+done.rotations, 1+wanted)
	}
	for path, want := range s.files {
		if got, err := s.get(ctx, path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d: %v", path, len(got), len(want), err)
		}
	}
	p.stop(t)
	s.fsck(t)
	return done
}

// TestKillsOfReplicas kills one of three replicas on PostgreSQL at any moment of writes that
// come to all of them: what it had acknowledged is at once there at another.
func TestKillsOfReplicas(t *testing.T) {
	v := os.Getenv("KLUIS_REPLICA_KILLS")
	if v == "" {
		t.Skip("SKIPPED: the replicas' other tests kill them too; make proof kills many (KLUIS_REPLICA_KILLS=200)")
	}
	n := times(t, "KLUIS_REPLICA_KILLS", 0, 0)
	ctx := t.Context()
	f := newFleet(t, 3)
	f.furnish(ctx, t)
	must(t, f.assign(ctx))
	f.await(ctx, t, "Active")
	at := []*site{f.at(t, 0), f.at(t, 1), f.at(t, 2)}
	files := filesOf(8, 500, 4_000, 20_000, 500, 8)
	for _, v := range files {
		v.conditional = true
	}
	for i := range n {
		var told atomic.Int64
		stop := keepWriting(ctx, files, &told, func(i int) (*site, *process) { return at[i%3], f.processes[i%3] })
		for began, enough := time.Now(), rand.N[int64](12); told.Load() < enough && time.Since(began) < 10*time.Second; {
			time.Sleep(time.Millisecond)
		}
		dies := rand.N(3)
		f.processes[dies].kill()
		stop()
		f.launch(t, dies)
		for _, v := range files {
			other := at[(dies+1+rand.N(2))%3]
			if err := answered(ctx, func() error { return v.check(ctx, other) }); err != nil {
				t.Fatalf("after kill %d: %v", i+1, err)
			}
		}
		f.wait(t, dies)
		at[dies].clients.HTTP.CloseIdleConnections()
	}
	var acknowledged uint64
	for _, v := range files {
		acknowledged += v.acks
	}
	for _, p := range f.processes {
		p.stop(t)
	}
	f.balancer.close()
	f.once(t)
	f.fsck(t)
	effort.Proof(t, "kills-of-a-replica-of-three", n, "writes-acknowledged-by-replicas", acknowledged, "of-them-lost", 0)
}
