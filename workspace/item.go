package workspace

import (
	"context"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/rbac"
)

var entryMade = failpoint.New("workspace/create-item/entry-made")

// A NewItem says what item to create.
type NewItem struct {
	DisplayName string
	Type        ItemType
	Description string
	Definition  *Definition // nil for none
	Folder      FolderID    // "" for the workspace itself
	Label       LabelID     // "" for none
}

// CreateItem creates an item, its keys with it. In a workspace that is, or is
// being, encrypted under a customer's key it fails with
// [fault.UnsupportedItemType] for types that cannot be.
func (w *Workspaces) CreateItem(ctx context.Context, c identity.Caller, ws encryption.ScopeID, n NewItem) (Item, error) {
	e := c.Entry("CreateItem", resourceOf(ws))
	var item Item
	err := w.store.View(ctx, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
			return err
		}
		return n.check(w.types)
	})
	if err == nil {
		err = again(ctx, func() (err error) {
			item, err = w.createItem(ctx, c, &e, ws, n)
			return err
		})
	}
	if err != nil {
		return Item{}, w.record(ctx, e, err)
	}
	return item, nil
}

func (n NewItem) check(types typeSet) error {
	if t, ok := types.parse(string(n.Type)); !ok || t != n.Type {
		return fault.New(fault.InvalidItemType, "This is not one of the item types.")
	}
	if err := checkName(n.DisplayName); err != nil {
		return err
	}
	if err := checkDescription(n.Description); err != nil {
		return err
	}
	if n.Definition != nil {
		return n.Definition.check()
	}
	return nil
}

func (w *Workspaces) createItem(ctx context.Context, c identity.Caller, e *audit.Entry, ws encryption.ScopeID, n NewItem) (Item, error) {
	u, err := w.keys.Use(ctx, ws)
	if err != nil {
		return Item{}, err
	}
	now := w.time()
	entry := Entry{
		ID: encryption.ItemID(uuid.NewString()), Workspace: ws, Type: n.Type,
		State: Live, Since: now, Revision: 1, Created: now, Changed: now, Folder: n.Folder, Label: n.Label,
	}
	if n.Definition != nil {
		// The definition's key has to be stored before it can be used. Until the
		// definition is stored too, the item holds its name and is not seen.
		entry.State = Creating
	}
	e.Resource = itemResource(ws, entry.ID)
	keys, err := u.NewItem(entry.ID, string(n.Type))
	if err != nil {
		return Item{}, err
	}
	names, list, err := w.writing(ctx, u)
	if err != nil {
		return Item{}, err
	}
	if err := names.seal(ctx, &entry, record{n.DisplayName, n.Description, n.Type}); err != nil {
		return Item{}, err
	}
	taken, err := names.lookups(ctx, entry.among(), n.DisplayName)
	if err != nil {
		return Item{}, err
	}
	err = w.store.Update(ctx, func(tx Tx) error {
		row, err := w.permit(tx, c, rbac.ItemsWrite, ws)
		if err != nil {
			return err
		}
		if err := w.admit(tx, row, n, keys); err != nil {
			return err
		}
		if err := names.confirm(tx, list); err != nil {
			return err
		}
		if err := free(tx, entry, taken); err != nil {
			return err
		}
		if err := keys.Insert(tx); err != nil {
			return err
		}
		if err := tx.InsertItemEntry(entry); err != nil {
			return err
		}
		if entry.State != Live {
			return nil
		}
		return tx.AppendAudit(*e)
	})
	item := Item{
		ID: entry.ID, Workspace: ws, Type: n.Type, DisplayName: n.DisplayName, Description: n.Description,
		Created: now, Changed: now, Folder: n.Folder, Label: n.Label,
	}
	if err != nil || entry.State == Live {
		return item, err
	}
	if err := w.completeItem(ctx, c, *e, u, entry, *n.Definition); err != nil {
		w.store.Update(context.WithoutCancel(ctx), func(tx Tx) error { return shred(tx, entry.ID) })
		return Item{}, err
	}
	return item, nil
}

// admit checks in the transaction that creates an item that it may be there, and
// that its keys are sealed under the generation that seals now: it is encrypted at
// birth as the scope is.
func (w *Workspaces) admit(tx Tx, ws WorkspaceRow, n NewItem, keys *encryption.ItemKeys) error {
	managed, sealing, err := underCustomersKey(tx, ws.ID)
	if err != nil {
		return err
	}
	if managed && !w.Supported(string(n.Type)) {
		return fault.New(fault.UnsupportedItemType,
			"Items of this type cannot be in a workspace that is encrypted with a customer-managed key.").
			WithMend("Create it in a workspace with platform-managed keys.")
	}
	if n.Folder != "" {
		if _, err := liveFolder(tx, ws.ID, n.Folder); err != nil {
			return err
		}
	}
	if n.Label != "" {
		if _, err := tenantLabel(tx, ws.Tenant, n.Label); err != nil {
			return err
		}
	}
	if !managed {
		if err := mayBeUnmanaged(tx, ws, n.Label); err != nil {
			return err
		}
	}
	if keys.Row.Generation != sealing {
		return fault.New(fault.EncryptionChanged, "The workspace's key has changed meanwhile.").WithMend("Try again.")
	}
	return nil
}

// underCustomersKey reports whether a customer's key guards what is written to the
// scope now, and which generation seals that.
func underCustomersKey(tx encryption.KeyTx, ws encryption.ScopeID) (managed bool, sealing int64, err error) {
	gens, err := tx.Generations(ws)
	if err != nil {
		return false, 0, err
	}
	scope, err := tx.Scope(ws)
	for _, g := range gens {
		if g.Number == scope.Sealing {
			managed = g.Mode == encryption.CustomerManaged
		}
	}
	return managed, scope.Sealing, err
}

// free checks that no other item of the workspace has one of the look-up codes.
func free(tx Tx, e Entry, lookups [][32]byte) error {
	other, err := tx.ItemEntryByLookup(e.Workspace, lookups...)
	switch {
	case fault.ReasonOf(err) == fault.ItemNotFound:
		return nil
	case err != nil:
		return err
	case other.ID == e.ID:
		return nil
	}
	return ErrItemNameTaken
}

// ErrItemNameTaken says that the workspace has an item of that name and type.
var ErrItemNameTaken = fault.New(fault.ItemNameTaken, "The workspace has an item of that type and name, in this or another case.")

func (w *Workspaces) completeItem(ctx context.Context, c identity.Caller, e audit.Entry, u *encryption.Use, entry Entry, d Definition) error {
	if err := entryMade.Hit(); err != nil {
		return err
	}
	row, err := sealDefinition(ctx, u, entry.ID, d)
	if err != nil {
		return err
	}
	return w.update(ctx, e, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsWrite, entry.Workspace); err != nil {
			return err
		}
		if err := u.Confirm(tx, row.Key); err != nil {
			return err
		}
		if err := tx.PutItemDefinition(row); err != nil {
			return err
		}
		now, err := tx.ItemEntry(entry.ID) // its name may have been re-sealed
		if err != nil {
			return err
		}
		now.State = Live
		return tx.UpdateItemEntry(now, now.Revision)
	})
}

// shred destroys an item's keys and removes its rows here. Its keys' rows stay
// until whoever named the keys is done.
func shred(tx Tx, id encryption.ItemID) error {
	if err := tx.ShredItem(id); err != nil {
		return err
	}
	return tx.DeleteItemEntry(id)
}

// shredNoted is shred with an entry of its own, which names the keys.
func shredNoted(tx Tx, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID) error {
	if err := noteShredding(tx, c, shredItem, itemResource(ws, id), id); err != nil {
		return err
	}
	return shred(tx, id)
}

// Item returns one of the workspace's items.
func (w *Workspaces) Item(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID) (item Item, err error) {
	err = w.opening(ctx, c, "GetItem", itemResource(ws, id), rbac.ItemsRead, ws, func(u *encryption.Use) error {
		item, err = w.itemByID(ctx, u, id)
		return err
	})
	return item, err
}

// UpdateItem changes an item's name or description.
func (w *Workspaces) UpdateItem(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID, ch Change) (Item, error) {
	return w.rewrite(ctx, c, rewriting{
		operation: "UpdateItem", workspace: ws, id: id,
		check: func() error { return ch.check(checkName) },
		read:  liveEntry,
		change: func(e *Entry, r *record) {
			if ch.DisplayName != nil {
				r.Name = *ch.DisplayName
			}
			if ch.Description != nil {
				r.Description = *ch.Description
			}
		},
	})
}

// A rewriting is a change of an entry that seals its record anew.
type rewriting struct {
	operation string
	workspace encryption.ScopeID
	id        encryption.ItemID

	check  func() error                                                   // of what is given
	read   func(Tx, encryption.ScopeID, encryption.ItemID) (Entry, error) // the entry, if it is one that can be changed so
	change func(*Entry, *record)                                          // makes the change
	admit  func(tx Tx, changed Entry) error                               // in the transaction that writes it; nil for always
}

// rewrite changes an entry's record, after authorising, and records that.
func (w *Workspaces) rewrite(ctx context.Context, c identity.Caller, how rewriting) (item Item, err error) {
	e := c.Entry(how.operation, itemResource(how.workspace, how.id))
	err = again(ctx, func() error {
		var was Entry
		err := w.store.View(ctx, func(tx Tx) (err error) {
			if _, err = w.permit(tx, c, rbac.ItemsWrite, how.workspace); err != nil {
				return err
			}
			if err = how.check(); err != nil {
				return err
			}
			was, err = how.read(tx, how.workspace, how.id)
			return err
		})
		if err != nil {
			return err
		}
		u, err := w.keys.Use(ctx, how.workspace)
		if err != nil {
			return err
		}
		names, list, err := w.writing(ctx, u)
		if err != nil {
			return err
		}
		r, err := names.record(ctx, was)
		if err != nil {
			return w.entryMoved(ctx, was, err)
		}
		entry := was
		entry.Revision++
		entry.Changed = w.time()
		how.change(&entry, &r)
		if err := names.seal(ctx, &entry, r); err != nil {
			return err
		}
		taken, err := names.lookups(ctx, entry.among(), r.Name)
		if err != nil {
			return err
		}
		item = entry.item(r)
		return w.update(ctx, e, func(tx Tx) error {
			if _, err := w.permit(tx, c, rbac.ItemsWrite, how.workspace); err != nil {
				return err
			}
			if err := names.confirm(tx, list); err != nil {
				return err
			}
			if err := free(tx, entry, taken); err != nil {
				return err
			}
			now, err := how.read(tx, how.workspace, how.id)
			if err != nil {
				return err
			}
			if now.Folder != was.Folder || now.Label != was.Label {
				return errMoved() // which leaves the revision as it is
			}
			if how.admit != nil {
				if err := how.admit(tx, entry); err != nil {
					return err
				}
			}
			return tx.UpdateItemEntry(entry, was.Revision)
		})
	})
	if err != nil {
		return Item{}, w.record(ctx, e, err)
	}
	return item, nil
}

// item returns the item of an entry, with what its record holds.
func (e Entry) item(r record) Item {
	return Item{
		ID: e.ID, Workspace: e.Workspace, Type: e.Type, DisplayName: r.Name, Description: r.Description,
		Created: e.Created, Changed: e.Changed, Folder: e.Folder, Label: e.Label,
	}
}

// DeleteItem deletes an item, of the type if that is not "", without any key. It is kept, unseen, for the time of
// retention; if hard is set, which only an Admin may, it is shredded at once, even
// if it was deleted before.
func (w *Workspaces) DeleteItem(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID, t ItemType, hard bool) error {
	e := c.Entry("DeleteItem", itemResource(ws, id))
	action := rbac.ItemsDelete
	if hard {
		e.Detail = map[string]string{"hardDelete": "true"}
		action = rbac.WorkspacesDelete // Fabric asks for the workspace's Admin
	}
	err := w.write(ctx, e, func(tx Tx) error {
		if _, err := w.permit(tx, c, action, ws); err != nil {
			return err
		}
		entry, err := tx.ItemEntry(id)
		if err != nil {
			return err
		}
		if entry.Workspace != ws || entry.State == Creating || entry.State == Deleted && !hard ||
			entry.Type == FolderType || t != "" && entry.Type != t {
			return errNoItem(string(id))
		}
		if hard {
			return shredNoted(tx, c, ws, id)
		}
		entry.State, entry.Since = Deleted, w.time()
		return tx.UpdateItemEntry(entry, entry.Revision)
	})
	if err == nil && hard {
		w.keys.Forget(ws, id)
	}
	return err
}
