package posture

import (
	"slices"
	"strings"
)

// AddGroup says who is in a group: users, service principals and further groups, by their
// object ids.
func (inv *Inventory) AddGroup(id string, members ...string) {
	inv.init()
	all := inv.groups[strings.ToLower(id)]
	if all == nil {
		all = []string{} // it was read, and nobody may be in it
	}
	for _, m := range members {
		all = append(all, strings.ToLower(m))
	}
	inv.groups[strings.ToLower(id)] = all
}

// addGroup adds a group as Microsoft Graph shows it with its members:
// https://learn.microsoft.com/graph/api/resources/group
func (inv *Inventory) addGroup(body map[string]any) bool {
	d := document{body: body}
	if Field(body, "securityEnabled") == nil && !strings.HasSuffix(strings.ToLower(scalarOf(Field(body, "@odata.type"))), ".group") {
		return false
	}
	id := d.str("id")
	for _, name := range []string{"transitiveMembers", "members"} {
		all, listed := Field(body, name).([]any)
		if !listed || id == "" {
			continue
		}
		var members []string
		for _, m := range all {
			if one, ok := m.(map[string]any); ok {
				members = append(members, scalarOf(Field(one, "id")))
			}
		}
		inv.AddGroup(id, members...)
		return true
	}
	return false
}

// GroupsGranted returns the groups that have a role, by their object ids.
func (inv *Inventory) GroupsGranted() (all []string) {
	for _, g := range inv.grants {
		if strings.EqualFold(g.kind, "Group") && !slices.Contains(all, g.principal) {
			all = append(all, g.principal)
		}
	}
	return all
}

// membersOf returns who is in a group, directly or through others, without the groups
// themselves; read says whether it was read, with all groups in it.
func (inv *Inventory) membersOf(group string) (all []string, read bool) {
	seen := map[string]bool{group: true}
	open := []string{group}
	_, read = inv.groups[group]
	for len(open) > 0 {
		at := open[0]
		open = open[1:]
		for _, m := range inv.groups[at] {
			if seen[m] || m == "" {
				continue
			}
			seen[m] = true
			if _, nested := inv.groups[m]; nested {
				open = append(open, m)
				continue
			}
			all = append(all, m)
		}
	}
	return all, read
}

// expand returns the grants with those that members of groups have through them.
func (inv *Inventory) expand() []grant {
	all := slices.Clone(inv.grants)
	for _, g := range inv.grants {
		members, _ := inv.membersOf(g.principal)
		for _, m := range members {
			through := g
			through.principal, through.kind, through.via = m, "", g.principal
			all = append(all, through)
		}
	}
	return all
}

// holders returns a principal, and with a group those in it, each with the group through
// which he holds what it has.
func (inv *Inventory) holders(principal string) map[string]string {
	out := map[string]string{principal: ""}
	members, _ := inv.membersOf(principal)
	for _, m := range members {
		out[m] = principal
	}
	return out
}
