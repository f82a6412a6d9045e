package posture

import (
	"cmp"
	"slices"
	"strings"
)

// A LabelChange gives a workspace the sensitivity label that the classification wants.
type LabelChange struct {
	Workspace string `json:"workspace"` // id
	Name      string `json:"name"`
	Item      string `json:"item,omitempty"` // id, of a change of an item in it
	ItemName  string `json:"itemName,omitempty"`
	Rule      string `json:"rule"`
	From      string `json:"from,omitempty"` // the label's id, "" for none
	To        string `json:"to"`             // the label's name
}

// LabelChanges returns what is to change for the workspaces of a scan to have the labels
// that their rules name. labels are the platform's: ids by names. A rule that names no
// label leaves them alone.
func (s *Scan) LabelChanges(labels map[string]string) []LabelChange {
	ids := map[string]string{}
	for name, id := range labels {
		ids[strings.ToLower(name)] = id
	}
	var all []LabelChange
	for _, r := range s.Resources {
		if r.Type != "Microsoft.Fabric/workspaces" || r.Label == "" {
			continue
		}
		if id := ids[strings.ToLower(r.Label)]; id == "" || !strings.EqualFold(id, r.sensitivity) {
			all = append(all, LabelChange{Workspace: r.ID, Name: r.Name, Rule: r.Rule, From: r.sensitivity, To: r.Label})
		}
	}
	slices.SortFunc(all, func(a, b LabelChange) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Workspace, b.Workspace))
	})
	return all
}

// LabelRequires reports whether a label stands for a customer's key: every rule that
// names it requires one.
func (p *Policy) LabelRequires(name string) bool {
	found := false
	for _, r := range p.Rules {
		if strings.EqualFold(r.Label, name) {
			if r.Requires != RequireCMK {
				return false
			}
			found = true
		}
	}
	return found
}

// A LabelWish is a workspace whose rule names a label.
type LabelWish struct{ Workspace, Name, Rule, Label string }

// LabelWishes returns the workspaces whose rules name labels, whatever labels they have.
func (s *Scan) LabelWishes() (all []LabelWish) {
	for _, r := range s.Resources {
		if r.Type == "Microsoft.Fabric/workspaces" && r.Label != "" {
			all = append(all, LabelWish{r.ID, r.Name, r.Rule, r.Label})
		}
	}
	slices.SortFunc(all, func(a, b LabelWish) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Workspace, b.Workspace))
	})
	return all
}

// ItemTakes reports whether an item takes its workspace's label: if it has none, or one
// that asks for less. One of its own that asks for as much, or more, it keeps. strict are
// the labels, by id, that require a customer's key.
func ItemTakes(own, wanted string, strict map[string]bool) bool {
	return own == "" || !strings.EqualFold(own, wanted) && strict[strings.ToLower(wanted)] && !strict[strings.ToLower(own)]
}
