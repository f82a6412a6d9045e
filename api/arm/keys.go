package arm

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// Keys as Resource Manager shows them, of vaults and managed HSMs alike
// (learn.microsoft.com/rest/api/keyvault/keyvault/keys).
type (
	keyBody struct {
		Tags       *map[string]string `json:"tags"`
		Properties keyCreation        `json:"properties"`
	}
	keyCreation struct {
		Kty        vault.KeyType      `json:"kty"`
		Size       int                `json:"keySize"`
		Curve      vault.Curve        `json:"curveName"`
		Ops        *[]vault.Operation `json:"keyOps"`
		Attributes struct {
			Enabled    *bool  `json:"enabled"`
			NotBefore  *int64 `json:"nbf"`
			Expires    *int64 `json:"exp"`
			Exportable bool   `json:"exportable"`
		} `json:"attributes"`
		Rotation *rotationBody `json:"rotationPolicy"`
		Release  any           `json:"release_policy"`
	}
	rotationBody struct {
		Attributes rotationAttributes `json:"attributes"`
		Actions    []lifetimeAction   `json:"lifetimeActions"`
	}
	rotationAttributes struct {
		Expiry  vault.Duration `json:"expiryTime,omitempty"`
		Created int64          `json:"created,omitempty"`
		Updated int64          `json:"updated,omitempty"`
	}
	lifetimeAction struct {
		Trigger vault.Trigger `json:"trigger"`
		Action  struct {
			Type string `json:"type"`
		} `json:"action"`
	}
)

func (b keyBody) spec() (vault.KeySpec, error) {
	p := b.Properties
	if p.Attributes.Exportable || p.Release != nil {
		return vault.KeySpec{}, fault.New(fault.NotSupported, "Keys that may leave the vault are not supported.")
	}
	at := func(seconds *int64) *time.Time {
		if seconds == nil {
			return nil
		}
		return new(time.Unix(*seconds, 0).UTC())
	}
	return vault.KeySpec{
		Type: p.Kty, Bits: p.Size, Curve: p.Curve,
		KeyUpdate: vault.KeyUpdate{
			Operations: p.Ops, Enabled: p.Attributes.Enabled, NotBefore: at(p.Attributes.NotBefore), Expires: at(p.Attributes.Expires), Tags: b.Tags,
		},
	}, nil
}

// policy reads a rotation policy, nil if there is none.
func (b *rotationBody) policy() (*vault.RotationPolicy, error) {
	if b == nil {
		return nil, nil
	}
	p := &vault.RotationPolicy{}
	var err error
	if b.Attributes.Expiry != "" {
		if p.Expiry, err = vault.ParseDuration(string(b.Attributes.Expiry)); err != nil {
			return nil, err
		}
	}
	for _, a := range b.Actions {
		t := a.Trigger
		for _, d := range []*vault.Duration{&t.AfterCreate, &t.BeforeExpiry} {
			if *d != "" {
				if *d, err = vault.ParseDuration(string(*d)); err != nil {
					return nil, err
				}
			}
		}
		switch {
		case strings.EqualFold(a.Action.Type, "rotate") && p.Rotate == nil:
			p.Rotate = &t
		case strings.EqualFold(a.Action.Type, "notify") && p.Notify == nil:
			p.Notify = &t
		default:
			return nil, fault.New(fault.InvalidArgument, "A rotation policy has at most one lifetime action of each type, rotate and notify.")
		}
	}
	return p, nil
}

func showRotation(p vault.RotationPolicy) rotationBody {
	b := rotationBody{Attributes: rotationAttributes{Expiry: p.Expiry}, Actions: []lifetimeAction{}}
	if !p.Created.IsZero() {
		b.Attributes.Created, b.Attributes.Updated = p.Created.Unix(), p.Updated.Unix()
	}
	add := func(t *vault.Trigger, kind string) {
		if t != nil {
			a := lifetimeAction{Trigger: *t}
			a.Action.Type = kind
			b.Actions = append(b.Actions, a)
		}
	}
	add(p.Rotate, "rotate")
	add(p.Notify, "notify")
	return b
}

// kid returns a key's identifier, without a version.
func (c *call) kid(f vault.Flavour, in vault.Name, key vault.KeyName) string {
	suffix := c.config.VaultSuffix
	if f == vault.ManagedHSM {
		suffix = c.config.HSMSuffix
	}
	return "https://" + string(in) + "." + suffix + "/keys/" + string(key)
}

// keyResource shows a version as a key, or as what lies below one in its versions.
func (c *call) keyResource(b vault.Bundle, version bool) resource {
	kid := c.kid(b.Vault.Flavour, b.Vault.Name, b.Key.Name)
	attributes := map[string]any{
		"enabled": b.Version.Enabled, "created": b.Version.Created.Unix(), "updated": b.Version.Updated.Unix(),
		"exportable": false, "recoveryLevel": b.Vault.RecoveryLevel(),
	}
	for name, at := range map[string]time.Time{"nbf": b.Version.NotBefore, "exp": b.Version.Expires} {
		if !at.IsZero() {
			attributes[name] = at.Unix()
		}
	}
	p := map[string]any{
		"attributes": attributes, "kty": b.Version.Type, "keyOps": b.Version.Operations,
		"keyUri": kid, "keyUriWithVersion": kid + "/" + string(b.Version.Version),
	}
	if b.Version.Curve != "" {
		p["curveName"] = b.Version.Curve
	} else {
		p["keySize"] = b.Version.Bits
	}
	r := resource{
		ID: b.Vault.Scope() + "/keys/" + rbac.Scope(b.Key.Name), Name: b.Key.Name, Type: b.Vault.Flavour.ResourceType() + "/keys",
		Location: b.Vault.Location, Tags: tags(b.Version.Tags), Properties: p,
	}
	if version {
		r.ID += "/versions/" + rbac.Scope(b.Version.Version)
		r.Name, r.Type = b.Version.Version, r.Type+"/versions"
	}
	return r
}

// whole shows a key with its rotation policy, as the answers about one key do.
func (c *call) whole(k vault.KeyResource, version bool) resource {
	r := c.keyResource(k.Bundle, version)
	r.Properties.(map[string]any)["rotationPolicy"] = showRotation(k.Rotation)
	return r
}

// keyAt returns where the path's key lies.
func (c *call) keyAt() (vault.Path, vault.KeyName, error) {
	p, err := c.at()
	if err != nil {
		return p, "", err
	}
	name, err := vault.ParseKeyName(c.seg[9])
	return p, name, err
}

// keyFault gives what keys are refused for the codes that Resource Manager has for it.
func keyFault(err error) error {
	switch fault.ReasonOf(err) {
	case fault.KeyNotFound:
		return coded{"KeyNotFound", fault.Wrap(fault.ResourceNotFound, err, fault.As(err).Public())}
	case fault.KeyDeleted:
		return coded{"ConflictError", fault.Wrap(fault.Conflict, err, fault.As(err).Public())}
	}
	return err
}

func (c *call) page() vault.Page {
	return vault.Page{After: c.r.URL.Query().Get("$skiptoken")}
}

// pageOf writes one page of a listing.
func (c *call) pageOf(all []vault.Bundle, next string, versions bool) error {
	out := []any{}
	for _, b := range all {
		out = append(out, c.keyResource(b, versions))
	}
	body := map[string]any{"value": out}
	if next != "" {
		q := url.Values{"api-version": {c.r.URL.Query().Get("api-version")}, "$skiptoken": {next}}
		body["nextLink"] = (&url.URL{Scheme: "https", Host: c.r.Host, Path: c.r.URL.Path, RawQuery: q.Encode()}).String()
	}
	return c.write(http.StatusOK, body, nil)
}

func (c *call) listKeys() error {
	p, err := c.at()
	if err != nil {
		return err
	}
	all, next, err := c.vaults.KeyResources(c.ctx, c.caller, p, c.page())
	if err != nil {
		return err
	}
	return c.pageOf(all, next, false)
}

func (c *call) listKeyVersions() error {
	p, name, err := c.keyAt()
	if err != nil {
		return err
	}
	all, next, err := c.vaults.KeyVersionResources(c.ctx, c.caller, p, name, c.page())
	if err != nil {
		return keyFault(err)
	}
	return c.pageOf(all, next, true)
}

func (c *call) getKey() error {
	p, name, err := c.keyAt()
	if err != nil {
		return err
	}
	version := vault.Version("")
	if len(c.seg) > 11 {
		if version, err = vault.ParseVersion(c.seg[11]); err != nil {
			return err
		}
	}
	k, err := c.vaults.KeyResource(c.ctx, c.caller, p, name, version)
	if err != nil {
		return keyFault(err)
	}
	return c.write(http.StatusOK, c.whole(k, version != ""), nil)
}

// putKey makes the key if there is none of the name. Azure's changes none that is there.
func (c *call) putKey() error {
	p, name, err := c.keyAt()
	if err != nil {
		return err
	}
	var body keyBody
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	spec, err := body.spec()
	if err != nil {
		return err
	}
	policy, err := body.Properties.Rotation.policy()
	if err != nil {
		return err
	}
	k, err := c.vaults.EnsureKey(c.ctx, c.caller, p, name, spec, policy)
	if err != nil {
		return keyFault(err)
	}
	return c.write(http.StatusOK, c.whole(k, false), nil)
}
