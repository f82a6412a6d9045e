package export

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/durable"
)

// FileName is the file that grows; full ones are called audit-TIME-SEQUENCE.ndjson,
// and sort by age.
const FileName = "audit.ndjson"

// Files is a sink of newline-delimited JSON in a folder. Every entry is in it once:
// what a crash has cut off is cut away at the next start, and what is there already
// is not written again.
type Files struct {
	Dir     string
	Format  Format
	MaxSize int64         // of a file, in bytes; 0 means 64 MiB
	MaxAge  time.Duration // of a file's first entry; 0 means a day
	Keep    int           // how many full files stay; 0 means all
	Now     func() time.Time

	f     *os.File
	size  int64
	since time.Time // when the file's first entry was written
	last  int64     // sequence number of the newest entry in the folder; -1 if there is none
}

// Write implements [Sink]. The entries are on the disk when it returns.
func (s *Files) Write(_ context.Context, entries []audit.Numbered) error {
	if s.f == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	last := s.last
	for _, e := range entries {
		if e.Sequence <= last {
			continue
		}
		line, err := s.Format(e)
		if err != nil {
			return err
		}
		b.Write(line)
		b.WriteByte('\n')
		last = e.Sequence
	}
	if b.Len() == 0 {
		return nil
	}
	if s.full() {
		if err := s.rotate(); err != nil {
			return err
		}
		if err := s.open(); err != nil {
			return err
		}
	}
	if s.size == 0 {
		s.since = s.now()
	}
	if _, err := s.f.Write(b.Bytes()); err != nil {
		return errors.Join(err, s.Close()) // what was half written is cut away by open
	}
	if err := s.f.Sync(); err != nil {
		return errors.Join(err, s.Close())
	}
	s.size, s.last = s.size+int64(b.Len()), last
	return nil
}

// full reports whether the next entry belongs in another file.
func (s *Files) full() bool {
	return s.size >= cmp.Or(s.MaxSize, 64<<20) || s.size > 0 && s.now().Sub(s.since) >= cmp.Or(s.MaxAge, 24*time.Hour)
}

// Close implements [Sink].
func (s *Files) Close() error {
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}

func (s *Files) now() time.Time {
	if s.Now != nil {
		return s.Now().UTC()
	}
	return time.Now().UTC()
}

// open opens the file that grows, cuts away what is no whole line, and finds out
// what it ends with.
func (s *Files) open() error {
	if err := os.MkdirAll(s.Dir, 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.Dir, FileName), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	var whole int64
	if s.last, err = s.rotated(); err != nil {
		f.Close()
		return err
	}
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			f.Close()
			return err
		}
		whole += int64(len(line))
		if s.last, err = sequence(line); err != nil {
			f.Close()
			return fmt.Errorf("%s is not what this export has written: %w", f.Name(), err)
		}
	}
	if err := errors.Join(f.Truncate(whole), durable.SyncDir(s.Dir)); err != nil {
		f.Close()
		return err
	}
	if _, err := f.Seek(whole, io.SeekStart); err != nil {
		f.Close()
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	s.f, s.size, s.since = f, whole, info.ModTime().UTC()
	return nil
}

// rotated returns the sequence number of the last entry in the newest full file, -1
// if there is none.
func (s *Files) rotated() (int64, error) {
	full, err := s.fullFiles()
	if err != nil || len(full) == 0 {
		return -1, err
	}
	name := strings.TrimSuffix(filepath.Base(full[len(full)-1]), ".ndjson")
	return strconv.ParseInt(name[strings.LastIndexByte(name, '-')+1:], 10, 64)
}

// fullFiles returns the paths of the full files, oldest first.
func (s *Files) fullFiles() ([]string, error) {
	all, err := filepath.Glob(filepath.Join(s.Dir, "audit-*Z-*.ndjson"))
	slices.Sort(all)
	return all, err
}

// sequence returns the sequence number in a line of either format.
func sequence(line []byte) (int64, error) {
	var e struct {
		Sequence   *int64 `json:"sequence"`
		Properties struct {
			Kluis struct {
				Sequence *int64 `json:"sequence"`
			} `json:"kluis"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return 0, err
	}
	for _, n := range []*int64{e.Sequence, e.Properties.Kluis.Sequence} {
		if n != nil {
			return *n, nil
		}
	}
	return 0, errors.New("a line without a sequence number")
}

// rotate gives the full file its name and drops the oldest beyond Keep.
func (s *Files) rotate() error {
	last := s.last
	if err := s.Close(); err != nil {
		return err
	}
	name := fmt.Sprintf("audit-%s-%012d.ndjson", s.now().Format("20060102T150405Z"), last)
	if err := os.Rename(filepath.Join(s.Dir, FileName), filepath.Join(s.Dir, name)); err != nil {
		return err
	}
	if err := durable.SyncDir(s.Dir); err != nil || s.Keep <= 0 {
		return err
	}
	full, err := s.fullFiles()
	if err != nil {
		return err
	}
	for len(full) > s.Keep {
		if err := os.Remove(full[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		full = full[1:]
	}
	return nil
}
