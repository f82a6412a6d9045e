package posture

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kluis-io/kluis/fault"
)

// Prices say what keys cost, as the organisation's own price sheet has it.
type Prices struct {
	Currency string `yaml:"currency"`
	Source   string `yaml:"source"` // where the prices stand, for whoever reads an estimate
	Date     Date   `yaml:"date"`   // when they did

	Tariff `yaml:",inline"` // of software-protected keys
	// HSM is the tariff of keys that a vault keeps in an HSM; that of software-protected
	// keys if left out.
	HSM *Tariff `yaml:"hsm"`
	// PoolMonth is the price of a managed HSM for a month, shared by what uses it; its
	// operations cost nothing more.
	PoolMonth float64 `yaml:"managedHsmMonth"`

	// Operations is how many operations a resource of a type makes in a month.
	Operations map[string]float64 `yaml:"operationsPerMonth"`
	// Default is that for types not listed.
	Default float64 `yaml:"defaultOperationsPerMonth"`
}

// A Tariff is what one kind of key costs.
type Tariff struct {
	Per10k   float64 `yaml:"operationsPer10k"` // 10,000 operations
	KeyMonth float64 `yaml:"keyMonth"`         // one key for a month
}

// ParsePrices reads a price file, in YAML or JSON. A field that it does not know is an
// error, as is a price below 0.
func ParsePrices(text []byte) (*Prices, error) {
	var p Prices
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	err := d.Decode(&p)
	if err == nil || errors.Is(err, io.EOF) {
		err = p.check()
	}
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the price file cannot be read: "+err.Error())
	}
	return &p, nil
}

func (p *Prices) check() error {
	all := []float64{p.Per10k, p.KeyMonth, p.PoolMonth, p.Default}
	if p.HSM != nil {
		all = append(all, p.HSM.Per10k, p.HSM.KeyMonth)
	}
	for _, n := range p.Operations {
		all = append(all, n)
	}
	for _, v := range all {
		if !(v >= 0) {
			return fmt.Errorf("%v is neither a price nor a number of operations", v)
		}
	}
	return nil
}

// assumedOperations is what a resource makes in a month if no price file says: one
// unwrap an hour.
const assumedOperations = 730

// cost estimates what r's key costs, as a sentence.
func (j *judge) cost(r *Resource) string {
	ops, source := float64(assumedOperations), "assumed: one an hour"
	p := j.prices
	if p != nil {
		if n, ok := p.Operations[r.Type]; ok {
			ops, source = n, "from the price file"
		} else if p.Default > 0 {
			ops, source = p.Default, "from the price file"
		}
	}
	where, tariff, pool := j.keeper(r)
	text := fmt.Sprintf("under a customer-managed key that the policy does not ask for; about %.0f operations a month %s (%s)", ops, where, source)
	if p == nil {
		return text
	}
	share := 1.0
	if len(r.CMK.Keys) > 0 {
		share = float64(max(1, len(j.inv.uses[r.CMK.Keys[0].versionless()])))
	}
	price := ops/10000*tariff.Per10k + tariff.KeyMonth/share
	if pool != nil {
		price = p.PoolMonth / float64(max(1, len(pool.users)))
	}
	text += fmt.Sprintf(", %.2f %s a month", price, cmp.Or(p.Currency, "in the price file's currency"))
	switch {
	case !p.Date.IsZero():
		text += " at the prices of " + p.Date.Format(time.DateOnly)
	case p.Source != "":
		text += " at the prices of " + p.Source
	}
	return text
}

// keeper says what holds r's key: in words, at which tariff, and the managed HSM, nil
// if it is none.
func (j *judge) keeper(r *Resource) (where string, t Tariff, pool *Vault) {
	if j.prices != nil {
		t = j.prices.Tariff
	}
	if len(r.CMK.Keys) == 0 {
		return "on a vault", t, nil
	}
	ref := r.CMK.Keys[0]
	if v := j.inv.vaultOf(ref); v != nil && v.HSM {
		return "on a managed HSM", Tariff{}, v
	}
	if k := j.inv.keyBy[ref.versionless()]; k != nil {
		if v := k.Newest(); v != nil && strings.HasSuffix(strings.ToUpper(v.Kind), "-HSM") {
			if j.prices != nil && j.prices.HSM != nil {
				t = *j.prices.HSM
			}
			return "on a vault's HSM", t, nil
		}
	}
	return "on a vault", t, nil
}
