package own_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/own"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// TestSample runs the examples of the sample that the documentation names.
func TestSample(t *testing.T) {
	const file = "../../docs/samples/controls.yaml"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set, err := own.Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	trials := set.Try(now)
	if len(trials) < 6 {
		t.Errorf("%d examples", len(trials))
	}
	for _, trial := range trials {
		if !trial.OK() {
			t.Errorf("%+v", trial)
		}
	}
	if !set.ReadsProperties() {
		t.Error("it reads properties")
	}
}

// TestAnswers asks expressions about an account with a key of which nothing was read,
// one in a vault that was, and one whose setting is known after apply.
func TestAnswers(t *testing.T) {
	const rg = "/subscriptions/s/resourceGroups/g/providers/"
	account := func(name string, key any) map[string]any {
		return map[string]any{"id": rg + "Microsoft.Storage/storageAccounts/" + name, "location": "westeurope", "tags": map[string]any{"env": "prod"},
			"properties": map[string]any{"later": posture.UnknownValue, "encryption": map[string]any{"keySource": "Microsoft.Keyvault", "keyvaultproperties": map[string]any{"keyname": key, "keyvaulturi": "https://kv1.vault.azure.net"}}}}
	}
	given := []map[string]any{
		account("read", "k1"), account("unread", "k2"), account("later", posture.UnknownValue),
		{"id": rg + "Microsoft.KeyVault/vaults/kv1", "properties": map[string]any{"vaultUri": "https://kv1.vault.azure.net/", "enableRbacAuthorization": true}},
		{"key": map[string]any{"kid": "https://kv1.vault.azure.net/keys/k1/v1", "kty": "RSA"}, "attributes": map[string]any{"enabled": true, "created": 1790000000.0}},
	}
	for _, tt := range []struct{ assert, read, unread, later string }{
		{`resource.state == "on"`, "pass", "pass", "unknown"},
		{`resource.state != "off"`, "pass", "pass", "unknown"},
		{`resource.location == "westeurope" || resource.state == "on"`, "pass", "pass", "pass"},
		{`resource.location == "elsewhere" && resource.state == "on"`, "fail", "fail", "fail"},
		{`resource.state == "on" && resource.location == "elsewhere"`, "fail", "fail", "fail"},
		{`!(resource.state == "off")`, "pass", "pass", "unknown"},
		{`resource.keys.all(k, k.enabled)`, "pass", "unknown", "unknown"},
		{`resource.keys.exists(k, k.kind == "RSA")`, "pass", "unknown", "unknown"},
		{`resource.keys.exists(k, k.name == "k2" || k.kind == "EC")`, "fail", "pass", "unknown"},
		{`size(resource.keys) == 1`, "pass", "pass", "unknown"},
		{`resource.keys[0].vault.rbac`, "pass", "pass", "unknown"},
		{`resource.keys[0].vault.log.kept`, "unknown", "unknown", "unknown"},
		{`resource.keys.all(k, k.rotation.rotates)`, "unknown", "unknown", "unknown"},
		{`resource.keys.all(k, k.expires > now + duration("720h"))`, "pass", "unknown", "unknown"},
		{`resource.tags["env"].startsWith("pr")`, "pass", "pass", "pass"},
		{`"env" in resource.tags ? resource.state == "on" : true`, "pass", "pass", "unknown"},
		{`resource.tags["none"] == "x"`, "unknown", "unknown", "unknown"}, // an error never passes
		{`resource.properties.later == 1`, "unknown", "unknown", "unknown"},
		{`has(resource.properties.gone) || resource.properties.encryption.keySource == "Microsoft.Keyvault"`, "pass", "pass", "pass"},
		{`resource.properties.encryption`, "unknown", "unknown", "unknown"},
	} {
		t.Run(tt.assert, func(t *testing.T) {
			set, err := own.Parse("f", fmt.Appendf(nil, "controls:\n- {id: X, title: t, mend: m, assert: %q}\n", tt.assert))
			if err != nil {
				t.Fatal(err)
			}
			inv := &posture.Inventory{Keep: true}
			for _, b := range given {
				inv.Add(b, posture.Evidence{Source: "test"})
			}
			inv.Link()
			scan := posture.Judge(inv, nil, nil, now, set)
			got := map[string]string{"read": "pass", "unread": "pass", "later": "pass"}
			for _, f := range scan.Findings {
				if f.Control == "X" {
					got[f.Resource[strings.LastIndexByte(f.Resource, '/')+1:]] = f.State
				}
			}
			want := map[string]string{"read": tt.read, "unread": tt.unread, "later": tt.later}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

// TestApplies: what a control may not apply to passes if it holds all the same, and
// is unknown if it does not.
func TestApplies(t *testing.T) {
	for _, tt := range []struct{ applies, assert, want string }{
		{`resource.state == "on"`, `true`, "pass"},
		{`resource.state == "on"`, `false`, "unknown"},
		{`false`, `false`, "pass"},
		{`resource.name == "a"`, `false`, "fail"},
	} {
		set, err := own.Parse("f", fmt.Appendf(nil, "controls:\n- {id: X, title: t, mend: m, applies: %q, assert: %q}\n", tt.applies, tt.assert))
		if err != nil {
			t.Fatal(err)
		}
		inv := &posture.Inventory{}
		inv.Add(map[string]any{"id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.DocumentDB/databaseAccounts/a", "properties": map[string]any{"keyVaultKeyUri": posture.UnknownValue}}, posture.Evidence{})
		inv.Link()
		got := "pass"
		for _, f := range posture.Judge(inv, nil, nil, now, set).Findings {
			if f.Control == "X" {
				got = f.State
			}
		}
		if got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// TestErrors checks that each slip names its line and what mends it.
func TestErrors(t *testing.T) {
	const head = "controls:\n- id: X\n  title: t\n  mend: m\n"
	for name, tt := range map[string]struct{ text, where, what, mend string }{
		"a field that is not there": {head + "  assert: resource.stat == \"on\"\n", "f:5: ", "undefined field 'stat'", "posture controls fields"},
		"a field in other letters":  {head + "  assert: resource.Versionless\n", "f:5: ", "undefined field", "Did you mean versionless?"},
		"on a later line":           {head + "  assert: |\n    true &&\n    resource.nosuch\n", "f:7: ", "nosuch", ""},
		"another about":             {head + "  assert: vault.rbac\n", "f:5: ", "undeclared reference", "about: vault"},
		"two types":                 {head + "  assert: resource.name == 3\n", "f:5: ", "no matching overload", "different types"},
		"no truth":                  {head + "  assert: resource.name\n", "f:5: ", "is a string", "true or false"},
		"has of what is always":     {head + "  assert: has(resource.name)\n", "f:5: ", "has()", "leave has() out"},
		"no language":               {head + "  assert: resource.name ==\n", "f:5: ", "Syntax error", "cel.dev"},
		"a field of no control":     {head + "  asert: true\n", "f:2: ", "asert", "A control has"},
		"nothing asserted":          {head, "f:2: ", "asserts nothing", ""},
		"no mend":                   {"controls:\n- {id: X, title: t, assert: 'true'}\n", "f:2: ", "how it is mended", ""},
		"a built-in's id":           {"controls:\n- {id: G1, title: t, mend: m, assert: 'true'}\n", "f:2: ", "built-in", "ACME-1"},
		"twice":                     {"controls:\n- {id: X, title: t, mend: m, assert: 'true'}\n- {id: X, title: t, mend: m, assert: 'true'}\n", "f:3: ", "second", ""},
		"a severity":                {head + "  severity: awful\n  assert: 'true'\n", "f:2: ", "awful", "critical"},
		"about what":                {head + "  about: moon\n  assert: 'true'\n", "f:2: ", "moon", "resource, key or vault"},
		"an expectation":            {head + "  assert: 'true'\n  examples: [{expect: maybe, given: [{}]}]\n", "f:2: ", "maybe", "not-applicable"},
		"no file of ours":           {"rules: []\n", "f: ", "rules", "controls.yaml"},
		"too long":                  {head + "  assert: \"" + strings.Repeat("true && ", 2000) + "true\"\n", "f:5: ", "exceeds limit", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := own.Parse("f", []byte(tt.text))
			if err == nil {
				t.Fatal("no error")
			}
			said := fmt.Sprintf("%v %+v", err, mendOf(err))
			if !strings.Contains(said, tt.where) || !strings.Contains(said, tt.what) || !strings.Contains(said, tt.mend) {
				t.Errorf("%s\nwant %q, %q, %q", said, tt.where, tt.what, tt.mend)
			}
		})
	}
}

// TestCost: an expression that costs too much is stopped, and passes nothing.
func TestCost(t *testing.T) {
	const long = `[1,2,3,4,5,6,7,8,9,10]`
	loop := "x == x"
	for i := range 6 {
		loop = fmt.Sprintf("%s.all(x%d, %s)", long, i, strings.ReplaceAll(loop, "x == x", fmt.Sprintf("x%d == x%d && x == x", i, i)))
	}
	loop = strings.ReplaceAll(loop, "x == x", "resource.name == resource.name")
	set, err := own.Parse("f", fmt.Appendf(nil, "controls:\n- {id: X, title: t, mend: m, assert: %q}\n", loop))
	if err != nil {
		t.Fatal(err)
	}
	inv := &posture.Inventory{}
	inv.Add(map[string]any{"id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.DocumentDB/databaseAccounts/a", "properties": map[string]any{}}, posture.Evidence{})
	inv.Link()
	start := time.Now()
	scan := posture.Judge(inv, nil, nil, now, set)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, f := range scan.Findings {
		if f.Control == "X" && f.State == "unknown" && strings.Contains(f.Detail, "cost") {
			return
		}
	}
	t.Errorf("%+v", scan.Findings)
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("../../docs/samples/controls.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("controls:\n- {id: X, title: t, mend: m, about: key, assert: 'key.users > 0'}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if set, err := own.Parse("f", text); err == nil {
			set.Try(now)
		}
	})
}

func mendOf(err error) string {
	var f *fault.Error
	if !errors.As(err, &f) {
		return ""
	}
	return f.Mend
}
