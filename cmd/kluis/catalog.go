package main

import (
	"context"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/workspace"
)

// A catalog shows package workspace's workspaces and items, and package account's
// accounts, to package lake, in
// the lake's own words.
type catalog struct {
	domain   *workspace.Workspaces
	accounts func() *account.Accounts
}

// FindAccount shows a storage account.
func (c catalog) FindAccount(ctx context.Context, name string) (lake.Container, error) {
	a, err := c.accounts().Find(ctx, account.Name(name))
	return lake.Container{ID: a.ID, Tenant: a.Tenant, Name: name, Modified: a.Created, Path: a.Resource}, err
}

func (c catalog) Workspaces(ctx context.Context, tenant identity.TenantID) ([]lake.Container, error) {
	all, err := c.domain.WorkspacesOf(ctx, tenant)
	out := make([]lake.Container, len(all))
	for i, w := range all {
		out[i] = container(w)
	}
	return out, err
}

func (c catalog) FindWorkspace(ctx context.Context, tenant identity.TenantID, nameOrID string) (lake.Container, error) {
	w, err := c.domain.FindWorkspace(ctx, tenant, nameOrID)
	return container(w), err
}

func (c catalog) FindItem(ctx context.Context, u *encryption.Use, ws encryption.ScopeID, segment string) (lake.Item, error) {
	i, err := c.domain.FindItem(ctx, u, ws, segment)
	return item(i), err
}

func (c catalog) ItemsOf(ctx context.Context, u *encryption.Use, ws encryption.ScopeID) ([]lake.Item, error) {
	all, err := c.domain.ItemsOf(ctx, u, ws)
	out := make([]lake.Item, len(all))
	for i, it := range all {
		out[i] = item(it)
	}
	return out, err
}

func container(w workspace.Workspace) lake.Container {
	return lake.Container{ID: w.ID, Tenant: w.Tenant, Name: w.DisplayName, Modified: w.Created}
}

func item(i workspace.Item) lake.Item {
	return lake.Item{ID: i.ID, Type: string(i.Type), Name: i.DisplayName}
}
