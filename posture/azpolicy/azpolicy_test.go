package azpolicy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/azpolicy"
)

const rg = "/subscriptions/s/resourceGroups/g/providers/"

// definition makes one of a rule about storage accounts.
func definition(rule, then string) string {
	if then == "" {
		then = `{"effect":"audit"}`
	}
	return `{"name":"d","properties":{"displayName":"d","parameters":{"list":{"defaultValue":["a","B"]},"n":{"defaultValue":2},"none":{}},"policyRule":{"if":{"allOf":[{"field":"type","equals":"Microsoft.Storage/storageAccounts"},` + rule + `]},"then":` + then + `}}}`
}

func estate(t testing.TB, source string, bodies ...string) (*azpolicy.Estate, *posture.Inventory) {
	t.Helper()
	inv := &posture.Inventory{Keep: true}
	for _, text := range bodies {
		var body map[string]any
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Fatal(err)
		}
		inv.Add(body, posture.Evidence{Source: source})
	}
	inv.Link()
	return azpolicy.NewEstate(inv, now), inv
}

// TestLanguage evaluates one construct at a time. The rule says what is wrong, so that
// non-compliant means that it holds.
func TestLanguage(t *testing.T) {
	const T = "Microsoft.Storage/storageAccounts/"
	const body = `{"id":"` + rg + `Microsoft.Storage/storageAccounts/sa1","name":"sa1","location":"westeurope","tags":{"Env":"Prod"},"kind":"StorageV2","sku":{"name":"Standard_LRS"},
		"properties":{"flag":true,"count":3,"text":"Hello","date":"2026-12-01T00:00:00Z","nothing":null,"empty":"","list":[{"v":1,"w":"x"},{"v":2},{"v":3,"w":"y","deep":[{"z":1},{"z":2}]}],"names":["a","c"]}}`
	for rule, want := range map[string]bool{
		`{"field":"` + T + `flag","equals":"true"}`:                                                              true,
		`{"field":"` + T + `FLAG","notEquals":"true"}`:                                                           false,
		`{"field":"` + T + `text","equals":"HELLO"}`:                                                             true,
		`{"field":"` + T + `gone","exists":"false"}`:                                                             true,
		`{"field":"` + T + `nothing","exists":false}`:                                                            true,
		`{"field":"` + T + `empty","exists":true}`:                                                               true,
		`{"field":"` + T + `empty","equals":""}`:                                                                 true,
		`{"field":"` + T + `gone","equals":""}`:                                                                  false,
		`{"field":"` + T + `gone","notEquals":"x"}`:                                                              true,
		`{"field":"` + T + `gone","notContains":"x"}`:                                                            true,
		`{"field":"` + T + `gone","notIn":["x"]}`:                                                                true,
		`{"field":"` + T + `gone","less":3}`:                                                                     false,
		`{"field":"` + T + `count","greater":2}`:                                                                 true,
		`{"field":"` + T + `count","lessOrEquals":"3"}`:                                                          true,
		`{"field":"` + T + `count","less":3}`:                                                                    false,
		`{"field":"` + T + `date","less":"2027-01-01"}`:                                                          true,
		`{"field":"` + T + `sku.name","equals":"Standard_LRS"}`:                                                  true,
		`{"field":"kind","in":"[createArray('x','STORAGEV2')]"}`:                                                 true,
		`{"field":"tags['env']","equals":"prod"}`:                                                                true,
		`{"field":"tags.env","like":"pr*"}`:                                                                      true,
		`{"field":"name","notLike":"sb*"}`:                                                                       true,
		`{"field":"` + T + `names","contains":"C"}`:                                                              true,
		`{"field":"` + T + `names[*]","in":"[parameters('list')]"}`:                                              false, // each has to be
		`{"field":"` + T + `names[*]","notEquals":"z"}`:                                                          true,
		`{"field":"` + T + `gone[*]","equals":"z"}`:                                                              true, // none is not
		`{"field":"` + T + `list[*].w","exists":true}`:                                                           false,
		`{"field":"` + T + `list[*].v","greater":0}`:                                                             true,
		`{"count":{"field":"` + T + `list[*]"},"equals":3}`:                                                      true,
		`{"count":{"field":"` + T + `list[*]","where":{"field":"` + T + `list[*].w","exists":true}},"equals":2}`: true,
		`{"count":{"field":"` + T + `list[*]","where":{"value":"[length(current('` + T + `list[*].deep[*].z'))]","equals":2}},"equals":1}`:                                               true,
		`{"count":{"field":"` + T + `list[*]","where":{"count":{"field":"` + T + `list[*].deep[*]","where":{"field":"` + T + `list[*].deep[*].z","equals":2}},"greater":0}},"equals":1}`: true,
		`{"count":{"value":"[parameters('list')]","name":"n","where":{"field":"` + T + `names[*]","notEquals":"[current('n')]"}},"equals":1}`:                                            true,
		`{"value":"[length(field('` + T + `list[*].w'))]","equals":2}`:                                                                                                                   true,
		`{"value":"[last(split(field('id'),'/'))]","equals":"sa1"}`:                                                                                                                      true,
		`{"value":"[concat('a', 'it''s', string(1))]","equals":"ait's1"}`:                                                                                                                true,
		`{"value":"[if(empty(field('` + T + `empty')), 'e', first(field('` + T + `names')))]","equals":"e"}`:                                                                             true,
		`{"value":"[parameters('list')[1]]","equals":"b"}`:                                                                                                                               true,
		`{"value":"[requestContext().apiVersion]","greaterOrEquals":"2019-09-01"}`:                                                                                                       true,
		`{"value":"[addDays('2026-11-20T00:00:00Z', parameters('n'))]","less":"[utcNow()]"}`:                                                                                             true,
		`{"value":"[addDays(utcNow(), -1)]","greater":"[utcNow()]"}`:                                                                                                                     false,
		`{"value":"[padLeft(7, 3, '0')]","equals":"007"}`:                                                                                                                                true,
		`{"value":"[ipRangeContains('10.0.0.0/8','10.1.2.3')]","equals":true}`:                                                                                                           true,
		`{"value":"[ipRangeContains('10.1.0.0/16','10.0.0.0/8')]","equals":true}`:                                                                                                        false,
		`{"value":"[resourceGroup().name]","equals":"g"}`:                                                                                                                                true,
		`{"value":"[subscription().id]","equals":"/subscriptions/s"}`:                                                                                                                    true,
		`{"value":"[contains(toLower('ABC'), 'B')]","equals":"true"}`:                                                                                                                    true,
		`{"value":"[[literal]","equals":"[[literal]"}`:                                                                                                                                   true,
		`{"not":{"anyOf":[{"field":"name","equals":"x"},{"field":"name","equals":"y"}]}}`:                                                                                                true,
		`{"allOf":[]}`: true,
		`{"anyOf":[]}`: false,
	} {
		d, err := azpolicy.Parse([]byte(definition(rule, "")), nil)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		e, inv := estate(t, "export", body)
		answer, why := d.Evaluate(e, inv.Object(rg+"Microsoft.Storage/storageAccounts/sa1"))
		if holds := answer == azpolicy.NonCompliant; holds != want || answer == azpolicy.Unknown {
			t.Errorf("%s: %s %s", rule, answer, why)
		}
	}
}

// TestUnknown: what is not known decides only where it has to.
func TestUnknown(t *testing.T) {
	const T = "Microsoft.Storage/storageAccounts/"
	const id = rg + "Microsoft.Storage/storageAccounts/sa1"
	for rule, want := range map[string]string{
		`{"field":"` + T + `encryption.keySource","equals":"Microsoft.Storage"}`:                              azpolicy.Compliant,
		`{"field":"` + T + `encryption.keyvaultproperties.keyname","equals":"k"}`:                             azpolicy.Unknown,
		`{"field":"` + T + `encryption.keyvaultproperties.keyname","exists":true}`:                            azpolicy.Unknown,
		`{"not":{"field":"` + T + `encryption.keyvaultproperties.keyname","equals":"k"}}`:                     azpolicy.Unknown,
		`{"field":"` + T + `minimumTlsVersion","exists":false}`:                                               azpolicy.Unknown, // a plan's body has no more than keys
		`{"anyOf":[{"field":"` + T + `minimumTlsVersion","exists":false},{"field":"name","equals":"sa1"}]}`:   azpolicy.NonCompliant,
		`{"allOf":[{"field":"` + T + `minimumTlsVersion","exists":false},{"field":"name","equals":"other"}]}`: azpolicy.Compliant,
		`{"value":"[length(field('` + T + `minimumTlsVersion'))]","equals":0}`:                                azpolicy.Unknown,
		`{"count":{"field":"` + T + `ipRules[*]"},"equals":0}`:                                                azpolicy.Unknown,
		`{"value":"[parameters('none')]","equals":"x"}`:                                                       azpolicy.Unknown,
		`{"value":"[addDays('never', 1)]","less":"x"}`:                                                        azpolicy.Unknown,
	} {
		d, err := azpolicy.Parse([]byte(definition(rule, "")), nil)
		if err != nil {
			t.Fatal(err)
		}
		inv := &posture.Inventory{Keep: true}
		inv.Add(map[string]any{"id": id, "name": "sa1", "properties": map[string]any{"encryption": map[string]any{"keySource": "Microsoft.Keyvault", "keyvaultproperties": map[string]any{"keyname": posture.UnknownValue}}}}, posture.Evidence{Source: "tfplan"})
		if answer, why := d.Evaluate(azpolicy.NewEstate(inv, now), inv.Object(id)); answer != want {
			t.Errorf("%s: %s %s, want %s", rule, answer, why, want)
		}
	}
}

// TestRelated looks for another resource, where there is one, none, and nobody knows.
func TestRelated(t *testing.T) {
	const then = `{"effect":"AuditIfNotExists","details":{"type":"Microsoft.Insights/diagnosticSettings","existenceCondition":{"field":"Microsoft.Insights/diagnosticSettings/logs.enabled","equals":"true"}}}`
	const account = `{"id":"` + rg + `Microsoft.Storage/storageAccounts/sa1","properties":{}}`
	setting := func(of, enabled string) string {
		return `{"id":"` + rg + `Microsoft.Storage/storageAccounts/` + of + `/providers/Microsoft.Insights/diagnosticSettings/x","properties":{"logs":[{"enabled":` + enabled + `}]}}`
	}
	d, err := azpolicy.Parse([]byte(definition(`{"field":"name","exists":false}`, then)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		bodies []string
		listed bool
		want   string
	}{
		{[]string{account, setting("sa1", "true")}, false, azpolicy.Compliant},
		{[]string{account, setting("sa1", "false")}, false, azpolicy.NonCompliant},
		{[]string{account, setting("sa2", "true")}, false, azpolicy.Unknown},
		{[]string{account}, true, azpolicy.NonCompliant},
		{[]string{account}, false, azpolicy.Unknown},
	} {
		e, inv := estate(t, "export", tt.bodies...)
		if tt.listed {
			inv.Listed(rg+"Microsoft.Storage/storageAccounts/sa1", "diagnosticSettings")
		}
		if answer, why := d.Evaluate(e, inv.Object(rg+"Microsoft.Storage/storageAccounts/sa1")); answer != tt.want {
			t.Errorf("%v: %s %s, want %s", tt.bodies, answer, why, tt.want)
		}
	}
}

func TestErrors(t *testing.T) {
	for rule, want := range map[string]string{
		`{"field":"x","resembles":"y"}`:                 "no operator",
		`{"field":"x"}`:                                 "compares with nothing",
		`{"field":"x","equals":1,"less":2}`:             "two operators",
		`{"field":"x","value":"y","equals":1}`:          "is one of",
		`{"value":"[copyIndex()]","equals":1}`:          "no function",
		`{"value":"[concat('a)]","equals":1}`:           "does not end",
		`{"value":"[length('a') x]","equals":1}`:        "follows",
		`{"count":{"where":{}},"equals":1}`:             "is one of",
		`{"count":{"value":[],"field":"x"},"equals":1}`: "counts a field or a value",
		strings.Repeat(`{"not":`, 100) + `{"field":"x","exists":true}` + strings.Repeat(`}`, 100): "too deeply",
	} {
		if _, err := azpolicy.Parse([]byte(definition(rule, "")), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
	}
	if _, err := azpolicy.Load(fstest.MapFS{"a.json": {Data: []byte(definition(`{"field":"x","exists":true}`, `{"effect":"explode"}`))}}); err == nil || !strings.Contains(err.Error(), "a.json") {
		t.Errorf("%v", err)
	}
	if _, err := azpolicy.Load(fstest.MapFS{}); err == nil {
		t.Error("an empty folder has no definitions")
	}
}

// TestKeyVault evaluates Azure's definitions about vaults and keys on a sound vault and
// key, and on poor ones.
func TestKeyVault(t *testing.T) {
	all := map[string]*azpolicy.Definition{}
	for _, d := range definitions(t, "key-vault") {
		all[d.Policy[:8]] = d
	}
	if len(all) < 48 { // two begin alike
		t.Errorf("%d definitions", len(all))
	}
	vault := func(name, properties string) string {
		return `{"id":"` + rg + `Microsoft.KeyVault/vaults/` + name + `","name":"` + name + `","properties":{"vaultUri":"https://` + name + `.vault.azure.net/",` + properties + `}}`
	}
	key := func(vault, attributes, ops string, bits int) string {
		return fmt.Sprintf(`{"key":{"kid":"https://%s.vault.azure.net/keys/k/v","kty":"RSA","n":"%s","key_ops":[%s]},"attributes":{"enabled":true,%s}}`, vault, base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xC0}, bits/8)), ops, attributes)
	}
	rotation := `{"id":"https://good.vault.azure.net/keys/k/rotationpolicy","lifetimeActions":[{"trigger":{"timeAfterCreate":"P30D"},"action":{"type":"Rotate"}}]}`
	none := `{"id":"https://poor.vault.azure.net/keys/k/rotationpolicy","lifetimeActions":[{"trigger":{"timeBeforeExpiry":"P30D"},"action":{"type":"Notify"}}]}`
	log := `{"id":"` + rg + `Microsoft.KeyVault/vaults/good/providers/Microsoft.Insights/diagnosticSettings/a","properties":{"logs":[{"category":"AuditEvent","enabled":true,"retentionPolicy":{"enabled":false,"days":0}}]}}`
	off := `{"id":"` + rg + `Microsoft.KeyVault/vaults/poor/providers/Microsoft.Insights/diagnosticSettings/a","properties":{"logs":[{"category":"AuditEvent","enabled":false,"retentionPolicy":{"enabled":true,"days":7}}]}}`
	e, inv := estate(t, "export",
		vault("good", `"enableSoftDelete":true,"enablePurgeProtection":true,"enableRbacAuthorization":true,"publicNetworkAccess":"Disabled","networkAcls":{"defaultAction":"Deny"},"privateEndpointConnections":[{"properties":{"privateLinkServiceConnectionState":{"status":"Approved"}}}]`),
		vault("poor", `"enableSoftDelete":false,"networkAcls":{"defaultAction":"Allow"}`),
		key("good", `"created":1794000000,"exp":1810000000`, `"wrapKey","unwrapKey"`, 3072), key("poor", `"created":1600000000`, `"wrapKey"`, 1024), rotation, none, log, off)
	given := map[string]map[string]any{
		"49a22571": {"maximumValidityInDays": 365.0}, "5ff38825": {"minimumDaysBeforeExpiration": 30.0}, "82067dbb": {"minimumRSAKeySize": 2048.0},
		"c26e4b24": {"maximumValidityInDays": 90.0}, "d8cf8476": {"maximumDaysToRotate": 90.0},
	}
	for id, want := range map[string][2]string{ // good, poor
		"0b60c0b2": {azpolicy.Compliant, azpolicy.NonCompliant}, "12d4fa5e": {azpolicy.Compliant, azpolicy.NonCompliant},
		"1e66c121": {azpolicy.Compliant, azpolicy.NonCompliant}, "405c5871": {azpolicy.Compliant, azpolicy.NonCompliant},
		"55615ac9": {azpolicy.Compliant, azpolicy.NonCompliant}, "a6abeaec": {azpolicy.Compliant, azpolicy.NonCompliant},
		"cf820ca0": {azpolicy.Compliant, azpolicy.NonCompliant}, "152b15f7": {azpolicy.Compliant, azpolicy.NonCompliant},
		"49a22571": {azpolicy.Compliant, azpolicy.NonCompliant}, "5ff38825": {azpolicy.Compliant, azpolicy.Compliant},
		"75c4f823": {azpolicy.Compliant, azpolicy.Compliant}, "82067dbb": {azpolicy.Compliant, azpolicy.NonCompliant},
		"587c79fe": {azpolicy.NonCompliant, azpolicy.NonCompliant}, "c26e4b24": {azpolicy.Compliant, azpolicy.NonCompliant},
		"d8cf8476": {azpolicy.Compliant, azpolicy.NonCompliant},
	} {
		d := all[id]
		if given[id] != nil {
			files, err := filepath.Glob(filepath.Join(os.Getenv("KLUIS_TESTDATA"), "azure-policy", "key-vault", id+"*.json"))
			if err != nil || len(files) != 1 {
				t.Fatal(id, err)
			}
			text, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if d, err = azpolicy.Parse(text, given[id]); err != nil {
				t.Fatal(err)
			}
		}
		for i, name := range []string{"good", "poor"} {
			o := inv.Object(rg + "Microsoft.KeyVault/vaults/" + name)
			answer, why := d.Evaluate(e, o)
			if answer == azpolicy.NotApplicable {
				o = e.Object("https://" + name + ".vault.azure.net/keys/k")
				answer, why = d.Evaluate(e, o)
			}
			if answer != want[i] {
				t.Errorf("%s (%s) says of the %s one: %s %s, want %s", id, d.Title, name, answer, why, want[i])
			}
		}
	}
}

// FuzzParse reads definitions from anywhere, and evaluates what can be read.
func FuzzParse(f *testing.F) {
	f.Add([]byte(definition(`{"field":"name","equals":"[concat('a', field('id'))]"}`, "")), []byte(`{"id":"`+rg+`Microsoft.Storage/storageAccounts/a","properties":{}}`))
	f.Add([]byte(definition(`{"count":{"field":"Microsoft.Storage/storageAccounts/l[*]","where":{"value":"[current('Microsoft.Storage/storageAccounts/l[*].x')]","less":3}},"equals":1}`, "")), []byte(`{"id":"`+rg+`Microsoft.Storage/storageAccounts/a","properties":{"l":[{"x":1},2]}}`))
	f.Fuzz(func(t *testing.T, text, body []byte) {
		d, err := azpolicy.Parse(text, nil)
		var b map[string]any
		if err != nil || json.Unmarshal(body, &b) != nil {
			return
		}
		inv := &posture.Inventory{Keep: true}
		inv.Add(b, posture.Evidence{Source: "export"})
		inv.Link()
		e := azpolicy.NewEstate(inv, now)
		inv.Objects(func(o *posture.Object) { d.Evaluate(e, o) })
	})
}
