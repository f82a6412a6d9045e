package posture

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Vault is a key vault or a managed HSM, as Resource Manager shows it.
type Vault struct {
	ID, Name, Host, Location, Tenant string
	HSM                              bool // a managed HSM
	Deleted                          bool // soft-deleted
	SoftDelete                       bool
	Retention                        int // days, 0 where it is not told
	Purge                            bool
	RBAC                             bool
	Firewall                         bool // it denies by default, or has no public address
	Bypass                           string
	Policies                         []accessPolicy
	Evidence                         Evidence

	users []*Resource // that use a key in it, set by Link
}

type accessPolicy struct {
	principal string
	keys      []string // in lower case
}

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
	Kind                        string    // "RSA", "RSA-HSM", …
	Bits                        int       // 0 where it is not told
	Ops                         []string  // in lower case
}

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

// A grant is a role assignment.
type grant struct {
	principal, kind, role, scope string // role: the definition's GUID in lower case; scope in lower case
}

// A logSetting is a diagnostic setting.
type logSetting struct {
	audit bool
	days  int // of retention; 0: without end, or set where the log goes
}

// addKeyMaterial adds a key or a rotation policy as a vault or az shows it.
func (inv *Inventory) addKeyMaterial(body map[string]any, ev Evidence) bool {
	d := document{body: body}
	if actions, ok := field(body, "lifetimeActions").([]any); ok {
		id := scalarOf(field(body, "id"))
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
	if field(body, "recoveryId") != nil || field(body, "deletedDate") != nil {
		k.Deleted, k.Purge = true, moment(field(body, "scheduledPurgeDate"))
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
		if t := moment(field(a, n)); !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

func (a attributeSet) fill(v *KeyVersion) {
	v.Enabled, _ = field(a, "enabled").(bool)
	v.NotBefore = a.time("nbf", "notBefore")
	v.Expires = a.time("exp", "expires")
	v.Created = a.time("created")
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

// addChain adds what lies behind a key: its vault, grants, logs, and the accounts
// that workspaces are linked with. typ is in lower case.
func (inv *Inventory) addChain(typ, id string, d document, ev Evidence) bool {
	switch typ {
	case "microsoft.keyvault/vaults", "microsoft.keyvault/managedhsms", "microsoft.keyvault/locations/deletedvaults",
		"microsoft.keyvault/locations/deletedmanagedhsms":
		inv.addVault(typ, id, d, ev)
	case "microsoft.keyvault/vaults/keys", "microsoft.keyvault/managedhsms/keys", "microsoft.keyvault/vaults/keys/versions", "microsoft.keyvault/managedhsms/keys/versions":
		inv.addManagedKey(id, d, ev)
	case "microsoft.authorization/roleassignments":
		role := d.str("properties.roleDefinitionId")
		scope := d.str("properties.scope")
		if scope == "" {
			scope = id[:max(0, strings.LastIndex(strings.ToLower(id), "/providers/microsoft.authorization/"))]
		}
		inv.grants = append(inv.grants, grant{
			principal: strings.ToLower(d.str("properties.principalId")), kind: d.str("properties.principalType"),
			role: strings.ToLower(role[strings.LastIndexByte(role, '/')+1:]), scope: strings.ToLower(strings.TrimSuffix(scope, "/")),
		})
	case "microsoft.insights/diagnosticsettings":
		low := strings.ToLower(id)
		at := low[:max(0, strings.LastIndex(low, "/providers/microsoft.insights/"))]
		inv.logs[at] = append(inv.logs[at], logOf(d))
	case "microsoft.operationalinsights/workspaces/linkedstorageaccounts":
		if strings.EqualFold(d.str("name"), "alerts") || strings.EqualFold(d.str("properties.dataSourceType"), "Alerts") {
			at := strings.ToLower(parentID(id))
			for _, a := range d.all(parsePath("properties.storageAccountIds")) {
				inv.linked[at] = append(inv.linked[at], strings.ToLower(scalar(a)))
			}
		}
	default:
		return false
	}
	return true
}

func logOf(d document) logSetting {
	var l logSetting
	for _, v := range d.all(parsePath("properties.logs")) {
		m, _ := v.(map[string]any)
		one := document{body: m}
		if !strings.EqualFold(one.str("enabled"), "true") {
			continue
		}
		category, group := strings.ToLower(one.str("category")), strings.ToLower(one.str("categoryGroup"))
		if category == "auditevent" || group == "audit" || group == "alllogs" {
			l.audit = true
			l.days, _ = strconv.Atoi(one.str("retentionPolicy.days"))
		}
	}
	return l
}

func (inv *Inventory) addVault(typ, id string, d document, ev Evidence) {
	// az keeps "properties" of a vault where it flattens all else.
	v := &Vault{
		ID: id, Name: d.str("name"), Location: d.str("location"), Tenant: d.str("properties.tenantId"), Evidence: ev,
		HSM: strings.Contains(typ, "hsms"), Deleted: strings.Contains(typ, "/deleted"),
		SoftDelete: !strings.EqualFold(d.str("properties.enableSoftDelete"), "false"),
		Purge:      strings.EqualFold(d.str("properties.enablePurgeProtection"), "true"),
		RBAC:       strings.EqualFold(d.str("properties.enableRbacAuthorization"), "true"),
		Firewall: strings.EqualFold(d.str("properties.networkAcls.defaultAction"), "Deny") ||
			strings.EqualFold(d.str("properties.publicNetworkAccess"), "Disabled"),
		Bypass: d.str("properties.networkAcls.bypass"),
	}
	v.Retention, _ = strconv.Atoi(d.str("properties.softDeleteRetentionInDays"))
	uri := d.str("properties.vaultUri") + d.str("properties.hsmUri")
	v.Host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(uri, "https://"), "/"))
	if v.HSM {
		v.RBAC, v.SoftDelete = true, true // a managed HSM has no other way
	}
	for _, p := range d.all(parsePath("properties.accessPolicies")) {
		m, _ := p.(map[string]any)
		one := document{body: m}
		a := accessPolicy{principal: strings.ToLower(one.str("objectId"))}
		for _, k := range one.all(parsePath("permissions.keys")) {
			a.keys = append(a.keys, strings.ToLower(scalar(k)))
		}
		v.Policies = append(v.Policies, a)
	}
	low := strings.ToLower(id)
	if v.Deleted {
		if of := strings.ToLower(d.str("properties.vaultId") + d.str("properties.mhsmId")); of != "" {
			low = of
		}
	}
	if old := inv.vaultBy[low]; old != nil {
		inv.Vaults[slices.Index(inv.Vaults, old)] = v
	} else {
		inv.Vaults = append(inv.Vaults, v)
	}
	inv.vaultBy[low] = v
	if v.Host != "" {
		inv.vaultBy[v.Host] = v
	}
}

// addManagedKey adds a key as Resource Manager shows it.
func (inv *Inventory) addManagedKey(id string, d document, ev Evidence) {
	ref := ParseKeyRef(d.str("properties.keyUriWithVersion"))
	if ref.IsZero() {
		ref = ParseKeyRef(d.str("properties.keyUri"))
	}
	if ref.IsZero() {
		return
	}
	v := &KeyVersion{Version: ref.Version, Kind: d.str("properties.kty")}
	v.Bits, _ = strconv.Atoi(d.str("properties.keySize"))
	attributes(d, "properties.attributes").fill(v)
	v.ops(d.all(parsePath("properties.keyOps")))
	inv.key(ref, ev).Versions[v.Version] = v
	if actions := d.all(parsePath("properties.rotationPolicy.lifetimeActions")); len(actions) > 0 {
		inv.addRotation(ref.versionless(), rotationOf(actions))
	}
}

// linkKeys joins resources to their keys and vaults.
func (inv *Inventory) linkKeys() {
	inv.uses = map[KeyRef][]*Resource{}
	for _, k := range inv.Keys {
		k.vault = inv.vaultOf(k.Ref)
	}
	for _, r := range inv.Resources {
		for i, ref := range r.CMK.Keys {
			v := inv.vaultOf(ref)
			if v != nil && v.Host != "" {
				ref.Vault = v.Host // it may have been named by id
				r.CMK.Keys[i] = ref
			}
			if v != nil && (len(v.users) == 0 || v.users[len(v.users)-1] != r) {
				v.users = append(v.users, r)
			}
			low := ref.versionless()
			if users := inv.uses[low]; len(users) == 0 || users[len(users)-1] != r {
				inv.uses[low] = append(users, r)
			}
		}
	}
}

func (inv *Inventory) vaultOf(ref KeyRef) *Vault { return inv.vaultBy[ref.Vault] }
