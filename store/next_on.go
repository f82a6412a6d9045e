//go:build failpoints

package store

import (
	"io/fs"
	"os"
	"path/filepath"
)

// nextVariable names a folder of further migrations, laid out as this package's: with
// them a build for tests plays the next release.
const nextVariable = "KLUIS_NEXT_MIGRATIONS"

func migrationsOf(set string) (fs.FS, error) {
	ours, err := fs.Sub(migrations, "migrations/"+set)
	next := os.Getenv(nextVariable)
	if err != nil || next == "" {
		return ours, err
	}
	return both{ours, os.DirFS(filepath.Join(next, set))}, nil
}

// A both is the files of two folders.
type both struct{ one, two fs.FS }

func (b both) Open(name string) (fs.File, error) {
	if f, err := b.one.Open(name); err == nil {
		return f, nil
	}
	return b.two.Open(name)
}

// ReadDir implements [fs.ReadDirFS].
func (b both) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(b.one, name)
	if err != nil {
		return nil, err
	}
	if more, err := fs.ReadDir(b.two, name); err == nil { // the folder may have none of this set
		all = append(all, more...)
	}
	return all, nil
}
