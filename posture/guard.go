package posture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// guards judges the chain behind the resources: keys, vaults, grants, logs.
func (j *judge) guards() {
	for _, v := range j.inv.Vaults {
		j.vault(v)
		j.grantsOf(v)
	}
	for _, k := range j.inv.Keys {
		j.key(k)
	}
	for _, r := range j.inv.Resources {
		// What a resource has through another is judged there.
		if r.app != nil {
			j.app(r)
		}
		if r.CMK.State == On || r.CMK.State == Partial {
			j.use(r)
		}
	}
	for _, ref := range sortedKeys(j.inv.uses) {
		j.usedKey(ref, j.inv.uses[ref])
	}
}

func sortedKeys(m map[KeyRef][]*Resource) []KeyRef {
	out := make([]KeyRef, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b KeyRef) int { return cmp.Compare(a.URL(), b.URL()) })
	return out
}

// about adds a finding about a vault or key on which that many resources depend.
// Where nothing does it is low.
func (j *judge) about(control, id, typ string, users int, f Finding) {
	c, _ := ControlByID(control)
	f.Severity = cmp.Or(f.Severity, c.Severity)
	f.Dependants = users
	if users == 0 {
		f.Severity = f.Severity.atMost(Low)
	}
	if f.State == "unknown" {
		f.Severity = f.Severity.atMost(Medium)
	}
	j.say(control, id, typ, f)
}

// Kind returns its type.
func (v *Vault) Kind() string {
	if v.HSM {
		return "Microsoft.KeyVault/managedHSMs"
	}
	return "Microsoft.KeyVault/vaults"
}

func (j *judge) vault(v *Vault) {
	say := func(control, detail string, f Finding) {
		f.Detail, f.Evidence, f.object = detail, v.Evidence, v
		f.Reversible = f.Remediable != "no" && control != "G2" && control != "G1"
		j.about(control, v.ID, v.Kind(), len(v.users), f)
	}
	if v.Deleted {
		if len(v.users) > 0 {
			say("G19", fmt.Sprintf("the vault is deleted, and %d resources use its keys", len(v.users)), Finding{})
		}
		return
	}
	unread := Finding{State: "unknown"}
	switch {
	case !v.knows(vaultSoftDelete):
		say("G1", "whether soft delete is on was not read, or is known after apply", unread)
	case !v.SoftDelete:
		say("G1", "soft delete is off", Finding{})
	}
	switch {
	case !v.knows(vaultPurge):
		say("G2", "whether purge protection is on was not read, or is known after apply", unread)
	case !v.Purge:
		say("G2", "purge protection is off", Finding{})
	}
	switch {
	case !v.knows(vaultRBAC):
		say("G3", "whether roles decide was not read, or is known after apply", unread)
	case !v.RBAC:
		say("G3", "access policies decide", Finding{})
	}
	fabric := slices.ContainsFunc(v.users, func(r *Resource) bool { return r.Type == "Microsoft.Fabric/workspaces" })
	switch {
	case !v.knows(vaultFirewall):
		say("G4", "its firewall was not read, or is known after apply", unread)
	case v.Firewall && fabric:
		say("G4", "the firewall is on, and a Fabric workspace uses the vault: Fabric does not support that",
			Finding{Mend: "Move the workspace's key to a vault of its own without firewall.", Remediable: "recreate"})
	case v.Firewall && v.Bypass != "" && !strings.EqualFold(v.Bypass, "AzureServices") && len(v.users) > 0:
		say("G4", "the firewall does not let trusted services pass, and resources use the vault", Finding{})
	case !v.Firewall && !fabric:
		say("G4", "any network may call it", Finding{})
	}
	j.logs(v, say)
	j.watched(v, say)
}

func (j *judge) logs(v *Vault, say func(string, string, Finding)) {
	low := strings.ToLower(v.ID)
	settings, seen := j.inv.logs[low]
	audit := slices.IndexFunc(settings, func(l logSetting) bool { return l.audit })
	switch {
	case audit >= 0 && settings[audit].days > 0 && settings[audit].days < j.limits.LogRetentionDays:
		say("G15", fmt.Sprintf("the audit log is kept for %d days, the policy wants %d", settings[audit].days, j.limits.LogRetentionDays), Finding{})
	case audit >= 0:
	case slices.ContainsFunc(settings, func(l logSetting) bool { return l.later }):
		say("G15", "whether its audit log is kept is known after apply", Finding{State: "unknown"})
	case seen || j.inv.listed[low]["diagnosticsettings"]:
		say("G15", "no diagnostic setting keeps AuditEvent", Finding{})
	default:
		say("G15", "its diagnostic settings were not read", Finding{State: "unknown"})
	}
}

func (j *judge) key(k *Key) {
	users := j.inv.uses[k.Ref]
	say := func(control, detail string, f Finding) {
		f.Detail, f.Evidence, f.object = detail, k.Evidence, k
		j.about(control, k.Ref.URL(), "Microsoft.KeyVault/vaults/keys", len(users), f)
	}
	if k.Deleted {
		if len(users) > 0 {
			say("G19", fmt.Sprintf("the key is deleted, and %d resources use it%s", len(users), until(k.Purge)), Finding{Reversible: true})
		}
		return
	}
	v := k.Newest()
	if v == nil {
		return
	}
	j.expiry(k, v, say)
	switch {
	case k.Rotation == nil:
		say("G7", "its rotation policy was not read", Finding{State: "unknown", Reversible: true})
	case !k.Rotation.Rotates:
		say("G7", "its rotation policy rotates nothing", Finding{Reversible: true})
	}
	switch {
	case v.Created.IsZero() && k.Evidence.Source != "tfplan": // a planned key is made at apply
		say("G8", "when its newest version was made was not read", Finding{State: "unknown"})
	case !v.Created.IsZero() && v.Created.Before(j.now.AddDate(0, 0, -j.limits.KeyAgeDays)):
		say("G8", fmt.Sprintf("its newest version is of %s", v.Created.Format(time.DateOnly)), Finding{})
	}
	switch {
	case v.Kind == "":
		say("G9", "its type was not read, or is known after apply", Finding{State: "unknown"})
	case !strings.EqualFold(v.Kind, "RSA") && !strings.EqualFold(v.Kind, "RSA-HSM"):
		say("G9", "it is of type "+v.Kind, Finding{Remediable: "recreate"})
	case v.Bits == 0:
		say("G9", "its size was not read, or is known after apply", Finding{State: "unknown"})
	case v.Bits < j.limits.RSABits:
		say("G9", fmt.Sprintf("it has %d bits", v.Bits), Finding{Remediable: "recreate"})
	}
	switch why := v.unusable(j.now); {
	case why != "":
		say("G11", why, Finding{Reversible: true})
	case !v.knows("enabled"):
		say("G11", "whether it is enabled was not read", Finding{State: "unknown", Reversible: true})
	case v.Ops == nil:
		say("G11", "its permitted operations were not read", Finding{State: "unknown", Reversible: true})
	}
	j.oldVersions(k, v, len(users), say)
}

// expiry judges a key's end.
func (j *judge) expiry(k *Key, v *KeyVersion, say func(string, string, Finding)) {
	near := v.Expires.Before(j.now.AddDate(0, 0, j.limits.ExpiryDays))
	switch {
	case !v.knows("exp"):
		say("G5", "when it expires was not read, or is known after apply", Finding{State: "unknown", Reversible: true})
	case v.Expires.IsZero():
		say("G5", "it never expires", Finding{Reversible: true})
	case !v.Expires.After(j.now):
		say("EXPIRED", "it expired on "+v.Expires.Format(time.DateOnly)+": what lies under it can still be unwrapped, and nothing new can be wrapped", Finding{Reversible: true})
	case near && k.Rotation == nil:
		say("G6", "it expires on "+v.Expires.Format(time.DateOnly)+", and its rotation policy was not read", Finding{State: "unknown", Reversible: true})
	case near && !k.Rotation.Rotates:
		say("G6", "it expires on "+v.Expires.Format(time.DateOnly), Finding{Reversible: true})
	}
}

// settling is how long services may take to follow a new version of a key: they poll
// daily (https://learn.microsoft.com/azure/storage/common/customer-managed-keys-overview).
const settling = 24 * time.Hour

// oldVersions judges whether an older version was disabled before everybody who uses
// the key can have followed the newest.
func (j *judge) oldVersions(k *Key, newest *KeyVersion, users int, say func(string, string, Finding)) {
	if users == 0 || newest.Created.IsZero() {
		return
	}
	for _, v := range k.Versions {
		if v == newest || v.Enabled || !v.knows("enabled") || v.Updated.IsZero() || v.Updated.After(newest.Created.Add(settling)) || j.now.After(newest.Created.Add(settling)) {
			continue
		}
		say("G12", "version "+v.Version+" was disabled within a day of the newest, which services may not follow yet", Finding{Reversible: true})
	}
}

func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return "; it is purged on " + t.Format(time.DateOnly)
}

// unusable says why a version cannot be used now, "" if it can.
func (v *KeyVersion) unusable(now time.Time) string {
	switch {
	case !v.Enabled && v.knows("enabled"):
		return "it is disabled"
	case v.NotBefore.After(now):
		return "it is not valid before " + v.NotBefore.Format(time.RFC3339)
	case v.Ops != nil && (!slices.Contains(v.Ops, "wrapkey") || !slices.Contains(v.Ops, "unwrapkey")):
		return "its permitted operations are " + strings.Join(v.Ops, ", ")
	}
	return ""
}

// use judges how a resource uses its key.
func (j *judge) use(r *Resource) {
	say := func(control, detail string, f Finding) {
		f.Detail, f.Evidence, f.object = detail, r.Evidence, r
		j.say(control, r.ID, r.Type, f)
	}
	if len(r.CMK.Via) > 0 && r.rule.Family != ChildSetting {
		return
	}
	for _, ref := range r.CMK.Keys {
		j.version(r, ref, say)
		v := j.inv.vaultOf(ref)
		if v == nil || v.Deleted {
			continue
		}
		j.near(r, v, say)
		j.rights(r, v, ref, say)
	}
	if why, known := r.identityLack(); why != "" {
		f := Finding{Reversible: true}
		if !known {
			f.State, f.Severity = "unknown", Medium
		}
		say("G13", why, f)
	}
	if g := r.geo; (g.redundant || g.later) && len(r.CMK.Keys) > 0 {
		switch {
		case g.later:
			say("G20", "its backup's key is known after apply", Finding{State: "unknown", Severity: Medium, Remediable: "recreate"})
		case g.key.IsZero():
			say("G20", "its backup is geo-redundant and has no key of its own", Finding{Remediable: "recreate"})
		case g.key.Vault == r.CMK.Keys[0].Vault:
			say("G20", "the backup's key lies in the same vault as the server's", Finding{Remediable: "recreate"})
		}
	}
}

// version judges the version of a key that r uses.
func (j *judge) version(r *Resource, ref KeyRef, say func(string, string, Finding)) {
	if ref.Version != "" && !r.CMK.Versionless && r.rule.Rotation != "never" {
		say("G10", "it is pinned to version "+ref.Version, Finding{Reversible: true})
	}
	k := j.inv.keyBy[ref.versionless()]
	version := cmp.Or(r.CMK.InUse, ref.Version)
	if k == nil || version == "" {
		return
	}
	switch v := k.Versions[version]; {
	case v == nil:
		say("G12", "it uses version "+version+", which was not read", Finding{State: "unknown", Severity: Medium, Reversible: true})
	case !v.knows("enabled"):
	case !v.Enabled:
		say("G12", "it uses version "+version+", which is disabled", Finding{Reversible: true})
	}
}

// near judges whether a resource and its key's vault lie in one region and one tenant.
func (j *judge) near(r *Resource, v *Vault, say func(string, string, Finding)) {
	switch {
	case r.Type == "Microsoft.Fabric/workspaces": // its region is its capacity's, which no list tells
	case v.Location == "" || r.Location == "":
		say("G18", "where it lies, or its key's vault, was not read", Finding{State: "unknown", Reversible: true})
	case region(v.Location) != region(r.Location) && region(r.Location) != "global":
		say("G18", fmt.Sprintf("it lies in %s and its key in %s", r.Location, v.Location), Finding{Reversible: true})
	case v.Tenant != "" && r.Identity.Tenant != "" && !strings.EqualFold(v.Tenant, r.Identity.Tenant) && !r.federated:
		say("G18", fmt.Sprintf("its identity is of tenant %s and the vault of %s, and it names no federated client", r.Identity.Tenant, v.Tenant), Finding{Reversible: true})
	}
}

func region(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

// identityLack says what is wrong with the identity that reads r's key, and whether
// that is known.
func (r *Resource) identityLack() (why string, known bool) {
	if r.rule.identity == nil || r.rule.Family == ChildSetting || r.Type == "Microsoft.DocumentDB/databaseAccounts" {
		return "", true // a first-party principal may read it
	}
	typ := strings.ToLower(r.Identity.Type)
	_, assigned := r.Identity.UserAssigned[strings.ToLower(r.CMK.Identity)]
	switch {
	case r.Evidence.Source == "tfplan":
		if typ == "" {
			return "its plan shows no managed identity; it may have one that the plan does not tell", false
		}
	case typ == "" || typ == "none":
		return "it has no managed identity", true
	case strings.HasPrefix(r.CMK.Identity, "/") && !assigned:
		return "it reads its key as " + r.CMK.Identity + ", which is not assigned to it", true
	case strings.Contains(typ, "systemassigned") && r.Identity.PrincipalID == "" && r.CMK.Identity == "":
		return "its identity has no principal", true
	}
	return "", true
}

// usedKey judges what depends on one key.
func (j *judge) usedKey(ref KeyRef, users []*Resource) {
	say := func(control, detail string, f Finding) {
		f.Detail, f.Evidence, f.object = detail, users[0].Evidence, j.inv.keyBy[ref]
		if f.object == (*Key)(nil) {
			f.object = &Key{Ref: ref}
		}
		j.about(control, ref.URL(), "Microsoft.KeyVault/vaults/keys", len(users), f)
	}
	vault, key := j.inv.vaultOf(ref), j.inv.keyBy[ref]
	switch {
	case key == nil && vault == nil:
		say("CHAIN", "neither the key nor its vault was read", Finding{State: "unknown"})
	case key == nil:
		say("CHAIN", "the key was not read", Finding{State: "unknown"})
	case vault == nil:
		say("CHAIN", "the key's vault was not read", Finding{State: "unknown"})
	}
	if len(users) > j.limits.BlastRadius {
		say("RADIUS", fmt.Sprintf("%d resources lie under it, the policy allows %d", len(users), j.limits.BlastRadius), Finding{Reversible: true})
	}
	if j.policy == nil {
		return
	}
	switch duty := j.policy.duty(ref); {
	case duty == nil:
		say("OWNER", "the policy names no owner", Finding{Reversible: true})
	case duty.Procedure == "":
		say("OWNER", duty.Owner+" owns it; no emergency procedure is named", Finding{Reversible: true})
	case duty.Tested.Before(j.now.AddDate(0, 0, -j.limits.DrillDays)):
		say("OWNER", "its emergency procedure was not tried within "+fmt.Sprint(j.limits.DrillDays)+" days", Finding{Reversible: true})
	}
}
