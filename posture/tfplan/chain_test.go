package tfplan_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/tfplan"
)

// soundPlan is a storage account under a key, with all that lies behind it, in one
// plan; each test changes attributes, or leaves them to apply.
const soundPlan = `{
"azurerm_key_vault.v": {"name":"kv1","location":"westeurope","id":"/s/vaults/kv1","tenant_id":"t1","soft_delete_retention_days":90,"purge_protection_enabled":true,"rbac_authorization_enabled":true,"network_acls":[{"default_action":"Deny","bypass":"AzureServices"}]},
"azurerm_key_vault_key.k": {"name":"k1","key_vault_id":"/s/vaults/kv1","key_type":"RSA","key_size":3072,"key_opts":["wrapKey","unwrapKey"],"expiration_date":"2028-01-01T00:00:00Z","rotation_policy":[{"automatic":[{"time_after_creation":"P180D"}],"expire_after":"P1Y"}]},
"azurerm_role_assignment.r": {"scope":"/s/vaults/kv1/keys/k1","role_definition_name":"Key Vault Crypto Service Encryption User","principal_id":"svc"},
"azurerm_monitor_diagnostic_setting.l": {"name":"a","target_resource_id":"/s/vaults/kv1","enabled_log":[{"category":"AuditEvent"}],"log_analytics_workspace_id":"/w"},
"azurerm_eventgrid_system_topic.t": {"name":"t","id":"/s/topics/t","source_resource_id":"/s/vaults/kv1"},
"azurerm_eventgrid_system_topic_event_subscription.e": {"name":"e","system_topic":"t","included_event_types":["Microsoft.KeyVault.KeyNearExpiry"]},
"azurerm_monitor_metric_alert.m": {"name":"m","id":"/s/alerts/m","enabled":true,"scopes":["/s/vaults/kv1"],"criteria":[{"metric_name":"ServiceApiResult","dimension":[{"name":"StatusCode","values":["403"]}]}]},
"azurerm_storage_account.a": {"name":"sa1","id":"/s/accounts/sa1","location":"westeurope","account_kind":"BlobStorage","tags":{"env":"prod"},"identity":[{"type":"SystemAssigned","principal_id":"svc"}],"customer_managed_key":[{"key_vault_key_id":"https://kv1.vault.azure.net/keys/k1"}]},
"azurerm_mysql_flexible_server.g": {"name":"g","id":"/s/servers/g","location":"westeurope","tags":{"env":"prod"},"geo_redundant_backup_enabled":true,"identity":[{"type":"UserAssigned","identity_ids":["/i"]}],"customer_managed_key":[{"key_vault_key_id":"https://kv1.vault.azure.net/keys/k1","primary_user_assigned_identity_id":"/i","geo_backup_key_vault_key_id":"https://kv2.vault.azure.net/keys/k2"}]},
"azurerm_linux_function_app.f": {"name":"f","id":"/s/sites/f","location":"westeurope","tags":{"env":"prod"},"identity":[{"type":"SystemAssigned","principal_id":"app"}],"storage_account_name":"sa1","storage_uses_managed_identity":true,"app_settings":{"DB":"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/db)"}},
"azurerm_role_assignment.s": {"scope":"/s/vaults/kv1","role_definition_name":"Key Vault Secrets User","principal_id":"app"}
}`

const planPolicy = `
rules: [{name: production, when: {tags: {env: prod}}, requires: cmk, why: it is}]
keys: [{key: "*", owner: ann, procedure: wiki, tested: 2026-10-01}]
`

// TestGuardrails plans what breaks a guardrail, and what leaves to apply whether it does.
func TestGuardrails(t *testing.T) {
	type values map[string]any
	const vault, key, account, grant = "azurerm_key_vault.v", "azurerm_key_vault_key.k", "azurerm_storage_account.a", "azurerm_role_assignment.r"
	block := func(v values) []any { return []any{map[string]any(v)} }
	for _, tt := range []struct {
		name, at       string
		after, unknown values
		want           []string
	}{
		{"sound", "", nil, nil, nil},
		{"G2", vault, values{"purge_protection_enabled": false}, nil, []string{"G2 fail"}},
		{"G2 unknown", vault, nil, values{"purge_protection_enabled": true}, []string{"G2 unknown"}},
		{"G3", vault, values{"rbac_authorization_enabled": false, "access_policy": block(values{"object_id": "svc", "key_permissions": []any{"Get", "WrapKey", "UnwrapKey"}})}, nil, []string{"APP-VAULT fail", "G3 fail"}},
		{"G3 unknown", vault, nil, values{"rbac_authorization_enabled": true}, []string{"APP-VAULT unknown", "G14 unknown", "G16 unknown", "G17 unknown", "G3 unknown"}},
		{"G4", vault, values{"network_acls": block(values{"default_action": "Allow"})}, nil, []string{"G4 fail"}},
		{"G4 unknown", vault, nil, values{"network_acls": block(values{"default_action": true})}, []string{"G4 unknown"}},
		{"G5", key, values{"expiration_date": nil}, nil, []string{"G5 fail"}},
		{"G5 unknown", key, values{"expiration_date": nil}, values{"expiration_date": true}, []string{"G5 unknown"}},
		{"G6 and G7", key, values{"expiration_date": "2026-12-01T00:00:00Z", "rotation_policy": []any{}}, nil, []string{"G6 fail", "G7 fail"}},
		{"G7 unknown", key, nil, values{"rotation_policy": true}, []string{"G7 unknown"}},
		{"G9 size", key, values{"key_size": 1024}, nil, []string{"G9 fail"}},
		{"G9 unknown", key, nil, values{"key_size": true}, []string{"G9 unknown"}},
		{"G10", account, values{"customer_managed_key": block(values{"key_vault_key_id": "https://kv1.vault.azure.net/keys/k1/v1"})}, nil, []string{"G10 fail", "G12 unknown"}},
		{"G11", key, values{"key_opts": []any{"sign"}}, nil, []string{"G11 fail"}},
		{"expired", key, values{"expiration_date": "2026-01-01T00:00:00Z"}, nil, []string{"EXPIRED fail"}},
		{"G13 unknown", account, values{"identity": []any{}}, nil, []string{"G13 unknown"}},
		{"G14", grant, values{"role_definition_name": "Key Vault Crypto Officer"}, nil, []string{"G14 fail"}},
		{"G15", "azurerm_monitor_diagnostic_setting.l", values{"enabled_log": block(values{"category": "Metrics"})}, nil, []string{"G15 fail"}},
		{"G15 unknown", "azurerm_monitor_diagnostic_setting.l", nil, values{"enabled_log": true}, []string{"G15 unknown"}},
		{"G16 and G17", "azurerm_role_assignment.x", values{"scope": "/s", "role_definition_name": "Owner", "principal_id": "bob"}, nil, []string{"G17 fail"}},
		{"G18", vault, values{"location": "northeurope"}, nil, []string{"G18 fail", "G18 fail"}},
		{"G18 unknown", vault, values{"location": nil}, values{"location": true}, []string{"G18 unknown", "G18 unknown"}},
		{"G20", "azurerm_mysql_flexible_server.g", values{"customer_managed_key": block(values{"key_vault_key_id": "https://kv1.vault.azure.net/keys/k1", "primary_user_assigned_identity_id": "/i"})}, nil, []string{"G20 fail"}},
		{"G20 unknown", "azurerm_mysql_flexible_server.g", nil, values{"customer_managed_key": block(values{"geo_backup_key_vault_key_id": true})}, []string{"G20 unknown"}},
		{"no alert on expiry", "azurerm_eventgrid_system_topic_event_subscription.e", values{"included_event_types": []any{"Microsoft.KeyVault.SecretNearExpiry"}}, nil, []string{"ALERT-EXPIRY fail"}},
		{"no alert on access", "azurerm_monitor_metric_alert.m", values{"enabled": false}, nil, []string{"ALERT-ACCESS fail"}},
		{"an app's account without a key", account, values{"customer_managed_key": []any{}}, nil, []string{"CMK/Microsoft.Storage/storageAccounts fail", "CMK/Microsoft.Web/sites fail"}},
		{"an app's secret", "azurerm_linux_function_app.f", values{"app_settings": map[string]any{"X": "Password=y"}}, nil, []string{"APP-SECRETS fail"}},
		{"an app's settings unknown", "azurerm_linux_function_app.f", nil, values{"app_settings": map[string]any{"X": true}}, []string{"APP-SECRETS unknown"}},
		{"an app's account by its key", "azurerm_linux_function_app.f", values{"storage_uses_managed_identity": nil}, nil, []string{"APP-SECRETS fail"}},
		{"a tag that decides", account, nil, values{"tags": map[string]any{"env": true}}, []string{"CLASSIFY unknown"}},
		{"a tag that does not", account, nil, values{"tags": map[string]any{"owner": true}}, nil},
		{"all tags", account, nil, values{"tags": true}, []string{"CLASSIFY unknown"}},
		{"an app without identity", "azurerm_linux_function_app.f", values{"identity": []any{}}, nil, []string{"APP-IDENTITY fail"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var all map[string]map[string]any
			if err := json.Unmarshal([]byte(soundPlan), &all); err != nil {
				t.Fatal(err)
			}
			if tt.at != "" && all[tt.at] == nil {
				all[tt.at] = map[string]any{}
			}
			maps.Copy(all[tt.at], tt.after)
			var changes []any
			for _, address := range slices.Sorted(maps.Keys(all)) {
				var unknown any = map[string]any{}
				if address == tt.at && tt.unknown != nil {
					unknown = tt.unknown
				}
				typ := address[:len(address)-2]
				changes = append(changes, change(address, typ, all[address], unknown))
			}
			text, err := json.Marshal(map[string]any{"format_version": "1.2", "timestamp": "2026-11-22T12:00:00Z", "resource_changes": changes})
			if err != nil {
				t.Fatal(err)
			}
			inv := read(t, string(text))
			policy, err := posture.ParsePolicy([]byte(planPolicy))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			scan := posture.Judge(inv, policy, nil, time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
			for _, f := range scan.Findings {
				got = append(got, f.Control+" "+f.State)
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
				for _, f := range scan.Findings {
					t.Logf("%s: %s: %s", f.Control, f.Resource, f.Detail)
				}
			}
		})
	}
}

// TestPlannedChain joins what is made in one plan, where ids are known after apply.
func TestPlannedChain(t *testing.T) {
	resources := []any{
		change("azurerm_key_vault.v", "azurerm_key_vault", map[string]any{"name": "kv1", "location": "westeurope", "purge_protection_enabled": false}, map[string]any{"id": true, "vault_uri": true}),
		change("azurerm_key_vault_key.k", "azurerm_key_vault_key", map[string]any{"name": "k1", "key_type": "RSA", "key_size": 2048}, map[string]any{"id": true, "key_vault_id": true}),
		change("azurerm_monitor_diagnostic_setting.l", "azurerm_monitor_diagnostic_setting", map[string]any{"name": "a", "enabled_log": []any{map[string]any{"category_group": "audit"}}}, map[string]any{"id": true, "target_resource_id": true}),
	}
	config := []any{
		map[string]any{"address": "azurerm_key_vault_key.k", "expressions": map[string]any{"key_vault_id": map[string]any{"references": []string{"azurerm_key_vault.v.id", "azurerm_key_vault.v"}}}},
		map[string]any{"address": "azurerm_monitor_diagnostic_setting.l", "expressions": map[string]any{"target_resource_id": map[string]any{"references": []string{"azurerm_key_vault.v.id", "azurerm_key_vault.v"}}}},
	}
	text, err := json.Marshal(map[string]any{"format_version": "1.2", "resource_changes": resources, "configuration": map[string]any{"root_module": map[string]any{"resources": config}}})
	if err != nil {
		t.Fatal(err)
	}
	inv := &posture.Inventory{}
	if err := tfplan.Read(text, "p", time.Unix(0, 0), inv); err != nil {
		t.Fatal(err)
	}
	inv.Link()
	if len(inv.Vaults) != 1 || len(inv.Keys) != 1 || inv.Keys[0].Ref.URL() != "https://kv1.vault.azure.net/keys/k1" || inv.Vault(inv.Keys[0].Ref) != inv.Vaults[0] {
		t.Fatalf("%+v %+v", inv.Vaults, inv.Keys)
	}
	states := map[string]string{}
	for _, f := range posture.Judge(inv, nil, nil, time.Unix(0, 0)).Findings {
		states[f.Control] = f.State
	}
	if states["G2"] != "fail" || states["G15"] != "" {
		t.Errorf("%v", states)
	}
}
