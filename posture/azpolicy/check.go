package azpolicy

import (
	"fmt"
	"strings"
	"time"

	"github.com/kluis-io/kluis/posture"
)

// Answers of a definition about an object, as Azure names the first two.
const (
	Compliant     = "compliant"
	NonCompliant  = "non-compliant"
	Unknown       = "unknown"
	NotApplicable = "not-applicable" // of another type, or the definition is disabled
)

// Check judges by all definitions. It implements [posture.Checker].
func (s *Set) Check(in *posture.Judged) (out []posture.Result) {
	about := map[string]any{}
	for i := range in.Resources {
		about[strings.ToLower(in.Resources[i].ID)] = in.Resources[i].Resource
	}
	for _, v := range in.Inventory.Vaults {
		about[strings.ToLower(v.ID)] = v
	}
	e := NewEstate(in.Inventory, in.Now)
	for _, o := range e.all {
		for _, d := range s.byType[strings.ToLower(o.Type)] {
			answer, why := d.Evaluate(e, o)
			if answer == Compliant || answer == NotApplicable {
				continue
			}
			if why == "" {
				why = "its rule holds: " + d.Effect
			}
			to := about[strings.ToLower(o.ID)]
			if k := e.keys[o]; k != nil {
				to = k
			}
			out = append(out, posture.Result{Control: &d.Control, ID: o.ID, Type: o.Type, Unknown: answer == Unknown, Detail: why, About: to})
		}
	}
	return out
}

// An Estate is what definitions are evaluated over.
type Estate struct {
	inv    *posture.Inventory
	now    time.Time
	all    []*posture.Object
	byType map[string][]*posture.Object
	keys   map[*posture.Object]*posture.Key
}

// NewEstate makes an estate of an inventory that was kept ([posture.Inventory.Keep]) and
// linked. Keys are objects of it as Azure Policy sees those in a vault.
func NewEstate(inv *posture.Inventory, now time.Time) *Estate {
	e := &Estate{inv: inv, now: now, byType: map[string][]*posture.Object{}, keys: map[*posture.Object]*posture.Key{}}
	inv.Objects(e.add)
	for _, k := range inv.Keys {
		if o := dataObject(inv, k); o != nil {
			e.keys[o] = k
			e.add(o)
		}
	}
	return e
}

func (e *Estate) add(o *posture.Object) {
	e.all = append(e.all, o)
	low := strings.ToLower(o.Type)
	e.byType[low] = append(e.byType[low], o)
}

// dataObject makes of a key what Azure Policy calls Microsoft.KeyVault.Data/vaults/keys.
func dataObject(inv *posture.Inventory, k *posture.Key) *posture.Object {
	v := k.Newest()
	if v == nil || k.Deleted {
		return nil
	}
	attributes := map[string]any{"enabled": v.Enabled}
	for name, t := range map[string]time.Time{"expiresOn": v.Expires, "createdOn": v.Created, "notBefore": v.NotBefore} {
		if !t.IsZero() {
			attributes[name] = stamp(t)
		}
	}
	body := map[string]any{"name": k.Ref.Name, "attributes": attributes, "keyType": v.Kind}
	if v.Bits > 0 {
		body["keySize"] = float64(v.Bits)
	} else {
		body["keySize"] = posture.UnknownValue
	}
	switch at, known := k.RotatesAt(); {
	case !known:
		body["scheduledRotationDate"] = posture.UnknownValue
	case !at.IsZero():
		body["scheduledRotationDate"] = stamp(at)
	}
	typ := "Microsoft.KeyVault.Data/vaults/keys"
	if vault := inv.Vault(k.Ref); vault != nil && vault.HSM {
		typ = "Microsoft.ManagedHSM.Data/managedHsms/keys"
	}
	return posture.NewObject(k.Ref.URL(), typ, map[string]any{"properties": body}, k.Evidence)
}

// Evaluate asks d about o, and says why where the answer is not known.
func (d *Definition) Evaluate(e *Estate, o *posture.Object) (answer, why string) {
	if d.Effect == "disabled" {
		return NotApplicable, ""
	}
	applies := false
	for _, t := range d.Types {
		applies = applies || strings.EqualFold(t, o.Type)
	}
	if !applies {
		return NotApplicable, ""
	}
	ev := &evaluation{object: o, root: o, parameters: d.Parameters, now: e.now}
	t, err := ev.holds(d.rule)
	switch {
	case err != nil:
		return Unknown, "it could not be evaluated: " + err.Error()
	case t == unknown:
		return Unknown, "it asks for what was not read, or is known after apply"
	case t == no:
		return Compliant, ""
	case d.related == nil:
		return NonCompliant, ""
	}
	return d.related.found(e, ev)
}

// found looks for a related resource that fulfils its condition.
func (r *related) found(e *Estate, ev *evaluation) (answer, why string) {
	name := ""
	if r.name != nil {
		v, err := ev.value(r.name)
		if err != nil {
			return Unknown, "it could not be evaluated: " + err.Error()
		}
		name = text(v)
	}
	result, any := no, false
	for _, o := range e.byType[strings.ToLower(r.typ)] {
		if !r.near(ev.root, o) || name != "" && !strings.EqualFold(o.ID[strings.LastIndexByte(o.ID, '/')+1:], name) {
			continue
		}
		any = true
		t := yes
		if r.exist != nil {
			var err error
			if t, err = (&evaluation{object: o, root: ev.root, parameters: ev.parameters, now: ev.now}).holds(r.exist); err != nil {
				return Unknown, "it could not be evaluated: " + err.Error()
			}
		}
		result = max(result, t)
	}
	switch {
	case result == yes:
		return Compliant, ""
	case result == unknown:
		return Unknown, "whether there is a " + r.typ + " as it asks for is not known"
	case any || e.inv.WasListed(ev.root.ID, r.typ[strings.LastIndexByte(r.typ, '/')+1:]):
		return NonCompliant, fmt.Sprintf("there is no %s as it asks for", r.typ)
	}
	return Unknown, "no " + r.typ + " was read"
}

// near reports whether o lies where a resource related to root is looked for: below
// it, or in its group or subscription.
func (r *related) near(root, o *posture.Object) bool {
	of, id := strings.ToLower(root.ID), strings.ToLower(o.ID)
	below := strings.HasPrefix(strings.ToLower(r.typ), strings.ToLower(root.Type)+"/")
	extension := strings.Count(r.typ, "/") == 1 && strings.HasPrefix(id, of+"/providers/")
	switch {
	case below:
		return strings.HasPrefix(id, of+"/")
	case extension:
		return true
	case strings.EqualFold(r.typ, "Microsoft.Insights/diagnosticSettings"):
		return false // another's
	case r.scope == "subscription":
		return strings.EqualFold(subscriptionOf(root.ID), subscriptionOf(o.ID))
	}
	group := func(id string) string {
		at, _, _ := strings.Cut(id, "/providers/")
		return at
	}
	return group(of) == group(id)
}

// Object returns what lies in the estate under an id, nil if nothing does.
func (e *Estate) Object(id string) *posture.Object {
	for _, o := range e.all {
		if strings.EqualFold(o.ID, id) {
			return o
		}
	}
	return nil
}
