package lake

import (
	"cmp"
	"container/list"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kluis-io/kluis/encryption"
)

// A database row does not show its name, so the rows of a folder come in no order.
// For a folder of many names the order is kept in memory, for as long as the key
// lease holds: a page of a listing then reads the rows of that page alone.
//
// An order only ever gains names: those that the folder was given since are asked
// for by their ordinals. What was removed or renamed is noticed when its row is
// looked at, and left out.

// The bounds of what is kept, in bytes of memory. Of a folder above the second no
// order is kept, and each page looks at all of its rows.
var (
	maxOrders   int64 = 48 << 20
	maxOrder    int64 = 24 << 20
	orderedFrom int64 = 2048 // names that a folder has been given before an order is worth it
)

// A position is one place in a folder's order: a name or, for a folder's second
// place, its name with a slash, behind which lies what it holds.
type position struct {
	key string
	id  [16]byte
}

const positionSize = 40 // bytes in memory, but for the name

// An order is a folder's names in byte order. It does not change.
type order struct {
	use   *encryption.Use
	upto  int64 // the ordinal of the last name in it
	all   []position
	bytes int64
	gone  *atomic.Int64 // positions found to be out of date
}

// from returns the positions from the first one on that is not below key.
func (o *order) from(key string) []position {
	i, _ := slices.BinarySearchFunc(o.all, key, func(p position, key string) int { return cmp.Compare(p.key, key) })
	return o.all[i:]
}

// with returns an order with more positions.
func (o *order) with(more []position, upto int64) *order {
	slices.SortFunc(more, comparePositions)
	all := make([]position, 0, len(o.all)+len(more))
	i := 0
	for _, p := range more {
		for i < len(o.all) && comparePositions(o.all[i], p) < 0 {
			all = append(all, o.all[i])
			i++
		}
		all = append(all, p)
	}
	all = slices.Compact(append(all, o.all[i:]...))
	return newOrder(o.use, all, upto)
}

func newOrder(use *encryption.Use, all []position, upto int64) *order {
	o := &order{use: use, upto: upto, all: all, gone: new(atomic.Int64)}
	for _, p := range all {
		o.bytes += positionSize + int64(len(p.key))
	}
	return o
}

func comparePositions(a, b position) int {
	if c := cmp.Compare(a.key, b.key); c != 0 {
		return c
	}
	return slices.Compare(a.id[:], b.id[:])
}

// appendPositions adds the places of an entry.
func appendPositions(all []position, id NodeID, r record) []position {
	p := position{key: strings.Clone(r.name)}
	if n, err := hex.Decode(p.id[:], []byte(id)); err != nil || n != len(p.id) {
		return all // not one of ours
	}
	all = append(all, p)
	if r.kind == Folder {
		p.key += "/"
		all = append(all, p)
	}
	return all
}

// An orderCache keeps orders; the least recently used go first.
type orderCache struct {
	mu       sync.Mutex
	byFolder map[NodeID]*list.Element
	recent   list.List // of orderEntry
	bytes    int64
}

type orderEntry struct {
	folder NodeID
	order  *order
}

func (c *orderCache) get(folder NodeID) *order {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byFolder[folder]
	if el == nil {
		return nil
	}
	c.recent.MoveToFront(el)
	return el.Value.(orderEntry).order
}

// put keeps an order, unless it is too large.
func (c *orderCache) put(folder NodeID, o *order) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(c.byFolder[folder])
	if o == nil || o.bytes > maxOrder {
		return
	}
	if c.byFolder == nil {
		c.byFolder = map[NodeID]*list.Element{}
	}
	c.byFolder[folder] = c.recent.PushFront(orderEntry{folder, o})
	c.bytes += o.bytes
	for c.bytes > maxOrders {
		c.remove(c.recent.Back())
	}
}

func (c *orderCache) remove(el *list.Element) {
	if el == nil {
		return
	}
	e := c.recent.Remove(el).(orderEntry)
	delete(c.byFolder, e.folder)
	c.bytes -= e.order.bytes
}

// dropIf drops the orders that the function names.
func (c *orderCache) dropIf(drop func(*order) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for el := c.recent.Front(); el != nil; {
		next := el.Next()
		if drop(el.Value.(orderEntry).order) {
			c.remove(el)
		}
		el = next
	}
}

func (c *orderCache) forget(scope encryption.ScopeID) {
	c.dropIf(func(o *order) bool { return o.use.Scope() == scope })
}

func (c *orderCache) expire() {
	c.dropIf(func(o *order) bool { return o.use.Check() != nil })
}

// ordered returns the folder's order as the transaction sees it; nil if it is not
// worth keeping or too large to keep.
func (s *session) ordered(tx Tx, f FolderRow) (*order, error) {
	if f.Names < orderedFrom {
		return nil, nil
	}
	if err := s.use.Check(); err != nil {
		s.lake.orders.forget(s.use.Scope())
		return nil, err
	}
	o := s.lake.orders.get(f.ID)
	switch {
	case o != nil && o.gone.Load() > int64(len(o.all)/4):
		o = nil // it is mostly history
	case o != nil && o.upto == f.Names:
		return o, nil
	case o != nil && o.upto > f.Names:
		return nil, nil // this transaction began before another one's end
	}
	var after int64 = -1
	if o != nil {
		after = o.upto
	}
	var more []position
	var bytes int64
	err := tx.LakeEntriesSince(f.ID, after, func(e EntryRow) error {
		r, err := s.open(f, e)
		if err != nil {
			return err
		}
		if bytes += positionSize + int64(len(r.name)); bytes <= maxOrder {
			more = appendPositions(more, e.ID, r)
		}
		return nil
	})
	if err != nil || bytes > maxOrder {
		return nil, err
	}
	if o == nil {
		o = newOrder(s.use, nil, 0)
	}
	o = o.with(more, f.Names)
	s.lake.orders.put(f.ID, o)
	return o, nil
}

// batchIDs is how many rows one statement of a page asks for.
const batchIDs = 256

// nextOrdered is next for a folder whose order is known.
func (w *lister) nextOrdered(tx Tx, s *session, f FolderRow, o *order, base string) (steps []step, more bool, err error) {
	rest := o.from(w.firstKey(base))
	prefix, _ := strings.CutPrefix(w.o.Prefix, base)
	if len(w.o.Prefix) <= len(base) {
		prefix = ""
	}
	limit := w.max - w.n + 1
	for len(steps) == 0 {
		var batch []step
		var ids []NodeID
		for len(rest) > 0 && len(batch) < min(limit, batchIDs) {
			p := rest[0]
			rest = rest[1:]
			if !strings.HasPrefix(p.key, prefix) {
				if p.key > prefix {
					rest = nil
				}
				continue
			}
			st := step{path: base + p.key, id: NodeID(hex.EncodeToString(p.id[:]))}
			st.descend = strings.HasSuffix(p.key, "/") && !w.o.Delimited
			if st.descend && !w.o.Recursive || !w.wanted(st) {
				continue
			}
			batch = append(batch, st)
			ids = append(ids, st.id)
		}
		if len(batch) == 0 {
			return nil, false, nil
		}
		rows, err := tx.LakeEntriesByID(ids)
		if err != nil {
			return nil, false, err
		}
		byID := make(map[NodeID]EntryRow, len(rows))
		for _, e := range rows {
			byID[e.ID] = e
		}
		for _, st := range batch {
			e, ok := byID[st.id]
			if ok = ok && e.Folder == f.ID; ok {
				if st.rec, err = s.open(f, e); err != nil {
					return nil, false, err
				}
				ok = base+st.rec.name == strings.TrimSuffix(st.path, "/")
			}
			switch folder := st.rec.kind == Folder; {
			case !ok:
				o.gone.Add(1)
				continue
			case w.o.Delimited && folder != strings.HasSuffix(st.path, "/"):
				continue // a folder is shown as a prefix alone
			}
			steps = append(steps, st)
		}
	}
	return steps, len(rest) > 0, nil
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
