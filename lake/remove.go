package lake

import (
	"context"
	"errors"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/rbac"
)

var cutOff = failpoint.New("lake/delete/cut-off") // the entry is gone, what was below is not

// Delete removes a file or folder. A folder that holds something is removed only
// if recursive is set: all of it at once, by cutting it off the tree.
func (l *Lake) Delete(ctx context.Context, caller identity.Caller, p Path, recursive bool, c Conditions) error {
	return l.do(ctx, caller, opDelete, rbac.DataDelete, p, func(s *session) error {
		if p.isManaged() {
			return errManaged()
		}
		var folder bool
		err := s.update(ctx, func(tx Tx) error {
			pl, m, err := s.existing(tx, p)
			if err != nil {
				return err
			}
			if err := c.allow(&m); err != nil {
				return err
			}
			folder = pl.isFolder()
			switch {
			case folder && recursive:
				err = s.leasedBelow(tx, pl.entry.ID)
			case folder:
				err = isEmpty(tx, pl.entry.ID)
			}
			if err != nil {
				return err
			}
			if err := s.cutOff(tx, p, pl); err != nil {
				return err
			}
			return s.record(tx, pl.entry.ID, m.size)
		})
		if err != nil {
			return err
		}
		if err := cutOff.Hit(); err != nil {
			return err
		}
		if folder {
			// The delete is done; what this does not get to, the next sweep does.
			l.purge(ctx, s.item.ID, 1)
		}
		return nil
	})
}

func isEmpty(tx Tx, folder NodeID) error {
	inside, err := tx.LakeEntriesUnder(folder, "", 1)
	if err == nil && len(inside) > 0 {
		err = fault.New(fault.DirectoryNotEmpty, "The folder is not empty.").WithMend("Delete it recursively.")
	}
	return err
}

// cutOff removes what is at the place from the tree, and a file altogether.
func (s *session) cutOff(tx Tx, p Path, pl place) error {
	if err := tx.DeleteLakeEntry(pl.entry.ID); err != nil {
		return err
	}
	if pl.isFile() {
		if err := s.dropBlocks(tx, p); err != nil {
			return err
		}
		return s.lake.removeFile(tx, pl.entry.ID)
	}
	return cutFolder(tx, pl.entry.ID)
}

// cutFolder marks a folder that no entry names any more.
func cutFolder(tx Tx, id NodeID) error {
	f, ok, err := tx.LakeFolder(id)
	if err != nil || !ok {
		return err
	}
	f.Role = Deleted
	return tx.PutLakeFolder(f)
}

// removeFile removes a file that no entry names any more.
func (l *Lake) removeFile(tx Tx, id NodeID) error {
	now := l.now()
	if err := tx.DoomLakeExtents(string(id), now.Add(l.horizon)); err != nil {
		return err
	}
	staged, err := tx.LakeStagedOf(id)
	if err != nil {
		return err
	}
	for _, row := range staged {
		if err := dropStaged(tx, row, now); err != nil {
			return err
		}
	}
	return tx.DeleteLakeNode(id)
}

// purgeBatch is how many entries of a deleted folder one transaction removes.
const purgeBatch = 200

// purge removes what lies in deleted folders of the item, or of all if that is
// "", in at most rounds transactions. It needs no key. It reports whether nothing
// is left.
func (l *Lake) purge(ctx context.Context, item encryption.ItemID, rounds int) (done bool, err error) {
	for range rounds {
		err := l.store.Update(ctx, func(tx Tx) error {
			folders, err := tx.LakeFoldersDeleted(item, purgeBatch)
			if err != nil {
				return err
			}
			left := purgeBatch
			for _, f := range folders {
				if left <= 0 {
					return nil
				}
				entries, err := tx.LakeEntriesUnder(f.ID, "", left)
				if err != nil {
					return err
				}
				left -= len(entries) + 1
				if err := l.purgeEntries(tx, entries); err != nil {
					return err
				}
				if left <= 0 {
					return nil
				}
				if err := tx.DeleteLakeFolder(f.ID); err != nil {
					return err
				}
				if err := tx.DeleteLakeNode(f.ID); err != nil {
					return err
				}
			}
			done = len(folders) == 0
			return nil
		})
		if err != nil || done {
			return done, err
		}
	}
	return false, nil
}

func (l *Lake) purgeEntries(tx Tx, entries []EntryRow) error {
	for _, e := range entries {
		if err := tx.DeleteLakeEntry(e.ID); err != nil {
			return err
		}
		var err error
		if e.Kind == Folder {
			err = cutFolder(tx, e.ID)
		} else {
			err = l.removeFile(tx, e.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Rename moves a file or folder within its item, in one row: what lies below a
// folder is not touched, and the ETag and times stay. A file replaces a file, and
// a folder an empty folder, unless the conditions forbid it. The destination's
// folder must exist.
func (l *Lake) Rename(ctx context.Context, caller identity.Caller, from, to Path, o RenameOptions) (props Properties, err error) {
	err = l.do(ctx, caller, opRename, rbac.DataWrite, to, func(s *session) error {
		if err := s.sameItem(ctx, from, to); err != nil {
			return err
		}
		return s.update(ctx, func(tx Tx) error {
			props, err = s.rename(tx, from, to, o)
			return err
		})
	})
	return props, err
}

// sameItem checks that a rename stays among what clients may move.
func (s *session) sameItem(ctx context.Context, from, to Path) error {
	if err := from.check(); err != nil {
		return err
	}
	if from.isManaged() || to.isManaged() {
		return errManaged()
	}
	if err := writable(to, s.item); err != nil {
		return err
	}
	if from.Account != to.Account {
		return fault.New(fault.SourceNotFound, "The source of a rename lies in the same account.")
	}
	if to.Account != "" {
		if from.Container == to.Container {
			return nil
		}
		return errOtherItem()
	}
	source := s.container
	if from.Container != to.Container {
		var err error
		if source, err = s.lake.catalog.FindWorkspace(ctx, s.caller.Tenant, from.Container); err != nil {
			return fault.New(fault.SourceNotFound, "There is no such container to rename from.")
		}
	}
	if source.ID == s.container.ID {
		item, err := s.lake.catalog.FindItem(ctx, s.use, s.container.ID, from.Segments[0])
		if err != nil {
			return fault.New(fault.SourceNotFound, "There is no such item to rename from.")
		}
		if item.ID == s.item.ID {
			return nil
		}
	}
	return errOtherItem()
}

func errOtherItem() error {
	return fault.New(fault.NotSupported, "Files and folders cannot be renamed from one item or container to another: each one's data is under its own keys.").
		WithMend("Copy them, and delete the originals.")
}

func (s *session) rename(tx Tx, from, to Path, o RenameOptions) (Properties, error) {
	src, err := s.locate(tx, from.inner())
	if err == nil && !src.exists {
		err = fault.New(fault.SourceNotFound, "There is nothing to rename at this path.")
	}
	if err != nil {
		return Properties{}, err
	}
	n, m, err := s.node(tx, src.entry.ID)
	if err != nil {
		return Properties{}, err
	}
	if err := o.SourceConditions.allow(&m); errors.Is(err, fault.PreconditionFailed) || errors.Is(err, fault.PathExists) {
		return Properties{}, errSourceCondition()
	} else if err != nil {
		return Properties{}, err
	}
	dst, err := s.locate(tx, to.inner())
	if err != nil {
		return Properties{}, err
	}
	if virtual := to.Account == "" && len(to.Segments) == to.managedDepth()+1; len(dst.missing) > 1 || len(dst.missing) == 1 && !virtual {
		return Properties{}, fault.New(fault.PathNotFound, "The folder to rename into does not exist.")
	}
	for _, f := range dst.folders {
		if f.ID == src.entry.ID {
			return Properties{}, fault.New(fault.InvalidRename, "A folder cannot be moved below itself.")
		}
	}
	if dst.entry.ID != src.entry.ID {
		if err := s.replace(tx, to, dst, src.entry.Kind, o.Conditions); err != nil {
			return Properties{}, err
		}
		if err := s.makeParents(tx, &dst); err != nil { // the managed folder at most
			return Properties{}, err
		}
		src.entry.Ordinal = 0 // another name
		if err := s.put(tx, dst.parent(), src.entry, record{dst.name, m.attributes}); err != nil {
			return Properties{}, err
		}
	}
	return s.properties(to.String(), n.Key, m), s.record(tx, n.ID, 0)
}

// replace makes room at a rename's destination.
func (s *session) replace(tx Tx, p Path, dst place, kind Kind, c Conditions) error {
	if !dst.exists {
		return c.allow(nil)
	}
	_, m, err := s.node(tx, dst.entry.ID)
	if err != nil {
		return err
	}
	if err := c.allow(&m); err != nil {
		return err
	}
	if dst.entry.Kind != kind {
		return fault.New(fault.PathConflict, "The destination exists and is of another kind.")
	}
	if dst.isFolder() {
		if err := isEmpty(tx, dst.entry.ID); err != nil {
			return err
		}
	}
	return s.cutOff(tx, p, dst)
}
