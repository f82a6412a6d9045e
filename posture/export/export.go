// Package export reads resources from JSON files: what Resource Manager, Resource
// Graph, az, a vault or Fabric answered, saved to a folder. A scan of it needs no
// network, so it works where there is none.
package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// lists are the fields in which an answer carries what it lists: Resource
// Manager's, Resource Graph's and Fabric's.
var lists = []string{"value", "data", "workspaces"}

// more are the fields that say that the list goes on elsewhere.
var more = []string{"nextLink", "$skipToken", "skipToken", "continuationToken"}

const batchSize = 256

// A batch is some elements of one file, decoded by a worker.
type batch struct {
	raws  []json.RawMessage
	paths []string
	time  time.Time
	done  chan struct{}
	out   []map[string]any
	sums  []string
	err   error
}

// Read adds what all files in fsys whose names end in .json hold, in the order of
// their names. A file that is no JSON is an error; an element of no use to posture
// is passed over; a list that says that there is more of it becomes a gap.
func Read(ctx context.Context, fsys fs.FS, inv *posture.Inventory) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan *batch, 2*runtime.GOMAXPROCS(0))
	work := make(chan *batch)
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for b := range work {
				b.decode()
				close(b.done)
			}
		}()
	}
	var gaps []posture.Gap
	failed := make(chan error, 1)
	go func() {
		s := &scanner{ctx: ctx, queue: queue, work: work}
		err := s.walk(fsys)
		gaps = s.gaps
		failed <- err
		close(queue)
		close(work)
	}()
	var failure error
	for b := range queue {
		<-b.done
		if failure == nil && b.err != nil {
			failure = b.err
			cancel()
		}
		if failure != nil {
			continue
		}
		for i, body := range b.out {
			inv.Add(body, posture.Evidence{Source: "export", Time: b.time, SHA256: b.sums[i], Path: b.paths[i]})
		}
	}
	if err := <-failed; failure == nil {
		failure = err
	}
	inv.Gaps = append(inv.Gaps, gaps...)
	return failure
}

// decode fills out with the batch's objects.
func (b *batch) decode() {
	b.out = make([]map[string]any, len(b.raws))
	for i, raw := range b.raws {
		if err := json.Unmarshal(raw, &b.out[i]); err != nil {
			var wrong *json.UnmarshalTypeError
			if !errors.As(err, &wrong) { // a list of texts is none of ours
				b.err = bad(b.paths[i], err)
				return
			}
		}
		if b.sums[i] == "" {
			sum := sha256.Sum256(raw)
			b.sums[i] = hex.EncodeToString(sum[:])
		}
	}
	b.raws = nil
}

func bad(where string, err error) error {
	return fault.New(fault.InvalidArgument, fmt.Sprintf("%s is not the JSON that it should be: %v", where, err))
}

// A scanner cuts files into elements.
type scanner struct {
	ctx         context.Context
	queue, work chan<- *batch
	gaps        []posture.Gap

	file string
	time time.Time
	open *batch

	single json.RawMessage // the file's object, if it is one
}

func (s *scanner) walk(fsys fs.FS) error {
	return fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.EqualFold(path.Ext(p), ".json") {
			return err
		}
		f, err := fsys.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		s.file, s.time = p, info.ModTime().UTC()
		if err := s.read(f); err != nil {
			var known *fault.Error
			if errors.As(err, &known) || s.ctx.Err() != nil {
				return err
			}
			return bad(p, err)
		}
		return s.flush()
	})
}

// read cuts one file: an array, an answer that lists, or one object.
func (s *scanner) read(r io.Reader) error {
	whole := sha256.New()
	d := json.NewDecoder(skipBOM(io.TeeReader(r, whole)))
	s.single = nil
	first, err := d.Token()
	if errors.Is(err, io.EOF) {
		return errors.New("it is empty")
	}
	if err != nil {
		return err
	}
	switch first {
	case json.Delim('['):
		err = s.elements(d, "#")
	case json.Delim('{'):
		err = s.object(d)
	default:
		return errors.New("it holds neither an object nor a list")
	}
	if err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the first value")
	}
	if s.single != nil {
		return s.add(s.single, s.file, hex.EncodeToString(whole.Sum(nil)))
	}
	return nil
}

func skipBOM(r io.Reader) io.Reader {
	bom := make([]byte, 3)
	n, _ := io.ReadFull(r, bom)
	if n == 3 && bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		return r
	}
	return io.MultiReader(bytes.NewReader(bom[:n]), r)
}

// object cuts an object of which the opening brace is read.
func (s *scanner) object(d *json.Decoder) error {
	fields := map[string]json.RawMessage{}
	listed := false
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		var raw json.RawMessage
		if isList(name) {
			// Read ahead: a list goes to the workers without being held as a whole.
			if open, err := d.Token(); err != nil {
				return err
			} else if open == json.Delim('[') {
				listed = true
				if err := s.elements(d, "#/"+name); err != nil {
					return err
				}
				continue
			} else if raw, err = rest(d, open); err != nil {
				return err
			}
		} else if err := d.Decode(&raw); err != nil {
			return err
		}
		fields[name] = raw
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	if listed {
		for _, name := range more {
			var next string
			if json.Unmarshal(fields[name], &next) == nil && next != "" {
				s.gaps = append(s.gaps, posture.Gap{What: s.file, Why: "its " + name + " says that there is more, which was not exported"})
			}
		}
		return nil
	}
	whole, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	s.single = whole
	return nil
}

func isList(name string) bool {
	for _, l := range lists {
		if l == name {
			return true
		}
	}
	return false
}

// rest returns a value of which the first token is read.
func rest(d *json.Decoder, first json.Token) (json.RawMessage, error) {
	if first != json.Delim('{') {
		return json.Marshal(first)
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		fields[t.(string)] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// elements cuts a list of which the opening bracket is read.
func (s *scanner) elements(d *json.Decoder, at string) error {
	for i := 0; d.More(); i++ {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return err
		}
		if err := s.add(raw, fmt.Sprintf("%s%s/%d", s.file, at, i), ""); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// add hands on an element, with its sum if the element is a whole file: that is the
// file's, as sha256sum shows it.
func (s *scanner) add(raw json.RawMessage, where, sum string) error {
	if s.open == nil {
		s.open = &batch{time: s.time, done: make(chan struct{})}
	}
	s.open.raws, s.open.paths, s.open.sums = append(s.open.raws, raw), append(s.open.paths, where), append(s.open.sums, sum)
	if len(s.open.raws) == batchSize {
		return s.flush()
	}
	return nil
}

// flush hands the open batch to a worker and to the one who adds in order.
func (s *scanner) flush() error {
	b := s.open
	if b == nil {
		return nil
	}
	s.open = nil
	select {
	case s.work <- b:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	select {
	case s.queue <- b:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	return nil
}
