package posture

import (
	"slices"
	"strconv"
	"strings"
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

	unread []string    // which of vaultSoftDelete and its like were not read, or are known after apply
	users  []*Resource // that use a key in it, set by Link
}

type accessPolicy struct {
	principal     string
	keys, secrets []string // in lower case
}

// Settings of a vault that may not be known.
const (
	vaultSoftDelete = "properties.enableSoftDelete"
	vaultPurge      = "properties.enablePurgeProtection"
	vaultRBAC       = "properties.enableRbacAuthorization"
	vaultFirewall   = "properties.networkAcls.defaultAction"
)

// knows reports whether a setting of v is known.
func (v *Vault) knows(setting string) bool { return !slices.Contains(v.unread, setting) }

// Known reports whether soft delete, purge protection, the way of granting and the
// firewall are known, in this order.
func (v *Vault) Known() (softDelete, purge, roles, firewall bool) {
	return v.knows(vaultSoftDelete), v.knows(vaultPurge), v.knows(vaultRBAC), v.knows(vaultFirewall)
}

// A grant is a role assignment.
type grant struct {
	principal, kind, role, scope string // role: the definition's GUID in lower case; scope in lower case
	via                          string // the group through which the principal has it; "" for its own
}

// A logSetting is a diagnostic setting.
type logSetting struct {
	audit bool
	days  int  // of retention; 0: without end, or set where the log goes
	later bool // whether it is on is known after apply

	workspace string // where it goes, in lower case, if to one
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
	l := logSetting{workspace: strings.ToLower(d.str("properties.workspaceId"))}
	for _, v := range d.all(parsePath("properties.logs")) {
		m, _ := v.(map[string]any)
		one := document{body: m}
		if v == UnknownValue || m != nil && Field(m, "enabled") == UnknownValue {
			l.later = true
			continue
		}
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
	for _, setting := range []string{vaultSoftDelete, vaultPurge, vaultRBAC, vaultFirewall} {
		// A list of all resources has no properties; a plan may leave one to apply.
		if _, known := d.text([]path{parsePath(setting)}); d.flat || !known {
			v.unread = append(v.unread, setting)
		}
	}
	if v.Firewall {
		v.unread = slices.DeleteFunc(v.unread, func(s string) bool { return s == vaultFirewall })
	}
	if v.Host == "" && !v.HSM && d.flat { // a list that tells names alone
		v.Host = strings.ToLower(id[strings.LastIndexByte(id, '/')+1:]) + ".vault.azure.net"
	}
	if v.HSM {
		v.RBAC, v.SoftDelete = true, true // a managed HSM has no other way
		v.unread = slices.DeleteFunc(v.unread, func(s string) bool { return s == vaultRBAC || s == vaultSoftDelete })
	}
	for _, p := range d.all(parsePath("properties.accessPolicies")) {
		m, _ := p.(map[string]any)
		one := document{body: m}
		a := accessPolicy{principal: strings.ToLower(one.str("objectId"))}
		for _, k := range one.all(parsePath("permissions.keys")) {
			a.keys = append(a.keys, strings.ToLower(scalar(k)))
		}
		for _, k := range one.all(parsePath("permissions.secrets")) {
			a.secrets = append(a.secrets, strings.ToLower(scalar(k)))
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
		if r.app != nil {
			inv.linkSecrets(r)
		}
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

// linkSecrets makes an app a user of the vaults that its secrets lie in.
func (inv *Inventory) linkSecrets(r *Resource) {
	for _, s := range r.app.secrets {
		if v := inv.vaultBy[s.Vault]; v != nil && (len(v.users) == 0 || v.users[len(v.users)-1] != r) {
			v.users = append(v.users, r)
		}
	}
}

func (inv *Inventory) vaultOf(ref KeyRef) *Vault { return inv.vaultBy[ref.Vault] }
