package store

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
)

// A Memory keeps rows that were read, so that the requests of a data plane need
// not ask the database for the same ones again: in SQLite each commit, an audit
// entry's too, makes the connections drop all that they had read.
//
// What it gives is what a query would give at that moment: it drops a row before
// the commit that changes it is acknowledged. That rests on two things. The
// [Writer] is the only one that writes to the database: an engine that lets other
// processes in has no Memory. And every statement that writes goes through
// [Tx.exec], which marks the whole table as changed, or through [Tx.execRow], which
// says which rows. Nothing is ever taken for true because it is young: there is no
// time in it.
//
// A read transaction still sees one moment. The revision counts commits that
// change remembered rows, and is odd while one is under way; all that a
// transaction recalls must be of one revision, the snapshot that the database
// gives it included. Otherwise the transaction is run again.
type Memory struct {
	revision atomic.Uint64

	mu    sync.Mutex
	rows  rowSet
	bytes int
	dirty *changes // of the commit under way; nil if there is none
}

// maxMemory bounds what is kept, in bytes.
const maxMemory = 16 << 20

// A kind is a way to look a remembered row up. Those without a table are not
// dropped when one changes.
type kind uint8

// The kinds of rows that are remembered.
const (
	folderByID kind = iota + 1
	folderByRole
	entryByName
	entryByID // other name only
	nodeByID
	extentByID
	extentByOwner // other name only
	workspaceByID
	workspaceByName
	itemList
	itemEntryByID
	itemEntryByLookup
	rolesHeld
	accountByName
	scopeByID
	keyAlive
	kinds
)

// tableOf says which table a kind's rows are of.
var tableOf = [kinds]string{
	folderByID: "lake_folder", folderByRole: "lake_folder", entryByName: "lake_entry", nodeByID: "lake_node", extentByID: "lake_extent",
	workspaceByID: "workspace", workspaceByName: "workspace", itemList: "item_list", itemEntryByID: "item_entry",
	itemEntryByLookup: "item_entry", rolesHeld: "role_assignment", accountByName: "account", scopeByID: "scope", keyAlive: "item_key",
}

// parts are the tables of which a remembered row of another table has something: a
// write to the first counts as one to the second.
var parts = map[string]string{"tenant_setting": "scope"} // the tenant's bound

var remembered = func() map[string]bool {
	all := map[string]bool{}
	for _, table := range tableOf {
		all[table] = table != ""
	}
	return all
}()

// written returns the table that a statement writes to.
func written(query string) string {
	for _, verb := range []string{"INSERT INTO ", "UPDATE ", "DELETE FROM "} {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(query), verb); ok {
			if i := strings.IndexAny(rest, " \t\n("); i >= 0 {
				rest = rest[:i]
			}
			return rest
		}
	}
	return ""
}

// A rowKey names a remembered row.
type rowKey struct {
	kind     kind
	id, more string
}

// A row is what a query gave, be it that there is nothing. It is shared, and
// nobody changes it.
type row struct {
	value any
	size  int    // bytes, roughly
	also  rowKey // another name, by which it can be dropped; zero for none
}

// A rowSet is remembered rows.
type rowSet struct {
	by   map[rowKey]row
	also map[rowKey][]rowKey
}

// put adds a row in place of those that have the name, and returns how much those
// were.
func (s *rowSet) put(k rowKey, r row) (bytes int) {
	if s.by == nil {
		s.by, s.also = map[rowKey]row{}, map[rowKey][]rowKey{}
	}
	bytes = s.drop(k)
	s.by[k] = r
	if r.also != (rowKey{}) {
		s.also[r.also] = append(s.also[r.also], k)
	}
	return bytes
}

// drop drops what has the name, and returns how much that was.
func (s *rowSet) drop(k rowKey) (bytes int) {
	if r, ok := s.by[k]; ok {
		delete(s.by, k)
		bytes += r.size
		if r.also != (rowKey{}) {
			rest := s.also[r.also]
			for i, other := range rest {
				if other == k {
					rest[i] = rest[len(rest)-1]
					rest = rest[:len(rest)-1]
					break
				}
			}
			if s.also[r.also] = rest; len(rest) == 0 {
				delete(s.also, r.also)
			}
		}
	}
	for len(s.also[k]) > 0 {
		bytes += s.drop(s.also[k][0])
	}
	return bytes
}

// changes are what a group of write transactions has changed.
type changes struct {
	tables map[string]bool
	keys   map[rowKey]bool
	rows   rowSet // what some of keys are now
}

func (c *changes) empty() bool { return len(c.tables) == 0 && len(c.keys) == 0 }

// has reports whether a row may have been changed.
func (c *changes) has(k rowKey, r row) bool {
	return c != nil && (c.tables[tableOf[k.kind]] || c.keys[k] || r.also != (rowKey{}) && c.keys[r.also])
}

func (c *changes) table(name string) {
	if whole, ok := parts[name]; ok {
		name = whole
	}
	if remembered[name] {
		if c.tables == nil {
			c.tables = map[string]bool{}
		}
		c.tables[name] = true
		c.rows = rowSet{}
	}
}

func (c *changes) key(k rowKey) {
	if c.keys == nil {
		c.keys = map[rowKey]bool{}
	}
	c.keys[k] = true
	c.rows.drop(k)
}

// Size returns how many rows are remembered, and the bytes they take.
func (m *Memory) Size() (rows, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows.by), m.bytes
}

// get returns a row as it is at the revision, or false.
func (m *Memory) get(k rowKey) (row, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.rows.by[k]
	return r, ok && !m.dirty.has(k, r)
}

// keep remembers a row that was read at the revision. While a commit is under way,
// the row must be the same before and after it; of one that is not there, nobody can
// tell under what other name it was.
func (m *Memory) keep(k rowKey, r row, revision uint64, there bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.revision.Load() == revision && (m.dirty == nil || there && !m.dirty.has(k, r)) {
		m.put(k, r)
	}
}

// overhead is what a row takes besides what it says.
const overhead = 200

func (m *Memory) put(k rowKey, r row) {
	r.size += overhead + len(k.id) + len(k.more)
	if r.size > maxMemory/16 {
		return
	}
	m.bytes += r.size - m.rows.put(k, r)
	for k := range m.rows.by { // in random order: nobody can aim at what stays
		if m.bytes <= maxMemory {
			break
		}
		m.bytes -= m.rows.drop(k)
	}
}

// committing says that the changes are about to become visible.
func (m *Memory) committing(c *changes) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirty = c
	m.revision.Add(1)
}

// committed says that they have, or may have.
func (m *Memory) committed(c *changes, certain bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range c.keys {
		m.bytes -= m.rows.drop(k)
	}
	if len(c.tables) > 0 {
		for k := range m.rows.by {
			if c.tables[tableOf[k.kind]] {
				m.bytes -= m.rows.drop(k)
			}
		}
	}
	if certain {
		for k, r := range c.rows.by {
			m.put(k, r)
		}
	}
	m.dirty = nil
	m.revision.Add(1)
}

// Recall runs fn in one read transaction that recalls what m remembers. One that
// finds all that it looks for there does not ask the database at all. fn may be run
// a second time.
func (r *Readers) Recall(ctx context.Context, m *Memory, fn func(*Tx) error) error {
	if r.over() {
		return ErrClosed
	}
	t := &Tx{ctx: ctx, readers: r, recalled: &recalled{memory: m, revision: m.revision.Load()}}
	err := func() error {
		defer t.endReading()
		return fn(t)
	}()
	if t.recalled.ended {
		return r.View(ctx, fn)
	}
	return err
}

// A recalled is what a read transaction has to do with the memory.
type recalled struct {
	memory   *Memory
	revision uint64 // what it recalls is as of this one
	used     bool   // it has recalled something
	pinned   bool   // the database has given it its snapshot
	over     bool   // that is of another revision: nothing is recalled any more
	ended    bool   // it must be run again
}

// errAgain ends a transaction that must be run again.
var errAgain = errors.New("the transaction cannot go on from memory")

// moved is called when a commit has come in between: from now on the transaction
// asks the database, unless that would not agree with what it has seen.
func (v *recalled) moved() error {
	if v.used && !v.pinned {
		v.ended = true
		return errAgain
	}
	v.over = true
	return nil
}

// pin is called once the database has given the transaction its snapshot.
func (t *Tx) pin() (err error) {
	v := t.recalled
	if v == nil || v.pinned || v.over {
		return nil
	}
	if v.memory.revision.Load() != v.revision {
		err = v.moved()
	}
	v.pinned = true
	return err
}

// recall returns a remembered row as the transaction must see it.
func (t *Tx) recall(k rowKey) (any, bool, error) {
	if t.group != nil {
		return t.group.recall(k)
	}
	v := t.recalled
	if v == nil || v.over {
		return nil, false, nil
	}
	r, ok := v.memory.get(k)
	if v.memory.revision.Load() != v.revision {
		return nil, false, v.moved()
	}
	v.used = v.used || ok
	return r.value, ok, nil
}

// recall is that of the one writer, who sees what its group has changed.
func (g *group) recall(k rowKey) (any, bool, error) {
	if g.memory == nil {
		return nil, false, nil
	}
	if r, ok := g.changes.rows.by[k]; ok {
		return r.value, true, nil
	}
	r, ok := g.memory.get(k)
	return r.value, ok && !g.changes.has(k, r), nil
}

// remember keeps what the transaction has read.
func (t *Tx) remember(k rowKey, r row, there bool) {
	switch v := t.recalled; {
	case t.group == nil && v != nil && !v.over:
		v.memory.keep(k, r, v.revision, there)
	case t.group != nil && t.group.memory != nil && t.group.changes.empty(): // else it may be what is not committed
		t.group.memory.keep(k, r, t.group.memory.revision.Load(), there)
	}
}

// changed says that a statement changes the rows that the keys name, and no others.
func (t *Tx) changed(keys ...rowKey) {
	if g := t.group; g != nil && g.memory != nil {
		for _, k := range keys {
			g.changes.key(k)
			g.touched = append(g.touched, k)
		}
	}
}

// changedAll says that it may change any row of a table.
func (t *Tx) changedAll(table string) {
	if g := t.group; g != nil && g.memory != nil {
		g.changes.table(table)
	}
}

// became says what a row is after the transaction's own change.
func (t *Tx) became(k rowKey, r row) {
	if g := t.group; g != nil && g.memory != nil && !g.changes.tables[tableOf[k.kind]] {
		g.changes.rows.put(k, r)
	}
}

// failed forgets what a transaction that has left nothing behind said of rows.
func (g *group) failed() {
	for _, k := range g.touched {
		g.changes.rows.drop(k)
	}
}

// maybe is a row, if there is one.
type maybe[T any] struct {
	row T
	ok  bool
}

// recallOne returns the one row of a key, by load if it is not remembered. about
// says how large it is, and its other name.
func recallOne[T any](t *Tx, k rowKey, about func(T) (int, rowKey), load func() (T, bool, error)) (T, bool, error) {
	v, ok, err := t.recall(k)
	if err != nil {
		var none T
		return none, false, err
	}
	if ok {
		m := v.(maybe[T])
		return m.row, m.ok, nil
	}
	r, ok, err := load()
	if err == nil {
		t.remember(k, rowOf(r, ok, about), ok)
	}
	return r, ok, err
}

func rowOf[T any](r T, ok bool, about func(T) (int, rowKey)) row {
	out := row{value: maybe[T]{r, ok}}
	if ok && about != nil {
		out.size, out.also = about(r)
	}
	return out
}
