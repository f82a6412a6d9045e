package posture

import (
	"fmt"
	"slices"
	"strings"
)

// unknown is the type of [UnknownValue].
type unknown struct{}

func (unknown) String() string { return "unknown until apply" }

// MarshalJSON writes null: the value is not there yet.
func (unknown) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// UnknownValue stands in a document for a value that will be known after apply.
var UnknownValue any = unknown{}

// A document is a resource's JSON, in Resource Manager's shape or in the one that
// az shows, with what lies below "properties" moved up.
type document struct {
	body map[string]any
	flat bool
}

// A path names values in a document. Field names compare without regard to case:
// services spell them differently even between their own versions.
type path []string

func parsePath(s string) path { return strings.Split(strings.TrimSpace(s), ".") }

// Field returns a field of an object, whatever the case of its name; nil if it has none.
func Field(m map[string]any, name string) any {
	if v, ok := m[name]; ok {
		return v
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}

// in returns the path as d's dialect has it.
func (p path) in(d document) path {
	if d.flat && p[0] == "properties" {
		return p[1:]
	}
	return p
}

// values appends to out the values at p, of all elements where an array is on the
// way. Null and the empty string are no values.
func (p path) values(v any, out []any) []any {
	switch v := v.(type) {
	case nil:
		return out
	case unknown:
		return append(out, v)
	case []any:
		for _, e := range v {
			out = p.values(e, out)
		}
		return out
	case map[string]any:
		if len(p) > 0 {
			return p[1:].values(Field(v, p[0]), out)
		}
		if len(v) == 0 {
			return out
		}
	case string:
		if v == "" {
			return out
		}
	}
	if len(p) > 0 {
		return out
	}
	return append(out, v)
}

// all returns the values at p in d.
func (d document) all(p path) []any { return p.in(d).values(d.body, nil) }

// objects returns the objects at p, of all elements where an array is on the way,
// empty ones too: a disk of which nothing is said is a disk. An unknown value stands
// for as many as there may be.
func (d document) objects(p path) []any { return p.in(d).objects(d.body, nil) }

func (p path) objects(v any, out []any) []any {
	switch v := v.(type) {
	case unknown:
		return append(out, v)
	case []any:
		for _, e := range v {
			out = p.objects(e, out)
		}
	case map[string]any:
		if len(p) == 0 {
			return append(out, v)
		}
		return p[1:].objects(Field(v, p[0]), out)
	}
	return out
}

// text returns the first value at the first of the paths that has one, and whether
// it is known.
func (d document) text(paths []path) (string, bool) {
	for _, p := range paths {
		all := d.all(p)
		switch {
		case len(all) == 0:
		case all[0] == UnknownValue:
			return "", false
		default:
			return scalar(all[0]), true
		}
	}
	return "", true
}

func scalar(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return fmt.Sprint(v)
}

// str returns the text at a path written as one string, for the few paths that are
// not data.
func (d document) str(p string) string {
	s, _ := d.text([]path{parsePath(p)})
	return s
}

// below reports whether p lies in o.
func (p path) below(o path) bool { return len(p) > len(o) && slices.Equal(p[:len(o)], o) }

// put sets the value at p, making the objects on the way. Field spelling is p's.
func (p path) put(body map[string]any, v any) {
	for _, name := range p[:len(p)-1] {
		next, ok := body[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			body[name] = next
		}
		body = next
	}
	body[p[len(p)-1]] = v
}

// A condition holds if a value is there or, with wants, is one of them; with not,
// if it is none of them.
type condition struct {
	paths []path
	wants []string
	not   bool
}

// state returns On or Off, or Unknown.
func (c condition) state(d document) State {
	v, known := d.text(c.paths)
	if !known {
		return Unknown
	}
	if c.wants == nil {
		return onIf(v != "")
	}
	for _, w := range c.wants {
		if strings.EqualFold(v, w) {
			return onIf(!c.not)
		}
	}
	return onIf(c.not)
}

func onIf(on bool) State {
	if on {
		return On
	}
	return Off
}

// A test is parts joined by " + ", each counting for itself; a part is conditions
// joined by " & ", that all have to hold, or by " | ", of which one has to.
type test []clause

type clause struct {
	conditions []condition
	any        bool
}

func parseTest(s string) test {
	if s == "" {
		return nil
	}
	var t test
	for part := range strings.SplitSeq(s, " + ") {
		c := clause{any: strings.Contains(part, " | ")}
		sep := " & "
		if c.any {
			sep = " | "
		}
		for one := range strings.SplitSeq(part, sep) {
			c.conditions = append(c.conditions, parseCondition(one))
		}
		t = append(t, c)
	}
	return t
}

func parseCondition(s string) condition {
	lhs, rhs, has := strings.Cut(s, "=")
	var c condition
	if has {
		lhs, c.not = strings.CutSuffix(lhs, "!")
		c.wants = strings.Split(rhs, ",")
	}
	for p := range strings.SplitSeq(lhs, "|") {
		c.paths = append(c.paths, parsePath(p))
	}
	return c
}

func (c clause) state(d document) State {
	if len(c.conditions) == 1 {
		return c.conditions[0].state(d)
	}
	seen := map[State]bool{}
	for _, one := range c.conditions {
		seen[one.state(d)] = true
	}
	decisive := Off
	if c.any {
		decisive = On
	}
	switch {
	case seen[decisive]:
		return decisive
	case seen[Unknown]:
		return Unknown
	}
	return onIf(!c.any)
}

func (t test) state(d document) (s State) {
	for _, c := range t {
		s = s.join(c.state(d))
	}
	return s
}
