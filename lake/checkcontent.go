package lake

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/check"
)

// The same things, opened.
const (
	partRecord   = "opened name"
	partManifest = "opened manifest"
	partContent  = "opened extent"
)

// maxSessions bounds how many items a check keeps keys of.
const maxSessions = 1024

// contents checks what is sealed.
type contents struct {
	ctx      context.Context
	lake     *Lake
	quick    bool
	report   *check.Report
	sessions map[encryption.ItemID]*session
}

// CheckContent opens everything that the lake has sealed, with the keys of the
// scopes that can be used, and compares it: names with their look-up codes, names
// and manifests with each other and with their rows, manifests with their extents,
// and every extent's bytes with its checksum. With quick set only the beginning of
// an extent is opened. What lies under a scope whose key cannot be used is counted
// and not checked.
func (l *Lake) CheckContent(ctx context.Context, quick bool, r *check.Report) error {
	c := &contents{ctx, l, quick, r, map[encryption.ItemID]*session{}}
	err := check.Pages(page(ctx, l, Tx.LakeEntriesAfter), func(e EntryRow) NodeID { return e.ID }, c.entry)
	if err != nil {
		return err
	}
	err = check.Pages(page(ctx, l, Tx.LakeNodesAfter), func(n NodeRow) NodeID { return n.ID }, c.node)
	if err != nil {
		return err
	}
	return check.Pages(page(ctx, l, Tx.LakeStagedAfter), func(s StagedRow) StagedID { return s.ID }, c.staged)
}

// page makes a method of a transaction read a page in a transaction of its own.
func page[Row any, ID ~string](ctx context.Context, l *Lake, read func(Tx, ID, int) ([]Row, error)) func(ID, int) ([]Row, error) {
	return func(after ID, limit int) (rows []Row, err error) {
		err = l.store.View(ctx, func(tx Tx) (err error) {
			rows, err = read(tx, after, limit)
			return err
		})
		return rows, err
	}
}

// errSkip says that something cannot be checked: its scope's key cannot be used.
var errSkip = errors.New("not checked")

// with runs fn with the keys of the item, and counts what it is about. What fn
// finds wrong as an error is a finding about the subject.
func (c *contents) with(item encryption.ItemID, part, subject string, fn func(*session) error) error {
	for again := false; ; again = true {
		s, err := c.session(item)
		if err == nil && s == nil {
			return nil // there is no such item, or it is shredded: the rows' check says so
		}
		if err == nil {
			err = fn(s)
		}
		reason := fault.ReasonOf(err)
		switch {
		case c.ctx.Err() != nil:
			return c.ctx.Err()
		case err == nil:
			c.report.Checked(part)
		case errors.Is(err, errSkip):
			c.report.Skipped(part)
		case reason == fault.KEKUnreachable && !again: // the lease was over in between
			continue
		case reason == fault.Unavailable:
			return err
		default:
			c.report.Checked(part)
			c.report.Found(part, subject, "%s", check.Text(err))
		}
		return nil
	}
}

func (c *contents) session(item encryption.ItemID) (*session, error) {
	var scope encryption.ScopeID
	live := false
	err := c.lake.store.View(c.ctx, func(tx Tx) error {
		i, err := tx.Item(item)
		if err != nil {
			if errors.Is(err, fault.ItemNotFound) {
				return nil
			}
			return err
		}
		scope = i.Scope
		keys, err := tx.ItemKeys(item)
		for _, k := range keys {
			live = live || k.State != encryption.Shredded
		}
		return err
	})
	if err != nil || !live {
		return nil, err
	}
	u, err := c.lake.keys.Use(c.ctx, scope)
	if err != nil {
		return nil, errors.Join(errSkip, err)
	}
	if s := c.sessions[item]; s != nil && s.use == u {
		return s, nil
	}
	if len(c.sessions) >= maxSessions {
		clear(c.sessions)
	}
	s := &session{lake: c.lake, use: u, item: Item{ID: item}, keys: map[encryption.KeyID]*encryption.Key{}}
	c.sessions[item] = s
	return s, nil
}

// entry opens a name, and compares it with its code and with what it names.
func (c *contents) entry(e EntryRow) error {
	var f FolderRow
	var ok bool
	err := c.lake.store.View(c.ctx, func(tx Tx) (err error) {
		f, ok, err = tx.LakeFolder(e.Folder)
		return err
	})
	if err != nil || !ok {
		return err
	}
	return c.with(f.Item, partRecord, string(e.ID), func(s *session) error {
		return s.view(c.ctx, func(tx Tx) error {
			r, err := s.open(f, e)
			if err != nil {
				return err
			}
			if r.name == "" || r.kind != e.Kind {
				return damaged("Its record does not agree with its row.")
			}
			for _, id := range []encryption.KeyID{f.Key, f.NextKey} {
				if id == "" {
					continue
				}
				keys, err := s.folderKeys(f, id)
				if err != nil {
					return err
				}
				mac, err := keys.lookup(r.name)
				if err != nil {
					return err
				}
				if id == e.Key && mac != e.Lookup {
					return damaged("Its look-up code is another name's: nobody finds it.")
				}
				if other, ok, err := tx.LakeEntry(f.ID, mac); err != nil {
					return err
				} else if ok && other.ID != e.ID {
					return damaged("Another entry of its folder has the same name: " + string(other.ID))
				}
			}
			if f.Role == Uploads {
				return nil
			}
			n, ok, err := tx.LakeNode(e.ID)
			if err != nil || !ok {
				return err
			}
			m, err := s.openNode(n)
			var missing noKey
			if errors.As(err, &missing) {
				return err
			}
			if err == nil && !r.attributes.equal(m.attributes) { // else it is the node's finding
				return damaged("Its record shows other properties than the manifest has.")
			}
			return nil
		})
	})
}

func damaged(text string) error { return fault.New(fault.Integrity, text) }

func (a attributes) equal(b attributes) bool {
	var x, y fields
	a.append(&x)
	b.append(&y)
	return bytes.Equal(x, y)
}

// node opens a file's or folder's manifest and, if it is a file's, its extents.
func (c *contents) node(n NodeRow) error {
	var m manifest
	opened := false
	err := c.with(n.Item, partManifest, string(n.ID), func(s *session) error {
		err := s.view(c.ctx, func(tx Tx) (err error) {
			m, err = s.openNode(n)
			return err
		})
		opened = err == nil
		switch {
		case err != nil:
			return err
		case m.kind != n.Kind || m.size != n.Size || !m.modified.Equal(n.Modified):
			return damaged("It does not agree with its row.")
		case m.kind == Folder && len(m.extents) > 0:
			return damaged("It is a folder's, and has content.")
		}
		return m.consistent()
	})
	if err != nil || !opened {
		return err
	}
	return c.extents(n.Item, string(n.ID), Live, m.extents)
}

// consistent compares a manifest's length, blocks and checksum with its extents'.
func (m manifest) consistent() error {
	if err := m.check(); err != nil {
		return err
	}
	var crc uint64
	for _, ref := range m.extents {
		crc = combineCRC64(crc, ref.crc64, ref.plain)
	}
	if m.crc64 != nil && *m.crc64 != crc {
		return damaged("Its checksum is not that of its extents.")
	}
	n := 0
	for _, b := range m.blocks {
		n += b.extents
	}
	if len(m.blocks) > 0 && n != len(m.extents) {
		return damaged("Its blocks are not made of its extents.")
	}
	return nil
}

func (c *contents) staged(row StagedRow) error {
	var m manifest
	err := c.with(row.Item, partManifest, string(row.ID), func(s *session) error {
		err := s.view(c.ctx, func(tx Tx) (err error) {
			m, err = s.openStaged(row)
			return err
		})
		clear(s.staged) // it is not read again
		if err != nil || row.Owner == "" {
			return err
		}
		if m.size != row.Size || len(m.blocks) != 1 {
			return damaged("It does not agree with its row.")
		}
		return m.consistent()
	})
	if err != nil {
		return err
	}
	return c.extents(row.Item, string(row.ID), Staged, m.extents)
}

// extents checks that a manifest and the extents of its owner are each other's,
// and opens them.
func (c *contents) extents(item encryption.ItemID, owner string, state ExtentState, refs []extentRef) error {
	listed := map[ExtentID]bool{}
	for _, ref := range refs {
		if listed[ref.id] {
			continue
		}
		listed[ref.id] = true
		err := c.with(item, partContent, string(ref.id), func(s *session) error {
			var row ExtentRow
			var ok bool
			err := c.lake.store.View(c.ctx, func(tx Tx) (err error) {
				row, ok, err = tx.LakeExtent(ref.id)
				return err
			})
			switch {
			case err != nil:
				return err
			case !ok:
				return damaged("It is part of " + owner + ", and has no row: what it held is lost.")
			case row.State != state || row.Owner != owner || row.Item != item:
				return damaged("It is part of " + owner + ", and its row says otherwise.")
			}
			return c.open(s, ref, row)
		})
		if err != nil {
			return err
		}
	}
	if state != Live {
		return nil // the sweep removes what nothing lists
	}
	return c.lake.store.View(c.ctx, func(tx Tx) error {
		owned, err := tx.LakeExtentsOf(owner)
		for _, e := range owned {
			if e.State == Live && !listed[e.ID] {
				c.report.Found(partContent, string(e.ID), "It is live in %s, whose manifest does not list it.", owner)
			}
		}
		return err
	})
}

// open opens an extent, and compares its bytes with the checksum in the manifest.
func (c *contents) open(s *session, ref extentRef, row ExtentRow) error {
	e, err := s.openExtent(c.ctx, ref, row)
	if errors.Is(err, fault.NotFound) {
		return nil // the rows' check has found it missing
	}
	if err != nil {
		return err
	}
	defer e.close()
	if c.quick {
		return nil
	}
	r := e.r.Range(0, e.r.Size())
	defer r.Close()
	sum := &run{r: r}
	buf := make([]byte, 16*envelope.ChunkSize)
	defer clear(buf)
	for {
		n, err := sum.Read(buf)
		c.report.Read(int64(n))
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if sum.n != ref.plain || sum.crc64 != ref.crc64 {
		return damaged("Its bytes are not those that " + row.Owner + " lists.")
	}
	return nil
}
