package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/faulty"
	"github.com/kluis-io/kluis/objstore/local"
	"github.com/kluis-io/kluis/objstore/objtest"
)

func open(t *testing.T, dir string) *local.Store {
	t.Helper()
	s, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	objtest.Run(t, func(t *testing.T) func() lake.Objects {
		dir := filepath.Join(t.TempDir(), "objects")
		return func() lake.Objects { return open(t, dir) }
	})
}

func TestFaultyStoreWithoutFaults(t *testing.T) {
	objtest.Run(t, func(t *testing.T) func() lake.Objects {
		dir := filepath.Join(t.TempDir(), "objects")
		return func() lake.Objects { return faulty.Wrap(open(t, dir), nil) }
	})
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	objtest.Put(t, open(t, dir), objtest.ID(), []byte("x"))
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a crash leaves is neither listed nor opened, and goes after a day.
func TestTemporaryFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	s := open(t, dir)
	for _, age := range []time.Duration{time.Hour, 25 * time.Hour} {
		id := objtest.ID()
		w, err := s.Create(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("half")); err != nil { // and then the process dies
			t.Fatal(err)
		}
		temp := filepath.Join(dir, id[:2], id[2:4], durable.TempPrefix+id)
		if err := os.Chtimes(temp, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
		if err := s.List(t.Context(), func(id string, _ time.Time) error {
			return fmt.Errorf("a temporary file is listed as %s", id)
		}); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(temp); errors.Is(err, fs.ErrNotExist) != (age > 24*time.Hour) {
			t.Errorf("a temporary file of %v: %v", age, err)
		}
	}
}

// An unsteady file system fails at its nth call, in one of several ways.
type unsteady struct {
	local.Filesystem
	n    int // the call to fail; 0 for none
	err  error
	late bool // fail after having done it
	seen int
}

func (u *unsteady) call(do func() error) error {
	u.seen++
	if u.seen != u.n {
		return do()
	}
	if u.late {
		do()
	}
	return u.err
}

func (u *unsteady) Mkdir(name string) error {
	return u.call(func() error { return u.Filesystem.Mkdir(name) })
}
func (u *unsteady) Rename(a, b string) error {
	return u.call(func() error { return u.Filesystem.Rename(a, b) })
}
func (u *unsteady) Remove(name string) error {
	return u.call(func() error { return u.Filesystem.Remove(name) })
}
func (u *unsteady) SyncDir(name string) error {
	return u.call(func() error { return u.Filesystem.SyncDir(name) })
}

func (u *unsteady) Create(name string) (f local.File, err error) {
	err = u.call(func() error { f, err = u.Filesystem.Create(name); return err })
	return unsteadyFile{f, u}, err
}

type unsteadyFile struct {
	local.File
	u *unsteady
}

func (f unsteadyFile) Write(p []byte) (n int, err error) {
	err = f.u.call(func() error { n, err = f.File.Write(p); return err })
	if err != nil && n == len(p) && n > 0 {
		n-- // a short write
	}
	return n, err
}
func (f unsteadyFile) Sync() error  { return f.u.call(f.File.Sync) }
func (f unsteadyFile) Close() error { return f.u.call(f.File.Close) }

// Every call of a write fails once, with each error, before or after it has
// happened: the object is there whole or not at all, it is there if Commit
// returned nil, and the id can be written on a sound disk afterwards.
func TestEveryCallFails(t *testing.T) {
	body := bytes.Repeat([]byte("content "), 10_000)
	failures := 0
	for _, errno := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, late := range []bool{false, true} {
			for n := 1; ; n++ {
				if n > 100 {
					t.Fatal("the write has no end")
				}
				dir := filepath.Join(t.TempDir(), "objects")
				u := &unsteady{Filesystem: local.Disk, n: n, err: errno, late: late}
				id := objtest.ID()
				committed, err := write(t, u, dir, id, body)
				if err != nil && !errors.Is(err, errno) {
					t.Fatalf("call %d: %v is not the disk's error", n, err)
				}
				s := open(t, dir)
				got := objtest.Get(t, s, id)
				if got != nil && !bytes.Equal(got, body) {
					t.Fatalf("call %d fails: a broken object is visible", n)
				}
				if committed && got == nil {
					t.Fatalf("call %d fails: a committed object is missing", n)
				}
				if u.seen < n {
					break // nothing failed: all calls have been tried
				}
				failures++
			}
		}
	}
	effort.Proof(t, "failed-calls", failures, "objects-lost-or-broken", 0)
}

func write(t *testing.T, u *unsteady, dir, id string, body []byte) (committed bool, err error) {
	s, err := local.OpenOn(u, dir)
	if err != nil {
		return false, err
	}
	w, err := s.Create(t.Context(), id)
	if err != nil {
		if !errors.Is(err, fault.Unavailable) {
			t.Errorf("a failing disk is reported as %v", fault.ReasonOf(err))
		}
		return false, err
	}
	defer w.Abort()
	if _, err := w.Write(body); err != nil {
		return false, err
	}
	if err := w.Commit(); err != nil {
		return false, err
	}
	return true, nil
}

func TestDamagedID(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "secret")
	if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "objects"))
	if err := s.Delete(t.Context(), strings.Repeat("../", 4)+"secret"); !errors.Is(err, fault.Integrity) {
		t.Errorf("a damaged id is %v", err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

func TestRecords(t *testing.T) {
	objtest.RunRecords(t, func(t *testing.T) func() objtest.Records {
		dir := filepath.Join(t.TempDir(), "not", "yet")
		return func() objtest.Records { return local.RecordsIn(dir) }
	})
	for _, name := range []string{"../out", "/abs", "a/.lock", ""} {
		if err := local.RecordsIn(t.TempDir()).Create(t.Context(), name, []byte("x")); err == nil {
			t.Errorf("%q is a record's name", name)
		}
	}
}
