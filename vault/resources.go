package vault

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Subscription groups a tenant's resources. A tenant has one.
type Subscription struct {
	ID     string // UUID
	Tenant identity.TenantID
	Name   string
}

// Scope returns the subscription's scope.
func (s Subscription) Scope() rbac.Scope { return rbac.Scope("/subscriptions/" + s.ID) }

// A ResourceGroup holds vaults.
type ResourceGroup struct {
	Subscription string
	Name         string
	Location     string
	Tags         map[string]string
	Created      time.Time
}

// Scope returns the group's scope.
func (g ResourceGroup) Scope() rbac.Scope {
	return rbac.Scope("/subscriptions/" + g.Subscription + "/resourceGroups/" + g.Name)
}

const (
	actionGroupRead   rbac.Action = "Microsoft.Resources/subscriptions/resourceGroups/read"
	actionGroupWrite  rbac.Action = "Microsoft.Resources/subscriptions/resourceGroups/write"
	actionGroupDelete rbac.Action = "Microsoft.Resources/subscriptions/resourceGroups/delete"
)

// groupPattern is narrower than Azure's, which also takes other scripts: a scope
// is printable ASCII.
var groupPattern = regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`)

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// Provision makes a tenant's subscription and gives the first roles in it, as
// configuration says and nobody's token: whoever holds them gives all others. It
// may be repeated; a role that was since taken away is given again, so a server
// calls it when it makes its data directory and not at each start.
func (v *Vaults) Provision(ctx context.Context, s Subscription, first ...rbac.Assignment) error {
	if !uuidPattern.MatchString(s.ID) || s.Tenant == "" {
		return fault.New(fault.InvalidArgument, "A subscription needs a UUID in lower case and a tenant.")
	}
	a := begin(identity.Caller{Tenant: s.Tenant}, "SubscriptionProvision", s.Scope())
	return v.write(ctx, a, func(tx Tx) error {
		if old, err := tx.VaultSubscription(s.ID); err == nil && old.Tenant != s.Tenant {
			return fault.New(fault.Conflict, "The subscription belongs to another tenant.")
		}
		if err := tx.PutVaultSubscription(s); err != nil {
			return err
		}
		for _, r := range first {
			if r.ID == "" {
				r.ID = uuid.NewString()
			}
			r.Tenant, r.Created = s.Tenant, v.clock()
			err := tx.PutRoleAssignment(r)
			if fault.ReasonOf(err) == fault.RoleAssignmentExists {
				continue
			}
			if err != nil {
				return err
			}
			e := a.entry
			e.Operation, e.Resource = "RoleAssignmentPut", string(r.Scope)
			e.Detail = map[string]string{"assigned": r.ID, "principal": string(r.Principal), "role": string(r.Role)}
			if err := appendEntry(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// Subscriptions returns those of the caller's tenant in which it holds any role.
func (v *Vaults) Subscriptions(ctx context.Context, c identity.Caller) (mine []Subscription, err error) {
	err = v.read(ctx, begin(c, "SubscriptionList", "/"), func(tx Tx) error {
		all, err := tx.VaultSubscriptions(c.Tenant)
		if err != nil {
			return err
		}
		for _, s := range all {
			held, err := tx.RoleAssignmentsAt(s.Scope(), true)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(held, func(a rbac.Assignment) bool {
				return a.Tenant == c.Tenant && slices.Contains(c.Subjects(), a.Principal)
			}) {
				mine = append(mine, s)
			}
		}
		return nil
	})
	return mine, err
}

// subscription finds one of the caller's own tenant; another tenant's is not
// found.
func subscription(tx Tx, c identity.Caller, id string) (Subscription, error) {
	s, err := tx.VaultSubscription(strings.ToLower(id))
	if fault.ReasonOf(err) == fault.SubscriptionNotFound || err == nil && !of(c, s.Tenant) {
		return Subscription{}, fault.New(fault.SubscriptionNotFound, "The subscription could not be found in the token's tenant.")
	}
	return s, err
}

// manage finds the subscription and authorises a management action below it.
func (v *Vaults) manage(tx Tx, a *act, sub string, action rbac.Action, scope rbac.Scope) (Subscription, error) {
	s, err := subscription(tx, a.caller, sub)
	if err != nil {
		return s, err
	}
	a.entry.Resource = string(scope)
	return s, v.authorise(tx, a, s.Tenant, action, false, scope)
}

// ResourceGroups lists a subscription's groups that the caller can read.
func (v *Vaults) ResourceGroups(ctx context.Context, c identity.Caller, sub string) (mine []ResourceGroup, err error) {
	a := begin(c, "ResourceGroupList", Subscription{ID: sub}.Scope())
	err = v.read(ctx, a, func(tx Tx) error {
		s, err := subscription(tx, c, sub)
		if err != nil {
			return err
		}
		all, err := tx.VaultGroups(s.ID)
		if err != nil {
			return err
		}
		for _, g := range all {
			_, ok, err := v.allowed(tx, c, s.Tenant, actionGroupRead, false, g.Scope())
			if err != nil {
				return err
			}
			if ok {
				mine = append(mine, g)
			}
		}
		return nil
	})
	return mine, err
}

// ResourceGroup returns one.
func (v *Vaults) ResourceGroup(ctx context.Context, c identity.Caller, sub, name string) (g ResourceGroup, err error) {
	g = ResourceGroup{Subscription: strings.ToLower(sub), Name: name}
	if err := checkGroup(name); err != nil {
		return g, err
	}
	a := begin(c, "ResourceGroupGet", g.Scope())
	err = v.read(ctx, a, func(tx Tx) error {
		if _, err := v.manage(tx, a, sub, actionGroupRead, g.Scope()); err != nil {
			return err
		}
		g, err = tx.VaultGroup(g.Subscription, name)
		return err
	})
	return g, err
}

// PutResourceGroup makes one, or changes its tags; created says which. A group
// stays where it is.
func (v *Vaults) PutResourceGroup(ctx context.Context, c identity.Caller, g ResourceGroup) (_ ResourceGroup, created bool, err error) {
	g.Subscription = strings.ToLower(g.Subscription)
	if err := checkGroup(g.Name); err != nil {
		return g, false, err
	}
	a := begin(c, "ResourceGroupPut", g.Scope())
	err = v.write(ctx, a, func(tx Tx) error {
		if _, err := v.manage(tx, a, g.Subscription, actionGroupWrite, g.Scope()); err != nil {
			return err
		}
		if err := checkTags(g.Tags); err != nil {
			return err
		}
		if g.Location = location(g.Location); g.Location == "" {
			return fault.New(fault.InvalidArgument, "A resource group needs a location.")
		}
		old, err := tx.VaultGroup(g.Subscription, g.Name)
		switch {
		case err == nil && old.Location != g.Location:
			return fault.New(fault.Conflict, "The resource group exists in another location, and cannot be moved.")
		case err == nil:
			g.Name, g.Created = old.Name, old.Created
		case fault.ReasonOf(err) == fault.ResourceGroupNotFound:
			created, g.Created = true, v.clock()
		default:
			return err
		}
		return tx.PutVaultGroup(g)
	})
	return g, created, err
}

// DeleteResourceGroup removes an empty one. Azure deletes what is in it too; here
// vaults are deleted by name.
func (v *Vaults) DeleteResourceGroup(ctx context.Context, c identity.Caller, sub, name string) error {
	g := ResourceGroup{Subscription: strings.ToLower(sub), Name: name}
	if err := checkGroup(name); err != nil {
		return err
	}
	a := begin(c, "ResourceGroupDelete", g.Scope())
	return v.write(ctx, a, func(tx Tx) error {
		s, err := v.manage(tx, a, sub, actionGroupDelete, g.Scope())
		if err != nil {
			return err
		}
		all, err := tx.Vaults(s.Tenant)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(vault Vault) bool { return g.Scope().Contains(vault.Scope()) }) {
			return fault.New(fault.Conflict, "The resource group still holds vaults, soft-deleted ones included.").
				WithMend("Delete and purge those first.")
		}
		if err := tx.DeleteRoleAssignmentsBelow(g.Scope()); err != nil {
			return err
		}
		return tx.DropVaultGroup(g.Subscription, name)
	})
}

func checkGroup(name string) error {
	if !groupPattern.MatchString(name) || name == ".." || name == "." {
		return fault.New(fault.InvalidArgument, "A resource group's name has 1 to 90 letters, digits, underscores, hyphens, periods and parentheses, and does not end with a period.")
	}
	return nil
}

// location returns the canonical form of a region's name: "West Europe" is
// "westeurope".
func location(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower(s))
}
