package clients_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A remote is what one client can do with a folder of the lake. Names are paths in
// that folder; each function fails the test by itself.
type remote struct {
	up     func(dir string)
	list   func() map[string]int64 // the size of each file
	check  func()                  // compares with what went up in the client's own way; may be nil
	read   func(name string, offset, count int) []byte
	move   func(from, to string) // a folder
	down   func(dir string)
	remove func()
}

// carry takes a tree up, lists, checks, renames and brings it down again.
func carry(t *testing.T, local tree, r remote) {
	t.Helper()
	r.up(local.dir)
	if diff := cmp.Diff(local.sizes, r.list()); diff != "" {
		t.Errorf("listed:\n%.2000s", diff)
	}
	if r.check != nil {
		r.check()
	}
	if got, want := r.read("dir 7/file-7.bin", 5<<20, 3), bodyOf(7)[5<<20:5<<20+3]; string(got) != string(want) {
		t.Errorf("a range: %x, want %x", got, want)
	}
	r.move("dir 3", "renamed/dir three")
	want := maps.Clone(local.sums)
	for name, sum := range local.sums {
		if rest, ok := strings.CutPrefix(name, "dir 3/"); ok {
			delete(want, name)
			want["renamed/dir three/"+rest] = sum
		}
	}
	back := filepath.Join(t.TempDir(), "back")
	r.down(back)
	if diff := cmp.Diff(want, harvest(t, back)); diff != "" {
		t.Errorf("what came down is not what went up:\n%.2000s", diff)
	}
	r.remove()
	if left := r.list(); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
}

// bodyOf returns the n-th file's content: mostly small, some in blocks.
func bodyOf(n int) []byte {
	size := n*37%5000 + 4
	if n%400 == 7 {
		size = 6 << 20
	}
	b := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	rnd.Read(b)
	return b
}

// A tree is a folder of files on this machine.
type tree struct {
	dir   string
	sums  map[string]string // of each file's content, by the path in it
	sizes map[string]int64
}

// plant makes a tree of 2,000 files.
func plant(t *testing.T) tree {
	t.Helper()
	const n = 2000
	tr := tree{filepath.Join(t.TempDir(), "tree"), map[string]string{}, map[string]int64{}}
	for i := range n {
		name := fmt.Sprintf("dir %d/file-%d.bin", i%10, i)
		switch {
		case i%10 == 1 && i > 1:
			name = fmt.Sprintf("dir 1/sub/é+%d %%41.bin", i)
		case i%10 == 5:
			name = fmt.Sprintf("a/b/c/%d/f&=.txt", i)
		}
		file := filepath.Join(tr.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		body := bodyOf(i)
		if err := os.WriteFile(file, body, 0o644); err != nil {
			t.Fatal(err)
		}
		tr.sums[name], tr.sizes[name] = fmt.Sprintf("%x", sha256.Sum256(body)), int64(len(body))
	}
	return tr
}

// harvest returns the hash of each file of a tree.
func harvest(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, name)
		sums[name] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}
