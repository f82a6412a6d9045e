package posture

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// A Key is a key with the versions that were read.
type Key struct {
	Ref      KeyRef // without version
	Versions map[string]*KeyVersion
	Rotation *Rotation // nil: not read
	Deleted  bool
	Purge    time.Time // when a deleted key goes for good; zero where it is not told
	Evidence Evidence

	vault *Vault
}

// A KeyVersion is what a vault tells about one version of a key.
type KeyVersion struct {
	Version                     string
	Enabled                     bool
	NotBefore, Expires, Created time.Time // zero: not set
	Updated                     time.Time // zero: not told
	Kind                        string    // "RSA", "RSA-HSM", …
	Bits                        int       // 0 where it is not told
	Ops                         []string  // in lower case

	unread []string // "enabled", "exp" and "key_ops", where they were not read or are known after apply
}

// knows reports whether an attribute of v is known.
func (v *KeyVersion) knows(attribute string) bool { return !slices.Contains(v.unread, attribute) }

// Known reports whether it is known that v is enabled, and when it expires.
func (v *KeyVersion) Known() (enabled, expires bool) { return v.knows("enabled"), v.knows("exp") }

// Newest returns the newest version, nil if none was read.
func (k *Key) Newest() (newest *KeyVersion) {
	for _, v := range k.Versions {
		if newest == nil || v.Created.After(newest.Created) || v.Created.Equal(newest.Created) && v.Version > newest.Version {
			newest = v
		}
	}
	return newest
}

// Rotation is a key's rotation policy.
type Rotation struct {
	Rotates bool
	After   string // the interval since creation, ISO 8601, or ""
	Before  string // the interval before expiry, or ""
}

// addKeyMaterial adds a key or a rotation policy as a vault or az shows it.
func (inv *Inventory) addKeyMaterial(body map[string]any, ev Evidence) bool {
	d := document{body: body}
	if actions, ok := Field(body, "lifetimeActions").([]any); ok {
		id := scalarOf(Field(body, "id"))
		k := ParseKeyRef(strings.TrimSuffix(id, "/rotationpolicy"))
		if k.IsZero() {
			return false
		}
		inv.addRotation(k.versionless(), rotationOf(actions))
		return true
	}
	kid := d.str("key.kid")
	if kid == "" {
		return false
	}
	ref := ParseKeyRef(kid)
	if ref.IsZero() {
		return false
	}
	v := &KeyVersion{Version: ref.Version, Kind: d.str("key.kty"), Bits: bits(d.str("key.n"))}
	attr := attributes(d, "attributes")
	attr.fill(v)
	for _, name := range []string{"key.key_ops", "key.keyOps"} {
		v.ops(d.all(parsePath(name)))
	}
	k := inv.key(ref, ev)
	k.Versions[v.Version] = v
	if Field(body, "recoveryId") != nil || Field(body, "deletedDate") != nil {
		k.Deleted, k.Purge = true, moment(Field(body, "scheduledPurgeDate"))
	}
	return true
}

func (inv *Inventory) key(ref KeyRef, ev Evidence) *Key {
	ref = ref.versionless()
	k := inv.keyBy[ref]
	if k == nil {
		k = &Key{Ref: ref, Versions: map[string]*KeyVersion{}, Evidence: ev, Rotation: inv.rotation[ref]}
		inv.keyBy[ref] = k
		inv.Keys = append(inv.Keys, k)
	}
	return k
}

func (inv *Inventory) addRotation(ref KeyRef, r *Rotation) {
	inv.rotation[ref] = r
	if k := inv.keyBy[ref]; k != nil {
		k.Rotation = r
	}
}

func rotationOf(actions []any) *Rotation {
	r := &Rotation{}
	for _, a := range actions {
		m, _ := a.(map[string]any)
		d := document{body: m}
		kind := d.str("action.type")
		if kind == "" {
			kind = d.str("action")
		}
		if strings.EqualFold(kind, "Rotate") {
			r.Rotates = true
			for _, p := range []string{"trigger.timeAfterCreate", "timeAfterCreate"} {
				if s := d.str(p); s != "" {
					r.After = s
				}
			}
			for _, p := range []string{"trigger.timeBeforeExpiry", "timeBeforeExpiry"} {
				if s := d.str(p); s != "" {
					r.Before = s
				}
			}
		}
	}
	return r
}

// attributeSet holds a key's attributes under the names of all three dialects.
type attributeSet map[string]any

func attributes(d document, at string) attributeSet {
	for _, v := range d.all(parsePath(at)) {
		if m, ok := v.(map[string]any); ok {
			return m
		}
	}
	return nil
}

func (a attributeSet) time(names ...string) time.Time {
	for _, n := range names {
		if t := moment(Field(a, n)); !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

func (a attributeSet) fill(v *KeyVersion) {
	var told bool
	if v.Enabled, told = Field(a, "enabled").(bool); !told {
		v.unread = append(v.unread, "enabled")
	}
	if a == nil || Field(a, "exp") == UnknownValue {
		v.unread = append(v.unread, "exp")
	}
	v.NotBefore = a.time("nbf", "notBefore")
	v.Expires = a.time("exp", "expires")
	v.Created, v.Updated = a.time("created"), a.time("updated")
}

func (v *KeyVersion) ops(values []any) {
	for _, o := range values {
		v.Ops = append(v.Ops, strings.ToLower(scalar(o)))
	}
}

// moment reads Unix seconds or RFC 3339.
func moment(v any) time.Time {
	switch v := v.(type) {
	case float64:
		return time.Unix(int64(v), 0).UTC()
	case string:
		if t, err := time.Parse(time.RFC3339, v); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// bits returns the length of a modulus in base64url, 0 if it is none.
func bits(n string) int {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(n, "="))
	if err != nil || len(raw) == 0 {
		return 0
	}
	for len(raw) > 0 && raw[0] == 0 {
		raw = raw[1:]
	}
	return len(raw) * 8
}
