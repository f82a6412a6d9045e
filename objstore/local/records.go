package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/durable"
)

// MaxRecord is the most that a record holds, in bytes.
const MaxRecord = 16 << 20

// A Records keeps named records as files below a folder, which it makes when it first
// writes. Package objstore says what records are.
type Records struct{ dir string }

// RecordsIn returns the records in a folder.
func RecordsIn(dir string) *Records { return &Records{dir} }

// recordsLock is what whoever writes to the folder holds the lock of.
const recordsLock = ".lock"

func (r *Records) path(name string) (string, error) {
	if !filepath.IsLocal(name) || strings.HasPrefix(filepath.Base(name), ".") {
		return "", fault.New(fault.Internal, "This is no record's name.")
	}
	return filepath.Join(r.dir, filepath.FromSlash(name)), nil
}

// Read returns a record, or nil if there is none of that name.
func (r *Records) Read(ctx context.Context, name string) ([]byte, error) {
	path, err := r.path(name)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, MaxRecord+1))
	if err == nil && len(b) > MaxRecord {
		err = fault.New(fault.Integrity, "A record is longer than any that was written.")
	}
	if b == nil { // an empty file is no missing one
		b = []byte{}
	}
	return b, err
}

// Create makes a record that never changes. It succeeds if the same is there already,
// and fails with [fault.Conflict] if there is another.
func (r *Records) Create(ctx context.Context, name string, record []byte) error {
	return r.Replace(ctx, name, func(old []byte) ([]byte, error) {
		if old != nil && !bytes.Equal(old, record) {
			return nil, fault.New(fault.Conflict, "There is another record of that name.")
		}
		if old != nil {
			return nil, nil
		}
		return record, nil
	})
}

// Replace gives decide the record of that name, or nil if there is none, and puts the
// one that it returns in its place; nil leaves it as it is. It holds the lock of the
// whole folder meanwhile.
func (r *Records) Replace(ctx context.Context, name string, decide func([]byte) ([]byte, error)) error {
	path, err := r.path(name)
	if err != nil {
		return err
	}
	if err := makeDurable(filepath.Dir(path)); err != nil {
		return err
	}
	unlock, err := durable.Lock(filepath.Join(r.dir, recordsLock))
	if err != nil {
		return err
	}
	defer unlock()
	old, err := r.Read(ctx, name)
	if err != nil {
		return err
	}
	record, err := decide(old)
	if err != nil || record == nil {
		return err
	}
	return durable.WriteFile(path, record, 0o600)
}

// List calls each with the names below a prefix that ends with a slash, until it returns
// an error.
func (r *Records) List(ctx context.Context, prefix string, each func(name string) error) error {
	dir, err := r.path(strings.TrimSuffix(prefix, "/"))
	if err != nil {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		name, err := filepath.Rel(r.dir, path)
		if err != nil {
			return err
		}
		return each(filepath.ToSlash(name))
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Delete removes a record, if it is there. One that comes back after a power cut is one
// that nobody asked for.
func (r *Records) Delete(_ context.Context, name string) error {
	path, err := r.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

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
