package posture

import (
	"slices"
	"strings"
)

// Link finds out what lies elsewhere than in the resources themselves. Call it once,
// when everything was added.
func (inv *Inventory) Link() {
	inv.init()
	inv.settled = make(map[*Resource]bool, len(inv.Resources))
	for _, r := range inv.Resources {
		inv.settle(r)
	}
	inv.linkKeys()
}

func (inv *Inventory) settle(r *Resource) {
	if done, seen := inv.settled[r]; seen {
		if !done { // a ring: nothing in it decides
			r.CMK = CMK{State: Unknown, Why: "it leads back to itself"}
		}
		return
	}
	inv.settled[r] = false
	defer func() { inv.settled[r] = true }()
	if r.CMK.State == NotSupported {
		return
	}
	switch {
	case r.app != nil:
		inv.settleApp(r)
	case r.rule.child == "parent":
		if r.CMK.State == Off {
			r.CMK = inv.follow(r.links[0])
		}
	case r.rule.Family == ChildSetting:
		inv.settleChild(r)
	case r.rule.Family == Linked && r.rule.on != nil && r.CMK.State != On:
		// It does not write to an account of the customer's at all.
	case r.links != nil:
		var all CMK
		for _, l := range r.links {
			all = all.and(inv.follow(l))
		}
		r.CMK = all
	case r.rule.Family == Indirect:
		r.CMK = CMK{State: Unknown, Why: "its disks were not read"}
	}
}

func (inv *Inventory) settleChild(r *Resource) {
	low := strings.ToLower(r.ID)
	children := inv.orphans[low][r.rule.child]
	switch {
	case len(children) > 0:
		var all CMK
		for _, c := range children {
			all = all.and(c)
		}
		if r.rule.direct == nil && all.State == Partial {
			all.State = On // keys that are no longer used lie beside the one that is
		}
		all.Via = []string{r.ID + "/" + r.rule.child}
		if all.Identity == "" {
			all.Identity = r.CMK.Identity
		}
		r.CMK = all
	case r.CMK.State != "":
	case inv.listed[low][r.rule.child]:
		r.CMK = CMK{State: Off}
	default:
		r.CMK = CMK{State: Unknown, Why: "its child " + r.rule.child + " was not read"}
	}
}

// follow returns what the end of a link says.
func (inv *Inventory) follow(l link) CMK {
	if !l.known {
		return CMK{State: Unknown, Why: "its " + l.kind + " is known after apply"}
	}
	if l.target == "" {
		return CMK{State: Off}
	}
	if l.kind == linkHidden {
		return CMK{State: Unknown, Why: "its storage account stands in the secret of its " + l.kind + " " + l.target}
	}
	target := inv.byID[l.target]
	switch {
	case target == nil && l.kind == linkDisk:
		return inv.follow(link{kind: linkSet, target: l.or, known: true})
	case target == nil && l.kind == linkAccount:
		target = inv.accounts[l.target]
	case l.kind == linkAlerts:
		var all CMK
		for _, account := range inv.linked[l.target] {
			all = all.and(inv.follow(link{kind: linkAccount, target: account, known: true}))
		}
		if all.State != "" {
			return all
		}
	}
	if target == nil {
		return CMK{State: Unknown, Why: "its " + l.kind + " " + l.target + " was not read"}
	}
	inv.settle(target)
	c := target.CMK
	c.Via = append([]string{target.ID}, c.Via...)
	return c
}

// and joins what two parts of a resource say.
func (c CMK) and(o CMK) CMK {
	if c.State == "" {
		return o
	}
	out := CMK{State: c.State.join(o.State), Why: c.Why, Versionless: c.Versionless && o.Versionless, Identity: c.Identity}
	if out.Why == "" {
		out.Why = o.Why
	}
	if out.Identity == "" {
		out.Identity = o.Identity
	}
	switch {
	case len(c.Keys) == 0:
		out.Versionless = o.Versionless
	case len(o.Keys) == 0:
		out.Versionless = c.Versionless
	}
	out.Keys = slices.Clone(c.Keys)
	for _, k := range o.Keys {
		if !slices.Contains(out.Keys, k) {
			out.Keys = append(out.Keys, k)
		}
	}
	out.Via = slices.Clone(c.Via)
	for _, v := range o.Via {
		if !slices.Contains(out.Via, v) {
			out.Via = append(out.Via, v)
		}
	}
	return out
}
