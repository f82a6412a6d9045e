package workspace

import (
	"context"

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
		return n.check()
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

func (n NewItem) check() error {
	if t, ok := ParseItemType(string(n.Type)); !ok || t != n.Type {
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
		ID: encryption.ItemID(newUUID()), Workspace: ws, Type: n.Type,
		State: Live, Since: now, Revision: 1, Created: now, Changed: now,
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
	taken, err := names.lookups(ctx, n.Type, n.DisplayName)
	if err != nil {
		return Item{}, err
	}
	err = w.store.Update(ctx, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
			return err
		}
		if err := admit(tx, ws, n.Type, keys); err != nil {
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
		Created: now, Changed: now,
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

// admit checks in the transaction that creates an item that its type may be there,
// and that its keys are sealed under the generation that seals now: it is
// encrypted at birth as the scope is.
func admit(tx Tx, ws encryption.ScopeID, t ItemType, keys *encryption.ItemKeys) error {
	gens, err := tx.Generations(ws)
	if err != nil {
		return err
	}
	scope, err := tx.Scope(ws)
	if err != nil {
		return err
	}
	for _, g := range gens {
		if g.Number == scope.Sealing && g.Mode == encryption.CustomerManaged && !Supported(string(t)) {
			return fault.New(fault.UnsupportedItemType,
				"Items of this type cannot be in a workspace that is encrypted with a customer-managed key.").
				WithMend("Create it in a workspace with platform-managed keys.")
		}
	}
	if keys.Row.Generation != scope.Sealing {
		return fault.New(fault.EncryptionChanged, "The workspace's key has changed meanwhile.").WithMend("Try again.")
	}
	return nil
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

// Item returns one of the workspace's items.
func (w *Workspaces) Item(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID) (item Item, err error) {
	err = w.opening(ctx, c, "GetItem", itemResource(ws, id), rbac.ItemsRead, ws, func(u *encryption.Use) error {
		item, err = w.itemByID(ctx, u, id)
		return err
	})
	return item, err
}

// UpdateItem changes an item's name or description.
func (w *Workspaces) UpdateItem(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID, ch Change) (item Item, err error) {
	e := c.Entry("UpdateItem", itemResource(ws, id))
	err = again(ctx, func() error {
		var entry Entry
		err := w.store.View(ctx, func(tx Tx) (err error) {
			if _, err = w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
				return err
			}
			if err = ch.check(checkName); err != nil {
				return err
			}
			entry, err = liveEntry(tx, ws, id)
			return err
		})
		if err != nil {
			return err
		}
		u, err := w.keys.Use(ctx, ws)
		if err != nil {
			return err
		}
		names, list, err := w.writing(ctx, u)
		if err != nil {
			return err
		}
		r, err := names.record(ctx, entry)
		if err != nil {
			return w.entryMoved(ctx, entry, err)
		}
		if ch.DisplayName != nil {
			r.Name = *ch.DisplayName
		}
		if ch.Description != nil {
			r.Description = *ch.Description
		}
		revision := entry.Revision
		entry.Revision++
		entry.Changed = w.time()
		if err := names.seal(ctx, &entry, r); err != nil {
			return err
		}
		taken, err := names.lookups(ctx, entry.Type, r.Name)
		if err != nil {
			return err
		}
		item = Item{
			ID: id, Workspace: ws, Type: entry.Type, DisplayName: r.Name, Description: r.Description,
			Created: entry.Created, Changed: entry.Changed,
		}
		return w.update(ctx, e, func(tx Tx) error {
			if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
				return err
			}
			if err := names.confirm(tx, list); err != nil {
				return err
			}
			if err := free(tx, entry, taken); err != nil {
				return err
			}
			if _, err := liveEntry(tx, ws, id); err != nil {
				return err
			}
			return tx.UpdateItemEntry(entry, revision)
		})
	})
	if err != nil {
		return Item{}, w.record(ctx, e, err)
	}
	return item, nil
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
	return w.write(ctx, e, func(tx Tx) error {
		if _, err := w.permit(tx, c, action, ws); err != nil {
			return err
		}
		entry, err := tx.ItemEntry(id)
		if err != nil {
			return err
		}
		if entry.Workspace != ws || entry.State == Creating || entry.State == Deleted && !hard || t != "" && entry.Type != t {
			return errNoItem(string(id))
		}
		if hard {
			return shred(tx, id)
		}
		entry.State, entry.Since = Deleted, w.time()
		return tx.UpdateItemEntry(entry, entry.Revision)
	})
}
