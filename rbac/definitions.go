package rbac

import (
	"slices"
	"strings"
)

// Definitions is a set of role definitions. The zero value is empty, and allows
// nothing.
type Definitions struct {
	byID map[string]RoleDefinition // by folded id
}

// Define makes a set. It panics if two definitions share an id.
func Define(defs ...RoleDefinition) Definitions {
	m := make(map[string]RoleDefinition, len(defs))
	for _, d := range defs {
		if _, taken := m[fold(string(d.ID))]; taken {
			panic("rbac: role defined twice: " + d.Name)
		}
		m[fold(string(d.ID))] = d
	}
	return Definitions{m}
}

// Lookup returns the definition with the id.
func (d Definitions) Lookup(id RoleID) (RoleDefinition, bool) {
	def, ok := d.byID[fold(string(id))]
	return def, ok
}

// Named returns the definition with the name; case does not matter.
func (d Definitions) Named(name string) (RoleDefinition, bool) {
	for _, def := range d.byID {
		if fold(def.Name) == fold(name) {
			return def, true
		}
	}
	return RoleDefinition{}, false
}

// All returns the definitions in order of their names.
func (d Definitions) All() []RoleDefinition {
	all := make([]RoleDefinition, 0, len(d.byID))
	for _, def := range d.byID {
		all = append(all, def)
	}
	slices.SortFunc(all, func(a, b RoleDefinition) int { return strings.Compare(a.Name, b.Name) })
	return all
}
