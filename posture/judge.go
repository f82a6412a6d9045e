package posture

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdicts on a resource.
const (
	Compliant    = "compliant"
	NonCompliant = "non-compliant"
	Undecided    = "unknown" // the inventory does not tell
	Excepted     = "excepted"
	Unsupported  = "not-supported"
	OutOfScope   = "out-of-scope" // the platform's key is enough
	Unclassified = "unclassified" // no rule reaches it
)

// A Judgement is what a scan says of one resource.
type Judgement struct {
	*Resource
	Verdict string `json:"verdict"`
	Rule    string `json:"rule,omitempty"` // the rule that classified it
	Why     string `json:"why,omitempty"`  // as that rule says
	Label   string `json:"label,omitempty"`
}

// A Finding is a control that does not hold for a resource, or of which nobody can
// tell whether it does.
type Finding struct {
	ID         string     `json:"id"` // the same in every scan, of control and resource
	Control    string     `json:"control"`
	Severity   Severity   `json:"severity"`
	Title      string     `json:"title"`
	Resource   string     `json:"resource"`
	Name       string     `json:"name,omitempty"` // the resource's, where it has one of its own
	Type       string     `json:"type"`
	State      string     `json:"state"`  // "fail" or "unknown"
	Detail     string     `json:"detail"` // what was seen
	Why        string     `json:"why"`
	Mend       string     `json:"mend"`
	Remediable string     `json:"remediable"` // "in-place", "recreate" or "no"
	Condition  string     `json:"condition,omitempty"`
	Reversible bool       `json:"reversible"`
	Dependants int        `json:"dependants,omitempty"` // resources that use the key or vault
	Key        string     `json:"key,omitempty"`        // that the resource is under, or that the finding is about, without version
	Principals []string   `json:"principals,omitempty"` // as which the resource asks the key's vault
	Excepted   *Exception `json:"exception,omitempty"`
	Evidence   Evidence   `json:"evidence"`

	object any // the *Resource, *Vault or *Key, for the plan
}

// A Summary counts a scan's resources. In scope is what the policy wants under a
// customer's key and what can be; coverage is how much of that is.
type Summary struct {
	Resources    int     `json:"resources"`
	InScope      int     `json:"inScope"`
	Compliant    int     `json:"compliant"`
	NonCompliant int     `json:"nonCompliant"`
	Unknown      int     `json:"unknown"`
	Excepted     int     `json:"excepted"`
	NotSupported int     `json:"notSupported"`
	OutOfScope   int     `json:"outOfScope"`
	Unclassified int     `json:"unclassified"`
	Coverage     float64 `json:"coverage"`    // per cent of those in scope; 0 of none
	Versionless  float64 `json:"versionless"` // per cent of those with a key

	Keyed       int `json:"keyed"`            // resources that name a key
	Followers   int `json:"keyedVersionless"` // of those, the ones whose every key follows its newest version
	Keys        int `json:"keys"`             // read or named, and not deleted
	KeysCertain int `json:"keysCertain"`      // of those, the ones that were read and whose dependants are all known
	Vaults      int `json:"vaults"`           // read, and not deleted
	Logged      int `json:"vaultsLogged"`     // of those, the ones whose audit log is known to be kept
	Overlaps    int `json:"dutiesJoined"`     // findings of one who is custodian and data owner, excepted ones included

	BySeverity map[Severity]int `json:"bySeverity"` // findings that no exception covers

	Cells []Cell `json:"cells,omitempty"` // by type, and class within it
}

// A Cell counts the resources of one type that one rule of the policy reaches.
type Cell struct {
	Type         string `json:"type"`
	Class        string `json:"class"` // the rule's name; "" where none reaches them
	Resources    int    `json:"resources"`
	Compliant    int    `json:"compliant"`
	NonCompliant int    `json:"nonCompliant"`
	Unknown      int    `json:"unknown"`
	Excepted     int    `json:"excepted"`
}

// A Scan is an inventory held against a policy at one moment.
type Scan struct {
	Time      time.Time   `json:"time"`
	Summary   Summary     `json:"summary"`
	Findings  []Finding   `json:"findings"`
	Gaps      []Gap       `json:"gaps,omitempty"`
	Resources []Judgement `json:"resources"`
	Register  *Register   `json:"register,omitempty"` // nil in scans saved by earlier releases
}

// Worst reports whether a finding that no exception covers is at least as bad as s.
func (s *Scan) Worst(at Severity) bool {
	return slices.ContainsFunc(s.Findings, func(f Finding) bool { return f.Excepted == nil && f.Severity.AtLeast(at) })
}

// Find returns the finding with an id, or the beginning of one that no other has.
func (s *Scan) Find(id string) (Finding, bool) {
	var found []Finding
	for _, f := range s.Findings {
		if strings.HasPrefix(f.ID, strings.ToLower(id)) {
			found = append(found, f)
		}
	}
	if id == "" || len(found) != 1 {
		return Finding{}, false
	}
	return found[0], true
}

// A judge is one run of [Judge].
type judge struct {
	inv    *Inventory
	policy *Policy
	limits Limits
	prices *Prices
	now    time.Time
	scan   *Scan
	found  map[string]int     // findings by id
	grants map[string][]grant // by scope
}

// Judge holds a linked inventory against a policy, nil if there is none. prices may
// be nil too; costs are then told in operations alone. The checkers judge after the
// built-in controls.
func Judge(inv *Inventory, policy *Policy, prices *Prices, now time.Time, checkers ...Checker) *Scan {
	inv.init()
	j := &judge{
		inv: inv, policy: policy, prices: prices, now: now, grants: map[string][]grant{}, found: map[string]int{},
		scan: &Scan{Time: now.UTC(), Gaps: inv.Gaps, Findings: []Finding{}, Resources: make([]Judgement, 0, len(inv.Resources))},
	}
	if policy != nil {
		j.limits = policy.Limits
	}
	j.limits = j.limits.orDefault()
	for _, g := range inv.expand() {
		j.grants[g.scope] = append(j.grants[g.scope], g)
	}
	if policy == nil {
		j.say("POLICY", "policy", "policy", Finding{Detail: "the scan was given no policy", Remediable: "in-place", Reversible: true})
	}
	j.expired()
	for _, r := range inv.Resources {
		j.resource(r)
	}
	j.guards()
	j.scan.Register = j.register()
	j.check(checkers)
	j.count()
	slices.SortStableFunc(j.scan.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(Severities, a.Severity), slices.Index(Severities, b.Severity)),
			cmp.Compare(a.Control, b.Control), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Detail, b.Detail))
	})
	return j.scan
}

// say adds a finding of a built-in control. What f does not say, the control does.
func (j *judge) say(control, id, typ string, f Finding) *Finding {
	c, _ := ControlByID(control)
	return j.add(c, id, typ, f)
}

func (j *judge) add(c Control, id, typ string, f Finding) *Finding {
	f.Control, f.Resource, f.Type, f.Title = c.ID, id, typ, c.Title
	f.Severity = cmp.Or(f.Severity, c.Severity)
	f.Why, f.Mend = cmp.Or(f.Why, c.Why), cmp.Or(f.Mend, c.Mend)
	f.State = cmp.Or(f.State, "fail")
	f.Remediable = cmp.Or(f.Remediable, "in-place")
	f.ID = findingID(c.ID, id)
	if i, twice := j.found[f.ID]; twice {
		j.scan.Findings[i].Detail += "; " + f.Detail
		return &j.scan.Findings[i]
	}
	j.found[f.ID] = len(j.scan.Findings)
	f.Excepted = j.exception(c.ID, id)
	switch o := f.object.(type) {
	case *Resource:
		f.Name = o.Name
		if len(o.CMK.Keys) > 0 {
			f.Key, f.Principals = o.CMK.Keys[0].versionless().URL(), o.Identity.principals(o.CMK)
		}
	case *Key:
		f.Key = o.Ref.URL()
	}
	j.scan.Findings = append(j.scan.Findings, f)
	return &j.scan.Findings[len(j.scan.Findings)-1]
}

// findingID makes an id of control and resource alone, so that a finding keeps it
// from scan to scan.
func findingID(control, resource string) string {
	sum := sha256.Sum256([]byte(control + "\x00" + strings.ToLower(resource)))
	return hex.EncodeToString(sum[:8])
}

// exceptions are those of the policy and those that were made elsewhere.
func (j *judge) exceptions() []Exception {
	if j.policy == nil {
		return j.inv.Accepted
	}
	return append(slices.Clip(j.policy.Exceptions), j.inv.Accepted...)
}

func (j *judge) exception(control, resource string) *Exception {
	if e := j.policy.exception(control, resource, j.now); e != nil {
		return e
	}
	for i, e := range j.inv.Accepted {
		if e.covers(control, resource, j.now) {
			return &j.inv.Accepted[i]
		}
	}
	return nil
}

func (j *judge) expired() {
	for _, e := range j.exceptions() {
		if !j.now.Before(e.Expires.AddDate(0, 0, 1)) {
			what := strings.Join(e.Resources, ", ")
			j.say("EXCEPTION", what, "exception", Finding{
				Detail:     fmt.Sprintf("%s's exception (%s) expired on %s", e.Owner, e.Reason, e.Expires.Format(time.DateOnly)),
				Remediable: "in-place", Reversible: true,
			})
		}
	}
}

// resource judges one resource and its parts.
func (j *judge) resource(r *Resource) {
	class := j.policy.Classify(r)
	out := Judgement{Resource: r}
	if class != nil {
		out.Rule, out.Why, out.Label = class.Name, class.Why, class.Label
	}
	maybe := j.policy.undecided(r)
	if maybe != nil {
		out.Rule, out.Why, out.Label = "", "", ""
	}
	switch {
	case maybe != nil:
		out.Verdict = Unclassified
		j.say("CLASSIFY", r.ID, r.Type, Finding{State: "unknown", Detail: fmt.Sprintf("whether rule %q reaches it hangs on a tag that is known after apply; customer-managed key: %s", maybe.Name, r.CMK.State), Reversible: true, Evidence: r.Evidence, object: r})
	case class == nil:
		out.Verdict = Unclassified
		f := Finding{Detail: "no rule reaches it; customer-managed key: " + string(r.CMK.State), Remediable: "in-place", Reversible: true, Evidence: r.Evidence, object: r}
		if r.CMK.State == On {
			f.Severity = Low
		}
		j.say("CLASSIFY", r.ID, r.Type, f)
	case class.Requires == RequireNone:
		out.Verdict = OutOfScope
		if r.CMK.State == On && len(r.CMK.Via) == 0 {
			j.say("COST", r.ID, r.Type, Finding{
				Detail: j.cost(r), Remediable: backOf(r.rule), Reversible: r.rule.Enable == "in-place", Evidence: r.Evidence, object: r,
			})
		}
	default:
		out.Verdict = j.required(r, class, r.rule, r.CMK)
		for i, p := range r.Parts {
			// A part of a resource without key says nothing new.
			if r.CMK.State == On {
				out.Verdict = worse(out.Verdict, j.required(r, class, r.parts[i], p.CMK))
			}
		}
	}
	j.scan.Resources = append(j.scan.Resources, out)
}

func worse(a, b string) string {
	for _, v := range []string{NonCompliant, Undecided, Excepted} {
		if a == v || b == v {
			return v
		}
	}
	return a
}

// required judges what has to be under a customer's key.
func (j *judge) required(r *Resource, class *Classification, rule *Rule, cmk CMK) string {
	if cmk.State == On {
		return Compliant
	}
	f := Finding{
		Severity: cmp.Or(class.Severity, High), Remediable: rule.Enable, Condition: rule.Condition, Reversible: rule.Back == "yes",
		Detail: fmt.Sprintf("customer-managed key: %s; rule %q requires it: %s", cmk.State, class.Name, class.Why), Evidence: r.Evidence, object: r,
	}
	if cmk.Why != "" {
		f.Detail = cmk.Why + "; " + f.Detail
	}
	verdict := NonCompliant
	switch {
	case rule.Part != "":
		f.Severity = f.Severity.atMost(Medium)
		if cmk.State == NotSupported {
			return Compliant
		}
	case cmk.State == NotSupported:
		verdict, f.Remediable, f.Reversible, f.Severity = Unsupported, "recreate", false, f.Severity.atMost(Medium)
		f.Mend = "Move the data to a kind or tier that can have a customer-managed key."
	}
	if cmk.State == Unknown {
		verdict, f.State, f.Severity = Undecided, "unknown", f.Severity.atMost(Medium)
	}
	id := r.ID
	if rule.Part != "" {
		id += "#" + rule.Part
	}
	if j.say(cmkPrefix+rule.Name(), id, r.Type, f).Excepted != nil {
		return Excepted
	}
	return verdict
}

func backOf(r *Rule) string {
	if r.Back == "no" {
		return "recreate"
	}
	return "in-place"
}

// cells counts the resources by type and class.
func (j *judge) cells() []Cell {
	by := map[[2]string]*Cell{}
	for _, r := range j.scan.Resources {
		at := [2]string{r.Type, r.Rule}
		c := by[at]
		if c == nil {
			c = &Cell{Type: r.Type, Class: r.Rule}
			by[at] = c
		}
		c.Resources++
		switch r.Verdict {
		case Compliant:
			c.Compliant++
		case NonCompliant:
			c.NonCompliant++
		case Undecided:
			c.Unknown++
		case Excepted:
			c.Excepted++
		}
	}
	out := make([]Cell, 0, len(by))
	for _, c := range by {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Cell) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Class, b.Class)) })
	return out
}

func (j *judge) count() {
	s := &j.scan.Summary
	s.Cells = j.cells()
	for _, r := range j.scan.Resources {
		s.Resources++
		for verdict, n := range map[string]*int{
			Compliant: &s.Compliant, NonCompliant: &s.NonCompliant, Undecided: &s.Unknown, Excepted: &s.Excepted,
			Unsupported: &s.NotSupported, OutOfScope: &s.OutOfScope, Unclassified: &s.Unclassified,
		} {
			if r.Verdict == verdict {
				*n++
			}
		}
		if len(r.CMK.Keys) > 0 {
			s.Keyed++
			if r.CMK.Versionless {
				s.Followers++
			}
		}
	}
	s.InScope = s.Compliant + s.NonCompliant + s.Unknown + s.Excepted
	s.Coverage, s.Versionless = percent(s.Compliant, s.InScope), percent(s.Followers, s.Keyed)
	for _, k := range j.scan.Register.Keys {
		if !k.Deleted {
			s.Keys++
			if k.Read && k.Certain {
				s.KeysCertain++
			}
		}
	}
	for _, v := range j.inv.Vaults {
		if !v.Deleted {
			s.Vaults++
			if _, unlogged := j.found[findingID("G15", v.ID)]; !unlogged {
				s.Logged++
			}
		}
	}
	s.BySeverity = map[Severity]int{}
	for _, f := range j.scan.Findings {
		if f.Control == "G16" {
			s.Overlaps++
		}
		if f.Excepted == nil {
			s.BySeverity[f.Severity]++
		}
	}
}

func percent(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) * 100 / float64(of)
}
