package lake

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/kluis-io/kluis/encryption"
)

// A database row does not show its name, so the rows of a folder come in no order.
// For a folder of many names the order is kept in memory, for as long as the key
// lease holds: a page of a listing then reads the rows of that page alone.
//
// What is kept of a name is its ordinal, which no other name of the folder has or
// will have; of one name in a block its text too, to find a block by. A name of any
// length takes little more than four bytes, twice that if it is a folder's.
//
// An order only ever gains names: those that the folder was given since are asked
// for by their ordinals. What was removed or renamed is noticed when its row is
// looked for, and left out.

// The bounds of what is kept, in bytes of memory. Of a folder above the second no
// order is kept, and each page looks at all of its rows.
var (
	maxOrders   int64 = 48 << 20
	maxOrder    int64 = 24 << 20
	orderedFrom int64 = 2048 // names that a folder has been given before an order is worth it

	blockSize   = 128     // places whose first has its name in memory
	leastRecent = 1 << 14 // places that are kept beside the blocks before these are made anew,
	mostRecent  = 1 << 16 // in a small and in a large folder
)

// A spot is one place in a folder's order: a name's, by its ordinal, or, for a
// folder's second place, that of what lies behind its name and a slash.
type spot uint32

const (
	below   spot = 1 << 31
	maxSpot      = 1<<31 - 1 // the largest ordinal that an order can hold
)

func (s spot) ordinal() int64 { return int64(s &^ below) }

// A position is a spot with its key: the name or, for what lies behind it, the
// name with a slash.
type position struct {
	key  string
	spot spot
}

const positionSize = 24 // bytes in memory, but for the name

// key returns the position's key if the entry has the name.
func (s spot) key(name string) string {
	if s&below != 0 {
		return name + "/"
	}
	return name
}

// An order is a folder's names in byte order. It does not change.
type order struct {
	use    *encryption.Use
	upto   int64      // the ordinal of the last name in it
	none   bool       // there is none: it would be too large
	spots  []spot     // in blocks
	first  []string   // the key of each block's first spot
	recent []position // what came since, by key
	bytes  int64
	gone   *atomic.Int64 // spots found to be out of date
}

func newOrder(use *encryption.Use, upto int64) *order {
	return &order{use: use, upto: upto, gone: new(atomic.Int64)}
}

// add adds the position behind all others.
func (o *order) add(key string, s spot) {
	if len(o.spots)%blockSize == 0 {
		o.first = append(o.first, strings.Clone(key))
		o.bytes += 16 + int64(len(key))
	}
	o.spots = append(o.spots, s)
	o.bytes += 4
}

// between returns the spots of all keys from the one on and below another, and of
// some around them: limit recent ones and so many blocks, at the most. There is no
// other key if nothing more comes.
func (o *order) between(from string, blocks, limit int) (spots []spot, to string, more bool) {
	b := max(0, sort.Search(len(o.first), func(i int) bool { return o.first[i] > from })-1)
	end := min(b+blocks, len(o.first))
	if end < len(o.first) {
		to, more = o.first[end], true
	}
	spots = slices.Clone(o.spots[min(b*blockSize, len(o.spots)):min(end*blockSize, len(o.spots))])
	i, _ := slices.BinarySearchFunc(o.recent, from, func(p position, key string) int { return cmp.Compare(p.key, key) })
	for _, p := range o.recent[i:] {
		if more && p.key >= to {
			break
		}
		if limit--; limit < 0 {
			return spots, p.key, true
		}
		spots = append(spots, p.spot)
	}
	return spots, to, more
}

// with returns the order with more names. One that the order holds already has been
// taken from the entry that had it.
func (o *order) with(more []position, upto int64) *order {
	slices.SortFunc(more, comparePositions)
	n := *o
	n.upto, n.recent = upto, make([]position, 0, len(o.recent)+len(more))
	old := o.recent
	for len(old) > 0 || len(more) > 0 {
		from := &more
		if len(more) == 0 || len(old) > 0 && comparePositions(old[0], more[0]) < 0 {
			from = &old
		}
		p := (*from)[0]
		*from = (*from)[1:]
		if last := len(n.recent) - 1; last >= 0 && n.recent[last].key == p.key {
			n.recent[last] = p
			continue
		}
		n.recent = append(n.recent, p)
	}
	for _, p := range n.recent {
		n.bytes += positionSize + int64(len(p.key))
	}
	for _, p := range o.recent {
		n.bytes -= positionSize + int64(len(p.key))
	}
	return &n
}

func comparePositions(a, b position) int {
	if c := cmp.Compare(a.key, b.key); c != 0 {
		return c
	}
	return cmp.Compare(a.spot.ordinal(), b.spot.ordinal())
}

// appendPositions adds the places of an entry.
func appendPositions(all []position, ordinal int64, r record) []position {
	all = append(all, position{r.name, spot(ordinal)})
	if r.kind == Folder {
		all = append(all, position{r.name + "/", spot(ordinal) | below})
	}
	return all
}

// ordered returns the folder's order as the transaction sees it; nil if it is not
// worth keeping or too large to keep.
func (s *session) ordered(tx Tx, f FolderRow) (*order, error) {
	if f.Names < orderedFrom || f.Names > maxSpot {
		return nil, nil
	}
	if err := s.use.Check(); err != nil {
		s.lake.orders.forget(s.use.Scope())
		return nil, err
	}
	o := s.lake.orders.get(f.ID)
	switch {
	case o == nil || o.upto > f.Names: // or this transaction began before another one's end
		return nil, noOrder(f.ID)
	case o.none:
		return nil, nil
	case o.stale(f):
		return nil, noOrder(f.ID)
	case o.upto == f.Names:
		return o, nil
	}
	var more []position
	err := tx.LakeEntriesSince(f.ID, o.upto, func(e EntryRow) error {
		r, err := s.open(f, e)
		if err == nil {
			more = appendPositions(more, e.Ordinal, r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	o = o.with(more, f.Names)
	s.lake.orders.put(f.ID, o)
	return o, nil
}

// stale reports whether the order is to be made anew: too much has come, or gone,
// since it was.
func (o *order) stale(f FolderRow) bool {
	came := int64(len(o.recent)) + f.Names - o.upto
	return came > int64(min(max(leastRecent, len(o.spots)/16), mostRecent)) || o.gone.Load() > int64(len(o.spots)+len(o.recent))/4
}

// nextOrdered is next for a folder whose order is known.
func (w *lister) nextOrdered(tx Tx, s *session, f FolderRow, o *order, base string) (steps []step, more bool, err error) {
	prefix, _ := strings.CutPrefix(w.o.Prefix, base)
	if len(w.o.Prefix) <= len(base) {
		prefix = ""
	}
	limit := min(w.max-w.n+1, maxBatch)
	from := w.firstKey(base)
	for {
		var to string
		var spots []spot
		spots, to, more = o.between(from, 1+limit/blockSize, limit)
		entries, err := s.entriesAt(tx, f, o, spots)
		if err != nil {
			return nil, false, err
		}
		for _, sp := range spots {
			e, ok := entries[sp.ordinal()]
			key := sp.key(e.rec.name)
			if !ok || key < from || more && key >= to || !strings.HasPrefix(key, prefix) {
				continue
			}
			st := step{path: base + key, id: e.id, rec: e.rec, descend: sp&below != 0 && !w.o.Delimited}
			switch {
			case st.descend && !w.o.Recursive || !w.wanted(st):
			case w.o.Delimited && (e.rec.kind == Folder) != (sp&below != 0): // a folder is shown as a prefix alone
			default:
				steps = append(steps, st)
			}
		}
		if more && (to > prefix && !strings.HasPrefix(to, prefix) || w.o.EndBefore != "" && base+to >= w.o.EndBefore) {
			more = false
		}
		if len(steps) > 0 || !more {
			slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.path, b.path) })
			return steps, more, nil
		}
		from = to
	}
}

// maxBatch is how many entries are looked at in one go.
const maxBatch = 1024

// An opened is an entry whose record is open.
type opened struct {
	id  NodeID
	rec record
}

// entriesAt returns the entries, by ordinal, that are still at the spots.
func (s *session) entriesAt(tx Tx, f FolderRow, o *order, spots []spot) (map[int64]opened, error) {
	entries := make(map[int64]opened, len(spots))
	ordinals := make([]int64, 0, len(spots))
	for _, sp := range spots {
		ordinals = append(ordinals, sp.ordinal())
	}
	slices.Sort(ordinals) // rows that came after each other lie together
	ordinals = slices.Compact(ordinals)
	rows, err := tx.LakeEntriesAt(f.ID, ordinals)
	if err != nil {
		return nil, err
	}
	o.gone.Add(int64(len(ordinals) - len(rows)))
	for _, e := range rows {
		r, err := s.open(f, e)
		if err != nil {
			return nil, err
		}
		entries[e.Ordinal] = opened{e.ID, r}
	}
	return entries, nil
}

// firstKey returns the key below which nothing in the folder is wanted.
func (w *lister) firstKey(base string) string {
	first := ""
	for _, from := range []string{w.from, w.o.Prefix} {
		key, ok := strings.CutPrefix(from, base)
		if !ok {
			continue
		}
		if i := strings.IndexByte(key, '/'); i >= 0 { // it lies below a folder
			key = key[:i+1]
		}
		first = max(first, key)
	}
	return first
}
