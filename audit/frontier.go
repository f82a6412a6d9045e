package audit

import (
	"crypto/sha256"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// A frontier is the right edge of a Merkle tree: what it takes to grow the tree
// and to know its root, with no node read back from anywhere.
type frontier struct {
	size  int64
	nodes [63]tlog.Hash // nodes[l] is the root of a full subtree of 1<<l leaves if size has bit l
}

// append adds a leaf and returns the nodes that it completes, in the order in
// which tlog stores them: the leaf first.
func (f *frontier) append(leaf tlog.Hash) []tlog.Hash {
	done := []tlog.Hash{leaf}
	h := leaf
	for l := 0; f.size>>l&1 == 1; l++ {
		h = tlog.NodeHash(f.nodes[l], h)
		done = append(done, h)
	}
	f.nodes[len(done)-1] = h
	f.size++
	return done
}

// root returns the tree's root hash (RFC 6962 §2.1).
func (f *frontier) root() tlog.Hash {
	if f.size == 0 {
		return sha256.Sum256(nil)
	}
	l := bits.TrailingZeros64(uint64(f.size))
	h := f.nodes[l]
	for l++; f.size>>l != 0; l++ {
		if f.size>>l&1 == 1 {
			h = tlog.NodeHash(f.nodes[l], h)
		}
	}
	return h
}

// readFrontier reads the right edge of the tree of a size from stored hashes.
// Its root must be compared with a signed one before it is believed.
func readFrontier(size int64, r tlog.HashReader) (*frontier, error) {
	f := &frontier{size: size}
	for l, first := bits.Len64(uint64(size))-1, int64(0); l >= 0; l-- {
		if size>>l&1 == 0 {
			continue
		}
		h, err := r.ReadHashes([]int64{tlog.StoredHashIndex(l, first>>l)})
		if err != nil {
			return nil, err
		}
		f.nodes[l] = h[0]
		first += 1 << l
	}
	return f, nil
}
