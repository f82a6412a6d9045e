package system_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/objstore/servertest"
)

// A disk is an ext4 file system in a file, whose power can be cut.
//
// The cut is the file system's own (EXT4_IOC_SHUTDOWN without a flush of its log): from
// that instant nothing more reaches the disk, not what lies in the page cache, not the
// part of the journal that nobody has flushed. Mounting it again replays the journal, as
// after a real cut. What the model leaves out is a disk that loses what ext4 has told it
// to flush.
type disk struct{ image, dir string }

// The most that ext4 may keep back: no flush by itself for ten minutes, none when a
// file is renamed over another, and no order between contents and names.
const lazily = "loop,commit=600,noauto_da_alloc,data=writeback"

// newDisk makes a disk and mounts it at dir. It skips the test where that is not
// possible.
func newDisk(t *testing.T, dir string, megabytes int64) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, RUN IT AS ROOT: a power cut is simulated on loop devices, which only root mounts")
	}
	d := &disk{image: filepath.Join(t.TempDir(), "image"), dir: dir}
	must(t, os.WriteFile(d.image, nil, 0o600))
	must(t, os.Truncate(d.image, megabytes<<20))
	must(t, os.MkdirAll(dir, 0o700))
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", d.image}, {"mount", "-o", lazily, d.image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED, IT NEEDS LOOP DEVICES AND ext4: %v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	must(t, os.Remove(filepath.Join(dir, "lost+found")))
	must(t, os.Chmod(dir, 0o700))
	d.sync(t)
	return d
}

// moveToDisk is newDisk for a folder that has something in it.
func moveToDisk(t *testing.T, dir string, megabytes int64) *disk {
	t.Helper()
	was := dir + ".moved"
	must(t, os.Rename(dir, was))
	d := newDisk(t, dir, megabytes)
	must(t, os.CopyFS(dir, os.DirFS(was)))
	must(t, os.RemoveAll(was))
	d.sync(t)
	return d
}

// sync flushes all.
func (d *disk) sync(t *testing.T) {
	t.Helper()
	f, err := os.Open(d.dir)
	must(t, err)
	defer f.Close()
	must(t, unix.Syncfs(int(f.Fd())))
}

// cut cuts the power.
func (d *disk) cut() error {
	const shutdown, withoutFlush = 0x8004587d, 2
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), shutdown, withoutFlush)
}

// umount takes the disk out.
func (d *disk) umount(t *testing.T) {
	t.Helper()
	eventually(t.Context(), t, 10*time.Second, func() error { return unix.Unmount(d.dir, 0) })
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	// The loop device of before goes when the kernel gets to it.
	eventually(t.Context(), t, 10*time.Second, func() error {
		out, err := exec.Command("mount", "-o", lazily, d.image, d.dir).CombinedOutput()
		if err != nil {
			return fmt.Errorf("mount: %w\n%s", err, out)
		}
		return nil
	})
}

// times is how often something is repeated: what the variable says, or else a few times,
// and more in CI.
func times(t *testing.T, variable string, few, more int) int {
	t.Helper()
	v := os.Getenv(variable)
	switch n, err := strconv.Atoi(v); {
	case v != "" && (err != nil || n < 1):
		t.Fatalf("%s is %q: want a number", variable, v)
	case v != "":
		return n
	case slow:
		return more
	}
	return few
}

// TestPowerCuts cuts the server's power at any moment while files of all sizes are
// uploaded and replaced: what was acknowledged is there, what was not is there whole or
// not at all, and fsck finds nothing.
//
// Metadata and extents lie on two disks, so that a flush of the one does not carry along
// what should have been flushed of the other: on one disk, SQLite's own would hide that a
// folder's was forgotten.
func TestPowerCuts(t *testing.T) {
	if servertest.Elsewhere() {
		t.Skip("does not apply: extents lie in no folder of this machine")
	}
	t.Parallel()
	ctx := t.Context()
	data := filepath.Join(t.TempDir(), "data")
	rows := newDisk(t, data, 192)
	s := &site{data: data, port: devtest.FreePort(t)}
	p := start(t, s.data, s.port)
	s.connect(t)
	s.furnish(ctx, t)
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")
	p.stop(t)
	platform := filepath.Join(data, "platform")
	extents := moveToDisk(t, filepath.Join(platform, "extents"), 512)
	rows.sync(t)
	p = start(t, s.data, s.port)
	s.connect(t)
	var files []*versioned
	for i, words := range []int{8, 500, 500, 4_000, 40_000, 40_000} {
		files = append(files, &versioned{path: fmt.Sprintf("lake.Lakehouse/Files/v/%d.bin", i), size: words})
	}
	n, lost := times(t, "KLUIS_POWER_CUTS", 2, 8), 0
	var acknowledged uint64
	for i := range n {
		uploads, cancel := context.WithCancel(ctx)
		var writers sync.WaitGroup
		for _, v := range files {
			writers.Go(func() {
				for uploads.Err() == nil {
					one, done := context.WithTimeout(uploads, 5*time.Second)
					if v.write(one, s) != nil && ctx.Err() == nil { // of the cut, and of all after it
						cancel()
					}
					done()
				}
			})
		}
		time.Sleep(time.Duration(30+rand.IntN(400)) * time.Millisecond)
		stray := filepath.Join(platform, "stray") // flushed by nobody
		must(t, os.WriteFile(stray, bytes.Repeat([]byte("x"), 1<<16), 0o600))
		order := []*disk{rows, extents}
		if rand.IntN(2) == 0 {
			order[0], order[1] = extents, rows
		}
		// A cut takes the kernel some milliseconds, in which it gives up the journal's
		// transaction and yet may tell who waits for it that it is flushed, of an extent as
		// of a row. Whom a real cut takes along hears nothing more.
		for _, v := range files {
			v.deaf.Store(true)
		}
		for _, d := range order {
			must(t, d.cut())
		}
		writers.Wait()
		cancel()
		p.kill()
		extents.umount(t)
		rows.umount(t)
		rows.mount(t)
		extents.mount(t)
		if b, err := os.ReadFile(stray); errors.Is(err, fs.ErrNotExist) || err == nil && bytes.Count(b, []byte("x")) < 1<<16 {
			lost++
		}
		os.Remove(stray)
		s.fsck(t)
		p = start(t, s.data, s.port)
		s.connect(t)
		for _, v := range files {
			v.deaf.Store(false)
			if err := v.check(ctx, s); err != nil {
				t.Errorf("after cut %d: %v", i+1, err)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
		if (i+1)%100 == 0 {
			t.Logf("%d cuts so far", i+1)
		}
	}
	for _, v := range files {
		acknowledged += v.acks
		t.Logf("%s: %d of %d writes were acknowledged, and are there", v.path, v.acks, v.attempted)
	}
	if acknowledged == 0 {
		t.Error("no write was acknowledged: it proves nothing")
	}
	if lost == 0 {
		t.Errorf("none of %d cuts lost what nobody had flushed: it proves nothing", n)
	}
	t.Logf("%d cuts, %d of which lost what nobody had flushed", n, lost)
	// It fails at the first acknowledged write that is not there.
	effort.Proof(t, "cuts", n, "cuts-that-lost-what-nobody-flushed", lost, "acknowledged-writes", acknowledged, "acknowledged-writes-lost", 0)
	p.stop(t)
	s.fsck(t)
}
