package vaults

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// Soft-deleted vaults and managed HSMs. One has no page but those of what waits for a
// second person and of its purge: it is listed with the others.

// gone is the row of one, with what is offered to the user.
type gone struct {
	client.DeletedVault
	At             string // path of its pages
	Recover, Purge bool
}

// listGone returns those that the user may see, with what his roles at the subscription
// let him do. Whoever may not see them sees none.
func listGone(c *portal.Call, roles []client.Role) (all []gone) {
	var kinds [2][]client.DeletedVault
	var both sync.WaitGroup
	for i := range kinds {
		both.Go(func() { kinds[i], _ = c.Parties.DeletedVaults(c.Context(), i == 1) })
	}
	both.Wait()
	for _, v := range slices.Concat(kinds[:]...) {
		was := v.Vault()
		all = append(all, gone{
			DeletedVault: v, At: at(was.Group(), was.Place()),
			Recover: manages(roles, writes(was.Place())), Purge: manages(roles, purges(was.Place())) && !v.Properties.PurgeProtection,
		})
	}
	return all
}

// What Resource Manager calls the rights to make or recover a vault or managed HSM, and to
// purge one.

func writes(p client.Place) string {
	if p.HSM {
		return "Microsoft.KeyVault/managedHSMs/write"
	}
	return "Microsoft.KeyVault/vaults/write"
}

func purges(p client.Place) string {
	if p.HSM {
		return "Microsoft.KeyVault/locations/deletedManagedHsms/purge/action"
	}
	return "Microsoft.KeyVault/locations/deletedVaults/purge/action"
}

// subscription is the scope at which soft-deleted vaults are managed.
func subscription(c *portal.Call) string { return "/subscriptions/" + c.Parties.Subscription }

// openDeleted finds the soft-deleted vault that a path names.
func openDeleted(c *portal.Call) (p pane, err error) {
	group := c.R.PathValue("group")
	p.Place = place(c)
	all, err := c.Parties.DeletedVaults(c.Context(), p.Place.HSM)
	if err != nil {
		return p, err
	}
	i := slices.IndexFunc(all, func(v client.DeletedVault) bool {
		return strings.EqualFold(v.Name, p.Place.Name) && strings.EqualFold(v.Vault().Group(), group)
	})
	if i < 0 {
		return p, &portal.Problem{
			Status: http.StatusNotFound, Title: "Not found", Detail: "No " + p.Noun() + " of this name is soft-deleted.",
			Mend: "It may be purged by now, or recovered: the list of vaults shows what there is.",
		}
	}
	p.Gone, p.Vault, p.Base = &all[i], all[i].Vault(), at(group, p.Place)
	return p, nil
}

// openAny is open for what a soft-deleted vault has as well.
func openAny(c *portal.Call) (pane, error) {
	p, err := open(c)
	var e *client.Error
	if errors.As(err, &e) && e.Status == http.StatusNotFound {
		if deleted, err := openDeleted(c); err == nil {
			return deleted, nil
		}
	}
	return p, err
}

func recoverVault(c *portal.Call) error {
	group, p := c.R.PathValue("group"), place(c)
	if err := c.Parties.RecoverVault(c.Context(), c.User.Tenant, group, p, c.R.PostFormValue("location")); err != nil {
		return err
	}
	return c.Done(at(group, p), "%s is back, with its keys as they were.", p.Name)
}

func confirmPurgeVault(c *portal.Call) error {
	p, err := openDeleted(c)
	if err != nil {
		return err
	}
	q := question{
		pane: p, Title: "Purge the " + p.Noun() + " " + p.Vault.Name, Button: "Purge for good", Action: p.Base + "/purge", Back: "/vaults", Type: p.Vault.Name,
		Text: "Every key in it is destroyed. What is still under one of them can never be read again, by anybody.",
		May:  manages(held(c, client.Place{}, subscription(c)), purges(p.Place)),
	}
	if p.Vault.Properties.PurgeProtection {
		q.May, q.Text = false, q.Text+" Purge protection keeps everybody from that until its days are over."
	}
	used, err := c.Parties.DeletedUsage(c.Context(), *p.Gone)
	q.used(c, used, err)
	for _, u := range used {
		if !slices.Contains(q.Keys, u.Key()) {
			q.impact(c, u.Key())
		}
	}
	return c.Render(p.view("confirm", q.Title, q, portal.Crumb{Title: "Purge"}))
}

func purgeVault(c *portal.Call) error {
	p, err := openDeleted(c)
	if err == nil {
		err = typed(c, p.Noun(), p.Vault.Name)
	}
	if err != nil {
		return err
	}
	h, err := c.Parties.PurgeVault(c.Context(), *p.Gone)
	return p.finish(c, h, err, "/vaults", "The %s %s is purged.", p.Noun(), p.Vault.Name)
}
