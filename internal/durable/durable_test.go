package durable_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/internal/durable"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, test := range []struct {
		data string
		mode os.FileMode
	}{{"first", 0o644}, {"second, replaced", 0o600}, {"", 0o400}, {"over a read-only one", 0o600}} {
		if err := durable.WriteFile(path, []byte(test.data), test.mode); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != test.data {
			t.Errorf("%q, %v; want %q", got, err, test.data)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != test.mode {
			t.Errorf("mode %o, %v; want %o", info.Mode().Perm(), err, test.mode)
		}
	}
	only(t, dir, "file")
}

// A write that fails leaves what was there, and nothing beside it.
func TestFailure(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "folder")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(target, []byte("x"), 0o600); err == nil {
		t.Error("a file replaced a folder")
	}
	only(t, dir, "folder")
	if err := durable.WriteFile(filepath.Join(dir, "none", "file"), nil, 0o600); err == nil {
		t.Error("wrote into a folder that is not there")
	}
	if err := durable.SyncDir(filepath.Join(dir, "none")); err == nil {
		t.Error("flushed a folder that is not there")
	}
}

func only(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name || strings.HasPrefix(e.Name(), durable.TempPrefix) {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}
