package envelope

import (
	"crypto/rand"
	"errors"
	"io"

	"github.com/kluis-io/kluis/fault"
)

// A Writer seals a stream into one message, which is whole once Close has written
// the last chunk, and never before. It hands its destination runs of 256 KiB.
//
// A Writer is for one goroutine.
type Writer struct {
	dst  io.Writer
	m    *message
	buf  *buffer // nil once closed or broken
	n    int     // bytes of buf that are ready for dst
	part int     // bytes of plaintext after them: the beginning of the next chunk
	next uint64  // number of the next chunk
	err  error   // the first failure, which every later call returns
}

var errClosed = errors.New("envelope: already closed")

// NewWriter returns a Writer that seals what is written to it under key and ctx
// and writes the message to dst. The key is not needed after it returns. The zero
// key or context is reported by the first use.
func NewWriter(dst io.Writer, key *Key, ctx Context) *Writer {
	var salt [SaltSize]byte
	rand.Read(salt[:])
	return newWriter(dst, key, ctx, &salt)
}

func newWriter(dst io.Writer, key *Key, ctx Context, salt *[SaltSize]byte) *Writer {
	m, err := derive(key, ctx, salt[:])
	if err != nil {
		return &Writer{err: err}
	}
	w := &Writer{dst: dst, m: m, buf: newBuffer()}
	w.n = copy(w.buf.bytes[:], salt[:])
	w.n += copy(w.buf.bytes[w.n:], m.commitment[:])
	return w
}

// Write seals p. Chunks leave in runs, not at every call.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	written := 0
	for len(p) > 0 {
		if w.part == 0 && len(p) >= ChunkSize { // a whole chunk needs no copy
			if err := w.seal(p[:ChunkSize]); err != nil {
				return written, err
			}
			written, p = written+ChunkSize, p[ChunkSize:]
			continue
		}
		n := copy(w.chunk()[w.part:], p)
		w.part += n
		written, p = written+n, p[n:]
		if w.part == ChunkSize {
			if err := w.seal(w.chunk()); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// ReadFrom seals what src yields until its end, reading straight into the place
// where it is sealed. If src fails, the Writer is broken as if its destination
// had failed: Close will not end the message.
func (w *Writer) ReadFrom(src io.Reader) (int64, error) {
	if w.err != nil {
		return 0, w.err
	}
	var total int64
	for idle := 0; ; {
		n, err := src.Read(w.chunk()[w.part:])
		w.part += n
		total += int64(n)
		if w.part == ChunkSize {
			if err := w.seal(w.chunk()); err != nil {
				return total, err
			}
		}
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, w.fail(err)
		case n > 0:
			idle = 0
		default:
			if idle++; idle == maxIdle {
				return total, w.fail(io.ErrNoProgress)
			}
		}
	}
}

const maxIdle = 100 // empty reads in a row before a source counts as stuck

// Close seals the last chunk, however short, and writes out what is left. Only a
// nil error means that the message is whole. It does not close the destination.
//
// After a failure Close writes nothing and returns that failure, so that a broken
// stream never looks like a complete one. Whoever stops early for a reason that
// the Writer has not seen must call Abort instead.
func (w *Writer) Close() error {
	if w.err == errClosed {
		return nil
	}
	if w.err == nil {
		w.seal(w.chunk()[:w.part])
	}
	if w.err == nil {
		w.flush()
	}
	if w.err == nil {
		w.buf.free(0) // all of it is sealed by now
		w.buf, w.err = nil, errClosed
		return nil
	}
	return w.err
}

// Abort gives up: what was written stays without its last chunk, and opens
// nowhere as a whole. After Close or a failure it does nothing, so that it can be
// deferred.
func (w *Writer) Abort() {
	if w.err == nil {
		w.fail(errors.New("envelope: aborted"))
	}
}

// chunk returns the place in the buffer for the next chunk's plaintext.
func (w *Writer) chunk() []byte { return w.buf.bytes[w.n:][:ChunkSize] }

// seal seals plaintext as the next chunk, and makes room for another.
func (w *Writer) seal(plaintext []byte) error {
	if w.next >= maxChunks {
		return w.fail(fault.New(fault.PayloadTooLarge, "A sealed message ends at 4 PiB."))
	}
	sealed := w.m.aead.Seal(w.buf.bytes[:w.n], w.m.nonce(&w.buf.nonce, w.next), plaintext, nil)
	w.n, w.part = len(sealed), 0
	w.next++
	if len(w.buf.bytes)-w.n < sealedChunk {
		return w.flush()
	}
	return nil
}

func (w *Writer) flush() error {
	if w.n == 0 {
		return nil
	}
	n, err := w.dst.Write(w.buf.bytes[:w.n])
	if err == nil && n < w.n {
		err = io.ErrShortWrite
	}
	if err != nil {
		return w.fail(err)
	}
	w.n = 0
	return nil
}

// fail breaks the Writer for good, and returns err.
func (w *Writer) fail(err error) error {
	w.err = err
	w.buf.free(min(w.n+ChunkSize, len(w.buf.bytes)))
	w.buf = nil
	return err
}
