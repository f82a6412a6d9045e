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
	if !v.SoftDelete {
		say("G1", "soft delete is off", Finding{})
	}
	if !v.Purge {
		say("G2", "purge protection is off", Finding{})
	}
	if !v.RBAC {
		say("G3", "access policies decide", Finding{})
	}
	fabric := slices.ContainsFunc(v.users, func(r *Resource) bool { return r.Type == "Microsoft.Fabric/workspaces" })
	switch {
	case v.Firewall && fabric:
		say("G4", "the firewall is on, and a Fabric workspace uses the vault: Fabric does not support that",
			Finding{Mend: "Move the workspace's key to a vault of its own without firewall."})
	case v.Firewall && v.Bypass != "" && !strings.EqualFold(v.Bypass, "AzureServices") && len(v.users) > 0:
		say("G4", "the firewall does not let trusted services pass, and resources use the vault", Finding{})
	case !v.Firewall && !fabric:
		say("G4", "any network may call it", Finding{})
	}
	j.logs(v, say)
}

func (j *judge) logs(v *Vault, say func(string, string, Finding)) {
	low := strings.ToLower(v.ID)
	settings, seen := j.inv.logs[low]
	audit := slices.IndexFunc(settings, func(l logSetting) bool { return l.audit })
	switch {
	case audit >= 0 && settings[audit].days > 0 && settings[audit].days < j.limits.LogRetentionDays:
		say("G15", fmt.Sprintf("the audit log is kept for %d days, the policy wants %d", settings[audit].days, j.limits.LogRetentionDays), Finding{})
	case audit >= 0:
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
	rotates := k.Rotation != nil && k.Rotation.Rotates
	switch {
	case v.Expires.IsZero():
		say("G5", "it never expires", Finding{Reversible: true})
	case !rotates && v.Expires.After(j.now) && v.Expires.Before(j.now.AddDate(0, 0, j.limits.ExpiryDays)):
		say("G6", "it expires on "+v.Expires.Format(time.DateOnly), Finding{Reversible: true})
	}
	switch {
	case k.Rotation == nil:
		say("G7", "its rotation policy was not read", Finding{State: "unknown", Reversible: true})
	case !rotates:
		say("G7", "its rotation policy rotates nothing", Finding{Reversible: true})
	}
	if !v.Created.IsZero() && v.Created.Before(j.now.AddDate(0, 0, -j.limits.KeyAgeDays)) {
		say("G8", fmt.Sprintf("its newest version is of %s", v.Created.Format(time.DateOnly)), Finding{})
	}
	switch {
	case v.Kind != "" && !strings.EqualFold(v.Kind, "RSA") && !strings.EqualFold(v.Kind, "RSA-HSM"):
		say("G9", "it is of type "+v.Kind, Finding{Remediable: "recreate"})
	case v.Bits > 0 && v.Bits < j.limits.RSABits:
		say("G9", fmt.Sprintf("it has %d bits", v.Bits), Finding{Remediable: "recreate"})
	}
	if why := v.unusable(j.now); why != "" {
		say("G11", why, Finding{Reversible: true})
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
	case !v.Enabled:
		return "it is disabled"
	case v.NotBefore.After(now):
		return "it is not valid before " + v.NotBefore.Format(time.RFC3339)
	case !v.Expires.IsZero() && !v.Expires.After(now):
		return "it expired on " + v.Expires.Format(time.DateOnly) + ": what lies under it can still be unwrapped, and nothing new can be wrapped"
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
		if v == nil {
			continue
		}
		if v.Location != "" && r.Location != "" && region(v.Location) != region(r.Location) && region(r.Location) != "global" {
			say("G18", fmt.Sprintf("it lies in %s and its key in %s", r.Location, v.Location), Finding{Remediable: "in-place", Reversible: true})
		}
		j.rights(r, v, ref, say)
	}
	if why := r.identityLack(); why != "" {
		say("G13", why, Finding{Reversible: true})
	}
	if g := r.geo; g.redundant && len(r.CMK.Keys) > 0 {
		switch {
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
	if v := k.Versions[version]; v != nil && !v.Enabled {
		say("G12", "it uses version "+version+", which is disabled", Finding{Reversible: true})
	}
}

func region(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

// identityLack says what is wrong with the identity that reads r's key.
func (r *Resource) identityLack() string {
	if r.rule.identity == nil || r.rule.Family == ChildSetting || r.Type == "Microsoft.DocumentDB/databaseAccounts" || r.Evidence.Source == "tfplan" {
		return "" // a first-party principal may read it, or the plan does not tell
	}
	typ := strings.ToLower(r.Identity.Type)
	_, assigned := r.Identity.UserAssigned[strings.ToLower(r.CMK.Identity)]
	switch {
	case typ == "" || typ == "none":
		return "it has no managed identity"
	case strings.HasPrefix(r.CMK.Identity, "/") && !assigned:
		return "it reads its key as " + r.CMK.Identity + ", which is not assigned to it"
	case strings.Contains(typ, "systemassigned") && r.Identity.PrincipalID == "" && r.CMK.Identity == "":
		return "its identity has no principal"
	}
	return ""
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
