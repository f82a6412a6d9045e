package posture_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/posture"
)

const (
	group   = "/subscriptions/s/resourceGroups/g"
	vaultID = group + "/providers/Microsoft.KeyVault/vaults/kv1"
	account = group + "/providers/Microsoft.Storage/storageAccounts/sa1"
)

// soundVault, soundKey and soundAccount break no control; each test changes one
// thing.
var (
	soundVault   = `{"id":"` + vaultID + `","name":"kv1","location":"westeurope","properties":{"vaultUri":"https://kv1.vault.azure.net/","enableSoftDelete":true,"softDeleteRetentionInDays":90,"enablePurgeProtection":true,"enableRbacAuthorization":true,"networkAcls":{"defaultAction":"Deny","bypass":"AzureServices"}}}`
	soundLog     = `{"id":"` + vaultID + `/providers/Microsoft.Insights/diagnosticSettings/a","properties":{"logs":[{"category":"AuditEvent","enabled":true}]}}`
	soundKey     = fmt.Sprintf(`{"key":{"kid":"https://kv1.vault.azure.net/keys/k1/v1","kty":"RSA","n":"%s","key_ops":["wrapKey","unwrapKey"]},"attributes":{"enabled":true,"created":1790000000,"exp":1810000000}}`, "wH"+strings.Repeat("A", 340))
	soundRotate  = `{"id":"https://kv1.vault.azure.net/keys/k1/rotationpolicy","lifetimeActions":[{"trigger":{"timeAfterCreate":"P180D"},"action":{"type":"Rotate"}}],"attributes":{"expiryTime":"P1Y"}}`
	soundGrant   = `{"id":"` + vaultID + `/providers/Microsoft.Authorization/roleAssignments/1","properties":{"principalId":"svc","roleDefinitionId":"/r/e147488a-f6f5-4113-8e2d-b22465e65bf6","scope":"` + vaultID + `/keys/k1"}}`
	soundAccount = `{"id":"` + account + `","kind":"BlobStorage","location":"West Europe","tags":{"env":"prod"},"identity":{"type":"SystemAssigned","principalId":"svc"},"properties":{"encryption":{"keySource":"Microsoft.Keyvault","keyvaultproperties":{"keyname":"k1","keyvaulturi":"https://kv1.vault.azure.net"}}}}`
)

const soundPolicy = `
rules:
- {name: production, when: {tags: {ENV: "prod*"}}, requires: cmk, why: customers' data, label: Confidential}
- {name: the rest, requires: platform, why: nothing of value}
keys:
- {key: "https://kv1.vault.azure.net/*", owner: ann, procedure: wiki/keys, tested: 2026-10-01}
`

// TestControls breaks one thing at a time in a sound estate, and expects the control
// that watches over it to say so, and no other.
func TestControls(t *testing.T) {
	assignment := func(principal, role, scope string) string {
		return `{"id":"/x/providers/Microsoft.Authorization/roleAssignments/` + principal + role[:4] + `","properties":{"principalId":"` + principal + `","roleDefinitionId":"/r/` + role + `","scope":"` + scope + `"}}`
	}
	const owner, officer, contributor = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "14b46e9e-c2b7-41b4-b07b-48a6ebf60603", "b24988ac-6180-42a0-ab88-20f7382dd24c"
	for _, tt := range []struct {
		name, old, new string
		more           []string
		policy         string
		want           []string
	}{
		{name: "sound"},
		{name: "G1", old: `"enableSoftDelete":true`, new: `"enableSoftDelete":false`, want: []string{"G1 high"}},
		{name: "G2", old: `"enablePurgeProtection":true,`, want: []string{"G2 high"}},
		{name: "G3", old: `"enableRbacAuthorization":true`, new: `"accessPolicies":[{"objectId":"svc","permissions":{"keys":["get","wrapKey","unwrapKey"]}}]`, want: []string{"G3 medium"}},
		{name: "G4", old: `"defaultAction":"Deny"`, new: `"defaultAction":"Allow"`, want: []string{"G4 medium"}},
		{name: "G5", old: `,"exp":1810000000`, want: []string{"G5 low"}},
		{name: "G6 and G7", old: `"type":"Rotate"`, new: `"type":"Notify"`, want: []string{"G7 medium"}},
		{name: "G8", old: `"created":1790000000`, new: `"created":1700000000`, want: []string{"G8 medium"}},
		{name: "G9 kind", old: `"kty":"RSA"`, new: `"kty":"EC"`, want: []string{"G9 high"}},
		{name: "G9 size", old: strings.Repeat("A", 340), new: strings.Repeat("A", 168), want: []string{"G9 high"}},
		{name: "G10", old: `"keyname":"k1"`, new: `"keyname":"k1","keyversion":"v1"`, want: []string{"G10 medium"}},
		{name: "G11 disabled", old: `"enabled":true,"created"`, new: `"enabled":false,"created"`, want: []string{"G11 critical"}},
		{name: "G11 expired", old: `"exp":1810000000`, new: `"exp":1790000001`, want: []string{"G11 critical"}},
		{name: "G11 not yet", old: `"exp":1810000000`, new: `"exp":1810000000,"nbf":1800000000`, want: []string{"G11 critical"}},
		{name: "G11 operations", old: `["wrapKey","unwrapKey"]`, new: `["sign"]`, want: []string{"G11 critical"}},
		{name: "G12", old: `"keyname":"k1"`, new: `"keyname":"k1","currentVersionedKeyIdentifier":"https://kv1.vault.azure.net/keys/k1/v0"`,
			more: []string{`{"key":{"kid":"https://kv1.vault.azure.net/keys/k1/v0","kty":"RSA"},"attributes":{"enabled":false,"created":1780000000}}`}, want: []string{"G12 critical"}},
		{name: "G13", old: `"identity":{"type":"SystemAssigned","principalId":"svc"}`, new: `"identity":{"type":"None"}`, want: []string{"G13 high"}},
		{name: "G14 more", more: []string{assignment("svc", officer, vaultID)}, want: []string{"G14 high"}},
		{name: "G14 none", old: `"principalId":"svc","roleDefinitionId"`, new: `"principalId":"other","roleDefinitionId"`, want: []string{"G14 high"}},
		{name: "G15 off", old: `"category":"AuditEvent","enabled":true`, new: `"category":"AuditEvent","enabled":false`, want: []string{"G15 high"}},
		{name: "G15 short", old: `"category":"AuditEvent","enabled":true`, new: `"category":"AuditEvent","enabled":true,"retentionPolicy":{"enabled":true,"days":7}`, want: []string{"G15 high"}},
		{name: "G16", more: []string{assignment("bob", officer, vaultID), assignment("bob", contributor, group)}, want: []string{"G16 high"}},
		{name: "G16, two people", more: []string{assignment("bob", officer, vaultID), assignment("eve", contributor, group)}},
		{name: "G17", more: []string{assignment("bob", owner, "/subscriptions/s")}, want: []string{"G17 high"}},
		{name: "G18", old: `"location":"West Europe"`, new: `"location":"North Europe"`, want: []string{"G18 medium"}},
		{name: "G19", old: `"attributes":{"enabled":true,"created"`, new: `"recoveryId":"https://kv1.vault.azure.net/deletedkeys/k1","scheduledPurgeDate":1800000000,"attributes":{"enabled":true,"created"`, want: []string{"G19 critical"}},
		{name: "G20", more: []string{`{"id":"` + group + `/providers/Microsoft.DBforMySQL/flexibleServers/m","location":"westeurope","tags":{"env":"prod"},"identity":{"type":"UserAssigned","userAssignedIdentities":{"/i":{"principalId":"svc"}}},"properties":{"backup":{"geoRedundantBackup":"Enabled"},"dataEncryption":{"type":"AzureKeyVault","primaryKeyURI":"https://kv1.vault.azure.net/keys/k1","primaryUserAssignedIdentityId":"/i"}}}`}, want: []string{"G20 high"}},
		{name: "no key", old: `"keySource":"Microsoft.Keyvault"`, new: `"keySource":"Microsoft.Storage"`, want: []string{"CMK/Microsoft.Storage/storageAccounts high"}},
		{name: "a key nobody asked for", old: `"env":"prod"`, new: `"env":"test"`, want: []string{"COST low"}},
		{name: "key not read", old: soundKey, new: `{}`, want: []string{"CHAIN medium"}},
		{name: "no owner", policy: strings.ReplaceAll(soundPolicy, "kv1.vault", "kv2.vault"), want: []string{"OWNER medium"}},
		{name: "no drill", policy: strings.ReplaceAll(soundPolicy, "2026-10-01", "2024-10-01"), want: []string{"OWNER medium"}},
		{name: "no rule reaches it", policy: strings.ReplaceAll(soundPolicy, "name: the rest,", "name: the rest, when: {tags: {env: x}},"), old: `"env":"prod"`, new: `"env":"test"`, want: []string{"CLASSIFY low"}},
		{name: "an exception that expired", policy: soundPolicy + "exceptions:\n- {resources: '*', owner: o, reason: r, expires: 2026-11-21}\n", want: []string{"EXCEPTION medium"}},
		{name: "an exception on its last day", policy: soundPolicy + "exceptions:\n- {resources: '*', controls: G2, owner: o, reason: r, expires: 2026-11-22}\n", old: `"enablePurgeProtection":true,`, want: []string{"G2 excepted"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			texts := []string{soundVault, soundLog, soundKey, soundRotate, soundGrant, soundAccount}
			changed := tt.old == ""
			for i, s := range texts {
				if tt.old != "" && strings.Contains(s, tt.old) {
					texts[i], changed = strings.Replace(s, tt.old, tt.new, 1), true
				}
			}
			if !changed {
				t.Fatalf("%q is nowhere", tt.old)
			}
			p := soundPolicy
			if tt.policy != "" {
				p = tt.policy
			}
			scan := posture.Judge(inventory(t, append(texts, tt.more...)...), policy(t, p), nil, now)
			var got []string
			for _, f := range scan.Findings {
				severity := string(f.Severity)
				if f.Excepted != nil {
					severity = "excepted"
				}
				got = append(got, f.Control+" "+severity)
				if f.Title == "" || f.Why == "" || f.Mend == "" || f.Detail == "" {
					t.Errorf("%+v does not say enough", f)
				}
				if plan := posture.PlanFor(f, posture.KeyRef{}); len(plan.Mend) == 0 {
					t.Errorf("%s has no plan", f.Control)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
				for _, f := range scan.Findings {
					t.Logf("%s: %s", f.Control, f.Detail)
				}
			}
		})
	}
}

func TestPolicyErrors(t *testing.T) {
	for name, text := range map[string]string{
		"unknown field":      "rules:\n- {name: n, wen: {}, requires: cmk, why: w}",
		"unknown demand":     "rules:\n- {name: n, requires: yes please, why: w}",
		"no reason":          "rules:\n- {name: n, requires: cmk}",
		"unknown severity":   "rules:\n- {name: n, requires: cmk, why: w, severity: awful}",
		"exception for ever": "exceptions:\n- {resources: x, owner: o, reason: r}",
		"no day":             "exceptions:\n- {resources: x, owner: o, reason: r, expires: soon}",
	} {
		if _, err := posture.ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestPlan checks that the benchmark's plans have the arguments that az takes.
func TestPlan(t *testing.T) {
	off := strings.Replace(soundAccount, `"keySource":"Microsoft.Keyvault"`, `"keySource":"Microsoft.Storage"`, 1)
	scan := posture.Judge(inventory(t, off), policy(t, soundPolicy), nil, now)
	p := posture.PlanFor(scan.Findings[0], posture.ParseKeyRef("https://kv1.vault.azure.net/keys/k1"))
	var mend []string
	for _, s := range p.Mend {
		mend = append(mend, s.Command)
	}
	const want = "az storage account update --name sa1 --resource-group g --encryption-key-source Microsoft.Keyvault --encryption-key-vault https://kv1.vault.azure.net --encryption-key-name k1"
	if !slices.Contains(mend, want) {
		t.Errorf("%q", mend)
	}
	if p.Backout[0].Command != "az storage account update --name sa1 --resource-group g --encryption-key-source Microsoft.Storage" || !p.Reversible || p.Remediable != "in-place" {
		t.Errorf("%+v", p)
	}
}

func TestCompare(t *testing.T) {
	before := posture.Judge(inventory(t, strings.Replace(soundAccount, `"keySource":"Microsoft.Keyvault"`, `"keySource":"Microsoft.Storage"`, 1)), policy(t, soundPolicy), nil, now)
	after := posture.Judge(inventory(t, soundVault, soundLog, soundKey, soundRotate, soundGrant, soundAccount), policy(t, soundPolicy), nil, now)
	d := posture.Compare(before, after)
	if len(d.New) != 0 || len(d.Gone) != 1 || len(d.Changed) != 1 || d.Changed[0].After != posture.Compliant || d.Coverage != [2]float64{0, 100} {
		t.Errorf("%+v", d)
	}
}
