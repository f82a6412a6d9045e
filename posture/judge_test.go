package posture_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/posturetest"
)

const (
	group   = "/subscriptions/s/resourceGroups/g"
	vaultID = group + "/providers/Microsoft.KeyVault/vaults/kv1"
	account = group + "/providers/Microsoft.Storage/storageAccounts/sa1"
)

// soundVault, soundKey and soundAccount break no control; each test changes one
// thing.
var (
	soundVault   = `{"id":"` + vaultID + `","name":"kv1","location":"westeurope","properties":{"tenantId":"t1","vaultUri":"https://kv1.vault.azure.net/","enableSoftDelete":true,"softDeleteRetentionInDays":90,"enablePurgeProtection":true,"enableRbacAuthorization":true,"networkAcls":{"defaultAction":"Deny","bypass":"AzureServices"}}}`
	soundLog     = `{"id":"` + vaultID + `/providers/Microsoft.Insights/diagnosticSettings/a","properties":{"logs":[{"category":"AuditEvent","enabled":true}]}}`
	soundKey     = fmt.Sprintf(`{"key":{"kid":"https://kv1.vault.azure.net/keys/k1/v1","kty":"RSA","n":"%s","key_ops":["wrapKey","unwrapKey"]},"attributes":{"enabled":true,"created":1790000000,"exp":1810000000}}`, "wH"+strings.Repeat("A", 340))
	soundRotate  = `{"id":"https://kv1.vault.azure.net/keys/k1/rotationpolicy","lifetimeActions":[{"trigger":{"timeAfterCreate":"P180D"},"action":{"type":"Rotate"}}],"attributes":{"expiryTime":"P1Y"}}`
	soundGrant   = `{"id":"` + vaultID + `/providers/Microsoft.Authorization/roleAssignments/1","properties":{"principalId":"svc","roleDefinitionId":"/r/e147488a-f6f5-4113-8e2d-b22465e65bf6","scope":"` + vaultID + `/keys/k1"}}`
	soundEvents  = `{"id":"` + vaultID + `/providers/Microsoft.EventGrid/eventSubscriptions/e","properties":{"filter":{"includedEventTypes":["Microsoft.KeyVault.KeyNearExpiry"]}}}`
	soundMetric  = `{"id":"` + group + `/providers/Microsoft.Insights/metricAlerts/m","properties":{"enabled":true,"scopes":["` + vaultID + `"],"criteria":{"allOf":[{"metricName":"ServiceApiResult","dimensions":[{"name":"StatusCode","values":["403"]}]}]}}}`
	soundAccount = `{"id":"` + account + `","kind":"BlobStorage","location":"West Europe","tags":{"env":"prod"},"identity":{"type":"SystemAssigned","principalId":"svc","tenantId":"t1"},"properties":{"encryption":{"keySource":"Microsoft.Keyvault","keyvaultproperties":{"keyname":"k1","keyvaulturi":"https://kv1.vault.azure.net"}}}}`
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
		replace        [2]string // one thing more
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
		{name: "expired", old: `"exp":1810000000`, new: `"exp":1790000001`, want: []string{"EXPIRED high"}},
		{name: "G11 not yet", old: `"exp":1810000000`, new: `"exp":1810000000,"nbf":1800000000`, want: []string{"G11 critical"}},
		{name: "G11 operations", old: `["wrapKey","unwrapKey"]`, new: `["sign"]`, want: []string{"G11 critical"}},
		{name: "G12", old: `"keyname":"k1"`, new: `"keyname":"k1","currentVersionedKeyIdentifier":"https://kv1.vault.azure.net/keys/k1/v0"`,
			more: []string{`{"key":{"kid":"https://kv1.vault.azure.net/keys/k1/v0","kty":"RSA"},"attributes":{"enabled":false,"created":1780000000}}`}, want: []string{"G12 critical"}},
		{name: "G13", old: `"identity":{"type":"SystemAssigned","principalId":"svc","tenantId":"t1"}`, new: `"identity":{"type":"None"}`, want: []string{"G13 high"}},
		{name: "G14 more", more: []string{assignment("svc", officer, vaultID)}, want: []string{"G14 high"}},
		{name: "G14 none", old: `"principalId":"svc","roleDefinitionId"`, new: `"principalId":"other","roleDefinitionId"`, want: []string{"G14 high"}},
		{name: "G15 off", old: `"category":"AuditEvent","enabled":true`, new: `"category":"AuditEvent","enabled":false`, want: []string{"G15 high"}},
		{name: "G15 short", old: `"category":"AuditEvent","enabled":true`, new: `"category":"AuditEvent","enabled":true,"retentionPolicy":{"enabled":true,"days":7}`, want: []string{"G15 high"}},
		{name: "G16", more: []string{assignment("bob", officer, vaultID), assignment("bob", contributor, group)}, want: []string{"G16 high"}},
		{name: "G16 through a group", more: []string{assignment("officers", officer, vaultID), assignment("bob", contributor, group), members("officers", "bob", "eve")}, want: []string{"G16 high"}},
		{name: "G16 through two groups", more: []string{assignment("officers", officer, vaultID), assignment("engineers", contributor, group), members("officers", "bob"), members("engineers", "deep"), members("deep", "BOB", "eve")}, want: []string{"G16 high"}},
		{name: "G16 of a group", more: []string{assignment("all", officer, vaultID), assignment("all", contributor, group), members("all", "bob", "eve")}, want: []string{"G16 high"}},
		{name: "G16, groups apart", more: []string{assignment("officers", officer, vaultID), assignment("engineers", contributor, group), members("officers", "bob"), members("engineers", "eve")}},
		{name: "G16, groups in a ring", more: []string{assignment("officers", officer, vaultID), members("officers", "more"), members("more", "officers", "bob"), assignment("bob", contributor, group)}, want: []string{"G16 high"}},
		{name: "G16, a group that was not read", more: []string{strings.Replace(assignment("officers", officer, vaultID), `"principalId"`, `"principalType":"Group","principalId"`, 1)}, want: []string{"G16 medium?"}},
		{name: "G16, two people", more: []string{assignment("bob", officer, vaultID), assignment("eve", contributor, group)}},
		{name: "G17", more: []string{assignment("bob", owner, "/subscriptions/s")}, want: []string{"G17 high"}},
		{name: "G18", old: `"location":"West Europe"`, new: `"location":"North Europe"`, want: []string{"G18 medium"}},
		{name: "G19", old: `"attributes":{"enabled":true,"created"`, new: `"recoveryId":"https://kv1.vault.azure.net/deletedkeys/k1","scheduledPurgeDate":1800000000,"attributes":{"enabled":true,"created"`, want: []string{"G19 critical"}},
		{name: "G20", more: []string{`{"id":"` + group + `/providers/Microsoft.DBforMySQL/flexibleServers/m","location":"westeurope","tags":{"env":"prod"},"identity":{"type":"UserAssigned","userAssignedIdentities":{"/i":{"principalId":"svc"}}},"properties":{"backup":{"geoRedundantBackup":"Enabled"},"dataEncryption":{"type":"AzureKeyVault","primaryKeyURI":"https://kv1.vault.azure.net/keys/k1","primaryUserAssignedIdentityId":"/i"}}}`}, want: []string{"G20 high"}},
		// What was not read is unknown, and never passes.
		{name: "vault of a bare list", old: soundVault, new: `{"id":"` + vaultID + `","name":"kv1","location":"westeurope"}`, want: []string{"G1 medium?", "G14 medium?", "G16 medium?", "G17 medium?", "G2 medium?", "G3 medium?", "G4 medium?"}},
		{name: "key of a bare list", old: soundKey, new: `{"key":{"kid":"https://kv1.vault.azure.net/keys/k1/v1"}}`, want: []string{"G11 medium?", "G5 low?", "G8 medium?", "G9 medium?"}},
		{name: "size not told", old: `"n":"wH` + strings.Repeat("A", 340) + `",`, want: []string{"G9 medium?"}},
		{name: "G6", old: `"type":"Rotate"`, new: `"type":"Notify"`, replace: [2]string{`"exp":1810000000`, `"exp":1796000000`}, want: []string{"G6 high", "G7 medium"}},
		{name: "G6 unknown", old: soundRotate, new: `{}`, replace: [2]string{`"exp":1810000000`, `"exp":1796000000`}, want: []string{"G6 medium?", "G7 medium?"}},
		{name: "G7 unknown", old: soundRotate, new: `{}`, want: []string{"G7 medium?"}},
		{name: "G12 unknown", old: `"keyname":"k1"`, new: `"keyname":"k1","currentVersionedKeyIdentifier":"https://kv1.vault.azure.net/keys/k1/v0"`, want: []string{"G12 medium?"}},
		{name: "G12, the old one is enabled", old: `"keyname":"k1"`, new: `"keyname":"k1","currentVersionedKeyIdentifier":"https://kv1.vault.azure.net/keys/k1/v0"`,
			more: []string{`{"key":{"kid":"https://kv1.vault.azure.net/keys/k1/v0","kty":"RSA"},"attributes":{"enabled":true,"created":1780000000}}`}},
		{name: "G12, disabled too soon", old: `"created":1790000000`, new: `"created":1795330000`,
			more: []string{`{"key":{"kid":"https://kv1.vault.azure.net/keys/k1/v0","kty":"RSA"},"attributes":{"enabled":false,"created":1780000000,"updated":1795340000}}`}, want: []string{"G12 critical"}},
		{name: "G14 unknown", old: soundGrant, new: `{}`, want: []string{"G14 medium?", "G16 medium?", "G17 medium?"}},
		{name: "G14 by access policy", old: `"enableRbacAuthorization":true`, new: `"accessPolicies":[{"objectId":"svc","permissions":{"keys":["get","wrapKey","unwrapKey","delete"]}}]`, want: []string{"G14 high", "G3 medium"}},
		{name: "G15 unknown", old: soundLog, new: `{}`, want: []string{"G15 medium?"}},
		{name: "G17 by access policy", old: `"enableRbacAuthorization":true`, new: `"accessPolicies":[{"objectId":"svc","permissions":{"keys":["get","wrapKey","unwrapKey"]}}]`, more: []string{assignment("bob", contributor, group)}, want: []string{"G17 high", "G3 medium"}},
		{name: "G18 unknown", old: `"location":"West Europe",`, want: []string{"G18 medium?"}},
		{name: "G18 tenant", old: `"svc","tenantId":"t1"`, new: `"svc","tenantId":"t2"`, want: []string{"G18 medium"}},
		{name: "G18 tenant, federated", old: `"svc","tenantId":"t1"`, new: `"svc","tenantId":"t2"`, replace: [2]string{`"encryption":{"keySource"`, `"encryption":{"identity":{"federatedIdentityClientId":"f"},"keySource"`}},
		{name: "G19 vault", old: soundVault, new: `{"id":"/subscriptions/s/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/kv1","type":"Microsoft.KeyVault/locations/deletedVaults","properties":{"vaultId":"` + vaultID + `","vaultUri":"https://kv1.vault.azure.net/"}}`, want: []string{"G19 critical"}},
		{name: "alert on expiry", old: `KeyNearExpiry`, new: `SecretNearExpiry`, want: []string{"ALERT-EXPIRY medium"}},
		{name: "alert on expiry by topic", old: vaultID + `/providers/Microsoft.EventGrid/eventSubscriptions/e`, new: group + `/providers/Microsoft.EventGrid/systemTopics/t/eventSubscriptions/e`,
			more: []string{`{"id":"` + group + `/providers/Microsoft.EventGrid/systemTopics/t","properties":{"source":"` + vaultID + `"}}`}},
		{name: "alert on access", old: `"values":["403"]`, new: `"values":["200"]`, want: []string{"ALERT-ACCESS medium"}},
		{name: "alert on access, off", old: `"enabled":true,"scopes"`, new: `"enabled":false,"scopes"`, want: []string{"ALERT-ACCESS medium"}},
		{name: "alert on access by query", old: soundMetric, new: `{"id":"` + group + `/providers/Microsoft.Insights/scheduledQueryRules/q","tags":{"env":"x"},"properties":{"scopes":["/w"],"criteria":{"allOf":[{"query":"AZKVAuditLogs | where HttpStatusCode == 403"}]}}}`,
			replace: [2]string{`"properties":{"logs"`, `"properties":{"workspaceId":"/W","logs"`}},
		{name: "alerts unknown", old: soundMetric, new: `{}`, replace: [2]string{soundEvents, `{}`}, want: []string{"ALERT-ACCESS medium?", "ALERT-EXPIRY medium?"}},
		{name: "blast radius", policy: soundPolicy + "limits: {blastRadius: 1}\n", more: []string{strings.Replace(soundAccount, "sa1", "sa2", 1)}, want: []string{"RADIUS medium"}},
		{name: "no procedure", policy: strings.ReplaceAll(soundPolicy, "procedure: wiki/keys, tested: 2026-10-01", ""), want: []string{"OWNER medium"}},
		{name: "no key", old: `"keySource":"Microsoft.Keyvault"`, new: `"keySource":"Microsoft.Storage"`, want: []string{"CMK/Microsoft.Storage/storageAccounts high"}},
		{name: "a key nobody asked for", old: `"env":"prod"`, new: `"env":"test"`, want: []string{"COST low"}},
		{name: "key not read", old: soundKey, new: `{}`, want: []string{"CHAIN medium?"}},
		{name: "no owner", policy: strings.ReplaceAll(soundPolicy, "kv1.vault", "kv2.vault"), want: []string{"OWNER medium"}},
		{name: "no drill", policy: strings.ReplaceAll(soundPolicy, "2026-10-01", "2024-10-01"), want: []string{"OWNER medium"}},
		{name: "no rule reaches it", policy: strings.ReplaceAll(soundPolicy, "name: the rest,", "name: the rest, when: {tags: {env: x}},"), old: `"env":"prod"`, new: `"env":"test"`, want: []string{"CLASSIFY low"}},
		{name: "an exception that expired", policy: soundPolicy + "exceptions:\n- {resources: '*', owner: o, reason: r, expires: 2026-11-21}\n", want: []string{"EXCEPTION medium"}},
		{name: "an exception on its last day", policy: soundPolicy + "exceptions:\n- {resources: '*', controls: G2, owner: o, reason: r, expires: 2026-11-22}\n", old: `"enablePurgeProtection":true,`, want: []string{"G2 excepted"}},
	} {
		for dialect, change := range posturetest.Dialects {
			t.Run(tt.name+"/"+dialect, func(t *testing.T) {
				texts := []string{soundVault, soundLog, soundKey, soundRotate, soundGrant, soundEvents, soundMetric, soundAccount}
				for _, r := range [][2]string{{tt.old, tt.new}, tt.replace} {
					changed := r[0] == ""
					for i, s := range texts {
						if r[0] != "" && strings.Contains(s, r[0]) {
							texts[i], changed = strings.Replace(s, r[0], r[1], 1), true
						}
					}
					if !changed {
						t.Fatalf("%q is nowhere", r[0])
					}
				}
				texts = append(texts, tt.more...)
				for i, s := range texts {
					texts[i] = inDialect(t, s, change)
				}
				p := soundPolicy
				if tt.policy != "" {
					p = tt.policy
				}
				scan := posture.Judge(inventory(t, texts...), policy(t, p), nil, now)
				var got []string
				for _, f := range scan.Findings {
					severity := string(f.Severity)
					if f.Excepted != nil {
						severity = "excepted"
					}
					if f.State == "unknown" {
						severity += "?"
					}
					got = append(got, f.Control+" "+severity)
					if f.Title == "" || f.Why == "" || f.Mend == "" || f.Detail == "" {
						t.Errorf("%+v does not say enough", f)
					}
					if plan := posture.PlanFor(f, posture.KeyRef{}); len(plan.Mend) == 0 {
						t.Errorf("%s has no plan", f.Control)
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, tt.want) {
					t.Errorf("%q, want %q", got, tt.want)
					for _, f := range scan.Findings {
						t.Logf("%s: %s", f.Control, f.Detail)
					}
				}
			})
		}
	}
}

// inDialect brings an object into a dialect. az keeps the properties of vaults, and
// keys have none.
func inDialect(t *testing.T, text string, change func(map[string]any) map[string]any) string {
	var body map[string]any
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	id, _ := body["id"].(string)
	if provider := id[strings.LastIndex(id, "/providers/")+1:]; !strings.HasPrefix(provider, "providers/Microsoft.KeyVault/") {
		body = change(body)
	}
	out, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
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
	after := posture.Judge(inventory(t, soundVault, soundLog, soundKey, soundRotate, soundGrant, soundEvents, soundMetric, soundAccount), policy(t, soundPolicy), nil, now)
	d := posture.Compare(before, after)
	if len(d.New) != 0 || len(d.Gone) != 1 || len(d.Changed) != 1 || d.Changed[0].After != posture.Compliant || d.Coverage != [2]float64{0, 100} {
		t.Errorf("%+v", d)
	}
}

// members is a group as Microsoft Graph shows it with its members.
func members(group string, all ...string) string {
	return `{"id":"` + group + `","securityEnabled":true,"members":[{"id":"` + strings.Join(all, `"},{"id":"`) + `"}]}`
}
