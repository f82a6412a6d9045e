package azpolicy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// An expr is a template expression: a literal, or a call with what is taken of its
// result. https://learn.microsoft.com/azure/azure-resource-manager/templates/template-expressions
type expr struct {
	literal any
	call    string // in lower case; empty for a literal
	args    []*expr
	take    []*expr // properties and indexes
}

// maxDepth bounds how deep expressions and conditions nest.
const maxDepth = 64

// parseValue makes an expression of a value in a definition: what stands in brackets
// is a template expression, all else is itself.
func parseValue(v any) (*expr, error) {
	s, ok := v.(string)
	if !ok || !strings.HasPrefix(s, "[") || !strings.HasSuffix(s, "]") || strings.HasPrefix(s, "[[") {
		if ok && strings.HasPrefix(s, "[[") {
			v = s[1:]
		}
		if list, is := v.([]any); is {
			e := &expr{call: "createarray"}
			for _, one := range list {
				arg, err := parseValue(one)
				if err != nil {
					return nil, err
				}
				e.args = append(e.args, arg)
			}
			return e, nil
		}
		return &expr{literal: v}, nil
	}
	p := parser{s: s[1 : len(s)-1]}
	e, err := p.expr(0)
	if err == nil && p.rest() != "" {
		err = fmt.Errorf("%q follows", p.rest())
	}
	if err != nil {
		return nil, fmt.Errorf("the expression %s: %w", s, err)
	}
	return e, nil
}

type parser struct{ s string }

func (p *parser) rest() string {
	p.s = strings.TrimLeft(p.s, " \t\r\n")
	return p.s
}

func (p *parser) eat(c byte) bool {
	if p.rest() != "" && p.s[0] == c {
		p.s = p.s[1:]
		return true
	}
	return false
}

func (p *parser) expr(depth int) (*expr, error) {
	if depth > maxDepth {
		return nil, errors.New("it nests too deeply")
	}
	switch s := p.rest(); {
	case s == "":
		return nil, errors.New("it ends too early")
	case s[0] == '\'':
		return p.text()
	case s[0] == '-' || s[0] >= '0' && s[0] <= '9':
		end := len(s) - len(strings.TrimLeft(s, "-0123456789."))
		n, err := strconv.ParseFloat(s[:end], 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", s[:end])
		}
		p.s = s[end:]
		return &expr{literal: n}, nil
	}
	name := p.name()
	switch strings.ToLower(name) {
	case "":
		return nil, fmt.Errorf("%q begins nothing", p.s)
	case "true", "false":
		return &expr{literal: strings.EqualFold(name, "true")}, nil
	case "null":
		return &expr{}, nil
	}
	if !p.eat('(') {
		return nil, fmt.Errorf("%s is called without parentheses", name)
	}
	e := &expr{call: strings.ToLower(name)}
	for !p.eat(')') {
		if len(e.args) > 0 && !p.eat(',') {
			return nil, fmt.Errorf("the arguments of %s do not end", name)
		}
		arg, err := p.expr(depth + 1)
		if err != nil {
			return nil, err
		}
		e.args = append(e.args, arg)
	}
	if !known(e.call, len(e.args)) {
		return nil, fmt.Errorf("there is no function %s of %d arguments", name, len(e.args))
	}
	return e, p.taken(e, depth)
}

// taken reads the properties and indexes that follow a call.
func (p *parser) taken(e *expr, depth int) error {
	for {
		switch {
		case p.eat('.'):
			name := p.name()
			if name == "" {
				return errors.New("a property has no name")
			}
			e.take = append(e.take, &expr{literal: name})
		case p.eat('['):
			index, err := p.expr(depth + 1)
			if err != nil {
				return err
			}
			if !p.eat(']') {
				return errors.New("an index does not end")
			}
			e.take = append(e.take, index)
		default:
			return nil
		}
	}
}

func (p *parser) name() string {
	s := p.rest()
	end := 0
	for end < len(s) && (s[end] == '_' || s[end] >= '0' && s[end] <= '9' || s[end]|32 >= 'a' && s[end]|32 <= 'z') {
		end++
	}
	p.s = s[end:]
	return s[:end]
}

// text reads a text in single quotes; two of them stand for one.
func (p *parser) text() (*expr, error) {
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		if p.s[i] != '\'' {
			b.WriteByte(p.s[i])
			continue
		}
		if i+1 < len(p.s) && p.s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		p.s = p.s[i+1:]
		return &expr{literal: b.String()}, nil
	}
	return nil, errors.New("a text does not end")
}
