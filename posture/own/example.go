package own

import (
	"fmt"
	"slices"
	"time"

	"github.com/kluis-io/kluis/posture"
)

// An Example is what a control is to say of a small estate: its test, in its file.
type Example struct {
	Name   string           `yaml:"name"`
	Given  []map[string]any `yaml:"given"`  // objects as an export has them, in Resource Manager's or az's shape
	About  string           `yaml:"about"`  // the id, or key URL, of what is judged; the first that the control can be about if it is not said
	Policy posture.Policy   `yaml:"policy"` // the classification policy, if it matters
	Now    posture.Date     `yaml:"now"`    // the day of the scan; today if it is not said
	Expect string           `yaml:"expect"` // pass, fail, unknown or not-applicable
}

var answers = []string{Pass, Fail, Unknown, NotApplicable}

func (c *Control) checkExamples(name string, line int) error {
	for _, e := range c.Examples {
		if !slices.Contains(answers, e.Expect) {
			return bad(name, line, fmt.Sprintf("%s, example %q expects %q", c.ID, e.Name, e.Expect), "It expects pass, fail, unknown or not-applicable.")
		}
		if len(e.Given) == 0 {
			return bad(name, line, fmt.Sprintf("%s, example %q gives nothing to judge", c.ID, e.Name), "Write objects under given, as 'az resource show' prints them.")
		}
	}
	return nil
}

// A Trial is what a control said of an example.
type Trial struct {
	Control string `json:"control"`
	Example string `json:"example"`
	Expect  string `json:"expect"`
	Got     string `json:"got"`
	Detail  string `json:"detail,omitempty"`
}

// OK reports whether the control said what the example expects.
func (t Trial) OK() bool { return t.Got == t.Expect }

// Try judges all examples, each by its own control.
func (s *Set) Try(now time.Time) (out []Trial) {
	for _, c := range s.all {
		for _, e := range c.Examples {
			out = append(out, c.try(e, now))
		}
	}
	return out
}

func (c *Control) try(e Example, now time.Time) Trial {
	if !e.Now.IsZero() {
		now = e.Now.Time
	}
	inv := &posture.Inventory{Keep: true}
	for _, body := range e.Given {
		inv.Add(jsonOf(body).(map[string]any), posture.Evidence{Source: "example", Time: now})
	}
	inv.Link()
	t := Trial{Control: c.ID, Example: e.Name, Expect: e.Expect, Got: NotApplicable, Detail: "nothing in it is a " + c.About}
	posture.Judge(inv, &e.Policy, nil, now, tried{c, e.About, &t})
	return t
}

// tried notes what a control says of one thing.
type tried struct {
	control *Control
	about   string
	trial   *Trial
}

func (tried) Controls() []posture.Control { return nil }

func (t tried) Check(in *posture.Judged) []posture.Result {
	root, found := &view{in: in}, false
	ask := func(id string, v func() *view) {
		if !found && (t.about == "" || t.about == id) {
			found = true
			t.trial.Got, t.trial.Detail = t.control.ask(v())
		}
	}
	switch t.control.About {
	case AboutResource:
		for i := range in.Resources {
			ask(in.Resources[i].ID, func() *view {
				v := root.sub(resourceKind)
				v.resource = &in.Resources[i]
				return v
			})
		}
	case AboutKey:
		for _, k := range in.Inventory.Keys {
			ask(k.Ref.URL(), func() *view { return root.keyView(k.Ref) })
		}
	case AboutVault:
		for _, v := range in.Inventory.Vaults {
			ask(v.ID, func() *view { return root.vaultView(v) })
		}
	}
	return nil
}

// jsonOf gives a value read from YAML the types that JSON would have given it.
func jsonOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = jsonOf(e)
		}
	case []any:
		for i, e := range v {
			v[i] = jsonOf(e)
		}
	case int:
		return float64(v)
	case time.Time:
		return v.Format(time.RFC3339)
	}
	return v
}
