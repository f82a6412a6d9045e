package envelope

import (
	"io"

	"github.com/kluis-io/kluis/fault"
)

// A ReaderAt opens any range of a message and reads no chunk that the range does
// not touch, but for the message's last one: that is opened before io.EOF is
// reported, because it alone proves where the message ends.
//
// It is safe for concurrent use if its source is.
type ReaderAt struct {
	src    io.ReaderAt
	m      *message
	size   int64
	sealed int64
}

// NewReaderAt returns a ReaderAt of the message that fills the first sealedSize
// bytes of src. It reads the header and checks the commitment: a wrong key or
// context fails here, and so does a length that no message has, both with
// [fault.Integrity]. The key is not needed after it returns.
func NewReaderAt(src io.ReaderAt, sealedSize int64, key *Key, ctx Context) (*ReaderAt, error) {
	size, err := PlainSize(sealedSize)
	if err != nil {
		return nil, err
	}
	var header [HeaderSize]byte
	if n, err := src.ReadAt(header[:], 0); n < HeaderSize {
		if err == io.EOF {
			return nil, errSize()
		}
		return nil, err
	}
	m, err := deriveFor(key, ctx, header[:])
	if err != nil {
		return nil, err
	}
	return &ReaderAt{src: src, m: m, size: size, sealed: sealedSize}, nil
}

// Size returns the length of the plaintext as sealedSize has it. It is proven
// once a read has reached the end.
func (r *ReaderAt) Size() int64 { return r.size }

// ReadAt implements [io.ReaderAt] on the plaintext.
func (r *ReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	rng := r.Range(off, int64(len(p)))
	defer rng.Close()
	n := 0
	for n < len(p) {
		m, err := rng.Read(p[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Range returns a Reader of the n bytes of plaintext from off, or of as many as
// there are. It reads its chunks in runs of up to 256 KiB. A range that reaches
// the end of the message includes the last chunk, even if that holds none of its
// bytes. A negative off or n makes a Reader that fails.
func (r *ReaderAt) Range(off, n int64) *Reader {
	if off < 0 || n < 0 {
		return &Reader{err: fault.New(fault.InvalidArgument, "A range starts and ends at or after the first byte.")}
	}
	if n == 0 && off < r.size {
		return &Reader{err: io.EOF}
	}
	off = min(off, r.size)
	n = min(n, r.size-off)
	first, last := off/ChunkSize, r.size/ChunkSize
	if off+n < r.size {
		last = (off + n - 1) / ChunkSize
	}
	start := HeaderSize + first*sealedChunk
	stop := min(HeaderSize+(last+1)*sealedChunk, r.sealed)
	return &Reader{
		src:   &span{src: r.src, off: start, end: stop},
		m:     r.m,
		next:  uint64(first),
		last:  uint64(last),
		skip:  int(off - first*ChunkSize),
		limit: n,
	}
}

// A span reads the sealed bytes from off to end. A source that ends before them
// is truncated, and must not look like a message that ends there.
type span struct {
	src      io.ReaderAt
	off, end int64
}

func (s *span) Read(p []byte) (int, error) {
	if s.off == s.end {
		return 0, io.EOF
	}
	n, err := s.src.ReadAt(p[:min(int64(len(p)), s.end-s.off)], s.off)
	s.off += int64(n)
	if err == io.EOF {
		err = nil
		if s.off < s.end {
			err = errTruncated(uint64((s.off - HeaderSize) / sealedChunk))
		}
	}
	return n, err
}
