package remote

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// Open implements [lake.Objects]. The context is that of the reads too.
func (s *Store) Open(ctx context.Context, id string) (lake.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, err := s.name(id)
	if err != nil {
		return nil, err
	}
	o := &object{ctx: ctx, client: s.client, name: name}
	for try := 1; ; try++ {
		if err = o.open(); err == nil {
			return o, nil
		}
		if ctx.Err() != nil || try == maxTries || !errors.Is(err, errBroken) {
			return nil, about(err, id)
		}
	}
}

func about(err error, id string) error {
	if errors.Is(err, fault.NotFound) {
		return fault.As(err).About(id)
	}
	return err
}

// errBroken is in the error of a body that ended early.
var errBroken = errors.New("the download broke off")

// maxTries is how often a download is taken up again without a byte more.
const maxTries = 4

type object struct {
	ctx    context.Context
	client Client
	name   string
	size   int64
	head   []byte

	mu   sync.Mutex    // of what follows
	body io.ReadCloser // what is being received, nil if nothing is
	pos  int64         // of its next byte, or where the last one ended
	end  int64         // of it
	last int64         // how much was asked for
}

// open reads the head.
func (o *object) open() error {
	body, size, err := o.client.Get(o.ctx, o.name, 0, HeadSize)
	if err != nil {
		return err
	}
	defer body.Close()
	o.size, o.head = size, make([]byte, min(size, HeadSize))
	if _, err := io.ReadFull(body, o.head); err != nil {
		return Failed(errors.Join(errBroken, err))
	}
	o.pos, o.last = int64(len(o.head)), int64(len(o.head))
	return nil
}

// Size implements [lake.Object].
func (o *object) Size() int64 { return o.size }

// ReadAt implements [io.ReaderAt].
func (o *object) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fault.New(fault.Internal, "A read begins before the object.")
	}
	if off >= o.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > o.size-off
	if short {
		p = p[:o.size-off]
	}
	if off < int64(len(o.head)) {
		n = copy(p, o.head[off:])
	}
	if n < len(p) {
		m, err := o.receive(p[n:], off+int64(n))
		if n += m; err != nil {
			return n, err
		}
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// receive fills p from off.
func (o *object) receive(p []byte, off int64) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for try := 1; n < len(p); {
		if o.body == nil || o.pos != off {
			if err := o.seek(off, int64(len(p)-n)); err != nil {
				return n, err
			}
		}
		m, err := o.body.Read(p[n:min(len(p), n+int(o.end-o.pos))])
		n, off, o.pos = n+m, off+int64(m), o.pos+int64(m)
		if o.pos == o.end {
			o.stop()
			continue
		}
		if m > 0 {
			try = 1
		}
		if err == nil {
			continue
		}
		o.stop()
		if try++; o.ctx.Err() != nil || try > maxTries {
			return n, Failed(errors.Join(errBroken, err, o.ctx.Err()))
		}
	}
	return n, nil
}

// seek asks for what begins at off and has n bytes or more.
func (o *object) seek(off, n int64) error {
	if off == o.pos { // it goes on: so it will again
		n = max(n, 2*o.last)
	}
	o.stop()
	n = min(n, o.size-off)
	body, size, err := o.client.Get(o.ctx, o.name, off, n)
	if err != nil {
		return err
	}
	if size != o.size {
		body.Close()
		return fault.New(fault.Integrity, "An object has changed while it was read.")
	}
	o.body, o.pos, o.end, o.last = body, off, off+n, n
	return nil
}

// stop ends what is being received.
func (o *object) stop() {
	if o.body != nil {
		o.body.Close()
		o.body = nil
	}
}

// Close implements [io.Closer].
func (o *object) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stop()
	return nil
}
