package remedy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/durable"
)

// A Folder is a [Journal] of files, one a run, which only their owner can read. One
// process at a time works on a run.
type Folder struct {
	dir  string
	lock *os.File
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{16}$`)

// OpenFolder opens a folder of runs, and makes it if it is missing.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fault.New(fault.Conflict, "Another process works on the runs in "+dir+".")
	}
	return &Folder{dir, f}, nil
}

// Close lets others in.
func (f *Folder) Close() error { return f.lock.Close() }

func (f *Folder) path(id string) string { return filepath.Join(f.dir, id+".json") }

// Save implements [Journal].
func (f *Folder) Save(r Run) error {
	if !idPattern.MatchString(r.ID) {
		return fault.New(fault.Internal, "A run's id is not one of a finding.").About(r.ID)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(f.path(r.ID), append(text, '\n'), 0o600)
}

// Retire keeps a run that is over under another name, so that its finding may have a new
// one.
func (f *Folder) Retire(r Run) error {
	if r.Open() {
		return fault.New(fault.Conflict, "The run is under way.").About(r.ID)
	}
	err := os.Rename(f.path(r.ID), filepath.Join(f.dir, r.ID+"."+r.Begun.Format("20060102T150405.000000Z")+".json"))
	if err != nil {
		return err
	}
	return durable.SyncDir(f.dir)
}

// Runs returns all runs, the newest first; of each finding the last alone if current is
// set.
func (f *Folder) Runs(current bool) (all []Run, err error) {
	pattern := "*.json"
	if current {
		pattern = strings.Repeat("[0-9a-f]", 16) + ".json"
	}
	names, err := filepath.Glob(filepath.Join(f.dir, pattern))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var r Run
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil || !idPattern.MatchString(r.ID) || len(r.Steps) == 0 {
			return nil, errors.Join(fmt.Errorf("%s is no run", name), err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Run) int { return b.Begun.Compare(a.Begun) })
	return all, nil
}

// Find returns the last run of a finding, by its id or the beginning of it, or
// [fault.NotFound].
func (f *Folder) Find(id string) (Run, error) {
	all, err := f.Runs(true)
	if err != nil {
		return Run{}, err
	}
	all = slices.DeleteFunc(all, func(r Run) bool { return id == "" || !strings.HasPrefix(r.ID, strings.ToLower(id)) })
	if len(all) != 1 {
		return Run{}, fault.New(fault.NotFound, "There is no run of this finding, or several that begin so.").About(id).WithMend("'kluis posture runs' lists them.")
	}
	return all[0], nil
}
