package posture

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Register is what a scan has seen behind the resources: the keys with their
// lives, the vaults, and who has which role. It is what an auditor asks for beside
// the findings (DORA's RTS 2024/1774 Article 7 calls it the register of keys), and
// what the rotation of keys is reckoned from.
type Register struct {
	Keys   []KeyRecord   `json:"keys"`
	Vaults []VaultRecord `json:"vaults"`
	Grants []GrantRecord `json:"grants"`
}

// A KeyRecord is one key: read in its vault, or named by a resource and not read.
type KeyRecord struct {
	Key        string          `json:"key"` // its identifier, without version
	Read       bool            `json:"read"`
	Deleted    bool            `json:"deleted,omitempty"`
	Purge      *time.Time      `json:"scheduledPurge,omitempty"`
	Versions   []VersionRecord `json:"versions,omitempty"` // oldest first
	Rotation   string          `json:"rotation"`           // "policy", "none", or "unknown" where it was not read
	Due        *time.Time      `json:"due,omitempty"`      // when the policy makes the newest version's successor
	Dependants int             `json:"dependants"`         // resources that use it
	Owner      string          `json:"owner,omitempty"`    // as the policy names him
	Procedure  string          `json:"procedure,omitempty"`
	Tested     string          `json:"tested,omitempty"` // the day, 2026-12-31
	Evidence   *Evidence       `json:"evidence,omitempty"`

	// Certain says that Dependants is all there are: the scan has read everything, and
	// no resource's key is unknown.
	Certain bool `json:"dependantsCertain"`
}

// Words for a key's rotation.
const (
	RotatesByPolicy = "policy"
	RotatesNot      = "none"
	RotationUnread  = "unknown"
)

// A VersionRecord is one version of a key.
type VersionRecord struct {
	Version string     `json:"version"`
	Enabled *bool      `json:"enabled"` // null where it was not read
	Created *time.Time `json:"created,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
	Kind    string     `json:"kty,omitempty"`
	Bits    int        `json:"bits,omitempty"`
	Due     *time.Time `json:"due,omitempty"` // when the policy asks for its successor
}

// A VaultRecord is one vault.
type VaultRecord struct {
	ID              string   `json:"id"`
	Host            string   `json:"host,omitempty"`
	HSM             bool     `json:"managedHsm,omitempty"`
	Deleted         bool     `json:"deleted,omitempty"`
	SoftDelete      *bool    `json:"softDelete"` // null, as those below, where it was not read
	RetentionDays   int      `json:"retentionDays,omitempty"`
	PurgeProtection *bool    `json:"purgeProtection"`
	RBAC            *bool    `json:"roleBased"`
	Firewall        *bool    `json:"firewall"`
	Policies        []string `json:"accessPolicies,omitempty"` // principal: rights on keys
	Dependants      int      `json:"dependants"`
}

// A GrantRecord is one role assignment.
type GrantRecord struct {
	Principal string `json:"principal"`
	Kind      string `json:"principalType,omitempty"`
	Role      string `json:"role"` // the definition's GUID
	Scope     string `json:"scope"`
}

// register returns what the judge has seen behind the resources.
func (j *judge) register() *Register {
	g := &Register{Keys: []KeyRecord{}, Vaults: []VaultRecord{}, Grants: []GrantRecord{}}
	certain := len(j.inv.Gaps) == 0 && !slices.ContainsFunc(j.inv.Resources, func(r *Resource) bool { return r.CMK.State == Unknown })
	for _, k := range j.inv.Keys {
		g.Keys = append(g.Keys, j.keyRecord(k, certain))
	}
	for ref := range j.inv.uses {
		if j.inv.keyBy[ref] == nil {
			r := j.keyRecord(&Key{Ref: ref}, certain)
			r.Read = false
			g.Keys = append(g.Keys, r)
		}
	}
	slices.SortFunc(g.Keys, func(a, b KeyRecord) int { return cmp.Compare(a.Key, b.Key) })
	for _, v := range j.inv.Vaults {
		r := VaultRecord{ID: v.ID, Host: v.Host, HSM: v.HSM, Deleted: v.Deleted, RetentionDays: v.Retention, Dependants: len(v.users),
			SoftDelete: told(v.SoftDelete, v.knows(vaultSoftDelete)), PurgeProtection: told(v.Purge, v.knows(vaultPurge)),
			RBAC: told(v.RBAC, v.knows(vaultRBAC)), Firewall: told(v.Firewall, v.knows(vaultFirewall))}
		for _, p := range v.Policies {
			r.Policies = append(r.Policies, p.principal+": "+strings.Join(p.keys, ", "))
		}
		g.Vaults = append(g.Vaults, r)
	}
	slices.SortStableFunc(g.Vaults, func(a, b VaultRecord) int { return cmp.Compare(a.ID, b.ID) })
	for _, r := range j.inv.grants {
		g.Grants = append(g.Grants, GrantRecord{Principal: r.principal, Kind: r.kind, Role: r.role, Scope: r.scope})
	}
	slices.SortStableFunc(g.Grants, func(a, b GrantRecord) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Role, b.Role))
	})
	return g
}

func (j *judge) keyRecord(k *Key, certain bool) KeyRecord {
	r := KeyRecord{
		Key: k.Ref.URL(), Read: true, Deleted: k.Deleted, Purge: present(k.Purge), Rotation: RotationUnread,
		Dependants: len(j.inv.uses[k.Ref]), Certain: certain,
	}
	if k.Evidence != (Evidence{}) {
		r.Evidence = &k.Evidence
	}
	if duty := j.policy.duty(k.Ref); duty != nil {
		r.Owner, r.Procedure = duty.Owner, duty.Procedure
		if !duty.Tested.IsZero() {
			r.Tested = duty.Tested.Format(time.DateOnly)
		}
	}
	if k.Rotation != nil {
		r.Rotation = RotatesNot
		if k.Rotation.Rotates {
			r.Rotation = RotatesByPolicy
		}
	}
	for _, v := range k.Versions {
		r.Versions = append(r.Versions, VersionRecord{
			Version: v.Version, Enabled: told(v.Enabled, v.knows("enabled")), Created: present(v.Created), Expires: present(v.Expires), Kind: v.Kind, Bits: v.Bits,
			Due: present(k.Rotation.due(v)),
		})
	}
	slices.SortFunc(r.Versions, func(a, b VersionRecord) int {
		return cmp.Or(value(a.Created).Compare(value(b.Created)), cmp.Compare(a.Version, b.Version))
	})
	if n := len(r.Versions); n > 0 {
		r.Due = r.Versions[n-1].Due
	}
	return r
}

// told returns what is known, nil for what is not.
func told(v, known bool) *bool {
	if !known {
		return nil
	}
	return &v
}

func present(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func value(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// due returns when the policy makes a version's successor, zero if it makes none or
// does not tell.
func (r *Rotation) due(v *KeyVersion) time.Time {
	if r == nil || !r.Rotates {
		return time.Time{}
	}
	if y, m, d, ok := calendarSpan(r.After); ok && !v.Created.IsZero() {
		return v.Created.AddDate(y, m, d)
	}
	if y, m, d, ok := calendarSpan(r.Before); ok && !v.Expires.IsZero() {
		return v.Expires.AddDate(-y, -m, -d)
	}
	return time.Time{}
}

var spanPattern = regexp.MustCompile(`^P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?$`)

// calendarSpan reads an ISO 8601 duration of years, months, weeks and days, the only
// ones that rotation policies have.
func calendarSpan(s string) (years, months, days int, ok bool) {
	m := spanPattern.FindStringSubmatch(strings.ToUpper(s))
	if m == nil || s == "" {
		return 0, 0, 0, false
	}
	n := func(i int) int { v, _ := strconv.Atoi(m[i]); return v }
	years, months, days = n(1), n(2), 7*n(3)+n(4)
	return years, months, days, years+months+days > 0
}
