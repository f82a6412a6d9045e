package workspace

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// describeParallel bounds how many scopes one listing opens at a time.
const describeParallel = 8

func (w *Workspaces) describeAll(ctx context.Context, rows []WorkspaceRow) []Workspace {
	all := make([]Workspace, len(rows))
	var g errgroup.Group
	g.SetLimit(describeParallel)
	for i, r := range rows {
		if len(r.Description) == 0 {
			all[i] = r.public()
			continue
		}
		g.Go(func() error { all[i] = w.describe(ctx, r); return nil })
	}
	g.Wait()
	return all
}

// List returns workspaces in which the caller has a role, or all of the tenant's if
// his role reaches them all; only those where it is one of roles, if any are given.
// They come by id, at most limit of those above after, and more tells whether there
// are others.
func (w *Workspaces) List(ctx context.Context, c identity.Caller, roles []Role, after encryption.ScopeID, limit int) (page []Workspace, more bool, err error) {
	var rows []WorkspaceRow
	err = w.read(ctx, c, "ListWorkspaces", "/workspaces", func(tx Tx) error {
		_, all, err := rbac.Check(tx, w.roles, c, rbac.WorkspacesRead, false, "/")
		if err != nil {
			return err
		}
		for !more {
			var next []WorkspaceRow
			if all && len(roles) == 0 {
				next, err = tx.TenantWorkspaces(c.Tenant, after, limit+1)
			} else {
				next, err = tx.WorkspacesAssigned(c.Tenant, c.Subjects(), after, limit+1)
			}
			if err != nil {
				return err
			}
			for _, r := range next {
				after = r.ID
				ok, err := w.listed(tx, c, r.ID, roles)
				if err != nil {
					return err
				}
				if ok && len(rows) == limit {
					more = true
					break
				}
				if ok {
					rows = append(rows, r)
				}
			}
			if len(next) <= limit {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return w.describeAll(ctx, rows), more, nil
}

// listed reports whether a workspace belongs in the caller's listing.
func (w *Workspaces) listed(tx Tx, c identity.Caller, ws encryption.ScopeID, roles []Role) (bool, error) {
	held, err := rbac.Held(tx, c, scopeOf(ws))
	if err != nil {
		return false, err
	}
	if _, ok := rbac.Allowed(w.roles, held, rbac.WorkspacesRead, false, scopeOf(ws)); !ok || len(roles) == 0 {
		return ok, nil
	}
	for _, a := range held {
		for _, r := range roles {
			if a.Scope.Key() == scopeOf(ws).Key() && a.Role == r.id() {
				return true, nil
			}
		}
	}
	return false, nil
}

// AdminList returns the tenant's workspaces, for who may read them all, without
// their descriptions. Paging is as in [Workspaces.List].
func (w *Workspaces) AdminList(ctx context.Context, c identity.Caller, after encryption.ScopeID, limit int) (page []Workspace, more bool, err error) {
	err = w.read(ctx, c, "ListWorkspacesAsAdmin", "/workspaces", func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.WorkspacesRead); err != nil {
			return err
		}
		rows, err := tx.TenantWorkspaces(c.Tenant, after, limit+1)
		if err != nil {
			return err
		}
		more = len(rows) > limit
		for _, r := range rows[:min(len(rows), limit)] {
			page = append(page, r.public())
		}
		return nil
	})
	return page, more, err
}

// AdminGet returns one of the tenant's workspaces, for who may read them all,
// without its description.
func (w *Workspaces) AdminGet(ctx context.Context, c identity.Caller, id encryption.ScopeID) (ws Workspace, err error) {
	err = w.read(ctx, c, "GetWorkspaceAsAdmin", resourceOf(id), func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.WorkspacesRead); err != nil {
			return err
		}
		row, err := live(tx, c.Tenant, id)
		ws = row.public()
		return err
	})
	return ws, err
}
