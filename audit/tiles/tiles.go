// Package tiles publishes a party's audit log as static files, in the layout of
// c2sp.org/tlog-tiles: a checkpoint, the entries in bundles of 256, and the Merkle
// tree's hashes in tiles of as many. They lie in a folder or an object store, beside the
// database or far from it, and whoever reads them needs no server to verify the log or
// to prove an entry: [audit.VerifyCopy] does with a [Copy], and so does others' software.
//
// A [Publisher] believes nothing but the entries and the log's signed checkpoints: it
// writes tiles only if what it hashes from the entries is what a checkpoint has signed,
// and goes on from what is published only if that is a beginning of the same log. Every
// tile and bundle is written once and never changed; the checkpoint that covers them is
// written last. So a crash at any point leaves what was published as it was, and perhaps
// tiles beyond it, which the next publication finds equal to its own.
//
// Unfinished tiles have their width in their names, and are removed once they are full.
// Publishing never holds up an act: the log in the database is the record, and this a
// copy that follows it. Who can read the place can read the entries, which hold ids and
// numbers, and no tenant's names.
package tiles

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/audit"
)

// A Store keeps what is published, as records by name. It is trusted with nothing.
type Store interface {
	// Read returns a record, or nil if there is none.
	Read(ctx context.Context, name string) ([]byte, error)
	// Create makes a record that never changes: it succeeds if the same is there.
	Create(ctx context.Context, name string, record []byte) error
	// Replace puts the record that decide returns in the place of the one that it is
	// given, in one step; nil leaves that.
	Replace(ctx context.Context, name string, decide func(old []byte) ([]byte, error)) error
	// List calls each with the names below a prefix.
	List(ctx context.Context, prefix string, each func(name string) error) error
	// Delete removes a record.
	Delete(ctx context.Context, name string) error
}

const (
	// CheckpointName is the record that is replaced: the newest signed checkpoint.
	CheckpointName = "checkpoint"

	height = 8
	width  = 1 << height // entries of a bundle, and hashes of a tile

	entries = -1 // the level by which tlog calls bundles
)

// tile returns the coordinates of a tile or bundle in a tree of a size; its width is 0 if
// there is none.
func tile(level int, n, size int64) tlog.Tile {
	have := size >> (height * max(level, 0))
	return tlog.Tile{H: height, L: level, N: n, W: int(max(0, min(width, have-n*width)))}
}

// name returns the record of a tile or bundle: tlog's path without the height, which is
// always the same.
func name(t tlog.Tile) string {
	path := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", height))
	if t.L == entries {
		path = "entries" + strings.TrimPrefix(path, "data")
	}
	return "tile/" + path
}

// partials is the prefix of the names of a full tile's unfinished ones.
func partials(t tlog.Tile) string {
	t.W = width
	return name(t) + ".p/"
}

// appendEntry adds an entry to a bundle: its length in two bytes, and its bytes.
func appendEntry(bundle, body []byte) ([]byte, error) {
	if len(body) > audit.MaxEntry {
		return nil, errors.New("an audit entry is too long to be published")
	}
	return append(binary.BigEndian.AppendUint16(bundle, uint16(len(body))), body...), nil
}

// parseBundle returns the entries of a bundle of n.
func parseBundle(bundle []byte, n int) ([][]byte, error) {
	all := make([][]byte, 0, n)
	for len(bundle) > 0 {
		if len(bundle) < 2 {
			return nil, errors.New("a bundle of entries is cut off")
		}
		size := 2 + int(binary.BigEndian.Uint16(bundle))
		if len(bundle) < size || len(all) == n {
			return nil, errors.New("a bundle of entries is cut off, or too long")
		}
		all, bundle = append(all, bundle[2:size]), bundle[size:]
	}
	if len(all) != n {
		return nil, fmt.Errorf("a bundle has %d entries, and %d belong in it", len(all), n)
	}
	return all, nil
}
