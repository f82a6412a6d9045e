package devtest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kluis-io/kluis/internal/durable"
)

// folder is where this process has its binary, "" if it has built none.
var folder string

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kluis-dev-")
	if err != nil {
		return "", err
	}
	folder = dir
	own := filepath.Join(dir, "kluis")
	shared, unlock, err := Shared()
	if err != nil { // a machine without a place for caches builds for each package
		return own, compile(own)
	}
	defer unlock()
	// What is up to date is not linked again, and what is linked replaces the file: who has
	// a link to the one before keeps that.
	path := filepath.Join(shared, "kluis")
	if err := compile(path); err != nil {
		return own, err
	}
	if err := os.Link(path, own); err != nil { // on another file system
		return own, compile(own)
	}
	return own, nil
})

// compile builds the binary as it is released.
func compile(path string) error {
	cmd := exec.Command("go", "build", "-o", path, "github.com/kluis-io/kluis/cmd/kluis")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building kluis: %w\n%s", err, out)
	}
	return nil
}

// Shared returns the folder in which the processes that test one tree keep what takes
// long to make, and lets this process in alone until it calls leave.
func Shared() (dir string, leave func(), err error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", nil, err
	}
	tree := strings.TrimSpace(string(mod))
	if tree == "" || tree == os.DevNull {
		return "", nil, errors.New("no module")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256([]byte(tree))
	dir = filepath.Join(cache, "kluis-devtest", hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	leave, err = durable.Lock(filepath.Join(dir, "lock"))
	return dir, leave, err
}

// Binary builds the binary as it is released, once for all packages of the tree, and
// returns its path in this process's own folder. The package's TestMain calls [Main] or
// [Clean].
func Binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Clean removes this process's binary. It is called when all tests have ended.
func Clean() {
	if folder != "" {
		os.RemoveAll(folder)
	}
}

// Main runs a package's tests, and cleans up after them.
func Main(m *testing.M) {
	code := m.Run()
	Clean()
	os.Exit(code)
}
