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
