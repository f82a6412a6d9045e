package posture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kluis-io/kluis/fault"
)

// A Policy is an organisation's decision: what needs a customer-managed key and
// why, what is excepted and until when, who answers for a key. It is written in
// YAML; [ParsePolicy] reads it.
type Policy struct {
	Rules      []Classification `yaml:"rules"`
	Exceptions []Exception      `yaml:"exceptions"`
	Keys       []KeyDuty        `yaml:"keys"`
	Limits     Limits           `yaml:"limits"`
}

// Limits are the figures that controls compare with. Zero takes the default.
type Limits struct {
	KeyAgeDays       int `yaml:"keyAgeDays"`       // of the newest version: 365
	ExpiryDays       int `yaml:"expiryDays"`       // a key nearer to expiry than that is near: 30
	LogRetentionDays int `yaml:"logRetentionDays"` // of the audit log, where the setting tells: 90
	RSABits          int `yaml:"rsaBits"`          // 2048
	BlastRadius      int `yaml:"blastRadius"`      // resources under one key: 100
	DrillDays        int `yaml:"drillDays"`        // since a key's emergency procedure was tried: 365
}

func (l Limits) orDefault() Limits {
	for _, d := range []struct {
		to *int
		by int
	}{{&l.KeyAgeDays, 365}, {&l.ExpiryDays, 30}, {&l.LogRetentionDays, 90}, {&l.RSABits, 2048}, {&l.BlastRadius, 100}, {&l.DrillDays, 365}} {
		if *d.to == 0 {
			*d.to = d.by
		}
	}
	return l
}

// What a classification requires.
const (
	RequireCMK  = "cmk"
	RequireNone = "platform" // the platform's own key is enough
)

// A Classification says what the resources that it reaches require. The first rule
// that reaches a resource decides.
type Classification struct {
	Name     string   `yaml:"name"`
	When     Match    `yaml:"when"`
	Requires string   `yaml:"requires"`
	Why      string   `yaml:"why"`
	Label    string   `yaml:"label"`    // the platform's sensitivity label, if it is to have one
	Severity Severity `yaml:"severity"` // of a resource without a key that it requires; high if not said
}

// A Match reaches a resource if each of its fields that is there does. Texts are
// compared without regard to case, and "*" stands for any characters. An empty
// Match reaches everything.
type Match struct {
	Tags           map[string]Patterns `yaml:"tags"` // every tag named has a value that matches
	Names          Patterns            `yaml:"names"`
	ResourceGroups Patterns            `yaml:"resourceGroups"`
	Types          Patterns            `yaml:"types"`
	Locations      Patterns            `yaml:"locations"`
	Resources      Patterns            `yaml:"resources"` // ids
}

// Patterns is one text or a list of them.
type Patterns []string

// UnmarshalYAML reads one text or a list.
func (p *Patterns) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*p = Patterns{n.Value}
		return nil
	}
	return n.Decode((*[]string)(p))
}

func (p Patterns) match(s string) bool {
	return slices.ContainsFunc(p, func(pattern string) bool { return glob(pattern, s) })
}

// glob reports whether s matches a pattern in which "*" stands for any characters.
func glob(pattern, s string) bool {
	pattern, s = strings.ToLower(pattern), strings.ToLower(s)
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

func (m Match) reaches(r *Resource) bool {
	for tag, want := range m.Tags {
		if !slices.ContainsFunc(tagValues(r.Tags, tag), want.match) {
			return false
		}
	}
	for _, f := range []struct {
		want Patterns
		is   string
	}{{m.Names, r.Name}, {m.ResourceGroups, r.Group}, {m.Types, r.Type}, {m.Locations, r.Location}, {m.Resources, r.ID}} {
		if f.want != nil && !f.want.match(f.is) {
			return false
		}
	}
	return true
}

// tagValues returns a tag's values; tag names compare without regard to case.
func tagValues(tags map[string]string, name string) (out []string) {
	for k, v := range tags {
		if strings.EqualFold(k, name) {
			out = append(out, v)
		}
	}
	return out
}

// An Exception lets a finding stand, for a time, on somebody's word.
type Exception struct {
	Resources Patterns `yaml:"resources"` // ids
	Controls  Patterns `yaml:"controls"`
	Owner     string   `yaml:"owner"`
	Reason    string   `yaml:"reason"`
	Expires   Date     `yaml:"expires"`
}

// A KeyDuty says who answers for a key, and what is done if it is lost or leaked.
type KeyDuty struct {
	Key       Patterns `yaml:"key"` // key identifiers, without version
	Owner     string   `yaml:"owner"`
	Procedure string   `yaml:"procedure"` // where the emergency procedure is written
	Tested    Date     `yaml:"tested"`    // when it was last tried
}

// A Date is a day, written 2026-12-31, in UTC. An exception holds until its end.
type Date struct{ time.Time }

// UnmarshalYAML reads a day.
func (d *Date) UnmarshalYAML(n *yaml.Node) error {
	t, err := time.Parse(time.DateOnly, n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is no day of the form 2026-12-31", n.Line, n.Value)
	}
	d.Time = t
	return nil
}

// ParsePolicy reads a policy. A field that it does not know is an error, so that a
// slip of the pen cannot quietly put resources out of scope.
func ParsePolicy(text []byte) (*Policy, error) {
	bad := func(err error) (*Policy, error) {
		return nil, fault.New(fault.InvalidArgument, "the policy cannot be read: "+err.Error())
	}
	var p Policy
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return bad(err)
	}
	for i, r := range p.Rules {
		switch {
		case r.Requires != RequireCMK && r.Requires != RequireNone:
			return bad(fmt.Errorf("rule %d (%s) requires %q: it is %q or %q", i+1, r.Name, r.Requires, RequireCMK, RequireNone))
		case r.Why == "":
			return bad(fmt.Errorf("rule %d (%s) does not say why", i+1, r.Name))
		case r.Severity != "" && !slices.Contains(Severities, r.Severity):
			return bad(fmt.Errorf("rule %d (%s): there is no severity %q", i+1, r.Name, r.Severity))
		}
	}
	for i, e := range p.Exceptions {
		if e.Resources == nil || e.Owner == "" || e.Reason == "" || e.Expires.IsZero() {
			return bad(fmt.Errorf("exception %d needs resources, an owner, a reason and the day on which it expires", i+1))
		}
	}
	for i, k := range p.Keys {
		if k.Key == nil || k.Owner == "" {
			return bad(fmt.Errorf("keys entry %d needs a key and its owner", i+1))
		}
	}
	return &p, nil
}

// undecided returns the first rule that may reach r and stands before the one that
// does: whether it reaches it hangs on a tag that is known after apply.
func (p *Policy) undecided(r *Resource) *Classification {
	if p == nil || len(r.later) == 0 {
		return nil
	}
	for i := range p.Rules {
		rule := &p.Rules[i]
		open := rule.When
		open.Tags = map[string]Patterns{}
		for tag, want := range rule.When.Tags {
			if !slices.Contains(r.later, "*") && !slices.Contains(r.later, strings.ToLower(tag)) {
				open.Tags[tag] = want
			}
		}
		switch {
		case len(open.Tags) < len(rule.When.Tags) && open.reaches(r):
			return rule
		case rule.When.reaches(r):
			return nil
		}
	}
	return nil
}

// Classify returns the rule that decides about r, nil if none reaches it.
func (p *Policy) Classify(r *Resource) *Classification {
	if p == nil {
		return nil
	}
	for i := range p.Rules {
		if p.Rules[i].When.reaches(r) {
			return &p.Rules[i]
		}
	}
	return nil
}

// exception returns what excepts a finding now.
func (p *Policy) exception(control, resource string, now time.Time) *Exception {
	if p == nil {
		return nil
	}
	for i, e := range p.Exceptions {
		if e.covers(control, resource, now) {
			return &p.Exceptions[i]
		}
	}
	return nil
}

// covers reports whether the exception holds for a control and a resource.
func (e Exception) covers(control, resource string, now time.Time) bool {
	return e.Resources.match(resource) && (e.Controls == nil || e.Controls.match(control)) && now.Before(e.Expires.AddDate(0, 0, 1))
}

func (p *Policy) duty(k KeyRef) *KeyDuty {
	if p == nil {
		return nil
	}
	for i := range p.Keys {
		if p.Keys[i].Key.match(k.versionless().URL()) {
			return &p.Keys[i]
		}
	}
	return nil
}
