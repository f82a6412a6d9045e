package audit

import (
	"context"
	"fmt"
	"math"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxProblems bounds how many problems a report spells out.
const maxProblems = 100

// A Report is what verifying a log found.
type Report struct {
	Origin      string    `json:"origin"`
	Entries     int64     `json:"entries"`     // in the database
	Covered     int64     `json:"covered"`     // of those, under a valid checkpoint; the rest is not yet covered
	Root        tlog.Hash `json:"root"`        // of all entries
	First       time.Time `json:"first"`       // the earliest time that an entry names; zero if there is none
	Last        time.Time `json:"last"`        // the latest
	Checkpoints int       `json:"checkpoints"` // checked and found right, the one outside included
	Outside     bool      `json:"outside"`     // a checkpoint from outside the database was given

	Problems []Problem `json:"problems,omitempty"` // the first hundred
	Found    int       `json:"found"`              // how many problems there are
}

// OK reports whether nothing is wrong. It says nothing about entries that are
// not yet covered, and little about a log for which no checkpoint from outside
// was given: that one may have been cut.
func (r *Report) OK() bool { return r.Found == 0 }

// A Part is a kind of thing that a log consists of.
type Part string

// The parts of a log.
const (
	EntryPart      Part = "entry"              // Number is its sequence number
	HashPart       Part = "hash"               // Number is its stored hash index
	CheckpointPart Part = "checkpoint"         // Number is its serial number
	OutsidePart    Part = "outside checkpoint" // Number is its serial number, if it could be read
)

// A Problem says which part of a log is not as it was written.
type Problem struct {
	Part   Part   `json:"part"`
	Number int64  `json:"number"`
	Text   string `json:"text"`
}

func (p Problem) String() string { return fmt.Sprintf("%s %d: %s", p.Part, p.Number, p.Text) }

func (r *Report) problem(part Part, number int64, format string, args ...any) {
	r.Found++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{part, number, fmt.Sprintf(format, args...)})
	}
}

// Verify checks a log offline. It believes only the verifier key and outside,
// the newest checkpoint from outside the database (nil if there is none): every
// leaf is computed from its entry, every stored hash compared, every stored
// checkpoint's signature and root checked, and so is outside's. The source may
// be a copy, and is only read.
//
// The error says that the log could not be read; what was found wrong with it is
// in the report.
func Verify(ctx context.Context, source Store, v note.Verifier, outside []byte) (*Report, error) {
	r := &Report{Origin: v.Name(), Outside: outside != nil}
	err := source.View(ctx, func(tx Tx) error {
		c := &checker{ctx: ctx, tx: tx, report: r, roots: map[int64]tlog.Hash{}}
		stored, err := c.openCheckpoints(v)
		if err != nil {
			return err
		}
		ext, extOK := c.openOutside(v, outside)
		for _, cp := range stored {
			c.roots[cp.Size] = tlog.Hash{}
		}
		if extOK {
			c.roots[ext.Size] = tlog.Hash{}
		}
		if err := c.entries(); err != nil {
			return err
		}
		for _, cp := range stored {
			c.checkpoint(CheckpointPart, cp)
		}
		if extOK {
			c.checkpoint(OutsidePart, ext)
			c.order(ext, stored)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// VerifyCopy is Verify for a copy of a log that holds no checkpoints but the one it was
// published with: entries and hashes are held against that one and any others that were
// got elsewhere.
func VerifyCopy(ctx context.Context, source Store, v note.Verifier, published []byte, others ...[]byte) (*Report, error) {
	r := &Report{Origin: v.Name(), Outside: true}
	err := source.View(ctx, func(tx Tx) error {
		c := &checker{ctx: ctx, tx: tx, report: r, roots: map[int64]tlog.Hash{}}
		var signed []Checkpoint
		for _, note := range append([][]byte{published}, others...) {
			if cp, ok := c.openOutside(v, note); ok {
				c.roots[cp.Size] = tlog.Hash{}
				signed = append(signed, cp)
			}
		}
		if err := c.entries(); err != nil {
			return err
		}
		for _, cp := range signed {
			c.checkpoint(OutsidePart, cp)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

type checker struct {
	ctx    context.Context
	tx     Tx
	report *Report
	tree   frontier            // of the entries' bodies
	roots  map[int64]tlog.Hash // by size, for the sizes of checkpoints
}

// openCheckpoints returns the stored checkpoints whose signatures hold, and
// finds those that are missing.
func (c *checker) openCheckpoints(v note.Verifier) ([]Checkpoint, error) {
	rows, err := c.tx.AuditCheckpoints()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		c.report.problem(CheckpointPart, 0, "the database holds no checkpoint")
		return nil, nil
	}
	var out []Checkpoint
	there := map[int64]bool{}
	for _, row := range rows {
		cp, err := openStored(row.Note, v)
		switch {
		case err != nil:
			c.report.problem(CheckpointPart, row.Serial, "%v", err)
			continue
		case cp.Serial != row.Serial:
			c.report.problem(CheckpointPart, row.Serial, "holds the note of number %d", cp.Serial)
			continue
		case len(out) > 0 && cp.Size <= out[len(out)-1].Size:
			c.report.problem(CheckpointPart, row.Serial, "covers no more than the one before it")
		}
		there[row.Serial] = true
		out = append(out, cp)
	}
	if len(out) == 0 {
		return nil, nil
	}
	newest := out[len(out)-1].Serial
	for _, cp := range out {
		if !retained(cp.Serial, newest) {
			c.report.problem(CheckpointPart, cp.Serial, "was put back after it had been dropped")
		}
	}
	for _, serial := range retainedSerials(newest) {
		if !there[serial] {
			c.report.problem(CheckpointPart, serial, "is missing or not as it was signed")
		}
	}
	return out, nil
}

func (c *checker) openOutside(v note.Verifier, outside []byte) (Checkpoint, bool) {
	if outside == nil {
		return Checkpoint{}, false
	}
	cp, err := OpenCheckpoint(outside, v)
	if err != nil {
		c.report.problem(OutsidePart, 0, "%v", err)
		return Checkpoint{}, false
	}
	return cp, true
}

// entries computes the tree from the bodies, and holds it against the stored
// hashes.
func (c *checker) entries() error {
	records := cursor[Record]{fetch: c.tx.AuditRecords, key: func(r Record) int64 { return r.Sequence }}
	hashes := cursor[StoredHash]{fetch: c.tx.AuditHashes, key: func(h StoredHash) int64 { return h.Index }}
	below := frontier{} // of the stored hashes
	c.rootAt()
	for {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		rec, more, err := records.peek()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		seq := c.tree.size
		if rec.Sequence < seq {
			c.report.problem(EntryPart, rec.Sequence, "was inserted")
			records.drop()
			continue
		}
		leaf := tlog.StoredHashIndex(0, seq)
		nodes, err := c.nodes(&hashes, leaf, tlog.StoredHashIndex(0, seq+1))
		if err != nil {
			return err
		}
		var used tlog.Hash // the leaf's
		if rec.Sequence > seq {
			c.report.problem(EntryPart, seq, "is missing")
			if nodes[0] == nil {
				// Neither the entry nor its hash: what follows has no place in
				// the tree.
				c.report.problem(EntryPart, rec.Sequence, "is not in its place; entries from %d on were not checked", seq)
				break
			}
			used = *nodes[0] // so that what else is wrong can still be told
		} else {
			records.drop()
			c.body(rec)
			used = tlog.RecordHash(rec.Body)
			if nodes[0] != nil && *nodes[0] != used {
				c.report.problem(EntryPart, seq, "the entry and its stored hash differ")
			}
		}
		c.tree.append(used)
		c.nodesAbove(&below, leaf, used, nodes)
		c.rootAt()
	}
	c.report.Entries, c.report.Root = c.tree.size, c.tree.root()
	for {
		h, more, err := hashes.peek()
		if err != nil || !more {
			return err
		}
		c.report.problem(HashPart, h.Index, "belongs to no entry")
		hashes.drop()
	}
}

// body checks what a record says beside its hash.
func (c *checker) body(rec Record) {
	e, err := Parse(rec.Body)
	if err != nil {
		c.report.problem(EntryPart, rec.Sequence, "%v", err)
		return
	}
	if !e.Time.Equal(rec.Time) {
		c.report.problem(EntryPart, rec.Sequence, "is filed under a time that is not its own")
	}
	if c.report.First.IsZero() || e.Time.Before(c.report.First) {
		c.report.First = e.Time
	}
	if e.Time.After(c.report.Last) {
		c.report.Last = e.Time
	}
}

// nodes returns the stored hashes from index from to before index end; nil where
// one is missing or malformed.
func (c *checker) nodes(hashes *cursor[StoredHash], from, end int64) ([]*tlog.Hash, error) {
	out := make([]*tlog.Hash, end-from)
	for {
		h, more, err := hashes.peek()
		if err != nil || !more || h.Index >= end {
			return out, err
		}
		hashes.drop()
		switch {
		case h.Index < from:
			c.report.problem(HashPart, h.Index, "was inserted")
		case len(h.Hash) != tlog.HashSize:
			c.report.problem(HashPart, h.Index, "is malformed")
		default:
			n := tlog.Hash(h.Hash)
			out[h.Index-from] = &n
		}
	}
}

// nodesAbove checks that each stored node follows from the two below it. Where
// one is missing it goes on with the right one, so that each fault shows once.
func (c *checker) nodesAbove(below *frontier, leaf int64, h tlog.Hash, nodes []*tlog.Hash) {
	for l, n := range nodes {
		if l > 0 {
			h = tlog.NodeHash(below.nodes[l-1], h)
		}
		switch {
		case n == nil:
			c.report.problem(HashPart, leaf+int64(l), "is missing")
		case l > 0 && *n != h:
			c.report.problem(HashPart, leaf+int64(l), "does not follow from the two hashes below it")
		}
		if n != nil {
			h = *n
		}
	}
	below.nodes[len(nodes)-1] = h
	below.size++
}

// rootAt keeps the root of the tree as it is, if a checkpoint is of this size.
func (c *checker) rootAt() {
	if _, wanted := c.roots[c.tree.size]; wanted {
		c.roots[c.tree.size] = c.tree.root()
	}
}

// checkpoint holds what a checkpoint signed against the entries.
func (c *checker) checkpoint(part Part, cp Checkpoint) {
	switch {
	case cp.Size > c.tree.size:
		c.report.problem(part, cp.Serial, "covers %d entries, and there are %d", cp.Size, c.tree.size)
	case c.roots[cp.Size] != cp.Root:
		c.report.problem(part, cp.Serial, "the first %d entries are not those that it signed; the first %d are as signed", cp.Size, c.report.Covered)
	default:
		c.report.Checkpoints++
		c.report.Covered = max(c.report.Covered, cp.Size)
	}
}

// order checks that the checkpoint outside is one that the database has had: a
// log stores a checkpoint before it writes it outside.
func (c *checker) order(outside Checkpoint, stored []Checkpoint) {
	if len(stored) == 0 {
		return
	}
	newest := stored[len(stored)-1]
	if outside.Serial > newest.Serial {
		c.report.problem(OutsidePart, outside.Serial, "is newer than the newest in the database, number %d", newest.Serial)
	}
	for _, cp := range stored {
		if cp.Serial == outside.Serial && cp != outside ||
			cp.Serial < outside.Serial && cp.Size >= outside.Size ||
			cp.Serial > outside.Serial && cp.Size <= outside.Size {
			c.report.problem(OutsidePart, outside.Serial, "does not fit number %d in the database", cp.Serial)
			return
		}
	}
}

// A cursor reads rows by rising key, a batch at a time.
type cursor[T any] struct {
	fetch func(from int64, limit int) ([]T, error)
	key   func(T) int64

	begun, ended bool
	buf          []T
	last         int64
}

func (c *cursor[T]) peek() (row T, more bool, err error) {
	if len(c.buf) == 0 && !c.ended {
		from := int64(math.MinInt64)
		if c.begun {
			if c.last == math.MaxInt64 {
				c.ended = true
				return row, false, nil
			}
			from = c.last + 1
		}
		if c.buf, err = c.fetch(from, recordBatch); err != nil {
			return row, false, err
		}
		c.begun, c.ended = true, len(c.buf) < recordBatch
	}
	if len(c.buf) == 0 {
		return row, false, nil
	}
	return c.buf[0], true, nil
}

func (c *cursor[T]) drop() {
	c.last = c.key(c.buf[0])
	c.buf = c.buf[1:]
}
