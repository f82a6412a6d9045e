package fabric_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api/fabric"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek/kektest"
	"github.com/kluis-io/kluis/rbac"
)

// TestAccountEncryption leads a storage account's encryption through what Resource
// Manager has no words for, and checks who is let.
func TestAccountEncryption(t *testing.T) {
	run(t, fabric.Config{}, func(w *world) {
		who := func(name string) identity.Caller {
			return identity.Caller{Tenant: identity.TenantID(kektest.Tenant), Principal: people[name], Type: identity.User}
		}
		for name, role := range map[string]rbac.RoleID{"creator": rbac.StorageAccountContributor, "viewer": rbac.Reader} {
			if err := w.accounts.Provision(w.Context(), identity.TenantID(kektest.Tenant), rbac.Assignment{Principal: people[name], Role: role, Scope: "/subscriptions/" + subscription}); err != nil {
				t.Fatal(err)
			}
		}
		p := account.Path{Subscription: subscription, ResourceGroup: "data", Name: "kluissales"}
		if _, _, err := w.accounts.Put(w.Context(), who("creator"), p, account.Spec{Location: new("local")}); err != nil {
			t.Fatal(err)
		}
		const at = "/v1/storageAccounts/kluissales/encryption"
		get := func(name, path string) map[string]any { return w.get(name, "GET", path, "") }
		state := func(v map[string]any) any { return v["encryptionDetail"].(map[string]any)["encryptionStatus"] }
		if v := get("viewer", at); state(v) != "Disabled" || v["mayChange"] != nil {
			t.Errorf("to a reader: %v", v)
		}
		if v := get("creator", at); v["mayChange"] != true {
			t.Errorf("to a contributor: %v", v)
		}

		key := w.vault.Create("k").String()
		body := `{"keyIdentifier":"` + key + `"}`
		w.want(403, "InsufficientPrivileges", "viewer", "POST", at+"/preview", body)
		if v := w.get("creator", "POST", at+"/preview", body); v["allowed"] != true {
			t.Errorf("the dry run: %v", v)
		}
		spec := account.Spec{KeySource: new(account.CustomerKeys), Key: &account.VaultKey{Vault: "https://" + w.vault.Host(), Name: "k"}}
		if _, err := w.accounts.Patch(w.Context(), who("creator"), p, spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		v := get("viewer", at+"?items=none")
		if versions, _ := v["keyVersions"].([]any); state(v) != "Active" || len(versions) != 1 {
			t.Errorf("under the key: %v", v)
		}
		impact := get("creator", "/v1/admin/encryption/impact?"+url.Values{"keyIdentifier": {key}}.Encode())
		dark, _ := impact["storageAccounts"].([]any)
		if len(dark) != 1 || dark[0].(map[string]any)["displayName"] != "kluissales" {
			t.Errorf("what goes dark: %v", impact)
		}
		impact = get("nobody", "/v1/admin/encryption/impact?"+url.Values{"keyIdentifier": {key}}.Encode())
		if impact["storageAccounts"] != nil {
			t.Errorf("what goes dark, told to nobody: %v", impact)
		}

		w.want(200, "", "creator", "PUT", at+"/killSwitchBound", `{"seconds":30}`)
		w.want(200, "", "creator", "POST", at+"/rotate", "")
		time.Sleep(10 * time.Second)
		if v := get("creator", at); v["ownKillSwitchBoundSeconds"] != 30.0 || state(v) != "Active" {
			t.Errorf("after a deep rotation: %v", v)
		}
		w.vault.SetEnabled("k", false)
		w.want(403, "CustomerManagedKeyRefused", "creator", "POST", at+"/revalidate", "")
		if v := get("viewer", at)["serving"].(map[string]any); v["state"] != "Revoked" {
			t.Errorf("while the key is disabled: %v", v)
		}
		w.want(200, "", "creator", "PUT", at+"/keyLost", `{"lost":true}`)
		w.want(200, "", "creator", "PUT", at+"/keyLost", `{"lost":false}`)
		w.vault.SetEnabled("k", true)
		w.want(200, "", "creator", "POST", at+"/revalidate", "")

		for _, refused := range []struct{ method, path, body string }{
			{"POST", "/preview", body}, {"POST", "/rotate", ""}, {"POST", "/retry", ""}, {"POST", "/revalidate", ""},
			{"PUT", "/killSwitchBound", `{"seconds":60}`}, {"PUT", "/keyLost", `{"lost":true}`},
		} {
			w.want(403, "InsufficientPrivileges", "viewer", refused.method, at+refused.path, refused.body)
		}
		w.want(403, "InsufficientPrivileges", "nobody", "GET", at, "")
		w.want(403, "InsufficientPrivileges", "nobody", "GET", at+"/items", "")
		w.want(404, "EntityNotFound", "creator", "GET", "/v1/storageAccounts/another/encryption", "")
		w.want(401, "", "", "GET", at, "")
	})
}

// TestEncryptedItems pages through a workspace's items, by status and by text, and has
// their number without them.
func TestEncryptedItems(t *testing.T) {
	run(t, fabric.Config{PageSize: 4}, func(w *world) {
		at := "/v1/workspaces/" + w.made("creator", "/v1/workspaces", `{"displayName":"ws"}`)
		var last string
		for i := range 9 {
			last = w.made("creator", at+"/items", fmt.Sprintf(`{"displayName":"Item %d","type":"Notebook"}`, i))
		}
		lake := w.made("creator", at+"/items", `{"displayName":"Orders","type":"Lakehouse"}`)
		w.assign(at, "k")
		for query, want := range map[string]int{
			"": 10, "?status=Active": 10, "?status=Failed": 0, "?search=item": 9, "?search=ITEM+8": 1, "?search=lakeh": 1,
			"?search=" + lake: 1, "?search=nothing": 0, "?top=2": 10,
		} {
			if got := w.ids("creator", at+"/encryption/items"+query); len(got) != want {
				t.Errorf("%q: %d items, want %d", query, len(got), want)
			}
		}
		first := w.get("creator", "GET", at+"/encryption/items?top=3", "")["value"].([]any)
		if len(first) != 3 || first[0].(map[string]any)["displayName"] == "" || first[0].(map[string]any)["encryptionStatus"] != "Active" {
			t.Errorf("a page of three: %v", first)
		}
		w.want(200, "", "creator", "DELETE", at+"/items/"+last, "")
		deleted := w.get("creator", "GET", at+"/encryption/items?search="+last, "")["value"].([]any)
		if len(deleted) != 1 || deleted[0].(map[string]any)["deleted"] != true {
			t.Errorf("an item that is deleted: %v", deleted)
		}
		v := w.get("creator", "GET", at+"/encryption?items=none", "")
		if v["workspaceEncryptionItemsDetails"] != nil || v["itemCounts"].(map[string]any)["Active"] != 10.0 {
			t.Errorf("without items: %v", v)
		}
		w.want(400, "InvalidInput", "creator", "GET", at+"/encryption/items?status=Wrong", "")
		w.want(400, "InvalidInput", "creator", "GET", at+"/encryption/items?top=5", "")
		w.want(403, "InsufficientPrivileges", "nobody", "GET", at+"/encryption/items", "")
	})
}
