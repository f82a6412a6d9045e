package lake

import "time"

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

// Orders counts the orders that are kept.
func (l *Lake) Orders() int { return l.orders.recent.Len() }

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
