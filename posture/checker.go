package posture

import (
	"slices"
	"strings"
	"time"
)

// A Checker judges by controls that are not built in: an organisation's own, or
// another engine's. It sees what [Judge] has found out, and says what does not hold
// or cannot be told.
type Checker interface {
	// Controls returns its controls. Their ids are its own.
	Controls() []Control
	// Check returns results in an order that depends on what it is given alone.
	Check(in *Judged) []Result
}

// Judged is what a [Checker] is given.
type Judged struct {
	Inventory *Inventory
	Resources []Judgement
	Policy    *Policy // nil: there is none
	Now       time.Time

	judge *judge
}

// A Grant is a role assignment.
type Grant struct {
	Principal, Kind string
	Role            string // its name if it is built in, otherwise its id
	Scope           string // a resource id, in lower case
}

// Grants returns the role assignments that hold at id: made there, or above.
func (in *Judged) Grants(id string) (out []Grant) {
	in.judge.covering(id, func(g grant) {
		out = append(out, Grant{g.principal, g.kind, roleName(g.role), g.scope})
	})
	return out
}

// GrantsRead reports whether any role assignment was read at all.
func (in *Judged) GrantsRead() bool { return len(in.judge.grants) > 0 }

// An AuditLog says whether a vault's audit log is kept, and for how many days, 0
// where the setting does not tell.
type AuditLog struct {
	Kept bool
	Days int
}

// AuditLog returns what is known of a vault's audit log, nil if nothing is.
func (in *Judged) AuditLog(v *Vault) *AuditLog {
	low := strings.ToLower(v.ID)
	settings, seen := in.Inventory.logs[low]
	if !seen && !in.Inventory.listed[low]["diagnosticsettings"] {
		return nil
	}
	for _, l := range settings {
		if l.audit {
			return &AuditLog{Kept: true, Days: l.days}
		}
	}
	return &AuditLog{}
}

// A Result is a control of a [Checker] that does not hold for something, or of
// which nobody can tell.
type Result struct {
	Control *Control
	ID      string // of what it is about
	Type    string
	Unknown bool
	Detail  string
	About   any // the *Resource, *Vault or *Key, if it is one
}

// check runs the checkers.
func (j *judge) check(checkers []Checker) {
	in := &Judged{Inventory: j.inv, Resources: j.scan.Resources, Policy: j.policy, Now: j.now, judge: j}
	for _, c := range checkers {
		for _, r := range c.Check(in) {
			j.result(r)
		}
	}
}

func (j *judge) result(r Result) {
	f := Finding{Detail: r.Detail, Reversible: true, object: r.About, Severity: r.Control.Severity, Why: r.Control.Why, Mend: r.Control.Mend}
	if r.Unknown {
		f.State, f.Severity = "unknown", f.Severity.atMost(Medium)
	}
	switch o := r.About.(type) {
	case *Resource:
		f.Evidence = o.Evidence
	case *Vault:
		f.Evidence, f.Dependants = o.Evidence, len(o.users)
	case *Key:
		f.Evidence, f.Dependants = o.Evidence, len(j.inv.uses[o.Ref])
	}
	j.add(*r.Control, r.ID, r.Type, f)
}

// Key returns the key that ref names, nil if it was not read.
func (inv *Inventory) Key(ref KeyRef) *Key { return inv.keyBy[ref.versionless()] }

// Vault returns the vault in which ref lies, nil if it was not read.
func (inv *Inventory) Vault(ref KeyRef) *Vault { return inv.vaultOf(ref) }

// Users returns the resources that use a key, of any version.
func (inv *Inventory) Users(ref KeyRef) []*Resource { return inv.uses[ref.versionless()] }

// Users returns the resources that use a key in v.
func (v *Vault) Users() []*Resource { return v.users }

// EachPolicy calls f with each of v's access policies: a principal, and its rights on
// keys in lower case.
func (v *Vault) EachPolicy(f func(principal string, keys []string)) {
	for _, p := range v.Policies {
		f(p.principal, p.keys)
	}
}

// Duty returns who answers for a key, nil if the policy names nobody.
func (p *Policy) Duty(ref KeyRef) *KeyDuty { return p.duty(ref) }

// An Object is something as it was read, kept where [Inventory.Keep] asks for that.
type Object struct {
	ID, Type string
	Evidence Evidence

	document
}

// Flat reports whether az has moved what lies below "properties" up.
func (o *Object) Flat() bool { return o.flat }

// Body returns what was read.
func (o *Object) Body() map[string]any { return o.body }

// Object returns what was read last under an id, nil if nothing was or nothing is kept.
func (inv *Inventory) Object(id string) *Object { return inv.objects[strings.ToLower(id)] }

// Objects calls f with everything that is kept, in the order in which it was read first.
func (inv *Inventory) Objects(f func(*Object)) {
	for _, id := range inv.kept {
		f(inv.objects[id])
	}
}

func (inv *Inventory) keep(id, typ string, d document, ev Evidence) {
	if !inv.Keep {
		return
	}
	low := strings.ToLower(id)
	if inv.objects[low] == nil {
		inv.kept = append(inv.kept, low)
	}
	inv.objects[low] = &Object{ID: id, Type: typ, Evidence: ev, document: d}
}

// WasListed reports whether all children of one kind of a resource were read.
func (inv *Inventory) WasListed(parent, kind string) bool {
	return inv.listed[strings.ToLower(parent)][strings.ToLower(kind)]
}

// Composed reports whether a plan's body of a type has what there is to say at a path
// without elements' marks, so that nothing there means that nothing is set. All else
// is not in it.
func Composed(typ string, at []string) bool {
	at = slices.DeleteFunc(slices.Clone(at), func(s string) bool { return s == "[*]" })
	meets := func(p path) bool {
		n := min(len(p), len(at))
		return slices.EqualFunc(p[:n], at[:n], strings.EqualFold)
	}
	return slices.ContainsFunc(types().byType[strings.ToLower(typ)], func(r *Rule) bool {
		var all []path
		for _, clause := range r.on {
			for _, c := range clause.conditions {
				all = append(all, c.paths...)
			}
		}
		for _, k := range r.keys {
			all = append(all, k.at)
		}
		for _, s := range r.slots {
			all = append(all, append(slices.Clone(s.at), s.set...))
		}
		return slices.ContainsFunc(append(all, r.direct, r.link, r.auto), func(p path) bool { return len(p) > 0 && meets(p) })
	})
}

// NewObject makes an object of a body in Resource Manager's shape.
func NewObject(id, typ string, body map[string]any, ev Evidence) *Object {
	return &Object{ID: id, Type: typ, Evidence: ev, document: document{body: body}}
}

// RotatesAt returns when a key's policy rotates it next, zero if nothing does, and
// whether that is known.
func (k *Key) RotatesAt() (at time.Time, known bool) {
	v := k.Newest()
	if k.Rotation == nil || v == nil {
		return time.Time{}, false
	}
	at = k.Rotation.due(v)
	return at, !at.IsZero() || !k.Rotation.Rotates
}
