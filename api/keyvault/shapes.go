package keyvault

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// What clients send.
type (
	attributesBody struct {
		Enabled    *bool  `json:"enabled"`
		NotBefore  *int64 `json:"nbf"` // Unix seconds
		Expires    *int64 `json:"exp"` // Unix seconds
		Exportable *bool  `json:"exportable"`
	}
	updateBody struct {
		Operations    *[]vault.Operation `json:"key_ops"`
		Attributes    attributesBody     `json:"attributes"`
		Tags          *map[string]string `json:"tags"`
		ReleasePolicy json.RawMessage    `json:"release_policy"`
	}
	createBody struct {
		Type     vault.KeyType `json:"kty"`
		Size     int           `json:"key_size"`
		Curve    vault.Curve   `json:"crv"`
		Exponent int           `json:"public_exponent"`
		updateBody
	}
	importBody struct {
		Key privateWebKey `json:"key"`
		HSM *bool         `json:"Hsm"`
		updateBody
	}
	useBody struct {
		Algorithm vault.Algorithm `json:"alg"`
		Value     octets          `json:"value"`
		Digest    octets          `json:"digest"`
		IV        octets          `json:"iv"`
		AAD       octets          `json:"aad"`
		Tag       octets          `json:"tag"`
	}
)

// lastSecond bounds dates: the end of year 9999.
const lastSecond = 253402300799

func (b updateBody) update() (vault.KeyUpdate, error) {
	u := vault.KeyUpdate{Operations: b.Operations, Enabled: b.Attributes.Enabled, Tags: b.Tags}
	if e := b.Attributes.Exportable; e != nil && *e || len(b.ReleasePolicy) > 0 && string(b.ReleasePolicy) != "null" {
		return u, fault.New(fault.NotSupported, "Exportable keys and release policies are not supported.")
	}
	for _, d := range []struct {
		in  *int64
		out **time.Time
	}{{b.Attributes.NotBefore, &u.NotBefore}, {b.Attributes.Expires, &u.Expires}} {
		if d.in == nil {
			continue
		}
		if *d.in <= 0 || *d.in > lastSecond {
			return u, fault.New(fault.InvalidArgument, "nbf and exp are Unix times in seconds.")
		}
		*d.out = new(time.Unix(*d.in, 0).UTC())
	}
	return u, nil
}

func (b createBody) spec() (vault.KeySpec, error) {
	if b.Exponent != 0 && b.Exponent != 65537 {
		return vault.KeySpec{}, fault.New(fault.InvalidArgument, "public_exponent must be 65537.")
	}
	u, err := b.update()
	return vault.KeySpec{Type: b.Type, Bits: b.Size, Curve: b.Curve, KeyUpdate: u}, err
}

// What they get.
type (
	attributes struct {
		Enabled         bool   `json:"enabled"`
		NotBefore       int64  `json:"nbf,omitempty"`
		Expires         int64  `json:"exp,omitempty"`
		Created         int64  `json:"created"`
		Updated         int64  `json:"updated"`
		RecoveryLevel   string `json:"recoveryLevel"`
		RecoverableDays int    `json:"recoverableDays"`
		Exportable      bool   `json:"exportable"`
		HSMPlatform     string `json:"hsmPlatform,omitempty"` // where an HSM key lives: "software" if software stands in
	}
	deletion struct {
		RecoveryID         string `json:"recoveryId,omitempty"`
		DeletedDate        int64  `json:"deletedDate,omitempty"`
		ScheduledPurgeDate int64  `json:"scheduledPurgeDate,omitempty"`
	}
	bundle struct {
		deletion
		Key        webKey            `json:"key"`
		Attributes attributes        `json:"attributes"`
		Tags       map[string]string `json:"tags,omitempty"`
	}
	item struct {
		deletion
		KID        string            `json:"kid"`
		Attributes attributes        `json:"attributes"`
		Tags       map[string]string `json:"tags,omitempty"`
	}
	itemList struct {
		Value    []item  `json:"value"`
		NextLink *string `json:"nextLink"`
	}
	useResult struct {
		Algorithm vault.Algorithm `json:"alg,omitempty"` // of a managed HSM
		KID       string          `json:"kid,omitempty"`
		Value     any             `json:"value"`
		IV        octets          `json:"iv,omitempty"`
		AAD       octets          `json:"aad,omitempty"`
		Tag       octets          `json:"tag,omitempty"`
	}
	feed struct {
		Cursor  vault.Cursor `json:"cursor"`
		Reset   bool         `json:"reset"`
		Changes []change     `json:"changes"`
	}
	change struct {
		Key  vault.KeyName `json:"key"`
		Kind vault.Kind    `json:"kind"`
	}
)

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// path returns the versioned part of a kid.
func path(b vault.Bundle) string {
	return "/keys/" + string(b.Key.Name) + "/" + string(b.Version.Version)
}

func attributesOf(b vault.Bundle) attributes {
	platform := ""
	if b.Version.Type.HSM() {
		platform = b.Version.Platform
	}
	return attributes{
		HSMPlatform: platform,
		Enabled:     b.Version.Enabled,
		NotBefore:   seconds(b.Version.NotBefore), Expires: seconds(b.Version.Expires),
		Created: seconds(b.Version.Created), Updated: seconds(b.Version.Updated),
		RecoveryLevel: b.Vault.RecoveryLevel(), RecoverableDays: b.Vault.RetentionDays,
	}
}

func (c *call) deletion(b vault.Bundle) deletion {
	if b.Key.Deleted.IsZero() {
		return deletion{}
	}
	return deletion{
		RecoveryID:  c.base + "/deletedkeys/" + string(b.Key.Name),
		DeletedDate: seconds(b.Key.Deleted), ScheduledPurgeDate: seconds(b.Key.PurgeAt),
	}
}

func (c *call) item(b vault.Bundle, versioned bool) item {
	kid := "/keys/" + string(b.Key.Name)
	if versioned {
		kid = path(b)
	}
	return item{deletion: c.deletion(b), KID: c.base + kid, Attributes: attributesOf(b), Tags: b.Version.Tags}
}

// bundle writes a key version, unless err is set.
func (c *call) bundle(b vault.Bundle, err error) error {
	if err != nil {
		return err
	}
	k := webKey{KID: c.base + path(b), Type: b.Version.Type, Operations: b.Version.Operations}
	if err := k.show(b.Version); err != nil {
		return err
	}
	api.WriteJSON(c.w, http.StatusOK, bundle{
		deletion:   c.deletion(b),
		Key:        k,
		Attributes: attributesOf(b),
		Tags:       b.Version.Tags,
	})
	return nil
}
