package lake

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Knobs for tests.

// SetMaxExtent makes extents smaller, until the returned function is called.
func SetMaxExtent(n int64) (restore func()) {
	old := maxExtent
	maxExtent = n
	return func() { maxExtent = old }
}

// SetMaxSeals makes salts wear out sooner.
func SetMaxSeals(n int64) (restore func()) {
	old := maxSeals
	maxSeals = n
	return func() { maxSeals = old }
}

// SetInFlightGrace makes re-encryption less patient.
func SetInFlightGrace(d time.Duration) (restore func()) {
	old := inFlightGrace
	inFlightGrace = d
	return func() { inFlightGrace = old }
}

// SetMaxAtOnce makes fewer names enough for a folder to have two keys for a
// while.
func SetMaxAtOnce(n int) (restore func()) {
	old := maxAtOnce
	maxAtOnce = n
	return func() { maxAtOnce = old }
}

// SetOrdered makes orders be kept of smaller folders, and of as many bytes at
// most.
func SetOrdered(from, bytes int64) (restore func()) {
	oldFrom, oldMax, oldAll := orderedFrom, maxOrder, maxOrders
	orderedFrom, maxOrder, maxOrders = from, bytes, 2*bytes
	return func() { orderedFrom, maxOrder, maxOrders = oldFrom, oldMax, oldAll }
}

// SetBlocks makes an order's blocks smaller, and keeps less beside them and less in
// memory while it is made.
func SetBlocks(size, recent, names int) (restore func()) {
	oldSize, oldLeast, oldMost, oldGathered := blockSize, leastRecent, mostRecent, maxGathered
	blockSize, leastRecent, mostRecent, maxGathered = size, recent, recent, 1<<chunkBits+8*names
	return func() {
		blockSize, leastRecent, mostRecent, maxGathered = oldSize, oldLeast, oldMost, oldGathered
	}
}

// Enter enters n names in the folder, which is there, and nothing behind them: what a
// listing looks at.
func (l *Lake) Enter(ctx context.Context, caller identity.Caller, p Path, n int, name func(int) string) error {
	const atOnce = 250
	for first := 0; first < n; first += atOnce {
		err := l.do(ctx, caller, opWrite, rbac.DataWrite, p, func(s *session) error {
			return s.update(ctx, func(tx Tx) error {
				pl, err := s.locate(tx, p.inner())
				if err != nil {
					return err
				}
				f, _, err := tx.LakeFolder(pl.entry.ID)
				if err != nil {
					return err
				}
				for i := first; i < min(n, first+atOnce); i++ {
					r := record{name(i), attributes{kind: File, etag: 1, created: s.now(), modified: s.now(), headers: ContentHeaders{Type: "application/octet-stream"}}}
					if err := s.putEntry(tx, &f, EntryRow{ID: NodeID(newID())}, r); err != nil {
						return err
					}
				}
				return tx.PutLakeFolder(f)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Orders counts the orders that are kept, and their bytes.
func (l *Lake) Orders() (n int, bytes int64) {
	for el := l.orders.recent.Front(); el != nil; el = el.Next() {
		if !el.Value.(orderEntry).order.none {
			n++
		}
	}
	return n, l.orders.bytes
}

// MaxInline is the most content that is kept in a row.
const MaxInline = maxInline

// CombineCRC64 is combineCRC64.
func CombineCRC64(a, b uint64, lengthB int64) uint64 { return combineCRC64(a, b, lengthB) }

// CheckManifest decodes a manifest, encodes and decodes it again, and reports
// whether that changed nothing.
func CheckManifest(b []byte) (ok, same bool) {
	m, err := decodeManifest(b)
	if err != nil {
		return false, false
	}
	n, err := decodeManifest(m.encode())
	return true, err == nil && len(n.extents) == len(m.extents) && len(n.blocks) == len(m.blocks) &&
		len(n.metadata) == len(m.metadata) && n.size == m.size && n.etag == m.etag
}

// SetScrubStep makes steps of the scrub shorter.
func SetScrubStep(bytes int64) (restore func()) {
	old := maxScrubStep
	maxScrubStep = bytes
	return func() { maxScrubStep = old }
}
