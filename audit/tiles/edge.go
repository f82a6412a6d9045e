package tiles

import (
	"context"
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"
)

// An edge is the right edge of a tree in tiles: the hashes of the unfinished tile of each
// level, from which the tree grows and its root follows.
type edge struct {
	size   int64
	levels [][]tlog.Hash
}

// readEdge reads the edge of a published tree of a size that ends with a full bundle.
// Only its root tells whether it is right.
func readEdge(ctx context.Context, s Store, size int64) (*edge, error) {
	e := &edge{size: size, levels: [][]tlog.Hash{nil}}
	for level := 1; size>>(height*level) > 0; level++ {
		var hashes []tlog.Hash
		if t := tile(level, size>>(height*(level+1)), size); t.W > 0 {
			data, err := s.Read(ctx, name(t))
			if err != nil {
				return nil, err
			}
			if len(data) != t.W*tlog.HashSize {
				return nil, damaged(nil, "What is published of the audit log cannot be gone on from: "+name(t)+" is missing or malformed.")
			}
			for range t.W {
				hashes, data = append(hashes, tlog.Hash(data)), data[tlog.HashSize:]
			}
		}
		e.levels = append(e.levels, hashes)
	}
	return e, nil
}

// append adds a leaf, and calls full with each tile that it completes, the lowest first.
func (e *edge) append(leaf tlog.Hash, full func(t tlog.Tile, hashes []tlog.Hash) error) error {
	e.size++
	h := leaf
	for level := 0; ; level++ {
		if level == len(e.levels) {
			e.levels = append(e.levels, nil)
		}
		e.levels[level] = append(e.levels[level], h)
		if len(e.levels[level]) < width {
			return nil
		}
		if err := full(tile(level, e.size>>(height*(level+1))-1, e.size), e.levels[level]); err != nil {
			return err
		}
		h = subtree(e.levels[level])
		e.levels[level] = e.levels[level][:0]
	}
}

// unfinished calls each with the unfinished tiles.
func (e *edge) unfinished(each func(t tlog.Tile, hashes []tlog.Hash) error) error {
	for level, hashes := range e.levels {
		if len(hashes) == 0 {
			continue
		}
		if err := each(tile(level, e.size>>(height*(level+1)), e.size), hashes); err != nil {
			return err
		}
	}
	return nil
}

// root returns the tree's root (RFC 6962 §2.1).
func (e *edge) root() (root tlog.Hash) {
	if e.size == 0 {
		return sha256.Sum256(nil)
	}
	right := false // root holds what lies to the right
	for _, hashes := range e.levels {
		for n := 1; len(hashes) > 0; n *= 2 {
			if len(hashes)&n == 0 {
				continue
			}
			left := subtree(hashes[len(hashes)-n:])
			if hashes = hashes[:len(hashes)-n]; right {
				left = tlog.NodeHash(left, root)
			}
			root, right = left, true
		}
	}
	return root
}

// subtree returns the root of as many hashes as are a power of two.
func subtree(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return tlog.NodeHash(subtree(hashes[:half]), subtree(hashes[half:]))
}

// data returns a tile's content.
func data(hashes []tlog.Hash) []byte {
	b := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}
