// Package durable writes files that survive a power cut: whole, or not at all.
//
// A write goes to a temporary file in the same folder, is flushed, takes the
// place of the old file by a rename, and is flushed again as an entry of its
// folder. A crash leaves the old content or the new, and perhaps a temporary
// file, whose name begins with [TempPrefix] so that a sweeper knows it.
package durable

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/kluis-io/kluis/internal/failpoint"
)

// TempPrefix begins the name of every temporary file that this package makes.
const TempPrefix = ".kluis-tmp-"

var (
	written = failpoint.New("durable/write/written") // in the temporary file, perhaps not on the disk
	synced  = failpoint.New("durable/write/synced")  // on the disk under the temporary name
	renamed = failpoint.New("durable/write/renamed") // in place, its folder perhaps not on the disk
)

// WriteFile makes data the content of the file at path, which it creates with
// exactly the given mode or replaces. When it returns nil the content survives a
// power cut; when it fails, the file is as it was, or already new if only the
// folder could not be flushed.
func WriteFile(path string, data []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, TempPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := written.Hit(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := synced.Hit(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if err := renamed.Hit(); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir flushes a folder's entries to the disk: files made, renamed and
// removed in it before the call stay so after a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("flush folder: %w", err)
	}
	return nil
}
