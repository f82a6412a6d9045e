package keyvault

import (
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// What clients send and get of a key's life beyond its bundle.
type (
	blob struct {
		Value octets `json:"value"`
	}
	randomBody struct {
		Count int `json:"count"`
	}
	policyBody struct {
		ID         string           `json:"id,omitempty"`
		Actions    []lifetimeAction `json:"lifetimeActions"`
		Attributes policyAttributes `json:"attributes"`
	}
	lifetimeAction struct {
		Trigger vault.Trigger `json:"trigger"`
		Action  struct {
			Type string `json:"type"`
		} `json:"action"`
	}
	policyAttributes struct {
		Expiry  string `json:"expiryTime,omitempty"`
		Created int64  `json:"created,omitempty"`
		Updated int64  `json:"updated,omitempty"`
	}
	usageItem struct {
		KID       string          `json:"kid"`
		Principal string          `json:"principalId"`
		Operation vault.Operation `json:"operation"`
		Count     int64           `json:"count"`
		First     time.Time       `json:"first"`
		Last      time.Time       `json:"last"`
	}
)

func (c *call) importKey(name vault.KeyName, _ vault.Version) error {
	var body importBody
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	defer body.Key.clear()
	u, err := body.update()
	if err != nil {
		return err
	}
	u.Operations = body.Key.Operations
	spec := vault.ImportSpec{Type: body.Key.Type, KeyUpdate: u}
	if body.HSM != nil && *body.HSM {
		spec.Type = spec.Type.InHSM()
	}
	if body.Key.Wrapped != "" {
		spec.Wrapped, err = body.Key.wrapped(c.base)
	} else {
		spec.Private, err = body.Key.private()
	}
	if err != nil {
		return err
	}
	defer clear(spec.Private)
	b, err := c.vaults.ImportKey(c.ctx, c.caller, c.vault, name, spec)
	return c.bundle(b, err)
}

func (c *call) backup(name vault.KeyName, _ vault.Version) error {
	sealed, err := c.vaults.BackupKey(c.ctx, c.caller, c.vault, name)
	if err == nil {
		api.WriteJSON(c.w, http.StatusOK, blob{sealed})
	}
	return err
}

func (c *call) restore(vault.KeyName, vault.Version) error {
	var body blob
	if err := api.ReadJSON(c.r, backupLimit, &body); err != nil {
		return err
	}
	b, err := c.vaults.RestoreKey(c.ctx, c.caller, c.vault, body.Value)
	return c.bundle(b, err)
}

func (c *call) random(vault.KeyName, vault.Version) error {
	var body randomBody
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	b, err := c.vaults.RandomBytes(c.ctx, c.caller, c.vault, body.Count)
	if err == nil {
		api.WriteJSON(c.w, http.StatusOK, blob{b})
	}
	return err
}

func (c *call) policy(name vault.KeyName, _ vault.Version) error {
	b, p, err := c.vaults.KeyRotationPolicy(c.ctx, c.caller, c.vault, name)
	return c.writePolicy(b, p, err)
}

func (c *call) setPolicy(name vault.KeyName, _ vault.Version) error {
	var body policyBody
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	p, err := body.policy()
	if err != nil {
		return err
	}
	b, p, err := c.vaults.SetKeyRotationPolicy(c.ctx, c.caller, c.vault, name, p)
	return c.writePolicy(b, p, err)
}

// policy reads the body. A key has at most one action of either type.
func (b policyBody) policy() (p vault.RotationPolicy, err error) {
	if b.Attributes.Expiry != "" {
		if p.Expiry, err = vault.ParseDuration(b.Attributes.Expiry); err != nil {
			return p, err
		}
	}
	for _, a := range b.Actions {
		t := a.Trigger
		for _, d := range []*vault.Duration{&t.AfterCreate, &t.BeforeExpiry} {
			if *d == "" {
				continue
			}
			if *d, err = vault.ParseDuration(string(*d)); err != nil {
				return p, err
			}
		}
		switch {
		case strings.EqualFold(a.Action.Type, "Rotate") && p.Rotate == nil:
			p.Rotate = &t
		case strings.EqualFold(a.Action.Type, "Notify") && p.Notify == nil:
			p.Notify = &t
		default:
			return p, fault.New(fault.InvalidArgument, "A lifetime action is of type Rotate or Notify, and there is at most one of each.")
		}
	}
	return p, nil
}

// writePolicy shows a policy: as each flavour does, down to the case of the types.
func (c *call) writePolicy(b vault.Bundle, p vault.RotationPolicy, err error) error {
	if err != nil {
		return err
	}
	at := "keys/" + string(b.Key.Name) + "/rotationpolicy"
	body := policyBody{ID: c.base + "/" + at, Actions: []lifetimeAction{}}
	rotate := "Rotate"
	if b.Vault.Flavour == vault.ManagedHSM {
		body.ID, rotate = at, "rotate"
	}
	add := func(t *vault.Trigger, kind string) {
		if t == nil {
			return
		}
		a := lifetimeAction{Trigger: *t}
		a.Action.Type = kind
		body.Actions = append(body.Actions, a)
	}
	add(p.Rotate, rotate)
	add(p.Notify, "Notify")
	body.Attributes = policyAttributes{Expiry: string(p.Expiry), Created: seconds(p.Created), Updated: seconds(p.Updated)}
	api.WriteJSON(c.w, http.StatusOK, body)
	return nil
}

// usage tells who has used the key: kluis's own.
func (c *call) usage(name vault.KeyName, _ vault.Version) error {
	all, err := c.vaults.KeyUsage(c.ctx, c.caller, c.vault, name)
	if err != nil {
		return err
	}
	out := []usageItem{}
	for _, u := range all {
		out = append(out, usageItem{
			KID: c.base + "/keys/" + string(name) + "/" + string(u.Version), Principal: string(u.Principal), Operation: u.Operation,
			Count: u.Count, First: u.First, Last: u.Last,
		})
	}
	api.WriteJSON(c.w, http.StatusOK, map[string]any{"value": out})
	return nil
}
