package workspace

import (
	"context"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A FolderID is the id of a folder, a UUID; "" stands for the workspace itself.
type FolderID string

// FolderType is the type of a folder's [Entry]. No item has it.
const FolderType ItemType = "Folder"

// A Folder is a place for items and other folders in a workspace. Its name is its
// own in the folder that it lies in.
type Folder struct {
	ID          FolderID
	Workspace   encryption.ScopeID
	Parent      FolderID // "" for the workspace itself
	DisplayName string
}

// maxDepth is how deep folders lie in one another, as in Fabric:
// https://learn.microsoft.com/fabric/fundamentals/workspaces-folders
const maxDepth = 10

func errNoFolder(id FolderID) error {
	return fault.New(fault.NotFound, "There is no such folder in this workspace.").About(subject(string(id)))
}

// liveFolder returns the row of one of the workspace's folders.
func liveFolder(tx Tx, ws encryption.ScopeID, id FolderID) (Entry, error) {
	e, err := tx.ItemEntry(encryption.ItemID(id))
	if fault.ReasonOf(err) == fault.ItemNotFound || err == nil && (e.Workspace != ws || e.State != Live || e.Type != FolderType) {
		return Entry{}, errNoFolder(id)
	}
	return e, err
}

// foldersAbove returns the folders above a folder, from its parent up.
func foldersAbove(tx Tx, e Entry) (above []FolderID, err error) {
	for e.Folder != "" {
		if len(above) > maxDepth {
			return nil, fault.New(fault.Integrity, "The workspace's folders lie deeper than they can.").About(string(e.Workspace))
		}
		above = append(above, e.Folder)
		if e, err = liveFolder(tx, e.Workspace, e.Folder); err != nil {
			return nil, err
		}
	}
	return above, nil
}

// folder returns the folder that an item of its type is.
func (i Item) folder() Folder {
	return Folder{ID: FolderID(i.ID), Workspace: i.Workspace, Parent: i.Folder, DisplayName: i.DisplayName}
}

// CreateFolder makes a folder in another, or in the workspace itself if parent is
// "".
func (w *Workspaces) CreateFolder(ctx context.Context, c identity.Caller, ws encryption.ScopeID, name string, parent FolderID) (Folder, error) {
	now := w.time()
	entry := Entry{
		ID: encryption.ItemID(uuid.NewString()), Workspace: ws, Type: FolderType, State: Live, Since: now, Revision: 1,
		Created: now, Changed: now, Folder: parent,
	}
	e := folderEntry(c, "CreateFolder", ws, FolderID(entry.ID))
	admit := func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
			return err
		}
		if err := checkName(name); err != nil {
			return err
		}
		return atDepth(tx, entry, 1)
	}
	err := w.store.View(ctx, admit)
	if err == nil {
		err = again(ctx, func() error {
			u, err := w.keys.Use(ctx, ws)
			if err != nil {
				return err
			}
			names, list, err := w.writing(ctx, u)
			if err != nil {
				return err
			}
			if err := names.seal(ctx, &entry, record{Name: name, Type: FolderType}); err != nil {
				return err
			}
			taken, err := names.lookups(ctx, entry.among(), name)
			if err != nil {
				return err
			}
			return w.update(ctx, e, func(tx Tx) error {
				if err := admit(tx); err != nil {
					return err
				}
				if err := names.confirm(tx, list); err != nil {
					return err
				}
				if err := free(tx, entry, taken); err != nil {
					return err
				}
				return tx.InsertItemEntry(entry)
			})
		})
	}
	if err != nil {
		return Folder{}, w.record(ctx, e, folderTaken(err))
	}
	return Folder{ID: FolderID(entry.ID), Workspace: ws, Parent: parent, DisplayName: name}, nil
}

func folderEntry(c identity.Caller, operation string, ws encryption.ScopeID, id FolderID) audit.Entry {
	return c.Entry(operation, resourceOf(ws)+"/folders/"+known(string(id)))
}

// folderTaken says in a folder's words that its name is taken.
func folderTaken(err error) error {
	if fault.ReasonOf(err) == fault.ItemNameTaken {
		return fault.New(fault.ItemNameTaken, "There is a folder of that name in this place, in this or another case.")
	}
	return err
}

// atDepth refuses an entry whose folder does not exist, or that would lie too deep
// with the given number of levels at and below it.
func atDepth(tx Tx, e Entry, levels int) error {
	above, err := foldersAbove(tx, e)
	if err == nil && len(above)+levels > maxDepth {
		err = fault.New(fault.InvalidArgument, "Folders lie at most 10 deep.")
	}
	return err
}

// Folder returns one of the workspace's folders.
func (w *Workspaces) Folder(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id FolderID) (f Folder, err error) {
	resource := resourceOf(ws) + "/folders/" + known(string(id))
	err = w.opening(ctx, c, "GetFolder", resource, rbac.ItemsRead, ws, func(u *encryption.Use) error {
		i, err := w.findEntry(ctx, u, nil, func(tx Tx) (Entry, error) { return liveFolder(tx, ws, id) })
		f = i.folder()
		return err
	})
	return f, err
}

// Folders returns the folders that lie in a folder, or in the workspace if in is "";
// all levels below it if deep is set. They come by id, at most limit of those above
// after, and more tells whether there are others.
func (w *Workspaces) Folders(ctx context.Context, c identity.Caller, ws encryption.ScopeID, in FolderID, deep bool, after FolderID, limit int) (page []Folder, more bool, err error) {
	items, more, err := w.list(ctx, c, "ListFolders", ws, listing{
		itemType: FolderType, in: in, deep: deep, after: encryption.ItemID(after), limit: limit,
	})
	for _, i := range items {
		page = append(page, i.folder())
	}
	return page, more, err
}

// RenameFolder gives a folder another name.
func (w *Workspaces) RenameFolder(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id FolderID, name string) (Folder, error) {
	i, err := w.rewrite(ctx, c, rewriting{
		operation: "UpdateFolder", workspace: ws, id: encryption.ItemID(id),
		check:  func() error { return checkName(name) },
		read:   asFolder,
		change: func(_ *Entry, r *record) { r.Name = name },
	})
	return i.folder(), folderTaken(err)
}

// MoveFolder puts a folder, with all that lies in it, into another, or into the
// workspace itself if to is "".
func (w *Workspaces) MoveFolder(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id, to FolderID) (Folder, error) {
	i, err := w.rewrite(ctx, c, rewriting{
		operation: "MoveFolder", workspace: ws, id: encryption.ItemID(id),
		check:  func() error { return nil },
		read:   asFolder,
		change: func(e *Entry, _ *record) { e.Folder = to },
		admit: func(tx Tx, e Entry) error {
			levels, err := levels(tx, id)
			if err != nil {
				return err
			}
			for at := to; at != ""; {
				if at == id {
					return fault.New(fault.InvalidArgument, "A folder cannot be moved into itself.")
				}
				above, err := liveFolder(tx, ws, at)
				if err != nil {
					return err
				}
				at = above.Folder
			}
			return atDepth(tx, e, levels)
		},
	})
	return i.folder(), folderTaken(err)
}

func asFolder(tx Tx, ws encryption.ScopeID, id encryption.ItemID) (Entry, error) {
	return liveFolder(tx, ws, FolderID(id))
}

// levels returns how many levels of folders there are from a folder down, itself
// included.
func levels(tx Tx, id FolderID) (int, error) {
	in, err := tx.ItemEntriesInFolder(id, 0)
	deepest := 0
	for _, e := range in {
		if e.Type != FolderType {
			continue
		}
		n, err := levels(tx, FolderID(e.ID))
		if err != nil {
			return 0, err
		}
		deepest = max(deepest, n)
	}
	return deepest + 1, err
}

// DeleteFolder removes a folder that nothing lies in. It needs no key.
func (w *Workspaces) DeleteFolder(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id FolderID) error {
	return w.write(ctx, folderEntry(c, "DeleteFolder", ws, id), func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsDelete, ws); err != nil {
			return err
		}
		if _, err := liveFolder(tx, ws, id); err != nil {
			return err
		}
		if in, err := tx.ItemEntriesInFolder(id, 1); err != nil || len(in) > 0 {
			if err == nil {
				err = fault.New(fault.Conflict, "The folder is not empty.").About(string(id)).WithMend("Move or delete what lies in it first.")
			}
			return err
		}
		return tx.DeleteItemEntry(encryption.ItemID(id))
	})
}

// MoveItem puts an item into a folder, or into the workspace itself if to is "".
func (w *Workspaces) MoveItem(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID, to FolderID) (Item, error) {
	err := w.write(ctx, c.Entry("MoveItem", itemResource(ws, id)), func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
			return err
		}
		e, err := liveEntry(tx, ws, id)
		if err != nil {
			return err
		}
		if to != "" {
			if _, err := liveFolder(tx, ws, to); err != nil {
				return err
			}
		}
		e.Folder, e.Changed = to, w.time()
		return tx.UpdateItemEntry(e, e.Revision)
	})
	if err != nil {
		return Item{}, err
	}
	return w.Item(ctx, c, ws, id)
}
