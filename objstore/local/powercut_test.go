package local_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/objstore/local"
)

var errPower = errors.New("the power is cut")

// A node is a file or folder: what was written, and what of that was flushed.
type node struct {
	folder           bool
	written, flushed []byte
}

// A volatile file system forgets what nobody has flushed when its power is cut, which
// happens after a number of calls. It is for one goroutine.
type volatile struct {
	local.Filesystem // what is seen until the cut
	left             int
	live, flushed    map[string]*node // by path: entries that there are, and that are on the disk
}

func (v *volatile) call() error {
	if v.left--; v.left < 0 {
		return errPower
	}
	return nil
}

func (v *volatile) Mkdir(name string) error {
	if err := v.call(); err != nil {
		return err
	}
	err := v.Filesystem.Mkdir(name)
	if err == nil {
		v.live[name] = &node{folder: true}
	}
	return err
}

func (v *volatile) Create(name string) (local.File, error) {
	if err := v.call(); err != nil {
		return nil, err
	}
	f, err := v.Filesystem.Create(name)
	n := &node{}
	if err == nil {
		v.live[name] = n
	}
	return volatileFile{f, n, v}, err
}

func (v *volatile) Rename(from, to string) error {
	if err := v.call(); err != nil {
		return err
	}
	err := v.Filesystem.Rename(from, to)
	if err == nil {
		v.live[to] = v.live[from]
		delete(v.live, from)
	}
	return err
}

func (v *volatile) Remove(name string) error {
	if err := v.call(); err != nil {
		return err
	}
	delete(v.live, name)
	return v.Filesystem.Remove(name)
}

func (v *volatile) SyncDir(name string) error {
	if err := v.call(); err != nil {
		return err
	}
	within := func(path string, _ *node) bool { return filepath.Dir(path) == name }
	maps.DeleteFunc(v.flushed, within)
	for path, n := range v.live {
		if within(path, n) {
			v.flushed[path] = n
		}
	}
	return nil
}

type volatileFile struct {
	local.File
	n *node
	v *volatile
}

func (f volatileFile) Write(b []byte) (int, error) {
	if err := f.v.call(); err != nil {
		return 0, err
	}
	f.n.written = append(f.n.written, b...)
	return f.File.Write(b)
}

func (f volatileFile) Sync() error {
	if err := f.v.call(); err != nil {
		return err
	}
	f.n.flushed = bytes.Clone(f.n.written)
	return nil
}

// remains puts into the folder to what a cut leaves of the folder from. Of what was not
// flushed each part is there or not, whatever its order was.
func (v *volatile) remains(t *testing.T, from, to string) {
	t.Helper()
	paths := maps.Clone(v.live)
	maps.Copy(paths, v.flushed)
	for _, path := range slices.Sorted(maps.Keys(paths)) { // a folder before what is in it
		n := v.flushed[path]
		if rand.IntN(2) == 0 {
			n = v.live[path]
		}
		at := to + strings.TrimPrefix(path, from)
		if _, err := os.Stat(filepath.Dir(at)); n == nil || err != nil {
			continue
		}
		if n.folder {
			if err := os.Mkdir(at, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		content := n.flushed
		if more := len(n.written) - len(n.flushed); more > 0 {
			content = n.written[:len(n.flushed)+rand.IntN(more+1)]
		}
		if err := os.WriteFile(at, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Wherever the power is cut: what was committed is there, whatever is there is whole,
// and the store goes on.
func TestPowerCut(t *testing.T) {
	ctx := t.Context()
	ids := []string{
		"00000000000000000000000000000001", "00000000000000000000000000000002", "00ff0000000000000000000000000003",
		"ff000000000000000000000000000004", "ff000000000000000000000000000005",
	}
	content := func(id string) []byte { return bytes.Repeat([]byte(id), 100) }
	put := func(s *local.Store, id string) error {
		w, err := s.Create(ctx, id)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(content(id), 1000) {
			if _, err := w.Write(part); err != nil {
				w.Abort()
				return err
			}
		}
		return w.Commit()
	}
	finished, cuts, base := false, 0, t.TempDir()
	repeats := effort.Of(4, 40, 2_000)
	for after := 0; !finished; after++ {
		for range repeats {
			cuts++
			place, err := os.MkdirTemp(base, "")
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(place, "objects")
			v := &volatile{Filesystem: local.Disk, left: after, live: map[string]*node{}, flushed: map[string]*node{}}
			committed := map[string]bool{}
			s, err := local.OpenOn(v, dir)
			for i, id := range ids {
				if err == nil {
					err = put(s, id)
				}
				if err == nil {
					committed[id] = true
				}
				if i == 2 && err == nil {
					delete(committed, ids[0]) // it may be gone
					err = s.Delete(ctx, ids[0])
				}
			}
			finished = err == nil
			left := filepath.Join(place, "left")
			v.remains(t, dir, left)
			again, err := local.Open(left)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				o, err := again.Open(ctx, id)
				if fault.ReasonOf(err) == fault.NotFound && !committed[id] {
					continue
				}
				if err != nil {
					t.Fatalf("cut after %d calls: %s, which was committed: %v", after, id, err)
				}
				got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
				if o.Close(); err != nil || !bytes.Equal(got, content(id)) {
					t.Fatalf("cut after %d calls: %s has %d bytes, %v", after, id, len(got), err)
				}
			}
			if err := again.List(ctx, func(id string, _ time.Time) error {
				if !slices.Contains(ids, id) {
					t.Errorf("cut after %d calls: %s is listed", after, id)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := put(again, "00000000000000000000000000000009"); err != nil {
				t.Fatalf("cut after %d calls: the store does not go on: %v", after, err)
			}
			if err := os.RemoveAll(place); err != nil {
				t.Fatal(err)
			}
		}
		if after > 1000 {
			t.Fatal("it never finishes")
		}
	}
	effort.Proof(t, "cuts-in-the-model", cuts, "committed-objects-lost", 0)
}
