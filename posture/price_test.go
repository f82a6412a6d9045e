package posture_test

import (
	"os"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/posture"
)

// What a key that nobody asked for costs depends on what holds it, and on how many
// share it.
func TestCost(t *testing.T) {
	text, err := os.ReadFile("../docs/samples/prices.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sample, err := posture.ParsePrices(text)
	if err != nil {
		t.Fatal(err)
	}
	test := strings.Replace(soundAccount, `"env":"prod"`, `"env":"test"`, 1)
	second := strings.ReplaceAll(test, "/sa1", "/sa2")
	pool := `{"id":"` + group + `/providers/Microsoft.KeyVault/managedHSMs/hsm1","properties":{"hsmUri":"https://hsm1.managedhsm.azure.net/"}}`
	for _, tt := range []struct {
		name  string
		price *posture.Prices
		texts []string
		want  string
	}{
		{"no price file", nil, []string{soundVault, soundKey, test}, "about 730 operations a month on a vault (assumed: one an hour)"},
		{"software", sample, []string{soundVault, soundKey, test}, "on a vault (from the price file), 0.00 USD a month at the prices of 2026-11-22"},
		{"HSM", sample, []string{soundVault, strings.Replace(soundKey, `"RSA"`, `"RSA-HSM"`, 1), test}, "on a vault's HSM (from the price file), 1.00 USD"},
		{"HSM, shared", sample, []string{soundVault, strings.Replace(soundKey, `"RSA"`, `"RSA-HSM"`, 1), test, second}, ", 0.50 USD"},
		{"managed HSM", sample, []string{pool, strings.ReplaceAll(test, "kv1.vault.azure.net", "hsm1.managedhsm.azure.net")}, "on a managed HSM (from the price file), 2336.00 USD"},
	} {
		scan := posture.Judge(inventory(t, tt.texts...), policy(t, soundPolicy), tt.price, now)
		seen := 0
		for _, f := range scan.Findings {
			if f.Control == "COST" {
				seen++
				if !strings.Contains(f.Detail, tt.want) {
					t.Errorf("%s: %s", tt.name, f.Detail)
				}
			}
		}
		if seen == 0 {
			t.Errorf("%s: no finding", tt.name)
		}
	}
	for _, bad := range []string{"currency: [", "operationPer10k: 1", "keyMonth: -1", "keyMonth: .nan", "hsm: {keyMonth: -1}", "operationsPerMonth: {x: -1}", "date: soon"} {
		if _, err := posture.ParsePrices([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
