// Package local keeps objects as files of a local folder: the embedded default.
//
// An object with the id abcd… is the file ab/cd/abcd…. It is written to a
// temporary file in the same folder, flushed, renamed, and its folder flushed,
// so that a crash leaves at most a temporary file. [Store.List] removes those
// that are older than a day.
//
// The folder belongs to one Store at a time. What package objstore promises holds
// on file systems whose rename is atomic and whose fsync tells the truth.
package local

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/lake"
)

var (
	written = failpoint.New("objstore/local/commit/written") // perhaps not on the disk
	synced  = failpoint.New("objstore/local/commit/synced")  // on the disk under the temporary name
	renamed = failpoint.New("objstore/local/commit/renamed") // in place, its folder perhaps not on the disk
)

// A Store keeps objects in a folder. It implements [lake.Objects].
type Store struct {
	dir string
	fs  filesystem

	mu   sync.Mutex
	made map[string]bool // folders that are there, and durably so
}

var _ lake.Objects = (*Store)(nil)

// Open returns the Store of the folder, which it makes if it is missing. Its
// parent must be there.
func Open(dir string) (*Store, error) { return openOn(disk{}, dir) }

func openOn(fsys filesystem, dir string) (*Store, error) {
	s := &Store{dir: dir, fs: fsys, made: map[string]bool{}}
	return s, s.mkdir(dir)
}

// mkdir makes a folder durably.
func (s *Store) mkdir(dir string) error {
	if err := s.make(dir); err != nil {
		return err
	}
	return s.settle(dir)
}

// make makes a folder, which a power cut may take away until settle has returned.
func (s *Store) make(dir string) error {
	if s.isMade(dir) {
		return nil
	}
	if err := s.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// settle makes a folder durable that is there.
func (s *Store) settle(dir string) error {
	if s.isMade(dir) {
		return nil
	}
	if err := s.fs.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made[dir] = true
	return nil
}

func (s *Store) isMade(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made[dir]
}

const idLength = 32

// folder returns the folder of an object. Ids come from ourselves; the check
// keeps a damaged database from naming another file.
func (s *Store) folder(id string) (string, error) {
	if len(id) != idLength || strings.Trim(id, "0123456789abcdef") != "" {
		return "", fault.New(fault.Integrity, "This is no object's id.").About(id)
	}
	return filepath.Join(s.dir, id[:2], id[2:4]), nil
}

// Create implements [lake.Objects].
func (s *Store) Create(ctx context.Context, id string) (lake.ObjectWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := s.folder(id)
	if err != nil {
		return nil, err
	}
	if err := s.mkdir(filepath.Dir(dir)); err != nil {
		return nil, storeErr(err)
	}
	// A folder for few objects is nearly as often new as an object is: what makes it
	// durable can wait until the file is, and costs little then.
	if err := s.make(dir); err != nil {
		return nil, storeErr(err)
	}
	w := &writer{s: s, dir: dir, id: id, temp: filepath.Join(dir, durable.TempPrefix+id)}
	if w.f, err = s.fs.Create(w.temp); err != nil {
		return nil, storeErr(err)
	}
	return w, nil
}

// storeErr gives a failing disk its reason.
func storeErr(err error) error {
	return fault.Wrap(fault.Unavailable, err, "The object store cannot be written or read.").WithMend("Try again.")
}

type writer struct {
	s    *Store
	dir  string
	id   string
	temp string
	f    file // nil once it is committed or aborted
	err  error
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.f.Write(p)
	if err != nil {
		w.err = storeErr(err)
	}
	return n, w.err
}

// Commit makes the object visible and durable.
func (w *writer) Commit() error {
	if w.f == nil {
		return fault.New(fault.Internal, "An object was committed twice.")
	}
	err := w.err
	if err == nil {
		err = w.commit()
	}
	if err != nil {
		w.Abort()
		return storeErr(err)
	}
	w.f = nil
	return nil
}

func (w *writer) commit() error {
	if err := written.Hit(); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	if err := synced.Hit(); err != nil {
		return err
	}
	if err := w.f.Close(); err != nil {
		return err
	}
	if err := w.s.fs.Rename(w.temp, filepath.Join(w.dir, w.id)); err != nil {
		return err
	}
	if err := renamed.Hit(); err != nil {
		return err
	}
	if err := w.s.fs.SyncDir(w.dir); err != nil {
		return err
	}
	return w.s.settle(w.dir)
}

// Abort gives the object up.
func (w *writer) Abort() {
	if w.f == nil {
		return
	}
	w.f.Close()
	w.s.fs.Remove(w.temp) // else List does, in a day
	w.f = nil
	w.err = fault.New(fault.Internal, "An object was written to after its end.")
}

// Open implements [lake.Objects].
func (s *Store) Open(ctx context.Context, id string) (lake.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := s.folder(id)
	if err != nil {
		return nil, err
	}
	f, err := s.fs.Open(filepath.Join(dir, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.NotFound, err, "There is no such object.").About(id)
	}
	if err != nil {
		return nil, storeErr(err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, storeErr(err)
	}
	return object{f, info.Size()}, nil
}

type object struct {
	file
	size int64
}

func (o object) Size() int64 { return o.size }

// Delete implements [lake.Objects]. It does not flush the folder: an object that
// comes back after a power cut is one that no row names.
func (s *Store) Delete(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, err := s.folder(id)
	if err != nil {
		return err
	}
	if err := s.fs.Remove(filepath.Join(dir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storeErr(err)
	}
	return nil
}

// List implements [lake.Objects]. It also removes temporary files that are older
// than a day.
func (s *Store) List(ctx context.Context, each func(id string, modified time.Time) error) error {
	return s.walk(ctx, s.dir, 2, each)
}

func (s *Store) walk(ctx context.Context, dir string, depth int, each func(string, time.Time) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := s.fs.ReadDir(dir)
	if err != nil {
		return storeErr(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir() && depth > 0:
			if err := s.walk(ctx, path, depth-1, each); err != nil {
				return err
			}
			continue
		case e.IsDir() || depth > 0:
			continue // not ours
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return storeErr(err)
		}
		if strings.HasPrefix(e.Name(), durable.TempPrefix) {
			if time.Since(info.ModTime()) > staleTemp {
				s.fs.Remove(path)
			}
			continue
		}
		if _, err := s.folder(e.Name()); err != nil {
			continue
		}
		if err := each(e.Name(), info.ModTime()); err != nil {
			return err
		}
	}
	return nil
}
