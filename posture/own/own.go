// Package own reads an organisation's own controls from a file, and judges by them.
//
// A control is two expressions in CEL (https://cel.dev) over what posture has found
// out: applies says which resources, keys or vaults it is about, and assert what is to
// hold for them. Expressions are checked against the types of schema.go before
// anything is judged; they have no effects, end, and may not cost more than a bound.
// What was not read, or is known after apply only, makes an expression unknown as
// long as the answer depends on it, and unknown is a finding: it never passes.
package own

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// Bounds on a file of controls.
const (
	MaxControls   = 500
	MaxExpression = 8 << 10 // code points of one expression
	// MaxCost is the most that evaluating one expression once may cost, in CEL's
	// units: about one an operation or ten bytes compared.
	MaxCost = 100_000
)

// What a control may be about.
const (
	AboutResource = "resource"
	AboutKey      = "key"
	AboutVault    = "vault"
)

// A Control is one control of a file.
type Control struct {
	posture.Control
	About    string
	Examples []Example

	applies, assert cel.Program // applies may be nil: to all
	reads           bool        // properties
	says            string      // the assertion, on one line
}

// entry is a control as it is written.
type entry struct {
	ID         string           `yaml:"id"`
	Title      string           `yaml:"title"`
	Severity   posture.Severity `yaml:"severity"`
	About      string           `yaml:"about"`
	Applies    yaml.Node        `yaml:"applies"`
	Assert     yaml.Node        `yaml:"assert"`
	Why        string           `yaml:"why"`
	Mend       string           `yaml:"mend"`
	Frameworks []string         `yaml:"frameworks"`
	Examples   []Example        `yaml:"examples"`
}

// A Set is the controls of a file.
type Set struct{ all []*Control }

// All returns the controls in the file's order.
func (s *Set) All() []*Control { return s.all }

// Controls returns what [posture.Checker] wants to know of them.
func (s *Set) Controls() []posture.Control {
	out := make([]posture.Control, len(s.all))
	for i, c := range s.all {
		out[i] = c.Control
	}
	return out
}

// ReadsProperties reports whether a control looks at properties, for which
// [posture.Inventory.Keep] has to be set.
func (s *Set) ReadsProperties() bool {
	return slices.ContainsFunc(s.all, func(c *Control) bool { return c.reads })
}

// Parse reads a file of controls. name is the file's, for errors, which name the line
// too and say what mends them.
func Parse(name string, text []byte) (*Set, error) {
	var file struct {
		Controls []yaml.Node `yaml:"controls"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, bad(name, 0, strings.TrimPrefix(err.Error(), "yaml: "), "Write a list of controls under 'controls:'; docs/samples/controls.yaml is one.")
	}
	if len(file.Controls) > MaxControls {
		return nil, bad(name, file.Controls[MaxControls].Line, fmt.Sprintf("there are more than %d controls", MaxControls), "Split the file.")
	}
	envs, err := environments()
	if err != nil {
		return nil, err
	}
	s, seen := &Set{}, map[string]bool{}
	for i := range file.Controls {
		c, err := compile(envs, name, &file.Controls[i])
		if err != nil {
			return nil, err
		}
		if seen[c.ID] {
			return nil, bad(name, file.Controls[i].Line, "there is a second control "+c.ID, "Give each control an id of its own.")
		}
		seen[c.ID] = true
		s.all = append(s.all, c)
	}
	return s, nil
}

func bad(name string, line int, what, mend string) error {
	where := name
	if line > 0 {
		where = fmt.Sprintf("%s:%d", name, line)
	}
	return fault.New(fault.InvalidArgument, where+": "+what).WithMend(mend)
}

// environments returns what expressions may name, by what they are about.
func environments() (map[string]*cel.Env, error) {
	registry := types.NewEmptyRegistry()
	base, err := cel.NewEnv(
		cel.CustomTypeAdapter(adapter{registry}), cel.CustomTypeProvider(provider{registry}),
		cel.ParserExpressionSizeLimit(MaxExpression), cel.ParserRecursionLimit(50), cel.Variable("now", types.TimestampType),
	)
	envs := map[string]*cel.Env{}
	for name, k := range map[string]*kind{AboutResource: resourceKind, AboutKey: keyKind, AboutVault: vaultKind} {
		if err == nil {
			envs[name], err = base.Extend(cel.Variable(name, k.typ))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the types of controls: %w", err)
	}
	return envs, nil
}

func compile(envs map[string]*cel.Env, name string, n *yaml.Node) (*Control, error) {
	var e entry
	raw, err := yaml.Marshal(n)
	if err == nil {
		// KnownFields works on decoders only; lines are taken from n itself.
		d := yaml.NewDecoder(bytes.NewReader(raw))
		d.KnownFields(true)
		err = d.Decode(&entry{})
	}
	if err == nil {
		err = n.Decode(&e)
	}
	if err != nil {
		_, what, found := strings.Cut(strings.Join(strings.Fields(err.Error()), " "), "unmarshal errors: ")
		if !found {
			what = err.Error()
		}
		if _, rest, ok := strings.Cut(what, ": "); ok && strings.HasPrefix(what, "line ") {
			what = rest
		}
		return nil, bad(name, n.Line, what, "A control has id, title, severity, about, applies, assert, why, mend, frameworks and examples.")
	}
	e.About, e.Severity = cmp.Or(e.About, AboutResource), cmp.Or(e.Severity, posture.Medium)
	switch {
	case e.ID == "" || e.Title == "":
		return nil, bad(name, n.Line, "a control needs an id and a title", "Give it both.")
	case strings.ContainsAny(e.ID, " \t\n") || builtIn(e.ID):
		return nil, bad(name, n.Line, "the id "+e.ID+" is a built-in control's or has a space", "Begin it with your organisation's name, as in ACME-1.")
	case !slices.Contains(posture.Severities, e.Severity):
		return nil, bad(name, n.Line, fmt.Sprintf("%s: there is no severity %q", e.ID, e.Severity), "It is critical, high, medium, low or info.")
	case envs[e.About] == nil:
		return nil, bad(name, n.Line, fmt.Sprintf("%s: nothing can be about %q", e.ID, e.About), "It is resource, key or vault.")
	case e.Assert.Value == "":
		return nil, bad(name, n.Line, e.ID+" asserts nothing", "Say under assert, in CEL, what is to hold.")
	case e.Mend == "":
		return nil, bad(name, n.Line, e.ID+" does not say how it is mended", "Say under mend what to do where it does not hold.")
	}
	c := &Control{
		Control: posture.Control{ID: e.ID, Title: e.Title, Severity: e.Severity, Why: cmp.Or(e.Why, "A control of your own."), Mend: e.Mend, Frameworks: e.Frameworks},
		About:   e.About, Examples: e.Examples, says: strings.Join(strings.Fields(e.Assert.Value), " "),
	}
	if e.Applies.Value != "" {
		if c.applies, err = c.program(envs[c.About], name, "applies", &e.Applies); err != nil {
			return nil, err
		}
	}
	if c.assert, err = c.program(envs[c.About], name, "assert", &e.Assert); err != nil {
		return nil, err
	}
	return c, c.checkExamples(name, n.Line)
}

func builtIn(id string) bool {
	_, is := posture.ControlByID(id)
	return is || strings.HasPrefix(id, "CMK/")
}

// program compiles one expression.
func (c *Control) program(env *cel.Env, name, field string, n *yaml.Node) (cel.Program, error) {
	first := n.Line // of the expression's text
	if n.Style == yaml.LiteralStyle || n.Style == yaml.FoldedStyle {
		first++
	}
	checked, issues := env.Compile(n.Value)
	if err := issues.Err(); err != nil {
		e := issues.Errors()[0]
		line := first
		if n.Style == yaml.LiteralStyle {
			line += e.Location.Line() - 1
		}
		return nil, bad(name, line, fmt.Sprintf("%s, %s, column %d: %s", c.ID, field, e.Location.Column()+1, e.Message), mendFor(e.Message))
	}
	if checked.OutputType() != types.BoolType && checked.OutputType() != types.DynType {
		return nil, bad(name, first, fmt.Sprintf("%s, %s is a %s", c.ID, field, checked.OutputType()), "It has to be true or false: compare it with something.")
	}
	if err := c.inspect(checked.NativeRep(), name, field, first); err != nil {
		return nil, err
	}
	p, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(MaxCost))
	if err != nil {
		return nil, bad(name, first, fmt.Sprintf("%s, %s: %v", c.ID, field, err), "Look at the constants in it.")
	}
	return p, nil
}

// inspect refuses what compiles and would mislead, and notes what is read.
func (c *Control) inspect(a *ast.AST, name, field string, line int) error {
	var err error
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.SelectKind {
			return
		}
		of := kinds[a.GetType(e.AsSelect().Operand().ID()).TypeName()]
		if of != nil && e.AsSelect().IsTestOnly() {
			err = bad(name, line, fmt.Sprintf("%s, %s: has() tells nothing of a %s, whose fields are always there", c.ID, field, of.name),
				"Compare the field with \"\", or leave has() out: what was not read makes the control unknown by itself.")
		}
		c.reads = c.reads || of != nil && e.AsSelect().FieldName() == "properties"
	}))
	return err
}

func mendFor(message string) string {
	_, name, undefined := strings.Cut(message, "undefined field '")
	switch {
	case undefined:
		name = strings.TrimSuffix(name, "'")
		for _, k := range kinds {
			for _, f := range k.fields {
				if strings.EqualFold(f.name, name) {
					return "Did you mean " + f.name + "? 'kluis posture controls fields' lists all."
				}
			}
		}
		return "'kluis posture controls fields' lists the fields."
	case strings.Contains(message, "undeclared reference"):
		return "There are now, and what the control is about: resource, unless 'about: key' or 'about: vault' says otherwise. A resource's keys are resource.keys, a key's vault is key.vault."
	case strings.Contains(message, "no matching overload"):
		return "The two sides are of different types: texts stand in quotes, durations are duration(\"720h\"), times timestamp(\"2026-12-31T00:00:00Z\")."
	}
	return "https://cel.dev tells the language; docs/samples/controls.yaml has examples."
}
