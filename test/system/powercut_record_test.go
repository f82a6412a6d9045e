package system_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/objstore/servertest"
	"github.com/kluis-io/kluis/test/powercut"
)

// TestRecordedPowerCuts records all that ext4 sends to two disks, rows on one and extents on
// the other, while the server starts, files of all sizes are uploaded, replaced and deleted,
// keys are made and the workspace's rotated, and the server ends. Each cut leaves of that
// record what had been flushed at a moment, and any part of what had not: ext4 mounts it, the
// server starts over it, and all that any client had been told by then holds. Of a file
// the newest version that was acknowledged is there, or a later one whole; a deleted one is
// gone; a key signs, and its public half verifies it; fsck, after every tenth cut, finds
// nothing. No acknowledgement is left out: the record says what came first. That disks which
// lose what they said was flushed are noticed shows that it looks.
//
// KLUIS_RIGS installations are cut side by side, KLUIS_RECORDED_CUTS times in all.
func TestRecordedPowerCuts(t *testing.T) {
	if os.Getenv("KLUIS_TEST_STORE") == "postgres" || servertest.Elsewhere() {
		t.Skip("does not apply: rows or extents lie on no disk that is recorded")
	}
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, RUN IT AS ROOT: disks are recorded by FUSE and mounted on loop devices")
	}
	var all tally
	sideBySide(t, times(t, "KLUIS_RECORDED_CUTS", 2, 10), func(t *testing.T, n int) {
		rig := newRig(t)
		var count tally
		r, events := rig.cut(t, n, &count)
		rig.lie(t, r, events)
		all.add(&count)
	})
	if all.promises == 0 || all.checked == 0 {
		t.Error("nothing was acknowledged: it proves nothing")
	}
	if all.lossy == 0 {
		t.Errorf("none of %d cuts lost what nobody had flushed: it proves nothing", all.cuts)
	}
	if t.Failed() {
		return
	}
	effort.Proof(t, "cuts-of-recorded-disks", all.cuts, "of-them-lossy", all.lossy, "blocks-lost-that-nobody-had-flushed", all.blocks, "disk-writes-and-flushes-recorded", all.events,
		"promises-recorded", all.promises, "promises-looked-at", all.checked, "promises-broken", 0) // it fails at the first
}

// A tally counts.
type tally struct {
	mu                                             sync.Mutex
	cuts, lossy, blocks, events, promises, checked int
}

func (c *tally) add(o *tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cuts += o.cuts
	c.lossy += o.lossy
	c.blocks += o.blocks
	c.events += o.events
	c.promises += o.promises
	c.checked += o.checked
}

// A rig is an installation whose disks are recorded.
type rig struct {
	*site
	recorder      *powercut.Recorder
	rows, extents string   // where the two disks are mounted
	images        []string // files for what a cut leaves of them
	before        [][]byte // what each record begins with
}

// newRig makes an installation with what furnish makes, its workspace under a key.
func newRig(t *testing.T) *rig {
	t.Helper()
	ctx := t.Context()
	dir, err := os.MkdirTemp("/dev/shm", "powercut-") // no disk is to wait for
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	under, data := filepath.Join(dir, "devices"), filepath.Join(dir, "data")
	must(t, os.Mkdir(under, 0o700))
	recorder, err := powercut.NewRecorder(under, 64<<20, 64<<20)
	if err != nil {
		t.Skipf("SKIPPED, IT NEEDS FUSE: %v", err)
	}
	t.Cleanup(func() { recorder.Close() })
	rig := &rig{
		site: &site{data: data, port: devtest.FreePort(t)}, recorder: recorder, rows: data, extents: filepath.Join(data, "platform", "extents"),
		images: []string{filepath.Join(dir, "0"), filepath.Join(dir, "1")},
	}
	t.Cleanup(func() {
		powercut.Detach(rig.extents)
		powercut.Detach(rig.rows)
	})
	rig.format(t, 0, rig.rows)
	p := start(t, data, rig.port)
	rig.connect(t)
	p.stop(t) // the folder for extents is there
	rig.format(t, 1, rig.extents)
	p = start(t, data, rig.port)
	rig.furnish(ctx, t)
	must(t, rig.assign(ctx))
	rig.await(ctx, t, "Active")
	p.stop(t)
	must(t, rig.unmount())
	rig.before = recorder.Images()
	return rig
}

// format mounts a device with a new file system at a folder in which there is nothing.
func (rig *rig) format(t *testing.T, device int, dir string) {
	t.Helper()
	file := rig.recorder.File(device)
	must(t, powercut.Format(t.Context(), file))
	must(t, os.MkdirAll(dir, 0o700))
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Fatalf("%s holds %v: %v", dir, left, err)
	}
	must(t, powercut.Mount(file, dir))
	must(t, os.Remove(filepath.Join(dir, "lost+found")))
	must(t, os.Chmod(dir, 0o700))
}

func (rig *rig) mount(files ...string) error {
	if err := powercut.Mount(files[0], rig.rows); err != nil {
		return fmt.Errorf("rows: %w", err)
	}
	if err := powercut.Mount(files[1], rig.extents); err != nil {
		return errors.Join(fmt.Errorf("extents: %w", err), powercut.Unmount(rig.rows))
	}
	return nil
}

func (rig *rig) unmount() error {
	return errors.Join(powercut.Unmount(rig.extents), powercut.Unmount(rig.rows))
}

// cut cuts the power n times, at moments of as many records as that takes, the last of which
// it returns.
func (rig *rig) cut(t *testing.T, n int, count *tally) (r *recording, events []powercut.Event) {
	const each = 100 // cuts of one record
	for count.cuts < n {
		r, events = rig.record(t)
		count.events += len(events)
		count.promises += r.told()
		seed := rand.Uint64()
		dice := rand.New(rand.NewPCG(seed, 0))
		replay := powercut.NewReplay(rig.before, events)
		for _, at := range r.moments(dice, len(events), min(each, n-count.cuts)) {
			replay.To(at)
			lost, err := replay.Cut(dice, rig.images...)
			must(t, err)
			checked, err := rig.verify(t, r, at, dice, count.cuts%10 == 0)
			if err != nil {
				t.Fatalf("cut at event %d of %d, %d blocks lost, seed %d: %v", at, len(events), lost, seed, err)
			}
			count.checked += checked
			count.cuts++
			count.blocks += lost
			if lost > 0 {
				count.lossy++
			}
		}
		if count.cuts%100 == 0 {
			t.Logf("%d cuts so far", count.cuts)
		}
	}
	return r, events
}

// lie cuts the power of disks one of which has forgotten half of what it was told.
func (rig *rig) lie(t *testing.T, r *recording, events []powercut.Event) {
	t.Helper()
	dice := rand.New(rand.NewPCG(1, 2))
	for device, name := range []string{"rows", "extents"} {
		seen := 0
		kept := slices.DeleteFunc(slices.Clone(events), func(e powercut.Event) bool {
			seen++
			return e.Device == device && seen > len(events)/2
		})
		replay := powercut.NewReplay(rig.before, kept)
		replay.To(len(kept))
		_, err := replay.Cut(dice, rig.images...)
		must(t, err)
		if _, err := rig.verify(t, r, len(events), dice, true); err == nil {
			t.Errorf("the disk with %s has lost half of what it was told, and nobody notices", name)
		}
	}
}

// verify starts a server over what a cut has left, and looks for what was promised before it.
func (rig *rig) verify(t *testing.T, r *recording, at int, dice *rand.Rand, fsck bool) (checked int, err error) {
	t.Helper()
	if err := rig.mount(rig.images...); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rig.unmount()) }()
	if fsck {
		if out, err := kluis(t, rig.data, "fsck", "--data", rig.data).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("fsck: %w\n%s", err, out)
		}
	}
	p := start(t, rig.data, rig.port, "GOGC=off") // it does not live long
	defer p.kill()
	rig.clients.HTTP.CloseIdleConnections()
	err = answered(t.Context(), func() (err error) {
		checked, err = r.check(t.Context(), rig.site, at, dice)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, p.log)
	}
	return checked, nil
}

// record starts the server, has clients work, and ends it, and returns what they were told,
// and what reached the disks.
func (rig *rig) record(t *testing.T) (*recording, []powercut.Event) {
	t.Helper()
	ctx, s, recorder := t.Context(), rig.site, rig.recorder
	recorder.Begin(rig.before)
	must(t, rig.mount(recorder.File(0), recorder.File(1)))
	r := &recording{}
	for i, words := range []int{8, 500, 500, 4_000, 20_000, 40_000} {
		r.files = append(r.files, &ledger{versioned: versioned{path: fmt.Sprintf("lake.Lakehouse/Files/v/%d.bin", i), size: words}})
	}
	p := start(t, s.data, s.port)
	s.clients.HTTP.CloseIdleConnections()
	work, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var working sync.WaitGroup
	enough := func() bool { return len(recorder.Events()) > 2_500 }
	for _, l := range r.files {
		working.Go(func() {
			for work.Err() == nil && (len(l.told) < 2 || !enough()) {
				if err := l.write(work, s, recorder.Now); err != nil && !unanswered(err) && work.Err() == nil {
					t.Errorf("%s: %v", l.path, err)
					return
				}
			}
		})
	}
	for _, act := range []func(context.Context, *site, *powercut.Recorder, int) error{r.makeFile, r.deleteFile, r.makeKey, r.rotate} {
		working.Go(func() {
			for i := 0; work.Err() == nil && (i < 1 || !enough()); i++ {
				if err := act(work, s, recorder, i); err != nil && !unanswered(err) && work.Err() == nil {
					t.Error(err)
					return
				}
				time.Sleep(rand.N(20 * time.Millisecond))
			}
		})
	}
	working.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if r.told() == 0 {
		t.Fatal("nothing was acknowledged within a minute: it proves nothing")
	}
	if rand.IntN(2) == 0 {
		p.kill()
	} else {
		p.stop(t)
	}
	must(t, rig.unmount())
	return r, recorder.Events()
}
