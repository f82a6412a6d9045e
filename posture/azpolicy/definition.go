// Package azpolicy evaluates Azure Policy's definitions without Azure: a second
// engine beside posture's own controls, over the same inventory.
//
// It reads definitions as Azure publishes them and as much of their language as the
// built-in ones about customer-managed keys and Key Vault use; what it does not know
// is an error when a definition is read, and never a condition that holds. Answers
// are three: where a condition needs what the inventory does not hold, the answer is
// unknown.
package azpolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// A Definition is one policy definition.
type Definition struct {
	posture.Control
	Effect     string         // in lower case, by its parameters
	Parameters map[string]any // by name in lower case: given, or by default
	Types      []string       // of resources that the rule can be about, in lower case

	rule    *condition
	related *related // for the effects that look at another resource
}

// related is what auditIfNotExists and deployIfNotExists look for.
type related struct {
	typ   string
	name  *expr // nil: any
	group string
	scope string     // "resourcegroup" or "subscription", in lower case
	exist *condition // nil: there is one
}

// file is what a definition's JSON has for us.
type file struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		DisplayName string `json:"displayName"`
		Description string `json:"description"`
		PolicyRule  struct {
			If   any `json:"if"`
			Then struct {
				Effect  string `json:"effect"`
				Details any    `json:"details"`
			} `json:"then"`
		} `json:"policyRule"`
		Parameters map[string]struct {
			Default any   `json:"defaultValue"`
			Allowed []any `json:"allowedValues"`
		} `json:"parameters"`
	} `json:"properties"`
}

// A Set is definitions that were loaded.
type Set struct {
	all    []*Definition
	byType map[string][]*Definition
}

// Definitions returns the definitions, ordered by id.
func (s *Set) Definitions() []*Definition { return s.all }

// Controls returns what [posture.Checker] wants to know of them.
func (s *Set) Controls() []posture.Control {
	out := make([]posture.Control, len(s.all))
	for i, d := range s.all {
		out[i] = d.Control
	}
	return out
}

// ParametersFile may lie beside definitions: what an assignment gives their
// parameters, {"DEFINITION ID": {"PARAMETER": VALUE}}.
const ParametersFile = "parameters.json"

// Load reads all definitions of a folder and of those below it.
func Load(fsys fs.FS) (*Set, error) {
	given := map[string]map[string]any{}
	s := &Set{byType: map[string][]*Definition{}}
	if text, err := fs.ReadFile(fsys, ParametersFile); err == nil {
		if err := json.Unmarshal(text, &given); err != nil {
			return nil, bad(ParametersFile, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	err := fs.WalkDir(fsys, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.EqualFold(path.Ext(p), ".json") || p == ParametersFile {
			return err
		}
		text, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		d, err := Parse(text, nil)
		if err == nil {
			if more := given[strings.TrimPrefix(d.ID, Prefix)]; more != nil {
				d, err = Parse(text, more)
			}
		}
		if err != nil {
			return bad(p, err)
		}
		s.add(d)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(s.all) == 0 {
		return nil, fault.New(fault.InvalidArgument, "there is no policy definition in this folder").
			WithMend("Azure's are in github.com/Azure/azure-policy, under built-in-policies/policyDefinitions.")
	}
	slices.SortFunc(s.all, func(a, b *Definition) int { return strings.Compare(a.ID, b.ID) })
	return s, nil
}

func (s *Set) add(d *Definition) {
	s.all = append(s.all, d)
	for _, t := range d.Types {
		s.byType[t] = append(s.byType[t], d)
	}
}

func bad(where string, err error) error {
	return fault.New(fault.InvalidArgument, where+" is no policy definition that can be evaluated here: "+err.Error())
}

// Prefix begins the ids of controls made of definitions.
const Prefix = "AZURE/"

// Parse reads one definition. given, which may be nil, has values for its parameters.
func Parse(text []byte, given map[string]any) (*Definition, error) {
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, err
	}
	id := f.Name
	if id == "" {
		id = f.ID[strings.LastIndexByte(f.ID, '/')+1:]
	}
	p := &f.Properties
	if id == "" || p.PolicyRule.If == nil {
		return nil, errors.New("it has no name, or no properties.policyRule.if")
	}
	d := &Definition{
		Control: posture.Control{
			ID: Prefix + id, Title: p.DisplayName, Severity: posture.Medium, Policy: id,
			Why: "Azure's policy definition of this name asks for it. " + p.Description, Mend: "Mend it as the description says, or as the finding of the built-in control does.",
		},
		Parameters: map[string]any{},
	}
	for name, par := range p.Parameters {
		if par.Default != nil {
			d.Parameters[strings.ToLower(name)] = par.Default
		}
	}
	for name, v := range given {
		d.Parameters[strings.ToLower(name)] = v
	}
	if err := d.effect(p.PolicyRule.Then.Effect); err != nil {
		return nil, err
	}
	var err error
	if d.rule, err = parseCondition(p.PolicyRule.If, 0); err != nil {
		return nil, err
	}
	if strings.HasSuffix(d.Effect, "ifnotexists") {
		if d.related, err = parseRelated(p.PolicyRule.Then.Details); err != nil {
			return nil, err
		}
	}
	types := map[string]bool{}
	d.rule.types(types)
	d.Types = slices.Sorted(maps.Keys(types))
	return d, nil
}

// effects are those that a scan can tell something of.
var effects = []string{"audit", "deny", "disabled", "modify", "append", "denyaction", "auditifnotexists", "deployifnotexists"}

func (d *Definition) effect(s string) error {
	x, err := parseValue(s)
	if err != nil {
		return err
	}
	v, err := (&evaluation{parameters: d.Parameters}).value(x)
	if err != nil {
		return err
	}
	d.Effect = fold(v)
	if !slices.Contains(effects, d.Effect) {
		return fmt.Errorf("its effect is %q", d.Effect)
	}
	return nil
}

func parseRelated(details any) (*related, error) {
	m, ok := details.(map[string]any)
	if !ok {
		return nil, errors.New("its effect looks for another resource, and details does not say which")
	}
	get := func(name string) any {
		v, _ := property(m, name)
		return v
	}
	r := &related{typ: text(get("type")), group: text(get("resourceGroupName")), scope: strings.ToLower(text(get("existenceScope")))}
	if r.typ == "" {
		return nil, errors.New("details names no type")
	}
	var err error
	if n := get("name"); n != nil {
		if r.name, err = parseValue(n); err != nil {
			return nil, err
		}
	}
	if c := get("existenceCondition"); c != nil {
		r.exist, err = parseCondition(c, 0)
	}
	return r, err
}

// types collects the types that a rule asks for: where it asks for none it is about
// every type, which none of the built-in ones here is.
func (c *condition) types(into map[string]bool) {
	if c.field != nil && equal(c.field.literal, "type") && (c.operator == "equals" || c.operator == "in") {
		if c.operand.call == "" {
			into[fold(c.operand.literal)] = true
		}
		for _, a := range c.operand.args {
			into[fold(a.literal)] = true
		}
	}
	for _, sub := range slices.Concat(c.all, c.any) {
		sub.types(into)
	}
}
