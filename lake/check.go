package lake

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/check"
)

// A CheckTx is the part of a transaction that only checks need. What ends in After
// returns at most limit rows with ids above after, by id.
type CheckTx interface {
	LakeFoldersAfter(after NodeID, limit int) ([]FolderRow, error)
	LakeEntriesAfter(after NodeID, limit int) ([]EntryRow, error)
	LakeNodesAfter(after NodeID, limit int) ([]NodeRow, error)
	LakeStagedAfter(after StagedID, limit int) ([]StagedRow, error)
	LakeExtentsAfter(after ExtentID, limit int) ([]ExtentRow, error)
	// LakeEntryByID returns the entry that names a file or folder.
	LakeEntryByID(NodeID) (EntryRow, bool, error)
	// LakeExtentsOf returns the owner's extents, without their inline bytes.
	LakeExtentsOf(owner string) ([]ExtentRow, error)
}

// What a check of this package looks at.
const (
	partFolder = "folder"
	partEntry  = "name"
	partNode   = "file or folder"
	partStaged = "staged content"
	partExtent = "extent"
	partObject = "object"
)

// pages calls each with every row of one kind, in a read transaction a page.
func pages[Row any, ID ~string](ctx context.Context, l *Lake, page func(Tx, ID, int) ([]Row, error), id func(Row) ID, each func(Tx, Row) error) error {
	return check.Pages(func(after ID, limit int) (rows []Row, err error) {
		err = l.store.View(ctx, func(tx Tx) error {
			if rows, err = page(tx, after, limit); err != nil {
				return err
			}
			for _, row := range rows {
				if err := each(tx, row); err != nil {
					return err
				}
			}
			return nil
		})
		return rows, err
	}, id, func(Row) error { return nil })
}

// rows checks rows against each other and against the objects.
type rows struct {
	ctx    context.Context
	lake   *Lake
	report *check.Report
}

// CheckRows checks, without any key, that the tree of every item hangs together,
// that everything is under a key of its own item, that no row is without the one
// it belongs to, and that every extent's bytes are there. Objects that no row
// names are noted: a crash leaves some, and the sweep removes them.
func (l *Lake) CheckRows(ctx context.Context, r *check.Report) error {
	c := &rows{ctx, l, r}
	if err := pages(ctx, l, Tx.LakeFoldersAfter, func(f FolderRow) NodeID { return f.ID }, c.folder); err != nil {
		return err
	}
	if err := pages(ctx, l, Tx.LakeEntriesAfter, func(e EntryRow) NodeID { return e.ID }, c.entry); err != nil {
		return err
	}
	if err := pages(ctx, l, Tx.LakeNodesAfter, func(n NodeRow) NodeID { return n.ID }, c.node); err != nil {
		return err
	}
	if err := pages(ctx, l, Tx.LakeStagedAfter, func(s StagedRow) StagedID { return s.ID }, c.staged); err != nil {
		return err
	}
	if err := pages(ctx, l, Tx.LakeExtentsAfter, func(e ExtentRow) ExtentID { return e.ID }, c.extent); err != nil {
		return err
	}
	return c.objects()
}

// keys checks that the ids are those of live keys of the item, and reports whether
// the item is there: what is left of a shredded one only waits for the sweep.
func (c *rows) keys(tx Tx, part, subject string, item encryption.ItemID, p encryption.Purpose, ids ...encryption.KeyID) (live bool, err error) {
	keys, err := tx.ItemKeys(item)
	if err != nil {
		return false, err
	}
	byID := map[encryption.KeyID]encryption.KeyRow{}
	for _, k := range keys {
		byID[k.ID] = k
		live = live || k.State != encryption.Shredded
	}
	switch {
	case len(keys) == 0:
		c.report.Found(part, subject, "It belongs to item %s, which does not exist.", item)
		return false, nil
	case !live:
		return false, nil
	}
	for _, id := range ids {
		if k, ok := byID[id]; id != "" && (!ok || k.Purpose != p || k.State == encryption.Shredded) {
			c.report.Found(part, subject, "It is under key %s, which is no live key of its item's for this.", id)
		}
	}
	return true, nil
}

func (c *rows) folder(tx Tx, f FolderRow) error {
	found := func(format string, args ...any) { c.report.Found(partFolder, string(f.ID), format, args...) }
	c.report.Checked(partFolder)
	live, err := c.keys(tx, partFolder, string(f.ID), f.Item, encryption.NamesKey, f.Key, f.NextKey)
	if err != nil || !live {
		return err
	}
	e, named, err := tx.LakeEntryByID(f.ID)
	if err != nil {
		return err
	}
	switch f.Role {
	case Ordinary:
	case Root, Uploads, Deleted:
		if named {
			found("It is the item's %q folder, and has a name in folder %s.", f.Role, e.Folder)
		}
		return nil
	default:
		found("There is no role %q.", f.Role)
		return nil
	}
	switch {
	case !named:
		found("No name leads to it, nor to what is in it.")
	case e.Kind != Folder:
		found("The name that leads to it is a file's.")
	}
	return c.ancestors(tx, f)
}

// ancestors checks that a folder lies below a root of its item.
func (c *rows) ancestors(tx Tx, f FolderRow) error {
	seen := map[NodeID]bool{}
	at := f
	for at.Role == Ordinary {
		if seen[at.ID] {
			c.report.Found(partFolder, string(f.ID), "It lies below itself, and so no path leads to it.")
			return nil
		}
		seen[at.ID] = true
		e, ok, err := tx.LakeEntryByID(at.ID)
		if err != nil || !ok {
			return err // found elsewhere
		}
		if at, ok, err = tx.LakeFolder(e.Folder); err != nil || !ok {
			return err
		}
	}
	if at.Item != f.Item || at.Role == Uploads {
		c.report.Found(partFolder, string(f.ID), "It lies below folder %s, which is not of its item's tree.", at.ID)
	}
	return nil
}

func (c *rows) entry(tx Tx, e EntryRow) error {
	found := func(format string, args ...any) { c.report.Found(partEntry, string(e.ID), format, args...) }
	c.report.Checked(partEntry)
	f, ok, err := tx.LakeFolder(e.Folder)
	if err != nil {
		return err
	}
	if !ok {
		found("It is in folder %s, which does not exist.", e.Folder)
		return nil
	}
	if e.Key != f.Key && e.Key != f.NextKey {
		found("It is under key %s, which its folder does not name.", e.Key)
	}
	live, err := c.keys(tx, partEntry, string(e.ID), f.Item, encryption.NamesKey, e.Key)
	if err != nil || !live {
		return err
	}
	n, node, err := tx.LakeNode(e.ID)
	if err != nil {
		return err
	}
	if f.Role == Uploads {
		staged, err := tx.LakeStagedOf(e.ID)
		switch {
		case err != nil:
			return err
		case node || e.Kind != File:
			found("It stands for uncommitted blocks, and names a file or folder.")
		case len(staged) == 0:
			found("It stands for uncommitted blocks, and there are none.")
		}
		return nil
	}
	switch {
	case e.Kind != File && e.Kind != Folder && e.Kind != containerKind:
		found("There is no kind %d.", e.Kind)
	case !node:
		found("What it names does not exist.")
	case n.Kind != e.Kind || n.Item != f.Item:
		found("What it names is of another kind or item.")
	}
	if e.Kind == Folder {
		if _, ok, err := tx.LakeFolder(e.ID); err != nil {
			return err
		} else if !ok {
			found("The folder that it names has no row to hold names.")
		}
	}
	return nil
}

func (c *rows) node(tx Tx, n NodeRow) error {
	c.report.Checked(partNode)
	live, err := c.keys(tx, partNode, string(n.ID), n.Item, encryption.ContentKey, n.Key)
	if err != nil || !live {
		return err
	}
	_, named, err := tx.LakeEntryByID(n.ID)
	if err != nil || named {
		return err
	}
	f, ok, err := tx.LakeFolder(n.ID)
	if err == nil && (n.Kind != Folder || !ok || f.Role != Deleted) {
		c.report.Found(partNode, string(n.ID), "No name leads to it.")
	}
	return err
}

func (c *rows) staged(tx Tx, s StagedRow) error {
	c.report.Checked(partStaged)
	live, err := c.keys(tx, partStaged, string(s.ID), s.Item, encryption.ContentKey, s.Key)
	if err != nil || !live || s.Owner == "" {
		return err
	}
	n, ok, err := tx.LakeNode(s.Owner)
	if err != nil || ok && n.Kind == File && n.Item == s.Item {
		return err
	}
	e, ok, err := tx.LakeEntryByID(s.Owner)
	if err != nil {
		return err
	}
	if ok {
		f, there, err := tx.LakeFolder(e.Folder)
		if err != nil {
			return err
		}
		ok = there && f.Role == Uploads && f.Item == s.Item
	}
	if !ok {
		c.report.Found(partStaged, string(s.ID), "It belongs to %s, which is no file or upload of its item's.", s.Owner)
	}
	return nil
}

func (c *rows) extent(tx Tx, e ExtentRow) error {
	found := func(format string, args ...any) { c.report.Found(partExtent, string(e.ID), format, args...) }
	c.report.Checked(partExtent)
	live, err := c.keys(tx, partExtent, string(e.ID), e.Item, encryption.ContentKey, e.Key)
	if err != nil || !live {
		return err
	}
	switch e.State {
	case Live:
		n, ok, err := tx.LakeNode(NodeID(e.Owner))
		if err != nil {
			return err
		}
		if !ok || n.Kind != File || n.Item != e.Item {
			found("It is live in %s, which is no file of its item's.", e.Owner)
		}
	case Staged:
		s, ok, err := tx.LakeStaged(StagedID(e.Owner))
		if err != nil || !ok || e.Size == 0 {
			return err // being written when the platform stopped: the sweep removes it
		}
		if s.Item != e.Item {
			found("It is staged in %s, which is not of its item.", e.Owner)
		}
	case Doomed:
		return nil
	default:
		found("There is no state %d.", e.State)
		return nil
	}
	c.report.Bytes += e.Size
	size := int64(len(e.Inline))
	if e.Inline == nil {
		obj, err := c.lake.objects.Open(c.ctx, string(e.ID))
		if fault.ReasonOf(err) == fault.NotFound {
			found("Its object does not exist: what it held is lost.")
			return nil
		}
		if err != nil {
			return storeFailed(err)
		}
		size = obj.Size()
		obj.Close()
	}
	if size != e.Size {
		found("It has %d sealed bytes, and its row says %d.", size, e.Size)
	}
	return nil
}

// objects notes the objects that no row names.
func (c *rows) objects() error {
	var batch []ExtentID
	flush := func() error {
		err := c.lake.store.View(c.ctx, func(tx Tx) error {
			for _, id := range batch {
				if _, ok, err := tx.LakeExtent(id); err != nil {
					return err
				} else if !ok {
					c.report.Note(partObject, string(id), "No row names it: the sweep removes it once it is a day old.")
				}
			}
			return nil
		})
		batch = batch[:0]
		return err
	}
	err := c.lake.objects.List(c.ctx, func(id string, _ time.Time) error {
		c.report.Checked(partObject)
		if batch = append(batch, ExtentID(id)); len(batch) < sweepRows {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}
