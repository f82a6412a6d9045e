package tfplan_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/tfplan"
)

const key = "https://kv1.vault.azure.net/keys/k1"

// set makes an attribute of a spec have a value, in blocks as a plan has them.
func set(values map[string]any, spec string, v any) {
	spec, _, _ = strings.Cut(spec, "|")
	for one := range strings.SplitSeq(spec, "+") {
		p := strings.Split(strings.ReplaceAll(one, ">", "."), ".")
		at := values
		for _, name := range p[:len(p)-1] {
			block, ok := at[name].([]any)
			if !ok {
				block = []any{map[string]any{}}
				at[name] = block
			}
			at = block[0].(map[string]any)
		}
		at[p[len(p)-1]] = v
	}
}

func read(t *testing.T, text string) *posture.Inventory {
	t.Helper()
	inv := &posture.Inventory{}
	if err := tfplan.Read([]byte(text), "plan.json", time.Unix(0, 0), inv); err != nil {
		t.Fatal(err)
	}
	inv.Link()
	return inv
}

const setID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/diskEncryptionSets/des"

// TestTable plans every resource of the table with its key set, left to apply, and
// not set, and expects on, unknown and off.
func TestTable(t *testing.T) {
	rows := tfplan.Rows()
	base := map[string]string{}
	for _, r := range rows {
		if r.Target == "" && r.Part == "" && base[r.Type] == "" {
			base[r.Type] = r.Resource
		}
	}
	for _, r := range rows {
		if r.Key == "" || r.Part != "" || strings.HasPrefix(r.Key, "scopes") || strings.Contains(r.Key, "job_storage") || r.Key == "storage_account_id" {
			continue // these lead to accounts, which the table of types tests
		}
		for _, want := range []posture.State{posture.On, posture.Unknown, posture.Off} {
			t.Run(r.Resource+"/"+string(want), func(t *testing.T) {
				after, unknown := map[string]any{"name": "n", "sku": "Premium", "sku_name": "Premium"}, map[string]any{"id": true}
				value := key
				if strings.Contains(r.Key, "disk_encryption_set_id") {
					value = setID
				}
				spec := strings.TrimPrefix(r.Key, "managed_hsm_key_id|")
				if name, wanted, ok := strings.Cut(r.On, "="); ok && want != posture.Off {
					set(after, name, wanted)
				}
				switch {
				case want == posture.Off && strings.Contains(spec, ">"):
					block, _, _ := strings.Cut(spec, ">")
					after[block] = []any{map[string]any{}}
				case want == posture.Off:
				case strings.HasPrefix(spec, "{"):
					set(after, "key_vault_id", "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv1")
					if want == posture.On {
						set(after, "key_name", "k1")
					} else {
						unknown["key_name"] = true
					}
				case want == posture.On:
					set(after, spec, value)
				default:
					set(after, spec, nil)
					set(unknown, spec, true)
				}
				resources := []any{change("azurerm_disk_encryption_set.d", "azurerm_disk_encryption_set", map[string]any{"id": setID, "key_vault_key_id": key}, nil)}
				id := r.Resource + ".x"
				var config []any
				if r.Target != "" {
					if want == posture.Off {
						t.Skip("a resource of its own has a key, or is not there")
					}
					id = base[r.Type] + ".x"
					resources = append(resources, change(id, base[r.Type], map[string]any{"name": "n", "sku": "Premium"}, map[string]any{"id": true}))
					unknown[r.Target] = true
					config = append(config, map[string]any{"address": r.Resource + ".x", "expressions": map[string]any{r.Target: map[string]any{"references": []string{id + ".id", id}}}})
				}
				resources = append(resources, change(r.Resource+".x", r.Resource, after, unknown))
				text, err := json.Marshal(map[string]any{
					"format_version": "1.2", "resource_changes": resources,
					"configuration": map[string]any{"root_module": map[string]any{"resources": config}},
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, got := range read(t, string(text)).Resources {
					if got.ID != id {
						continue
					}
					if got.CMK.State != want {
						t.Errorf("%s (%s), want %s\n%s", got.CMK.State, got.CMK.Why, want, text)
					}
					return
				}
				t.Errorf("%s is not in the inventory\n%s", id, text)
			})
		}
	}
}

func change(address, typ string, after, unknown any) map[string]any {
	return map[string]any{"address": address, "mode": "managed", "type": typ, "change": map[string]any{"actions": []string{"create"}, "after": after, "after_unknown": unknown}}
}

func TestPlans(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       map[string]posture.State
	}{
		{"destroyed and data resources are none", `{"format_version":"1.2","resource_changes":[
			{"address":"azurerm_storage_account.gone","mode":"managed","type":"azurerm_storage_account","change":{"actions":["delete"],"after":null}},
			{"address":"data.azurerm_storage_account.d","mode":"data","type":"azurerm_storage_account","change":{"actions":["read"],"after":{"id":"x"}}}]}`, map[string]posture.State{}},
		{"a key for an account outside the plan", `{"format_version":"1.2","resource_changes":[
			{"address":"azurerm_storage_account_customer_managed_key.k","mode":"managed","type":"azurerm_storage_account_customer_managed_key","change":{"actions":["create"],
			"after":{"storage_account_id":"/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a","key_vault_key_id":"` + key + `"},"after_unknown":{"id":true}}}]}`,
			map[string]posture.State{"/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a": posture.On}},
		{"instances in modules", `{"format_version":"1.2","resource_changes":[
			{"address":"module.m[0].azurerm_storage_account.a[\"x\"]","mode":"managed","type":"azurerm_storage_account","change":{"actions":["create"],"after":{"name":"a"},"after_unknown":{"id":true}}},
			{"address":"module.m[0].azurerm_storage_account_customer_managed_key.k[\"x\"]","mode":"managed","type":"azurerm_storage_account_customer_managed_key","change":{"actions":["create"],"after":{"key_vault_key_id":"` + key + `"},"after_unknown":{"id":true,"storage_account_id":true}}}],
			"configuration":{"root_module":{"module_calls":{"m":{"module":{"resources":[{"address":"azurerm_storage_account_customer_managed_key.k","expressions":{"storage_account_id":{"references":["azurerm_storage_account.a"]}}}]}}}}}}`,
			map[string]posture.State{`module.m[0].azurerm_storage_account.a["x"]`: posture.On}},
		{"a state", `{"format_version":"1.0","values":{"root_module":{"resources":[],"child_modules":[{"resources":[
			{"address":"module.m.azurerm_cosmosdb_account.c","mode":"managed","type":"azurerm_cosmosdb_account","values":{"key_vault_key_id":"` + key + `"}}]}]}}}`,
			map[string]posture.State{"module.m.azurerm_cosmosdb_account.c": posture.On}},
		{"one disk of two", `{"format_version":"1.2","resource_changes":[
			{"address":"azurerm_disk_encryption_set.d","mode":"managed","type":"azurerm_disk_encryption_set","change":{"actions":["no-op"],"after":{"id":"` + setID + `","key_vault_key_id":"` + key + `"}}},
			{"address":"azurerm_image.i","mode":"managed","type":"azurerm_image","change":{"actions":["create"],"after":{"os_disk":[{"disk_encryption_set_id":"` + setID + `"}],"data_disk":[{"lun":0}]}}}]}`,
			map[string]posture.State{setID: posture.On, "azurerm_image.i": posture.Partial}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := map[string]posture.State{}
			for _, r := range read(t, tt.text).Resources {
				got[r.ID] = r.CMK.State
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"format_version":"1.2","resource_changes":[{"address":"azurerm_image.i","mode":"managed","type":"azurerm_image","change":{"actions":["create"],"after":{"os_disk":[{}]},"after_unknown":{"os_disk":[{"disk_encryption_set_id":true}]}}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		inv := &posture.Inventory{}
		if err := tfplan.Read(text, "plan.json", time.Unix(0, 0), inv); err == nil {
			inv.Link()
			posture.Judge(inv, nil, nil, time.Unix(0, 0))
		}
	})
}
