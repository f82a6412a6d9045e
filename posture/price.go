package posture

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/kluis-io/kluis/fault"
)

// Prices say what keys cost, as the organisation's own price sheet has it.
type Prices struct {
	Currency string `yaml:"currency"`
	// Per10k is the price of 10,000 operations on a key.
	Per10k float64 `yaml:"operationsPer10k"`
	// KeyMonth is the price of one key for a month, 0 for a software-protected one.
	KeyMonth float64 `yaml:"keyMonth"`
	// Operations is how many operations a resource of a type makes in a month.
	Operations map[string]float64 `yaml:"operationsPerMonth"`
	// Default is that for types not listed.
	Default float64 `yaml:"defaultOperationsPerMonth"`
}

// ParsePrices reads a price file, in YAML or JSON.
func ParsePrices(text []byte) (*Prices, error) {
	var p Prices
	if err := yaml.Unmarshal(text, &p); err != nil {
		return nil, fault.New(fault.InvalidArgument, "the price file cannot be read: "+err.Error())
	}
	return &p, nil
}

// assumedOperations is what a resource makes in a month if no price file says: one
// unwrap an hour.
const assumedOperations = 730

// cost estimates what r's key costs, as a sentence.
func (j *judge) cost(r *Resource) string {
	ops, source := float64(assumedOperations), "assumed: one an hour"
	if p := j.prices; p != nil {
		source = "from the price file"
		if n, ok := p.Operations[r.Type]; ok {
			ops = n
		} else if p.Default > 0 {
			ops = p.Default
		}
	}
	text := fmt.Sprintf("under a customer-managed key that the policy does not ask for; about %.0f operations a month (%s)", ops, source)
	if p := j.prices; p != nil {
		share := 1.0
		if len(r.CMK.Keys) > 0 {
			share = float64(max(1, len(j.inv.uses[r.CMK.Keys[0].versionless()])))
		}
		text += fmt.Sprintf(", %.2f %s a month", ops/10000*p.Per10k+p.KeyMonth/share, p.Currency)
	}
	return text
}
