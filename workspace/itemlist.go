package workspace

import (
	"context"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Items returns the workspace's items by id, of one type if that is not "": at
// most limit of those above after. more tells whether there are others.
func (w *Workspaces) Items(ctx context.Context, c identity.Caller, ws encryption.ScopeID, t ItemType, after encryption.ItemID, limit int) (page []Item, more bool, err error) {
	err = w.opening(ctx, c, "ListItems", resourceOf(ws), rbac.ItemsRead, ws, func(u *encryption.Use) error {
		page, err = w.entries(ctx, u, func(tx Tx) ([]Entry, error) {
			rows, err := tx.ItemEntries(ws, t, after, limit+1)
			more = len(rows) > limit
			return rows[:min(len(rows), limit)], err
		})
		return err
	})
	return page, more, err
}

// ItemNames returns the display names of the workspace's items, for an answer that
// has been authorised and recorded as a whole. It returns nil if the caller may not
// read items or the keys cannot be used now.
func (w *Workspaces) ItemNames(ctx context.Context, c identity.Caller, ws encryption.ScopeID) (map[encryption.ItemID]string, error) {
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
	items, err := w.ItemsOf(ctx, u, ws)
	if err != nil {
		return nil, unusable(err)
	}
	names := make(map[encryption.ItemID]string, len(items))
	for _, i := range items {
		names[i.ID] = i.DisplayName
	}
	return names, nil
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
