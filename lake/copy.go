package lake

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Copies never move ciphertext: what is copied is opened under its own item's
// keys and sealed under those of the item that it goes to, a chunk at a time, also
// within one item, where each file owns its extents.

// A Source is what a copy reads.
type Source struct {
	Caller     identity.Caller // who reads: the one who writes, or another who was shown to agree
	Path       Path
	Conditions Conditions
	Range      Range
}

// Copied says what a file's content is a copy of. It is sealed with the file.
type Copied struct {
	ID        string // a UUID
	Source    string // URL, without what authorised the copy
	Completed time.Time
	Size      int64 // bytes
}

// CopyOptions go with [Lake.Copy].
type CopyOptions struct {
	PutOptions
	KeepHeaders  bool   // take the source's, and not those of the options
	KeepMetadata bool   // likewise
	Source       string // the source's URL, to be remembered with the file; "" for none
}

// Copy makes or replaces a file from another, of any item whose data the source's
// caller may read. When it returns it is done.
func (l *Lake) Copy(ctx context.Context, caller identity.Caller, to Path, src Source, o CopyOptions) (props Properties, err error) {
	err = l.do(ctx, caller, opWrite, rbac.DataWrite, to, func(s *session) error {
		if err := s.prepare(ctx, to, o.Conditions, -1); err != nil {
			return err
		}
		from, err := l.openSource(ctx, src)
		if err != nil {
			return err
		}
		defer from.Close()
		p := from.content.Properties
		if o.KeepHeaders {
			o.Headers = p.Headers
		}
		if o.KeepMetadata {
			o.Metadata = p.Metadata
		}
		o.Append = p.Append
		u, err := s.receive(ctx, from, from.content.Length, o.Hashes)
		if err != nil {
			return err
		}
		if o.Source != "" {
			o.Copied = &Copied{ID: newLeaseID(), Source: o.Source, Completed: s.now(), Size: u.size}
		}
		props, err = s.publish(ctx, to, o.PutOptions, u)
		if err != nil {
			u.abandon(ctx)
		}
		return err
	})
	return props, err
}

// StageBlockFrom is [Lake.StageBlock] from a source.
func (l *Lake) StageBlockFrom(ctx context.Context, caller identity.Caller, p Path, blockID string, src Source, o StageOptions) (crc64 uint64, err error) {
	from, err := l.openSource(ctx, src)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	return l.StageBlock(ctx, caller, p, blockID, from, from.content.Length, o)
}

// AppendBlockFrom is [Lake.AppendBlock] from a source.
func (l *Lake) AppendBlockFrom(ctx context.Context, caller identity.Caller, p Path, src Source, o AppendOptions) (Appended, error) {
	from, err := l.openSource(ctx, src)
	if err != nil {
		return Appended{}, err
	}
	defer from.Close()
	return l.AppendBlock(ctx, caller, p, from, from.content.Length, o)
}

// openSource opens what a copy reads. That it was read is recorded by itself.
func (l *Lake) openSource(ctx context.Context, src Source) (*sourceReader, error) {
	c, err := l.Open(ctx, src.Caller, src.Path, src.Conditions, src.Range)
	switch fault.ReasonOf(err) {
	case "":
	case fault.PathNotFound, fault.ContainerNotFound:
		return nil, fault.Wrap(fault.SourceNotFound, err, "The source of the copy does not exist.")
	case fault.PreconditionFailed, fault.NotModified:
		return nil, errSourceCondition()
	default:
		return nil, err
	}
	if c.Properties.Kind != File {
		c.Close()
		return nil, fault.New(fault.PathConflict, "The source is a folder, which is not copied as a whole.").WithMend("Copy the files in it.")
	}
	return &sourceReader{content: c}, nil
}

// A sourceReader reads open content.
type sourceReader struct {
	content *Content
	start   sync.Once
	pipe    *io.PipeReader
	done    chan struct{}
}

// resource names the source for the audit entry of what is made of it.
func (r *sourceReader) resource() string {
	p := r.content.Properties
	return "/workspaces/" + string(p.Container) + "/items/" + string(p.Item)
}

func (r *sourceReader) Read(p []byte) (int, error) {
	r.start.Do(func() {
		pipe, w := io.Pipe()
		r.pipe, r.done = pipe, make(chan struct{})
		go func() {
			defer close(r.done)
			n, err := r.content.WriteTo(w)
			if err == nil && n != r.content.Length {
				err = fault.New(fault.Integrity, "The source ended early.")
			}
			w.CloseWithError(err)
		}()
	})
	n, err := r.pipe.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) { // the source's fault, not the client's
		err = fault.Wrap(fault.Integrity, err, "The source ended early.")
	}
	return n, err
}

// Close ends the reading, wherever it is.
func (r *sourceReader) Close() error {
	r.start.Do(func() {})
	if r.pipe != nil {
		r.pipe.Close()
		<-r.done
	}
	return r.content.Close()
}
