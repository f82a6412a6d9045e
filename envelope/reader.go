package envelope

import "io"

// A Reader opens a message, or a range of one, from its beginning to its end. A
// byte that it hands out belongs to a chunk that has verified; io.EOF means that
// the whole message or range has.
//
// What is wrong with the sealed bytes is reported as [fault.Integrity], a failing
// source as the source's own error; every later call reports the same.
//
// A Reader is for one goroutine.
type Reader struct {
	src   io.Reader
	m     *message
	buf   *buffer
	lo    int   // buf.bytes[lo:hi] was read from src and not yet opened
	hi    int   //
	dirty int   // buf.bytes[:dirty] may hold plaintext
	end   error // what src ended with, io.EOF or its failure

	next  uint64 // number of the next chunk
	last  uint64 // number of the last one wanted, or toEnd
	skip  int    // bytes to drop in front
	limit int64  // bytes still wanted

	plain []byte // opened in buf, and not yet handed out
	err   error  // io.EOF, or the first failure
}

// toEnd stands for the number of the last chunk where only the source knows it.
const toEnd = maxChunks

// NewReader returns a Reader of the message that src holds, from its first byte
// to its end. It reads the header and checks the commitment: a wrong key or
// context fails here.
//
// The Reader reads ahead by up to 256 KiB, but waits for no more than the chunk
// that it hands out next. The key is not needed after NewReader returns.
func NewReader(src io.Reader, key *Key, ctx Context) (*Reader, error) {
	r := &Reader{src: src, last: toEnd, limit: MaxPlainSize}
	if err := r.fill(HeaderSize); err != nil {
		return nil, r.fail(err)
	}
	if r.hi < HeaderSize {
		return nil, r.fail(errSize())
	}
	m, err := deriveFor(key, ctx, r.buf.bytes[:HeaderSize])
	if err != nil {
		return nil, r.fail(err)
	}
	r.m, r.lo = m, HeaderSize
	return r, nil
}

// Read opens as much as it takes to put at least one byte in p.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.plain) == 0 {
		if r.err != nil {
			r.free()
			return 0, r.err
		}
		if len(p) >= ChunkSize && r.skip == 0 && r.limit >= ChunkSize {
			// The whole chunk fits in p: open it there, without a copy.
			opened, err := r.open(p[:0])
			if err != nil || len(opened) > 0 {
				r.limit -= int64(len(opened))
				return len(opened), err
			}
			continue
		}
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// WriteTo opens all that is left and writes it to w, a chunk at a time and each
// straight from where it was opened. It makes io.Copy do so.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if len(r.plain) > 0 {
			n, err := w.Write(r.plain)
			if err == nil && n < len(r.plain) {
				err = io.ErrShortWrite
			}
			r.plain = r.plain[n:]
			total += int64(n)
			if err != nil {
				return total, err
			}
		}
		switch r.err {
		case nil:
			r.advance()
		case io.EOF:
			r.free()
			return total, nil
		default:
			return total, r.err
		}
	}
}

// Close overwrites and gives back what the Reader holds; it is needed only where
// a Reader is dropped before its end. It does not close the source.
func (r *Reader) Close() error {
	if r.err == nil || r.err == io.EOF { // bytes may be left that nobody has seen
		r.err = errClosed
	}
	r.plain = nil
	r.free()
	return nil
}

// advance opens the next chunk where it lies and leaves what is wanted of it in
// r.plain, which may be nothing.
func (r *Reader) advance() error {
	plain, err := r.open(nil)
	if err != nil {
		return err
	}
	plain = plain[min(r.skip, len(plain)):]
	plain = plain[:min(r.limit, int64(len(plain)))]
	r.skip, r.plain = 0, plain
	r.limit -= int64(len(plain))
	return nil
}

// open opens the next chunk: into dst, which has room for it, or where it lies if
// dst is nil. After the last wanted chunk it sets r.err to io.EOF.
func (r *Reader) open(dst []byte) ([]byte, error) {
	if err := r.fill(sealedChunk); err != nil {
		return nil, r.fail(err)
	}
	sealed := r.buf.bytes[r.lo:min(r.hi, r.lo+sealedChunk)]
	if len(sealed) < TagSize || r.next >= maxChunks {
		return nil, r.fail(errTruncated(r.next))
	}
	if dst == nil {
		dst = sealed[:0]
		r.dirty = max(r.dirty, r.lo+len(sealed))
	}
	plain, err := r.m.aead.Open(dst, r.m.nonce(&r.buf.nonce, r.next), sealed, nil)
	if err != nil {
		return nil, r.fail(errChunk(r.next))
	}
	r.lo += len(sealed)
	if r.next == r.last || len(plain) < ChunkSize { // only a message's last chunk is short
		r.err = io.EOF
	}
	r.next++
	return plain, nil
}

// fill reads until the buffer holds n unopened bytes or the source has ended. It
// fails only if the source did, and only once what it gave before is used up.
func (r *Reader) fill(n int) error {
	if r.hi-r.lo >= n {
		return nil
	}
	room := runChunks * sealedChunk // whole chunks, so that runs stay aligned
	if r.buf == nil {
		r.buf = newBuffer()
	}
	if r.m == nil {
		room += HeaderSize
	}
	r.hi = copy(r.buf.bytes[:], r.buf.bytes[r.lo:r.hi])
	r.lo = 0
	for idle := 0; r.hi < n && r.end == nil; {
		var got int
		got, r.end = r.src.Read(r.buf.bytes[r.hi:room])
		r.hi += got
		if got > 0 {
			idle = 0
		} else if idle++; idle == maxIdle && r.end == nil {
			r.end = io.ErrNoProgress
		}
	}
	if r.hi < n && r.end != io.EOF {
		return r.end
	}
	return nil
}

// fail breaks the Reader for good, and returns err.
func (r *Reader) fail(err error) error {
	r.err, r.plain = err, nil
	r.free()
	return err
}

func (r *Reader) free() {
	if r.buf != nil {
		r.buf.free(r.dirty)
		r.buf = nil
	}
}
