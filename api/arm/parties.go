package arm

import (
	"context"
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// Where both parties are served, they share subscriptions' ids and groups' names, and
// each keeps its own role assignments.

// subscriptions returns those in which the caller holds a role at either party.
func (c *call) subscriptions() (all []vault.Subscription, err error) {
	if c.vaults != nil {
		if all, err = c.vaults.Subscriptions(c.ctx, c.caller); err != nil {
			return nil, err
		}
	}
	if c.accounts == nil {
		return all, nil
	}
	more, err := c.accounts.Subscriptions(c.ctx, c.caller)
	for _, s := range more {
		known := false
		for _, have := range all {
			known = known || strings.EqualFold(have.ID, s.ID)
		}
		if !known {
			all = append(all, vault.Subscription{ID: s.ID, Tenant: s.Tenant, Name: s.Name})
		}
	}
	return all, err
}

// accountGroup returns a resource group as the platform knows it: it is there because
// accounts are in it.
func (c *call) accountGroup() (vault.ResourceGroup, error) {
	all, err := c.accountsHere()
	if err == nil && len(all) == 0 {
		err = fault.New(fault.ResourceGroupNotFound, "The resource group could not be found.").About(c.seg[3])
	}
	if err != nil {
		return vault.ResourceGroup{}, err
	}
	a := all[0]
	return vault.ResourceGroup{Subscription: a.Subscription, Name: a.ResourceGroup, Location: a.Location}, nil
}

// getAnyGroup returns the vault's group or, if that has none that the caller may see,
// the platform's.
func (c *call) getAnyGroup() error {
	if c.vaults != nil {
		g, err := c.vaults.ResourceGroup(c.ctx, c.caller, c.seg[1], c.seg[3])
		switch fault.ReasonOf(err) {
		case fault.Denied, fault.ResourceGroupNotFound, fault.SubscriptionNotFound:
		default:
			return c.write(http.StatusOK, group(g), err)
		}
	}
	g, err := c.accountGroup()
	return c.write(http.StatusOK, group(g), err)
}

// putAnyGroup makes the group at the vault if the caller may. At the platform there is
// nothing to make: he is told that the group is there for what he will put in it.
func (c *call) putAnyGroup() error {
	var body struct {
		Location string            `json:"location"`
		Tags     map[string]string `json:"tags"`
	}
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	g := vault.ResourceGroup{Subscription: c.seg[1], Name: c.seg[3], Location: body.Location, Tags: body.Tags}
	if c.vaults != nil {
		made, created, err := c.vaults.PutResourceGroup(c.ctx, c.caller, g)
		if r := fault.ReasonOf(err); r != fault.Denied && r != fault.SubscriptionNotFound {
			return c.write(madeOr200(created), group(made), err)
		}
	}
	if err := c.accounts.MayFill(c.ctx, c.caller, c.seg[1], c.seg[3]); err != nil {
		return err
	}
	return c.write(http.StatusCreated, group(g), nil)
}

// roleAssignments is what either party does with them.
type roleAssignments interface {
	RoleDefinitions() []rbac.RoleDefinition
	RoleAssignment(ctx context.Context, c identity.Caller, scope rbac.Scope, id string) (rbac.Assignment, error)
	RoleAssignments(ctx context.Context, c identity.Caller, scope rbac.Scope, below bool) ([]rbac.Assignment, error)
	DeleteRoleAssignment(ctx context.Context, c identity.Caller, scope rbac.Scope, id string) (rbac.Assignment, error)
}

// platformsScope reports whether the request's scope is the platform's.
func (c *call) platformsScope() bool { return c.accounts != nil && (c.vaults == nil || c.isStorage()) }

// roles returns the party whose resource the request's scope is.
func (c *call) roles() roleAssignments {
	if c.platformsScope() {
		return c.accounts
	}
	return c.vaults
}

func (c *call) grant(g vault.Grant) (rbac.Assignment, bool, error) {
	if c.platformsScope() {
		return c.accounts.PutRoleAssignment(c.ctx, c.caller, account.Grant(g))
	}
	return c.vaults.PutRoleAssignment(c.ctx, c.caller, g)
}
