package workspace

import (
	"context"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// An ItemFilter says which of a workspace's items to list.
type ItemFilter struct {
	Type ItemType // "" for all
	In   FolderID // items in this folder; "" for the workspace itself
	Flat bool     // only those in the folder itself, and not those in folders below it
}

// Items returns the workspace's items by id: at most limit of those above after.
// more tells whether there are others.
func (w *Workspaces) Items(ctx context.Context, c identity.Caller, ws encryption.ScopeID, f ItemFilter, after encryption.ItemID, limit int) (page []Item, more bool, err error) {
	return w.list(ctx, c, "ListItems", ws, listing{itemType: f.Type, in: f.In, deep: !f.Flat, after: after, limit: limit})
}

// A listing is one page of a workspace's items, or of its folders.
type listing struct {
	itemType ItemType
	in       FolderID
	deep     bool // those in folders below it too
	after    encryption.ItemID
	limit    int
}

func (w *Workspaces) list(ctx context.Context, c identity.Caller, operation string, ws encryption.ScopeID, l listing) (page []Item, more bool, err error) {
	err = w.opening(ctx, c, operation, resourceOf(ws), rbac.ItemsRead, ws, func(u *encryption.Use) error {
		page, err = w.entries(ctx, u, func(tx Tx) (rows []Entry, err error) {
			rows, more, err = l.rows(tx, ws)
			return rows, err
		})
		return err
	})
	return page, more, err
}

// rows reads on until the page is full: a filter by folder leaves rows out.
func (l listing) rows(tx Tx, ws encryption.ScopeID) (rows []Entry, more bool, err error) {
	if l.in != "" {
		if _, err := liveFolder(tx, ws, l.in); err != nil {
			return nil, false, err
		}
	}
	inside := map[FolderID]bool{"": l.in == "", l.in: true}
	for after := l.after; ; {
		next, err := tx.ItemEntries(ws, l.itemType, after, l.limit+1)
		if err != nil {
			return nil, false, err
		}
		for _, e := range next {
			after = e.ID
			ok := l.deep && l.in == "" || e.Folder == l.in
			if !ok && l.deep {
				if ok, err = within(tx, e, inside); err != nil {
					return nil, false, err
				}
			}
			if ok && len(rows) == l.limit {
				return rows, true, nil
			}
			if ok {
				rows = append(rows, e)
			}
		}
		if len(next) <= l.limit {
			return rows, false, nil
		}
	}
}

// within reports whether an entry lies below one of the folders that are said to be
// inside, and remembers what it learns of others.
func within(tx Tx, e Entry, inside map[FolderID]bool) (bool, error) {
	if in, known := inside[e.Folder]; known {
		return in, nil
	}
	parent, err := liveFolder(tx, e.Workspace, e.Folder)
	if err != nil {
		return false, err
	}
	in, err := within(tx, parent, inside)
	inside[e.Folder] = in
	return in, err
}

// ItemNames returns the display names of the workspace's items, or of those that are
// named, for an answer that has been authorised and recorded as a whole: of live ones
// alone. It returns nil if the caller may not read items or the keys cannot be used now.
func (w *Workspaces) ItemNames(ctx context.Context, c identity.Caller, ws encryption.ScopeID, only ...encryption.ItemID) (map[encryption.ItemID]string, error) {
	err := w.store.View(ctx, func(tx Tx) error {
		_, err := w.permit(tx, c, rbac.ItemsRead, ws)
		return err
	})
	if fault.ReasonOf(err) == fault.Denied {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	u, err := w.keys.Use(ctx, ws)
	if err != nil {
		return nil, unusable(err)
	}
	items, err := w.entries(ctx, u, func(tx Tx) ([]Entry, error) {
		if len(only) == 0 {
			return tx.ItemEntries(ws, "", "", 0)
		}
		return liveEntries(tx, ws, only)
	})
	if err != nil {
		return nil, unusable(err)
	}
	names := make(map[encryption.ItemID]string, len(items))
	for _, i := range items {
		names[i.ID] = i.DisplayName
	}
	return names, nil
}

// liveEntries returns the rows of those of the items that are the workspace's and live.
func liveEntries(tx Tx, ws encryption.ScopeID, ids []encryption.ItemID) (rows []Entry, err error) {
	for _, id := range ids {
		e, err := tx.ItemEntry(id)
		switch {
		case fault.ReasonOf(err) == fault.ItemNotFound:
		case err != nil:
			return nil, err
		case e.Workspace == ws && e.State == Live:
			rows = append(rows, e)
		}
	}
	return rows, nil
}

// unusable returns nil for an error that says that keys cannot be used now.
func unusable(err error) error {
	switch r := fault.ReasonOf(err); {
	case r.RefusedByVault(), r == fault.KEKUnreachable, r == fault.KEKIntegrity, r == fault.EncryptionChanged:
		return nil
	}
	return err
}

// opening authorises, uses the workspace's keys, and records what became of it.
func (w *Workspaces) opening(ctx context.Context, c identity.Caller, operation, resource string, a rbac.Action, ws encryption.ScopeID, fn func(*encryption.Use) error) error {
	err := w.store.View(ctx, func(tx Tx) error {
		_, err := w.permit(tx, c, a, ws)
		return err
	})
	if err == nil {
		var u *encryption.Use
		if u, err = w.keys.Use(ctx, ws); err == nil {
			err = fn(u)
		}
	}
	return w.record(ctx, c.Entry(operation, resource), err)
}

// entries opens the entries that query returns.
func (w *Workspaces) entries(ctx context.Context, u *encryption.Use, query func(Tx) ([]Entry, error)) ([]Item, error) {
	var items []Item
	err := again(ctx, func() error {
		var rows []Entry
		var n names
		err := w.reading(ctx, u, nil, func(tx Tx, now names) (err error) {
			n = now
			rows, err = query(tx)
			return err
		})
		if err != nil {
			return err
		}
		items = make([]Item, len(rows))
		for i, e := range rows {
			if items[i], err = n.open(ctx, e); err != nil {
				return w.listMoved(ctx, n, err)
			}
		}
		return u.Check()
	})
	return items, err
}
