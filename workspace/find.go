package workspace

import (
	"context"
	"strings"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// FindWorkspace returns the tenant's workspace of that id or name, without its
// description and without authorising anybody. It needs no key. It fails with
// [fault.WorkspaceNotFound].
func (w *Workspaces) FindWorkspace(ctx context.Context, tenant identity.TenantID, nameOrID string) (Workspace, error) {
	var row WorkspaceRow
	err := w.store.View(ctx, func(tx Tx) (err error) {
		if IsID(nameOrID) {
			row, err = live(tx, tenant, encryption.ScopeID(strings.ToLower(nameOrID)))
		} else {
			row, err = tx.WorkspaceNamed(tenant, Canonical(nameOrID))
		}
		return err
	})
	return row.public(), err
}

// WorkspacesOf returns the tenant's workspaces by id, without their descriptions
// and without authorising anybody. It needs no key.
func (w *Workspaces) WorkspacesOf(ctx context.Context, tenant identity.TenantID) ([]Workspace, error) {
	var all []Workspace
	err := w.store.View(ctx, func(tx Tx) error {
		rows, err := tx.TenantWorkspaces(tenant, "", 0)
		for _, r := range rows {
			all = append(all, r.public())
		}
		return err
	})
	return all, err
}

// FindItem returns the item of the workspace that a path's segment names, by
// [ParseSegment], without authorising anybody. It fails with [fault.ItemNotFound],
// for soft-deleted items too.
func (w *Workspaces) FindItem(ctx context.Context, u *encryption.Use, ws encryption.ScopeID, segment string) (Item, error) {
	if err := own(u, ws); err != nil {
		return Item{}, err
	}
	s, err := parseSegment(segment, w.types.parse)
	if err != nil {
		return Item{}, err
	}
	if s.ID != "" {
		return w.itemByID(ctx, u, s.ID)
	}
	var codes [][32]byte
	return w.findEntry(ctx, u,
		func(n names) (err error) {
			codes, err = n.lookups(ctx, string(s.Type), s.Name)
			return err
		},
		func(tx Tx) (Entry, error) {
			e, err := tx.ItemEntryByLookup(ws, codes...)
			if err == nil && e.State != Live {
				err = errNoItem("")
			}
			return e, err
		})
}

func (w *Workspaces) itemByID(ctx context.Context, u *encryption.Use, id encryption.ItemID) (Item, error) {
	return w.findEntry(ctx, u, nil, func(tx Tx) (Entry, error) { return liveEntry(tx, u.Scope(), id) })
}

// HasItem fails unless the workspace has an item of that id and type that the caller
// may read. It needs no key, and records nothing: what is then done does.
func (w *Workspaces) HasItem(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID, t ItemType) error {
	return w.store.View(ctx, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsRead, ws); err != nil {
			return err
		}
		e, err := liveEntry(tx, ws, id)
		if err == nil && e.Type != t {
			err = errNoItem(string(id))
		}
		return err
	})
}

func (w *Workspaces) findEntry(ctx context.Context, u *encryption.Use, prepare func(names) error, query func(Tx) (Entry, error)) (Item, error) {
	var item Item
	err := again(ctx, func() error {
		var n names
		var e Entry
		err := w.reading(ctx, u, prepare, func(tx Tx, now names) (err error) {
			n = now
			e, err = query(tx)
			return err
		})
		if err == nil {
			item, err = n.open(ctx, e)
			err = w.listMoved(ctx, n, err)
		}
		return err
	})
	return item, err
}

// ItemsOf returns all items of the workspace by id, without authorising anybody.
func (w *Workspaces) ItemsOf(ctx context.Context, u *encryption.Use, ws encryption.ScopeID) ([]Item, error) {
	if err := own(u, ws); err != nil {
		return nil, err
	}
	return w.entries(ctx, u, func(tx Tx) ([]Entry, error) { return tx.ItemEntries(ws, "", "", 0) })
}

func own(u *encryption.Use, ws encryption.ScopeID) error {
	if u.Scope() != ws {
		return fault.New(fault.Internal, "The right to use another workspace's keys was given.")
	}
	return nil
}
