package envelope

import "sync"

// runChunks is how many chunks a stream moves at once: 256 KiB make the cost of
// a read or write on the other side small, and still stay in a core's cache.
const runChunks = 16

// A buffer is what a stream works in. Its nonce lives here because an AEAD's
// arguments escape to the heap.
type buffer struct {
	nonce [nonceSize]byte
	bytes [HeaderSize + runChunks*sealedChunk]byte
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func newBuffer() *buffer { return buffers.Get().(*buffer) }

// free gives the buffer back, with its first n bytes overwritten: the part that
// may hold plaintext.
func (b *buffer) free(n int) {
	clear(b.bytes[:n])
	buffers.Put(b)
}
