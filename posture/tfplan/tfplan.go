// Package tfplan reads what Terraform will make, or has made, of azurerm's
// resources: the JSON that "terraform show -json" prints of a plan or a state.
//
// What a plan leaves to apply is unknown, and is never taken for set or not set. A
// key that a resource of its own assigns to another is joined to that one, also
// where the other's id is known after apply only: by the reference between them.
package tfplan

import (
	"crypto/sha256"
	_ "embed"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// terraformCSV says what azurerm calls the settings of each type.
//
//go:embed terraform.csv
var terraformCSV string

// A Row is one row of the table: how one azurerm resource sets one type's key.
type Row struct {
	Resource string // "azurerm_storage_account"
	Type     string
	Part     string
	Target   string // for a resource that only sets another's key: the attribute with the other's id
	On       string // "attribute=value" where the key alone does not decide
	Key      string
	Identity string
	Copy     string
}

// Rows returns the table.
var Rows = sync.OnceValue(func() []Row {
	all, err := csv.NewReader(strings.NewReader(terraformCSV)).ReadAll()
	if err != nil {
		panic(err) // the table is part of the program, and a test reads it
	}
	rows := make([]Row, 0, len(all))
	for _, c := range all[1:] {
		rows = append(rows, Row{c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]})
	}
	return rows
})

// plan is what of a plan's or a state's JSON matters here
// (https://developer.hashicorp.com/terraform/internals/json-format).
type plan struct {
	FormatVersion   string    `json:"format_version"`
	Timestamp       time.Time `json:"timestamp"`
	ResourceChanges []struct {
		Address string `json:"address"`
		Mode    string `json:"mode"`
		Type    string `json:"type"`
		Change  struct {
			Actions      []string `json:"actions"`
			After        any      `json:"after"`
			AfterUnknown any      `json:"after_unknown"`
		} `json:"change"`
	} `json:"resource_changes"`
	Values *struct {
		Root module `json:"root_module"`
	} `json:"values"`
	Configuration struct {
		Root config `json:"root_module"`
	} `json:"configuration"`
}

type module struct {
	Resources []struct {
		Address string `json:"address"`
		Mode    string `json:"mode"`
		Type    string `json:"type"`
		Values  any    `json:"values"`
	} `json:"resources"`
	Children []module `json:"child_modules"`
}

type config struct {
	Resources []struct {
		Address     string                     `json:"address"`
		Expressions map[string]json.RawMessage `json:"expressions"`
	} `json:"resources"`
	Calls map[string]struct {
		Module config `json:"module"`
	} `json:"module_calls"`
}

// A planned is one resource of a plan.
type planned struct {
	address, typ   string
	after, unknown any
	body           map[string]any // as Resource Manager would have it
	id             string
}

// Read adds what a plan or state holds. name says where it is from, in evidence.
func Read(text []byte, name string, at time.Time, inv *posture.Inventory) error {
	var p plan
	if err := json.Unmarshal(text, &p); err != nil {
		return fault.New(fault.InvalidArgument, name+" is no JSON of Terraform's: "+err.Error())
	}
	if p.FormatVersion == "" {
		return fault.New(fault.InvalidArgument, name+" has no format_version: it is no plan or state").
			WithMend("Make it with 'terraform plan -out FILE' and 'terraform show -json FILE'.")
	}
	if !p.Timestamp.IsZero() {
		at = p.Timestamp
	}
	var all []*planned
	for _, c := range p.ResourceChanges {
		if c.Mode != "data" && c.Change.After != nil && !slices.Equal(c.Change.Actions, []string{"delete"}) {
			all = append(all, &planned{address: c.Address, typ: c.Type, after: c.Change.After, unknown: c.Change.AfterUnknown})
		}
	}
	if p.Values != nil {
		all = append(all, p.Values.Root.resources()...)
	}
	refs := map[string][]string{}
	p.Configuration.Root.references("", refs)

	rows := map[string][]Row{}
	for _, r := range Rows() {
		rows[r.Resource] = append(rows[r.Resource], r)
	}
	byName := map[string]*planned{}
	for _, r := range all {
		r.describe(rows[r.typ])
		if r.body != nil {
			byName[r.address] = r
			byName[strings.ToLower(r.id)] = r
		}
	}
	(&chain{refs: refs, byName: byName}).describe(all)
	for _, r := range all {
		for _, row := range rows[r.typ] {
			if row.Target == "" {
				continue
			}
			target := r.target(row, refs, byName)
			if target == nil {
				inv.Gaps = append(inv.Gaps, posture.Gap{What: r.address, Why: "what it sets the key of is known after apply, and not in the plan"})
				continue
			}
			if target.address == "" { // it exists, outside the plan
				target.address = r.address
				all = append(all, target)
				byName[strings.ToLower(target.id)] = target
			}
			r.apply(row, target.body)
		}
	}
	sum := sha256.Sum256(text)
	for _, r := range all {
		if r.body != nil {
			inv.Add(r.body, posture.Evidence{Source: "tfplan", Time: at, SHA256: hex.EncodeToString(sum[:]), Path: name + "#" + r.address})
		}
	}
	return nil
}

func (m module) resources() (out []*planned) {
	for _, r := range m.Resources {
		if r.Mode != "data" {
			out = append(out, &planned{address: r.Address, typ: r.Type, after: r.Values})
		}
	}
	for _, c := range m.Children {
		out = append(out, c.resources()...)
	}
	return out
}

// references collects, by "ADDRESS.ATTRIBUTE", what an attribute refers to.
func (c config) references(prefix string, into map[string][]string) {
	for _, r := range c.Resources {
		for name, raw := range r.Expressions {
			var e struct {
				References []string `json:"references"`
			}
			if json.Unmarshal(raw, &e) != nil {
				continue // a block: none of the attributes that name targets is in one
			}
			into[prefix+r.Address+"."+name] = e.References
		}
	}
	for name, call := range c.Calls {
		call.Module.references(prefix+"module."+name+".", into)
	}
}

// describe makes the resource's body, if a row makes it one of a type.
func (r *planned) describe(rows []Row) {
	for _, row := range rows {
		if row.Target != "" {
			return
		}
		if r.body == nil {
			r.id = text(r.value("id"))
			if r.id == "" {
				r.id = r.address
			}
			r.body = r.base(row.Type, map[string]any{})
		}
		r.apply(row, r.body)
	}
}

// apply brings what r sets by a row into a body.
func (r *planned) apply(row Row, body map[string]any) {
	if rule := find(row.Type, row.Part); rule != nil && (row.Key != "" || row.On != "" || row.Target == "" && row.Copy == "") {
		merge(body, rule.Compose(r.setting(row)))
	}
	for c := range strings.SplitSeq(row.Copy, ";") {
		to, from, ok := strings.Cut(c, "=")
		if !ok {
			continue
		}
		constant, attribute, conditional := strings.Cut(from, "?")
		if !conditional {
			attribute = from
		}
		v := r.first(attribute)
		switch {
		case v == nil || v == "":
			continue
		case conditional && v != posture.UnknownValue:
			v = constant
		}
		put(body, strings.Split(to, "."), v)
	}
}

// setting reads what a row's attributes say.
func (r *planned) setting(row Row) posture.Setting {
	s := posture.Setting{Identity: text(r.first(row.Identity)), Key: r.key(row.Key)}
	s.On = s.Key != nil && s.Key != ""
	if name, want, ok := strings.Cut(row.On, "="); ok {
		v := r.value(name)
		s.On = v == posture.UnknownValue || strings.EqualFold(text(v), want)
		if v == posture.UnknownValue {
			s.Key = v
		}
	}
	return s
}

// key reads a key by a spec: attributes by preference, "{vault,name,version}" in
// three, or "block>attribute" for one a disk.
func (r *planned) key(spec string) any {
	if strings.Contains(spec, ">") {
		disks := []any{}
		for one := range strings.SplitSeq(spec, "+") {
			block, name, _ := strings.Cut(one, ">")
			for _, b := range r.blocks(block) {
				disks = append(disks, b.first(name))
			}
		}
		return disks
	}
	for one := range strings.SplitSeq(strings.ReplaceAll(spec, "|{", "\x00{"), "\x00") {
		fields, split := strings.CutPrefix(one, "{")
		if !split {
			if v := r.first(one); v != nil && v != "" {
				return v
			}
			continue
		}
		f := strings.Split(strings.TrimSuffix(fields, "}"), ",")
		vault, name := r.first(f[0]), r.first(f[1])
		switch {
		case vault == posture.UnknownValue || name == posture.UnknownValue:
			return posture.UnknownValue
		case text(vault) == "" || text(name) == "":
			continue
		}
		// A vault's resource id stands for its host, which the plan does not have.
		host := strings.TrimPrefix(strings.TrimSuffix(text(vault), "/"), "https://")
		if strings.HasPrefix(host, "/") {
			host = strings.ToLower(host[strings.LastIndexByte(host, '/')+1:]) + ".vault.azure.net"
		}
		url := "https://" + host + "/keys/" + text(name)
		if v := text(r.first(f[2])); v != "" {
			url += "/" + v
		}
		return url
	}
	return nil
}

// target returns what a row's resource sets the key of: of the plan, or a new one
// with no address if it lies outside.
func (r *planned) target(row Row, refs map[string][]string, byName map[string]*planned) *planned {
	id := r.value(row.Target)
	if id != posture.UnknownValue && text(id) != "" {
		if t := byName[strings.ToLower(text(id))]; t != nil {
			return t
		}
		return &planned{typ: row.Resource, id: text(id), body: map[string]any{"id": text(id), "type": row.Type, "properties": map[string]any{}}}
	}
	// Configuration knows no instances: "a.b[0]" is the same block as "a.b".
	address, index := r.address, ""
	if strings.HasSuffix(address, "]") {
		if i := strings.LastIndexByte(address, '['); i > 0 {
			address, index = address[:i], address[i:]
		}
	}
	module := address[:max(0, strings.LastIndex(address, r.typ+"."))] // with its instance: references stay within it
	for _, ref := range refs[withoutIndexes(address)+"."+row.Target] {
		ref = module + strings.TrimSuffix(ref, ".id")
		for _, candidate := range []string{ref + index, ref} {
			if t := byName[candidate]; t != nil {
				return t
			}
		}
	}
	return nil
}

// withoutIndexes drops the instance keys of modules in an address.
func withoutIndexes(address string) string {
	for {
		open := strings.IndexByte(address, '[')
		if open < 0 {
			return address
		}
		end := strings.IndexByte(address[open:], ']')
		if end < 0 {
			return address
		}
		address = address[:open] + address[open+end+1:]
	}
}

// first returns the value of the first of some attributes that has one.
func (r *planned) first(names string) any {
	if names == "" {
		return nil
	}
	for name := range strings.SplitSeq(names, "|") {
		if v := r.value(name); v != nil && v != "" {
			return v
		}
	}
	return nil
}

// value returns the first value of an attribute, UnknownValue if it is left to
// apply, nil if there is none.
func (r *planned) value(name string) any {
	if all := r.values(name); len(all) > 0 {
		return all[0]
	}
	return nil
}

func (r *planned) values(name string) []any {
	return walk(r.after, r.unknown, strings.Split(name, "."))
}

// walk follows a path through values and what is unknown of them, side by side. A
// block is a list in both.
func walk(v, unknown any, path []string) []any {
	if unknown == true {
		return []any{posture.UnknownValue}
	}
	switch v := v.(type) {
	case []any:
		us, _ := unknown.([]any)
		var out []any
		for i, e := range v {
			var u any
			if i < len(us) {
				u = us[i]
			}
			out = append(out, walk(e, u, path)...)
		}
		return out
	case map[string]any:
		if len(path) > 0 {
			us, _ := unknown.(map[string]any)
			return walk(v[path[0]], us[path[0]], path[1:])
		}
	case nil:
		// A block or list that has unknown parts only.
		if us, ok := unknown.([]any); ok && len(us) > 0 {
			return walk([]any{nil}, us, path)
		}
		if us, ok := unknown.(map[string]any); ok && len(path) > 0 {
			return walk(nil, us[path[0]], path[1:])
		}
		return nil
	}
	if len(path) > 0 {
		return nil
	}
	return []any{overlaid(v, unknown)}
}

// overlaid returns a map's values with those that are unknown beside them.
func overlaid(v, unknown any) any {
	m, ok := v.(map[string]any)
	us, _ := unknown.(map[string]any)
	if !ok || len(us) == 0 {
		return v
	}
	m = maps.Clone(m)
	for name, u := range us {
		if u == true {
			m[name] = posture.UnknownValue
		}
	}
	return m
}

// blocks returns the elements of a block as resources of their own.
func (r *planned) blocks(name string) (out []*planned) {
	after, _ := r.after.(map[string]any)
	unknown, _ := r.unknown.(map[string]any)
	if unknown[name] == true {
		return []*planned{{after: map[string]any{}, unknown: true}}
	}
	elements, _ := after[name].([]any)
	us, _ := unknown[name].([]any)
	for i, e := range elements {
		p := &planned{after: e}
		if i < len(us) {
			p.unknown = us[i]
		}
		out = append(out, p)
	}
	return out
}

func find(typ, part string) *posture.Rule {
	for _, r := range posture.Types() {
		if r.Type == typ && r.Part == part {
			return r
		}
	}
	return nil
}

func put(body map[string]any, path []string, v any) {
	for _, name := range path[:len(path)-1] {
		next, ok := body[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			body[name] = next
		}
		body = next
	}
	if old, both := body[path[len(path)-1]].(map[string]any); both {
		if m, ok := v.(map[string]any); ok {
			merge(old, m)
			return
		}
	}
	body[path[len(path)-1]] = v
}

// merge brings all of b into a.
func merge(a, b map[string]any) {
	for _, k := range slices.Sorted(maps.Keys(b)) {
		put(a, []string{k}, b[k])
	}
}

func text(v any) string {
	if v == nil || v == posture.UnknownValue {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	return fmt.Sprint(v)
}
