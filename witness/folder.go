package witness

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kluis-io/kluis/internal/durable"
)

// Folder keeps records as files below a folder, which it makes when it first writes.
func Folder(dir string) Store { return folder(dir) }

type folder string

func (f folder) path(name string) string {
	return filepath.Join(string(f), filepath.FromSlash(name)+".json")
}

func (f folder) Read(_ context.Context, name string) ([]byte, error) {
	if !filepath.IsLocal(name) {
		return nil, fs.ErrInvalid
	}
	in, err := os.Open(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxRecord+1))
	if b == nil { // an empty file is no missing one
		b = []byte{}
	}
	return b, err
}

// Replace holds the lock of the whole folder meanwhile.
func (f folder) Replace(ctx context.Context, name string, decide func([]byte) ([]byte, error)) error {
	if !filepath.IsLocal(name) {
		return fs.ErrInvalid
	}
	path := f.path(name)
	if err := makeDurable(filepath.Dir(path)); err != nil {
		return err
	}
	unlock, err := durable.Lock(filepath.Join(string(f), lockFile))
	if err != nil {
		return err
	}
	defer unlock()
	old, err := f.Read(ctx, name)
	if err != nil {
		return err
	}
	record, err := decide(old)
	if err != nil || record == nil {
		return err
	}
	return durable.WriteFile(path, record, 0o600)
}

// lockFile is what whoever writes to the folder holds the lock of.
const lockFile = ".lock"

// makeDurable makes a folder, and flushes it as an entry of those above it that
// were made with it.
func makeDurable(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := filepath.Dir(dir)
	if err := makeDurable(above); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(above)
}
