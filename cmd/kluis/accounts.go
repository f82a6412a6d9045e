package main

import (
	"context"
	"net/http"
	"slices"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/blob"
	"github.com/kluis-io/kluis/api/dfs"
	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// reservedAccounts are names that a bare host's path, or the storage services' hosts,
// use for something else.
var reservedAccounts = []string{
	storageAccount, "keys", "deletedkeys", "rng", "changes", "approvals", "access", "subscriptions", "providers", "metadata",
	"healthz", "readyz", "common", "organizations", "adfs", "portal", "login", "graph", "posture", "audit", "management", "vault", "static", "assets",
}

// wireAccounts sets up storage accounts, whose data is the lake's.
func (s *server) wireAccounts(rt *router, tokens api.Tokens, c storagewire.Config) {
	s.accounts = account.New(account.Config{
		Store: s.operator.db.Account(), Root: s.operator.root, Keys: s.ring, Encryption: s.scopes, Audit: s.operator.log,
		Subscriptions: s.subscriptions(), Principal: s.platformPrincipal, Reserved: reservedAccounts,
	})
	c.Keys, c.Services = s.accounts, s.accounts
	rt.account = func(name string, dialect storageDialect) http.Handler {
		if _, err := account.ParseName(name); err != nil {
			return nil
		}
		c := c
		c.Account, c.Audiences = name, append(slices.Clone(c.Audiences), s.accountAudiences(name)...)
		blobs, paths := blob.New(s.lake, tokens, c), dfs.New(s.lake, tokens, c)
		switch dialect {
		case blobDialect:
			return blobs
		case dfsDialect:
			return storagewire.DispatchDFS(blobs, paths)
		}
		return storagewire.Dispatch(blobs, paths)
	}
	rt.exists = func(ctx context.Context, name string) bool {
		if _, err := account.ParseName(name); err != nil {
			return false
		}
		_, err := s.accounts.Find(ctx, account.Name(name))
		return err == nil
	}
}

// supported says which items a customer-managed key may cover: a storage account's
// containers always.
func (s *server) supported(itemType string) bool {
	return itemType == lake.ContainerType || s.workspaces.Supported(itemType)
}

// subscriptions are those in which tenants' storage accounts lie.
func (s *server) subscriptions() []account.Subscription {
	all := []account.Subscription{{ID: s.identity.Subscription, Tenant: s.identity.Tenant, Name: "kluis"}}
	for tenant, id := range s.identity.Adopted {
		if id != "" {
			all = append(all, account.Subscription{ID: id, Tenant: tenant, Name: string(tenant)})
		}
	}
	return all
}

// platformPrincipal returns the object id by which a tenant's vaults know the platform, ""
// while it has no credential there.
func (s *server) platformPrincipal(tenant identity.TenantID) identity.PrincipalID {
	c, err := s.readCredential(string(tenant))
	if err != nil {
		return ""
	}
	return c.ObjectID
}
