package local

import (
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/kluis-io/kluis/internal/durable"
)

// A filesystem is the part of the operating system that a Store uses, so that
// tests can make each call fail.
type filesystem interface {
	Mkdir(name string) error
	Create(name string) (file, error) // fails if the file exists
	Open(name string) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(name string) error
	ReadDir(name string) ([]fs.DirEntry, error)
}

type file interface {
	io.ReaderAt
	io.Writer
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
}

// disk is the real one.
type disk struct{}

func (disk) Mkdir(name string) error { return os.Mkdir(name, 0o700) }
func (disk) Create(name string) (file, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}
func (disk) Open(name string) (file, error)             { return os.Open(name) }
func (disk) Rename(from, to string) error               { return os.Rename(from, to) }
func (disk) Remove(name string) error                   { return os.Remove(name) }
func (disk) SyncDir(name string) error                  { return durable.SyncDir(name) }
func (disk) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// staleTemp is the age at which a temporary file is nobody's any more.
const staleTemp = 24 * time.Hour
