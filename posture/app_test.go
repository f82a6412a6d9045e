package posture_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/posturetest"
)

// TestApps follows an app's settings to its accounts, vault and identity. One thing is
// changed at a time in a sound one.
func TestApps(t *testing.T) {
	const site = group + "/providers/Microsoft.Web/sites/app1"
	app := `{"id":"` + site + `","kind":"functionapp,linux","location":"westeurope","tags":{"env":"prod"},"identity":{"type":"SystemAssigned","principalId":"app","tenantId":"t1"},"properties":{"keyVaultReferenceIdentity":"SystemAssigned","siteConfig":{"appSettings":null}}}`
	settings := `{"id":"` + site + `/config/appsettings","type":"Microsoft.Web/sites/config","properties":{"AzureWebJobsStorage__accountName":"sa1","DB":"@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/db/)","WEBSITE_RUN_FROM_PACKAGE":"1","COLOUR":"blue"}}`
	grant := `{"id":"` + vaultID + `/providers/Microsoft.Authorization/roleAssignments/2","properties":{"principalId":"app","roleDefinitionId":"/r/4633458b-17de-408a-b874-0445c86b69e6","scope":"` + vaultID + `"}}`
	const off = `"keySource":"Microsoft.Storage"`
	for _, tt := range []struct {
		name, old, new string
		state          posture.State
		want           []string
	}{
		{"sound", "", "", posture.On, nil},
		{"its account has no key", `"keySource":"Microsoft.Keyvault"`, off, posture.Off, []string{"CMK/Microsoft.Storage/storageAccounts fail", "CMK/Microsoft.Web/sites fail"}},
		{"its account was not read", `"AzureWebJobsStorage__accountName":"sa1"`, `"AzureWebJobsStorage__accountName":"other"`, posture.Unknown, []string{"CMK/Microsoft.Web/sites unknown"}},
		{"one account of two", `"COLOUR":"blue"`, `"WEBSITE_CONTENTAZUREFILECONNECTIONSTRING":"@Microsoft.KeyVault(VaultName=kv1;SecretName=files)"`, posture.Unknown, []string{"CMK/Microsoft.Web/sites unknown"}},
		{"a connection string", `"AzureWebJobsStorage__accountName":"sa1"`, `"AzureWebJobsStorage":"DefaultEndpointsProtocol=https;AccountName=sa1;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"`, posture.On, []string{"APP-SECRETS fail"}},
		{"a service's URI", `"AzureWebJobsStorage__accountName":"sa1"`, `"AzureWebJobsStorage__blobServiceUri":"https://sa1.blob.core.windows.net"`, posture.On, nil},
		{"a package with a signature", `"WEBSITE_RUN_FROM_PACKAGE":"1"`, `"WEBSITE_RUN_FROM_PACKAGE":"https://sa1.blob.core.windows.net/p/a.zip?sv=1&sig=c2VjcmV0"`, posture.On, []string{"APP-SECRETS fail"}},
		{"a password", `"COLOUR":"blue"`, `"SQL":"Server=x;Password=hunter2"`, posture.On, []string{"APP-SECRETS fail"}},
		{"no account", `"AzureWebJobsStorage__accountName":"sa1",`, ``, posture.Off, []string{"CMK/Microsoft.Web/sites fail"}},
		{"settings not read", settings, `{}`, posture.Unknown, []string{"APP-SECRETS unknown", "CMK/Microsoft.Web/sites unknown"}},
		{"no identity", `"identity":{"type":"SystemAssigned","principalId":"app","tenantId":"t1"},`, ``, posture.On, []string{"APP-IDENTITY fail"}},
		{"references as another", `"keyVaultReferenceIdentity":"SystemAssigned"`, `"keyVaultReferenceIdentity":"/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/u"`, posture.On, []string{"APP-IDENTITY fail"}},
		{"the secret is not granted", `"principalId":"app","roleDefinitionId"`, `"principalId":"else","roleDefinitionId"`, posture.On, []string{"APP-VAULT fail"}},
		{"the vault was not read", "https://kv1.vault.azure.net/secrets", "https://kv2.vault.azure.net/secrets", posture.On, []string{"APP-VAULT unknown"}},
		{"the secret's vault is unprotected", `"enablePurgeProtection":true,`, ``, posture.On, []string{"G2 fail"}},
	} {
		for dialect, change := range posturetest.Dialects {
			t.Run(tt.name+"/"+dialect, func(t *testing.T) {
				texts := []string{soundVault, soundLog, soundKey, soundRotate, soundGrant, soundEvents, soundMetric, soundAccount, app, settings, grant}
				changed := tt.old == ""
				for i, s := range texts {
					if tt.old != "" && strings.Contains(s, tt.old) {
						texts[i], changed = strings.Replace(s, tt.old, tt.new, 1), true
					}
				}
				if !changed {
					t.Fatalf("%q is nowhere", tt.old)
				}
				for i, s := range texts {
					if strings.Contains(s, `/config/`) {
						continue // az writes no id into these: the export keeps Resource Manager's
					}
					texts[i] = inDialect(t, s, change)
				}
				inv := inventory(t, texts...)
				scan := posture.Judge(inv, policy(t, soundPolicy), nil, now)
				var got []string
				for _, f := range scan.Findings {
					got = append(got, f.Control+" "+f.State)
					if strings.Contains(f.Detail, "hunter2") || strings.Contains(f.Detail, "c2VjcmV0") {
						t.Errorf("%s tells a secret", f.Control)
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, tt.want) {
					t.Errorf("%q, want %q", got, tt.want)
					for _, f := range scan.Findings {
						t.Logf("%s: %s", f.Control, f.Detail)
					}
				}
				for _, r := range inv.Resources {
					if r.Type == "Microsoft.Web/sites" && r.CMK.State != tt.state {
						t.Errorf("%s (%s), want %s", r.CMK.State, r.CMK.Why, tt.state)
					}
				}
			})
		}
	}
}
