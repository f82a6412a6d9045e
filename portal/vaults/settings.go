package vaults

import (
	"strconv"

	"github.com/kluis-io/kluis/portal"
)

// settings is the page of what protects a vault.
type settings struct {
	pane
	Days, Ranges string
}

func settingsOf(p pane) settings {
	s := settings{pane: p, Days: strconv.Itoa(p.Vault.Properties.RetentionDays)}
	for _, r := range p.Vault.Properties.Network.Ranges {
		s.Ranges += r.Value + "\n"
	}
	return s
}

func showSettings(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	return c.Render(p.view("settings", p.Vault.Name, settingsOf(p), portal.Crumb{Title: "Protection"}))
}

func changeSettings(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	on := func(name string) bool { return c.R.PostFormValue(name) != "" }
	properties := map[string]any{
		"networkAcls": network(c.R.PostFormValue("network"), c.R.PostFormValue("ranges")), "requireApproval": on("approval"), "separationOfDuties": on("duties"),
	}
	if on("purge") { // it is never switched off
		properties["enablePurgeProtection"] = true
	}
	h, err := c.Parties.PatchVault(c.Context(), p.Vault.Group(), p.Place, properties)
	return p.finish(c, h, err, p.Base+"/settings", "The %s’s protection is changed.", p.Noun())
}

func confirmDeleteVault(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	q := question{
		pane: p, Title: "Delete the " + p.Noun() + " " + p.Vault.Name, May: p.Rights.DeleteVault, Button: "Delete the " + p.Noun(), Action: p.Base + "/delete", Back: p.Base + "/settings", Type: p.Vault.Name,
		Text: "Every key in it is cut off at once, and all data under them goes dark. It can be recovered, with its keys, for " +
			strconv.Itoa(p.Vault.Properties.RetentionDays) + " days.",
	}
	keys, _, err := c.Parties.ListKeys(c.Context(), p.Place, "/keys", 100)
	if err != nil {
		q.Unknown = append(q.Unknown, c.Explain(err))
	}
	for _, k := range keys {
		q.look(c, k.Name())
	}
	return c.Render(p.view("confirm", q.Title, q, portal.Crumb{Title: "Delete"}))
}

func deleteVault(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	if err := typed(c, p.Noun(), p.Vault.Name); err != nil {
		return err
	}
	h, err := c.Parties.DeleteVault(c.Context(), p.Vault.Group(), p.Place)
	return p.finish(c, h, err, "/vaults", "The %s %s is deleted. It can be recovered below.", p.Noun(), p.Vault.Name)
}

// approvals is the page of what waits for a second person.
type approvals struct {
	pane
	Rows []approval
}

func showApprovals(c *portal.Call) error {
	p, err := openAny(c)
	if err != nil {
		return err
	}
	all, err := c.Parties.Approvals(c.Context(), p.Place)
	if err != nil {
		return err
	}
	var ids []string
	for _, a := range all {
		ids = append(ids, a.RequestedBy, a.DecidedBy)
	}
	names := named(c, ids...)
	d := approvals{pane: p}
	for _, a := range all {
		d.Rows = append(d.Rows, approval{Approval: a, By: names(a.RequestedBy), Decider: names(a.DecidedBy), Own: a.RequestedBy == c.User.ID})
	}
	return c.Render(p.view("approvals", p.Vault.Name, d, portal.Crumb{Title: "Approvals"}))
}

func decide(c *portal.Call) error {
	p, err := openAny(c)
	if err != nil {
		return err
	}
	agree := c.R.PostFormValue("verdict") == "approve"
	if err := c.Parties.Decide(c.Context(), p.Place, c.R.PathValue("id"), agree); err != nil {
		return err
	}
	if agree {
		return c.Done(p.Base+"/approvals", "Approved. Who has asked can do it now.")
	}
	return c.Done(p.Base+"/approvals", "Rejected. Nothing was done.")
}
