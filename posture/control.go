package posture

import (
	_ "embed"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// A Severity says how bad a finding is.
type Severity string

// Severities, from bad to good.
var Severities = []Severity{"critical", "high", "medium", "low", "info"}

// Named severities.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
	Low      Severity = "low"
	Info     Severity = "info"
)

// AtLeast reports whether s is as bad as o, or worse.
func (s Severity) AtLeast(o Severity) bool {
	return slices.Index(Severities, s) <= slices.Index(Severities, o)
}

func (s Severity) atMost(o Severity) Severity {
	if s.AtLeast(o) {
		return o
	}
	return s
}

// A Control is something that is to hold, and why.
type Control struct {
	ID         string   `yaml:"id" json:"id"`
	Title      string   `yaml:"title" json:"title"`
	Severity   Severity `yaml:"severity" json:"severity"`
	Why        string   `yaml:"why" json:"why"`
	Mend       string   `yaml:"mend" json:"mend"`
	Policy     string   `yaml:"policy" json:"policy,omitempty"` // Azure's built-in definition that asks for the same
	Frameworks []string `yaml:"frameworks" json:"frameworks,omitempty"`
}

//go:embed controls.yaml
var controlsYAML []byte

// cmkPrefix begins the id of the controls that types.csv makes.
const cmkPrefix = "CMK/"

type controlSet struct {
	all  []Control
	byID map[string]*Control
}

var controls = sync.OnceValue(func() controlSet {
	var s controlSet
	if err := yaml.Unmarshal(controlsYAML, &s.all); err != nil {
		panic(err) // the file is part of the program, and a test reads it
	}
	for _, r := range Types() {
		what := r.Type[strings.LastIndexByte(r.Type, '.')+1:]
		if r.Part != "" {
			what += " (" + r.Part + ")"
		}
		mend := "Put it under a key in a vault of yours."
		switch r.Enable {
		case "recreate":
			mend = "It has to be made anew under a key, and its data moved: this type takes its key when it is made."
		case "no":
			mend = "This type can no longer be put under a key. Move the data to a service that can."
		}
		s.all = append(s.all, Control{
			ID: cmkPrefix + r.Name(), Title: what + " is under a customer-managed key", Severity: High,
			Why:  "The platform alone holds the key to this data: its owner cannot revoke it, and sees no use of it.",
			Mend: mend, Policy: r.Policy,
			Frameworks: []string{"CIS Azure 4.0 2.1.1.2.1", "ISO 27001 A.8.24", "NIS2 9.2", "DORA Art. 6"},
		})
	}
	s.byID = make(map[string]*Control, len(s.all))
	for i := range s.all {
		s.byID[s.all[i].ID] = &s.all[i]
	}
	return s
})

// Controls returns all controls.
func Controls() []Control { return controls().all }

// ControlByID returns a control, and whether there is one with this id.
func ControlByID(id string) (Control, bool) {
	c := controls().byID[id]
	if c == nil {
		return Control{}, false
	}
	return *c, true
}
