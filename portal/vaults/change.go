package vaults

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// A question is asked before what cuts somebody off: what would go dark, as far as the
// user may see it, and who has used what is taken away.
type question struct {
	pane
	Title, Text, Button, Action, Back string
	Type                              string // what has to be typed; nothing if empty
	May                               bool   // the user, who otherwise only sees what it would do
	Hidden                            map[string]string

	Keys    []string // that were looked at
	Dark    []dark
	Used    []usage
	Unknown []*portal.Problem // what could not be looked at
}

// dark is a workspace or a storage account that a key holds.
type dark struct {
	Kind, Name, Key string
	Items           int
	Bound           int64
}

// Darkens counts what goes dark: "2 workspaces and 1 storage account".
func (q question) Darkens() string {
	var parts []string
	for _, kind := range []string{"Workspace", "Storage account"} {
		n := 0
		for _, d := range q.Dark {
			if d.Kind == kind {
				n++
			}
		}
		switch word := strings.ToLower(kind); {
		case n == 1:
			parts = append(parts, "1 "+word)
		case n > 1:
			parts = append(parts, strconv.Itoa(n)+" "+word+"s")
		}
	}
	return strings.Join(parts, " and ")
}

// lately is how old a use may be to count.
const lately = 30 * 24 * time.Hour

// look adds what hangs on a key, and who has used it.
func (q *question) look(c *portal.Call, key string) {
	var page client.Page[client.Usage]
	var err error
	var both sync.WaitGroup
	both.Go(func() {
		_, err = c.Parties.Key(c.Context(), q.Place, http.MethodGet, keyPath(key)+"/usage", nil, &page)
	})
	both.Go(func() { q.impact(c, key) })
	both.Wait()
	q.used(c, page.Value, err)
}

// impact adds what hangs on a key.
func (q *question) impact(c *portal.Call, key string) {
	q.Keys = append(q.Keys, key)
	impact, err := c.Parties.Impact(c.Context(), c.Parties.PlaceOf(q.Place).Address+keyPath(key))
	if err != nil {
		q.unknown(c, err)
	}
	for _, w := range impact.All() {
		q.Dark = append(q.Dark, dark{w.Kind(), w.DisplayName, key, w.Items, w.Bound})
	}
}

// used adds who has lately used what is taken away; err says why that is not known.
func (q *question) used(c *portal.Call, all []client.Usage, err error) {
	if err != nil {
		q.unknown(c, err)
	}
	var ids []string
	for _, u := range all {
		ids = append(ids, u.Principal)
	}
	names := named(c, ids...)
	for _, u := range all {
		if time.Since(u.Last) < lately {
			q.Used = append(q.Used, usage{u, names(u.Principal)})
		}
	}
}

// unknown adds why something could not be looked at, once.
func (q *question) unknown(c *portal.Call, err error) {
	p := c.Explain(err)
	if !slices.ContainsFunc(q.Unknown, func(o *portal.Problem) bool { return o.Title == p.Title && o.Detail == p.Detail }) {
		q.Unknown = append(q.Unknown, p)
	}
}

func rotate(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	name := c.R.PathValue("key")
	h, err := c.Parties.Key(c.Context(), p.Place, http.MethodPost, keyPath(name)+"/rotate", nil, nil)
	return p.finish(c, h, err, p.Base+"/keys/"+url.PathEscape(name), "The key has a new version. Platforms take it up by themselves.")
}

// chosen returns the versions that a form is about: one, or all.
func (d keyPage) chosen(version string, enabled bool) (out []string) {
	for _, v := range d.Versions {
		if v.Attributes.Enabled == enabled && (version == "" || v.Version() == version) {
			out = append(out, v.Version())
		}
	}
	return out
}

func confirmDisable(c *portal.Call) error {
	d, err := openKey(c)
	if err != nil {
		return err
	}
	version := c.R.URL.Query().Get("version")
	what := "every version of " + d.Name
	if version != "" {
		what = "one version of " + d.Name
	}
	q := question{
		pane: d.pane, Title: "Disable " + what, May: d.Rights.Update, Button: "Disable", Action: d.At + "/disable", Back: d.At, Hidden: map[string]string{"version": version},
		Text: "What is under the key goes dark: with this vault within seconds, at the latest after the kill-switch bound. Enabling it brings everything back.",
	}
	if version != "" {
		q.Text += " To cut a platform off for certain, disable every version: an old one alone may not be needed any more, and the newest alone not yet."
	}
	q.look(c, d.Name)
	return c.Render(d.view("confirm", q.Title, q, d.crumb(), portal.Crumb{Title: "Disable"}))
}

func disable(c *portal.Call) error { return setEnabled(c, false) }
func enable(c *portal.Call) error  { return setEnabled(c, true) }

func setEnabled(c *portal.Call, on bool) error {
	d, err := openKey(c)
	if err != nil {
		return err
	}
	versions := d.chosen(c.R.PostFormValue("version"), !on)
	for _, v := range versions {
		body := map[string]any{"attributes": map[string]any{"enabled": on}}
		if h, err := c.Parties.Key(c.Context(), d.Place, http.MethodPatch, keyPath(d.Name)+"/"+url.PathEscape(v), body, nil); err != nil {
			return d.finish(c, h, err, d.At, "")
		}
	}
	done := "disabled"
	if on {
		done = "enabled"
	}
	n := strconv.Itoa(len(versions)) + " versions are "
	if len(versions) == 1 {
		n = "One version is "
	}
	return c.Done(d.At, "%s%s.", n, done)
}

func confirmDelete(c *portal.Call) error {
	d, err := openKey(c)
	if err != nil {
		return err
	}
	q := question{
		pane: d.pane, Title: "Delete the key " + d.Name, May: d.Rights.Delete, Button: "Delete the key", Action: d.At + "/delete", Back: d.At, Type: d.Name,
		Text: "What is under the key goes dark at once. It can be recovered for " + strconv.Itoa(d.Vault.Properties.RetentionDays) + " days.",
	}
	q.look(c, d.Name)
	return c.Render(d.view("confirm", q.Title, q, d.crumb(), portal.Crumb{Title: "Delete"}))
}

// typed fails unless the form holds the name of what is meant.
func typed(c *portal.Call, noun, name string) error {
	if strings.TrimSpace(c.R.PostFormValue("name")) != name {
		return invalid("What was typed is not the " + noun + "’s name.")
	}
	return nil
}

func deleteKey(c *portal.Call) error {
	p, err := open(c)
	if err == nil {
		err = typed(c, "key", c.R.PathValue("key"))
	}
	if err != nil {
		return err
	}
	name := c.R.PathValue("key")
	h, err := c.Parties.Key(c.Context(), p.Place, http.MethodDelete, keyPath(name), nil, nil)
	return p.finish(c, h, err, p.Base, "The key %s is deleted. It can be recovered below.", name)
}

func recoverKey(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	name := c.R.PathValue("key")
	h, err := c.Parties.Key(c.Context(), p.Place, http.MethodPost, "/deletedkeys/"+url.PathEscape(name)+"/recover", nil, nil)
	return p.finish(c, h, err, p.Base+"/keys/"+url.PathEscape(name), "The key %s is back.", name)
}

func confirmPurge(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	name := c.R.PathValue("key")
	q := question{
		pane: p, Title: "Purge the key " + name, May: p.Rights.Purge, Button: "Purge for good", Action: p.Base + "/deleted/" + url.PathEscape(name) + "/purge", Back: p.Base, Type: name,
		Text: "The key is destroyed. What is still under it can never be read again, by anybody.",
	}
	q.impact(c, name)
	return c.Render(p.view("confirm", q.Title, q, portal.Crumb{Title: "Purge"}))
}

func purge(c *portal.Call) error {
	p, err := open(c)
	if err == nil {
		err = typed(c, "key", c.R.PathValue("key"))
	}
	if err != nil {
		return err
	}
	name := c.R.PathValue("key")
	h, err := c.Parties.Key(c.Context(), p.Place, http.MethodDelete, "/deletedkeys/"+url.PathEscape(name), nil, nil)
	return p.finish(c, h, err, p.Base, "The key %s is purged.", name)
}

// A policyForm is a rotation policy in days or months, as ISO 8601 durations.
type policyForm struct {
	RotateAfter, NotifyBefore, Expiry string
}

func policyOf(p client.RotationPolicy) (f policyForm) {
	f.Expiry = p.Attributes.Expiry
	for _, a := range p.Actions {
		switch {
		case strings.EqualFold(a.Action.Type, "rotate"):
			f.RotateAfter = a.Trigger.AfterCreate
		case strings.EqualFold(a.Action.Type, "notify"):
			f.NotifyBefore = a.Trigger.BeforeExpiry
		}
	}
	return f
}

// lengthOf parts an ISO 8601 duration of one unit into number and unit, as the form has
// them: another one stays whole.
func lengthOf(iso string) [2]string {
	if n, ok := strings.CutPrefix(iso, "P"); ok && len(n) > 1 {
		digits, unit := n[:len(n)-1], n[len(n)-1:]
		if _, err := strconv.Atoi(digits); err == nil && strings.Contains("DMY", unit) {
			return [2]string{digits, unit}
		}
	}
	return [2]string{iso, "D"}
}

// lengthFrom is the ISO 8601 duration that a number and a unit mean, or the one that stands
// in the number's place.
func lengthFrom(number, unit string) string {
	number = strings.ToUpper(strings.TrimSpace(number))
	if number == "" || strings.HasPrefix(number, "P") {
		return number
	}
	return "P" + number + unit
}

func showPolicy(c *portal.Call) error {
	d, err := openKey(c)
	if err != nil {
		return err
	}
	var p client.RotationPolicy
	if _, err := c.Parties.Key(c.Context(), d.Place, http.MethodGet, keyPath(d.Name)+"/rotationpolicy", nil, &p); err != nil {
		return err
	}
	d.Policy = policyOf(p)
	return c.Render(d.view("policy", "Rotation of "+d.Name, d, d.crumb(), portal.Crumb{Title: "Rotation"}))
}

func setPolicy(c *portal.Call) error {
	d, err := openKey(c)
	if err != nil {
		return err
	}
	field := func(name string) string { return lengthFrom(c.R.PostFormValue(name), c.R.PostFormValue(name+"unit")) }
	d.Policy = policyForm{field("rotate"), field("notify"), field("expiry")}
	actions := []any{}
	if d.Policy.RotateAfter != "" {
		actions = append(actions, map[string]any{"trigger": map[string]string{"timeAfterCreate": d.Policy.RotateAfter}, "action": map[string]string{"type": "Rotate"}})
	}
	if d.Policy.NotifyBefore != "" {
		actions = append(actions, map[string]any{"trigger": map[string]string{"timeBeforeExpiry": d.Policy.NotifyBefore}, "action": map[string]string{"type": "Notify"}})
	}
	attributes := map[string]string{}
	if d.Policy.Expiry != "" {
		attributes["expiryTime"] = d.Policy.Expiry
	}
	_, err = c.Parties.Key(c.Context(), d.Place, http.MethodPut, keyPath(d.Name)+"/rotationpolicy", map[string]any{"lifetimeActions": actions, "attributes": attributes}, nil)
	if err != nil {
		d.Problem = c.Explain(err)
		return c.Render(d.view("policy", "Rotation of "+d.Name, d, d.crumb(), portal.Crumb{Title: "Rotation"}))
	}
	return c.Done(d.At, "The rotation policy is set.")
}
