package azpolicy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/posture"
)

// A truth is one of three: what is not known stays so.
type truth int

const (
	no truth = iota
	unknown
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (t truth) not() truth { return yes - t }

// A condition is one node of a rule.
// https://learn.microsoft.com/azure/governance/policy/concepts/definition-structure-policy-rule
type condition struct {
	all, any []*condition
	not      *condition

	field    *expr // the alias compared
	value    *expr // or the value
	count    *count
	operator string // in lower case
	operand  *expr
}

type count struct {
	field string
	value *expr
	name  string
	where *condition // nil: each counts
}

// operators compare. What is not there is nil.
var operators = map[string]func(left, right any) (bool, error){
	"equals":          func(l, r any) (bool, error) { return equal(l, r), nil },
	"notequals":       func(l, r any) (bool, error) { return !equal(l, r), nil },
	"exists":          func(l, r any) (bool, error) { return (l != nil) == equal(r, true), nil },
	"in":              func(l, r any) (bool, error) { return within(l, r) },
	"notin":           func(l, r any) (bool, error) { in, err := within(l, r); return !in, err },
	"contains":        func(l, r any) (bool, error) { return contains(l, r), nil },
	"notcontains":     func(l, r any) (bool, error) { return !contains(l, r), nil },
	"containskey":     func(l, r any) (bool, error) { _, ok := l.(map[string]any); return ok && contains(l, r), nil },
	"notcontainskey":  func(l, r any) (bool, error) { _, ok := l.(map[string]any); return !ok || !contains(l, r), nil },
	"like":            func(l, r any) (bool, error) { return like(fold(l), fold(r)), nil },
	"notlike":         func(l, r any) (bool, error) { return !like(fold(l), fold(r)), nil },
	"less":            func(l, r any) (bool, error) { return ordered(l, r, func(c int) bool { return c < 0 }) },
	"lessorequals":    func(l, r any) (bool, error) { return ordered(l, r, func(c int) bool { return c <= 0 }) },
	"greater":         func(l, r any) (bool, error) { return ordered(l, r, func(c int) bool { return c > 0 }) },
	"greaterorequals": func(l, r any) (bool, error) { return ordered(l, r, func(c int) bool { return c >= 0 }) },
}

func within(l, r any) (bool, error) {
	list, ok := r.([]any)
	if !ok {
		return false, errors.New("what it is to be in is no list")
	}
	return contains(list, l), nil
}

// like matches a pattern with one "*" at most.
func like(s, pattern string) bool {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return s == pattern
	}
	return len(s) >= len(before)+len(after) && strings.HasPrefix(s, before) && strings.HasSuffix(s, after)
}

// ordered compares numbers, or texts in the order of their letters, which is that of
// times too. What is not there is in no order with anything.
func ordered(l, r any, want func(int) bool) (bool, error) {
	if l == nil || r == nil {
		return false, nil
	}
	_, ln := l.(float64)
	_, rn := r.(float64)
	if ln || rn {
		a, err := number(l)
		if err != nil {
			return false, err
		}
		b, err := number(r)
		if err != nil {
			return false, err
		}
		switch {
		case a < b:
			return want(-1), nil
		case a > b:
			return want(1), nil
		}
		return want(0), nil
	}
	return want(strings.Compare(fold(l), fold(r))), nil
}

// property returns a field of an object, whose case matters to nobody.
func property(m map[string]any, name string) (any, bool) {
	if v, ok := m[name]; ok {
		return v, v != nil
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v, v != nil
		}
	}
	return nil, false
}

// parseCondition reads a node. Names in it compare without regard to case.
func parseCondition(v any, depth int) (*condition, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("a condition is an object, not %T", v)
	}
	if depth > maxDepth {
		return nil, errors.New("conditions nest too deeply")
	}
	c := &condition{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		var err error
		switch low := strings.ToLower(name); low {
		case "allof":
			c.all, err = parseConditions(m[name], depth)
		case "anyof":
			c.any, err = parseConditions(m[name], depth)
		case "not":
			c.not, err = parseCondition(m[name], depth+1)
		case "field":
			if _, is := m[name].(string); !is {
				err = errors.New("a field is a text")
				break
			}
			c.field, err = parseValue(m[name])
		case "value":
			c.value, err = parseValue(m[name])
		case "count":
			c.count, err = parseCount(m[name], depth)
		default:
			if operators[low] == nil {
				return nil, fmt.Errorf("there is no operator %q here", name)
			}
			if c.operator != "" {
				return nil, fmt.Errorf("a condition has two operators: %s and %s", c.operator, name)
			}
			c.operator = low
			c.operand, err = parseValue(m[name])
		}
		if err != nil {
			return nil, err
		}
	}
	return c, c.check()
}

func (c *condition) check() error {
	n, compared := 0, 0
	for _, is := range []bool{c.all != nil, c.any != nil, c.not != nil} {
		if is {
			n++
		}
	}
	for _, is := range []bool{c.field != nil, c.value != nil, c.count != nil} {
		if is {
			compared++
		}
	}
	switch {
	case n+compared != 1:
		return errors.New("a condition is one of allOf, anyOf, not, field, value and count")
	case compared == 1 && c.operator == "":
		return errors.New("a condition compares with nothing")
	case n == 1 && c.operator != "":
		return errors.New("allOf, anyOf and not compare with nothing")
	}
	return nil
}

func parseConditions(v any, depth int) ([]*condition, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, errors.New("allOf and anyOf hold lists")
	}
	out := []*condition{}
	for _, one := range list {
		c, err := parseCondition(one, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func parseCount(v any, depth int) (*count, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("a count is an object")
	}
	c := &count{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		var err error
		switch strings.ToLower(name) {
		case "field":
			c.field = text(m[name])
		case "value":
			c.value, err = parseValue(m[name])
		case "name":
			c.name = text(m[name])
		case "where":
			c.where, err = parseCondition(m[name], depth+1)
		default:
			err = fmt.Errorf("a count has no %q", name)
		}
		if err != nil {
			return nil, err
		}
	}
	if (c.field == "") == (c.value == nil) {
		return nil, errors.New("a count counts a field or a value")
	}
	return c, nil
}

// holds evaluates a condition.
func (e *evaluation) holds(c *condition) (truth, error) {
	switch {
	case c.not != nil:
		t, err := e.holds(c.not)
		return t.not(), err
	case c.all != nil:
		return e.joined(c.all, yes)
	case c.any != nil:
		return e.joined(c.any, no)
	}
	right, err := e.value(c.operand)
	if err != nil {
		return no, err
	}
	var left []any
	switch {
	case c.count != nil:
		n, known, err := e.counted(c.count)
		if err != nil || !known {
			return unknown, err
		}
		left = []any{float64(n)}
	case c.value != nil:
		v, err := e.value(c.value)
		if err != nil {
			return no, err
		}
		left = []any{v}
	default:
		alias, err := e.value(c.field)
		if err != nil {
			return no, err
		}
		// A condition on the elements of a list holds if it does for each.
		left, _ = e.resolve(text(alias))
	}
	result := yes
	for _, l := range left {
		if l == posture.UnknownValue || right == posture.UnknownValue {
			result = min(result, unknown)
			continue
		}
		ok, err := operators[c.operator](l, right)
		if err != nil {
			return no, err
		}
		result = min(result, truthOf(ok))
	}
	return result, nil
}

// joined evaluates conditions that all have to hold (from yes), or one (from no).
func (e *evaluation) joined(all []*condition, from truth) (truth, error) {
	result := from
	for _, c := range all {
		t, err := e.holds(c)
		if err != nil {
			return no, err
		}
		if t == from.not() {
			return t, nil
		}
		if t == unknown {
			result = unknown
		}
	}
	return result, nil
}

// counted returns how many elements of a list fulfil a count's condition, and whether
// that is known.
func (e *evaluation) counted(c *count) (n int, known bool, err error) {
	var list []any
	if c.value != nil {
		v, err := e.value(c.value)
		if err != nil {
			return 0, false, err
		}
		switch v := v.(type) {
		case []any:
			list = v
		case nil:
		default:
			list = []any{v}
		}
	} else {
		list, _ = e.resolve(c.field)
	}
	known = true
	for _, element := range list {
		if element == posture.UnknownValue {
			known = false
			continue
		}
		t := yes
		if c.where != nil {
			e.frames = append(e.frames, frame{alias: strings.ToLower(c.field), name: strings.ToLower(c.name), value: element})
			t, err = e.holds(c.where)
			e.frames = e.frames[:len(e.frames)-1]
			if err != nil {
				return 0, false, err
			}
		}
		switch t {
		case yes:
			n++
		case unknown:
			known = false
		}
	}
	return n, known, nil
}
