package lake

import (
	"bytes"
	"context"
	"slices"

	"github.com/kluis-io/kluis/fault"
)

// maxGathered is how much memory the names take that are put into order at a time,
// in bytes. A folder of more is looked at several times.
var maxGathered = 32 << 20

// noOrder is what a transaction's function returns when a folder's order is to be
// made: that takes a transaction of its own, and others wait for it outside of any.
type noOrder NodeID

func (n noOrder) Error() string { return "the order of folder " + string(n) + " is not known" }

// order makes the folder's order, unless somebody else has meanwhile. One is made at
// a time, whatever the folder: the names in it are the largest thing in memory.
func (s *session) order(ctx context.Context, id NodeID) error {
	select {
	case s.lake.orders.making <- struct{}{}:
		defer func() { <-s.lake.orders.making }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.view(ctx, func(tx Tx) error {
		f, ok, err := tx.LakeFolder(id)
		if err != nil || !ok {
			return err
		}
		if o := s.lake.orders.get(id); o != nil && !o.stale(f) {
			return nil
		}
		o := newOrder(s.use, f.Names)
		for from := ""; ; {
			g, err := s.gather(ctx, tx, f, o, from)
			if err != nil {
				return err
			}
			g.sort()
			for _, n := range g.names {
				o.add(string(g.key(n)), n.spot)
			}
			if from = g.below; from == "" || o.none {
				break
			}
		}
		if o.none || o.bytes > maxOrder {
			o = newOrder(s.use, f.Names)
			o.none = true
		}
		s.lake.orders.put(id, o)
		return nil
	})
}

// gather takes the folder's first names from one on, as many as fit in memory.
func (s *session) gather(ctx context.Context, tx Tx, f FolderRow, o *order, from string) (*gathering, error) {
	g := &gathering{from: from}
	all := int64(0)
	err := tx.LakeEntries(f.ID, func(e EntryRow) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Ordinal <= 0 || e.Ordinal > maxSpot || all*4 > maxOrder {
			o.none = true // of before names were counted, or too many
			return errEnough
		}
		r, err := s.open(f, e)
		if err != nil {
			return err
		}
		all++
		g.add(r.name, spot(e.Ordinal))
		if r.kind == Folder {
			all++
			g.add(r.name+"/", spot(e.Ordinal)|below)
		}
		return nil
	})
	if err == errEnough {
		return g, nil
	}
	o.spots = slices.Grow(o.spots, int(all)-len(o.spots))
	return g, err
}

var errEnough = fault.New(fault.Internal, "enough")

// A gathering is keys packed in memory: those of all that it is given that are the
// first from one on.
type gathering struct {
	from  string
	below string // all are, unless it is ""; there are more from it on

	names []gathered
	text  [][]byte // chunks of keys, each with its length before it
}

// A gathered is one of the keys, by its place in the chunks.
type gathered struct {
	at   uint32
	spot spot
}

// chunkBits tells the size of a chunk. A key is far shorter.
const chunkBits = 16

func (g *gathering) key(n gathered) []byte {
	b := g.text[n.at>>chunkBits][n.at&(1<<chunkBits-1):]
	return b[2 : 2+int(b[0])<<8+int(b[1])]
}

func (g *gathering) add(key string, s spot) {
	if key < g.from || g.below != "" && key >= g.below {
		return
	}
	if len(g.names) > 1 && len(g.names)*8+len(g.text)<<chunkBits > maxGathered {
		g.halve()
		if key >= g.below {
			return
		}
	}
	g.keep(key, s)
}

func (g *gathering) keep(key string, s spot) {
	last := len(g.text) - 1
	if last < 0 || len(g.text[last])+2+len(key) > 1<<chunkBits {
		g.text = append(g.text, make([]byte, 0, 1<<chunkBits))
		last++
	}
	c := g.text[last]
	g.names = append(g.names, gathered{uint32(last<<chunkBits + len(c)), s})
	g.text[last] = append(append(c, byte(len(key)>>8), byte(len(key))), key...)
}

func (g *gathering) sort() {
	slices.SortFunc(g.names, func(a, b gathered) int { return bytes.Compare(g.key(a), g.key(b)) })
}

// halve drops the second half of the keys.
func (g *gathering) halve() {
	g.sort()
	half := len(g.names) / 2
	old := *g
	g.below = string(old.key(old.names[half]))
	g.text, g.names = nil, make([]gathered, 0, len(old.names))
	for _, n := range old.names[:half] {
		g.keep(string(old.key(n)), n.spot)
	}
}
