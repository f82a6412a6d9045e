package azpolicy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/posture"
)

// An evaluation is one definition asked about one object.
type evaluation struct {
	object     *posture.Object // what fields are of
	root       *posture.Object // what the definition is about; another than object while a related one is looked at
	parameters map[string]any  // in lower case
	now        time.Time
	frames     []frame // of the counts that run, innermost last
}

// A frame is the element that a count looks at.
type frame struct {
	alias string // of the list, in lower case
	name  string // in place of it, if the list is a value
	value any
}

// topLevel are the fields that lie beside properties and not below.
var topLevel = []string{"name", "type", "location", "kind", "id", "tags", "identity", "sku", "zones", "plan", "managedby", "fullname"}

// resolve returns the values of an alias, nil for one that is not there, and whether
// the alias names a list's elements. An alias is the type, a slash, and the path
// below properties; that is how Azure's table of aliases is made, but for what lies
// beside properties.
func (e *evaluation) resolve(alias string) (values []any, list bool) {
	low := strings.ToLower(alias)
	for _, f := range slices.Backward(e.frames) {
		if f.alias != "" && strings.HasPrefix(low, f.alias) {
			path := tokens(alias[len(f.alias):])
			return walk(unwrapped(f.value, path), path, nil), true
		}
	}
	o, path, ok := e.place(alias)
	if !ok {
		return []any{nil}, false
	}
	if len(path) == 1 && strings.EqualFold(path[0], "type") {
		return []any{o.Type}, false
	}
	list = slices.Contains(path, "[*]")
	values = walk(o.Body(), path, nil)
	if o.Evidence.Source == "tfplan" && !strings.EqualFold(path[0], "name") {
		// A plan's body holds what the table of types knows; the rest is not there to see.
		for i, v := range values {
			if v == nil && !posture.Composed(o.Type, path) {
				values[i] = posture.UnknownValue
			}
		}
		if len(values) == 0 && !posture.Composed(o.Type, path) {
			values = []any{posture.UnknownValue}
		}
	}
	return values, list
}

// place finds the object that an alias is of, and the path in its body.
func (e *evaluation) place(alias string) (*posture.Object, []string, bool) {
	if strings.IndexByte(alias, '/') < 0 || strings.HasPrefix(strings.ToLower(alias), "tags[") {
		return e.object, tokens(alias), true
	}
	for _, o := range []*posture.Object{e.object, e.root} {
		if o == nil || len(alias) <= len(o.Type) || !strings.EqualFold(alias[:len(o.Type)], o.Type) || alias[len(o.Type)] != '/' {
			continue
		}
		path := tokens(alias[len(o.Type)+1:])
		if len(path) == 0 {
			return nil, nil, false
		}
		if _, has := property(o.Body(), path[0]); has && slices.Contains(topLevel, strings.ToLower(path[0])) {
			return o, path, true
		}
		if !o.Flat() && !strings.EqualFold(path[0], "properties") {
			path = append([]string{"properties"}, path...)
		}
		return o, path, true
	}
	return nil, nil, false
}

// tokens cuts a path: names, and "[*]" for each element of a list.
func tokens(path string) (out []string) {
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "."), ".") {
		for {
			name, rest, more := strings.Cut(part, "[")
			if name != "" {
				out = append(out, name)
			}
			if !more {
				break
			}
			index, after, _ := strings.Cut(rest, "]")
			if index = strings.Trim(index, "'"); index == "*" {
				out = append(out, "[*]")
			} else {
				out = append(out, index)
			}
			part = after
		}
	}
	return out
}

// walk appends the values at a path. What an element of a list lacks is nil; a list
// that is not there has no elements.
func walk(v any, path []string, out []any) []any {
	if v == posture.UnknownValue {
		return append(out, v)
	}
	if len(path) == 0 {
		return append(out, v)
	}
	if list, ok := v.([]any); ok {
		// Some aliases name what is in a list's elements without saying that it is one.
		rest := path
		if path[0] == "[*]" {
			rest = path[1:]
		}
		for _, e := range list {
			out = walk(unwrapped(e, rest), rest, out)
		}
		return out
	}
	if path[0] == "[*]" {
		return out
	}
	m, ok := v.(map[string]any)
	if !ok {
		if slices.Contains(path, "[*]") {
			return out
		}
		return append(out, nil)
	}
	v, _ = property(m, path[0])
	return walk(v, path[1:], out)
}

// unwrapped returns what has the path of an element of a list: the element, or what
// lies below properties in one that is a resource itself, as private endpoints are.
func unwrapped(element any, path []string) any {
	m, ok := element.(map[string]any)
	if !ok || len(path) == 0 {
		return element
	}
	if _, has := property(m, path[0]); has {
		return element
	}
	if inner, _ := property(m, "properties"); inner != nil {
		return inner
	}
	return element
}

// fieldValue is what the function field() gives: a value, or of a list's elements all
// that are there.
func (e *evaluation) fieldValue(alias string) any {
	values, list := e.resolve(alias)
	if !list {
		if len(values) == 0 {
			return nil
		}
		return values[0]
	}
	return present(values)
}

func present(values []any) any {
	out := []any{}
	for _, v := range values {
		if v == posture.UnknownValue {
			return v
		}
		if v != nil {
			out = append(out, v)
		}
	}
	return out
}

// current is what the function current() gives in a count: its element, or a part of it.
func (e *evaluation) current(args []any) (any, error) {
	if len(args) == 0 {
		if len(e.frames) == 0 {
			return nil, fmt.Errorf("current() outside of a count")
		}
		return e.frames[len(e.frames)-1].value, nil
	}
	name := fold(args[0])
	for _, f := range slices.Backward(e.frames) {
		switch {
		case f.name != "" && f.name == name:
			return f.value, nil
		case f.alias != "" && strings.HasPrefix(name, f.alias):
			path := tokens(name[len(f.alias):])
			values := walk(unwrapped(f.value, path), path, nil)
			if slices.Contains(path, "[*]") {
				return present(values), nil
			}
			if len(values) == 0 {
				return nil, nil
			}
			return values[0], nil
		}
	}
	return nil, fmt.Errorf("current(%q) outside of a count of it", name)
}

func (e *evaluation) parameter(name string) (any, error) {
	v, ok := e.parameters[strings.ToLower(name)]
	if !ok {
		return nil, fmt.Errorf("parameter %s has no value", name)
	}
	return v, nil
}

// group is what resourceGroup() gives: what an id tells. Who manages the group is
// taken for nobody, which is so for all groups but those that services make.
func (e *evaluation) group() any {
	name, id := "", ""
	low := strings.ToLower(e.root.ID)
	if i := strings.Index(low, "/resourcegroups/"); i >= 0 {
		at := i + len("/resourcegroups/")
		end := len(low)
		if n := strings.IndexByte(low[at:], '/'); n >= 0 {
			end = at + n
		}
		name, id = e.root.ID[at:end], e.root.ID[:end]
	}
	return map[string]any{"name": name, "id": id, "managedBy": ""}
}

func (e *evaluation) subscription() any { return map[string]any{"id": subscriptionOf(e.root.ID)} }

func subscriptionOf(id string) string {
	p := strings.SplitN(id, "/", 4)
	if len(p) < 3 {
		return ""
	}
	return strings.Join(p[:3], "/")
}
