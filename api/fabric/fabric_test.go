package fabric_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/api/fabric"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/workspace"
)

func TestEveryReasonHasARow(t *testing.T) {
	for _, r := range fault.Reasons() {
		status, code, ok := fabric.Row(r)
		if !ok || status < 400 || code == "" {
			t.Errorf("%s is %d %q on the wire", r, status, code)
		}
		// What a client retries must be what can pass, and a vault's no cannot.
		if r.RefusedByVault() && status != http.StatusForbidden {
			t.Errorf("%s is %d on the wire", r, status)
		}
	}
	if status, _, _ := fabric.Row(fault.KEKUnreachable); status != http.StatusServiceUnavailable {
		t.Errorf("an unreachable vault is %d on the wire", status)
	}
}

func TestErrors(t *testing.T) {
	run(t, fabric.Config{}, func(w *world) {
		ws := w.get("creator", "POST", "/v1/workspaces", `{"displayName":"W"}`)["id"].(string)
		none := "00000000-0000-4000-8000-00000000dead"
		for _, tt := range []struct {
			who, method, path, body string
			status                  int
			code                    string
		}{
			{"creator", "GET", "/", "", 404, "EntityNotFound"},
			{"creator", "GET", "/v1/nothing", "", 404, "EntityNotFound"},
			{"creator", "GET", "/v1//workspaces", "", 404, "EntityNotFound"},
			{"creator", "GET", "/v1/x/../workspaces", "", 404, "EntityNotFound"},
			{"creator", "PUT", "/v1/workspaces", "", 405, "MethodNotAllowed"},
			{"creator", "DELETE", "/v1/workspaces/" + ws + "/encryption", "", 405, "MethodNotAllowed"},
			{"", "GET", "/v1/workspaces", "", 401, "Unauthorized"},
			{"unknown", "GET", "/v1/workspaces", "", 401, "Unauthorized"},
			{"panic", "GET", "/v1/workspaces", "", 500, "UnknownError"},
			{"creator", "POST", "/v1/workspaces", `{"displayName":"` + strings.Repeat("x", 70<<10) + `"}`, 413, "PayloadTooLarge"},
			{"creator", "POST", "/v1/workspaces", `{"displayName":"X","domainId":"d"}`, 404, "EntityNotFound"},
			{"creator", "POST", "/v1/workspaces", `{`, 400, "InvalidInput"},
			{"creator", "POST", "/v1/workspaces", ``, 400, "InvalidInput"},
			{"creator", "POST", "/v1/workspaces", `{"displayName":"w"}`, 409, "WorkspaceNameAlreadyExists"},
			{"creator", "POST", "/v1/workspaces", `{"displayName":"X","capacityId":"` + none + `"}`, 404, "CapacityNotFound"},
			{"nobody", "POST", "/v1/workspaces", `{"displayName":"X"}`, 403, "InsufficientPrivileges"},
			{"nobody", "GET", "/v1/workspaces/" + ws, "", 403, "InsufficientPrivileges"},
			{"creator", "GET", "/v1/workspaces/" + none, "", 404, "WorkspaceNotFound"},
			{"creator", "GET", "/v1/workspaces/W", "", 404, "WorkspaceNotFound"},
			{"creator", "GET", "/v1/workspaces?roles=Owner", "", 400, "InvalidInput"},
			{"creator", "GET", "/v1/workspaces?continuationToken=x", "", 400, "InvalidContinuationToken"},
			{"creator", "PATCH", "/v1/workspaces/" + ws, `{}`, 400, "InvalidInput"},
			{"creator", "GET", "/v1/workspaces/" + ws + "/items/" + none, "", 404, "ItemNotFound"},
			{"creator", "GET", "/v1/workspaces/" + ws + "/items?type=Nonsense", "", 400, "InvalidItemType"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/items", `{"displayName":"X","type":"Nonsense"}`, 400, "InvalidItemType"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/items", `{"displayName":"X","type":"Notebook","folderId":"x"}`, 404, "EntityNotFound"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/items", `{"displayName":"X","type":"Folder"}`, 400, "InvalidItemType"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/items", `{"displayName":"X","type":"Lakehouse","creationPayload":{"a":1}}`, 400, "FeatureNotAvailable"},
			{"creator", "GET", "/v1/workspaces/" + ws + "/folders?rootFolderId=x", "", 400, "InvalidInput"},
			{"creator", "GET", "/v1/workspaces/" + ws + "/folders/" + none, "", 404, "EntityNotFound"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/assignToCapacity", `{"capacityId":"` + none + `"}`, 404, "CapacityNotFound"},
			{"creator", "GET", "/v1/operations/" + none, "", 404, "OperationNotFound"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/encryption/rotate", "", 400, "EncryptionBlocked"},
			{"creator", "PUT", "/v1/workspaces/" + ws + "/encryption/killSwitchBound", `{"seconds":61}`, 400, "InvalidInput"},
			{"creator", "PUT", "/v1/workspaces/" + ws + "/encryption/keyLost", `{"lost":true}`, 409, "Conflict"},
			{"nobody", "POST", "/v1/workspaces/" + ws + "/encryption/preview", `{"keyIdentifier":"k"}`, 403, "InsufficientPrivileges"},
			{"creator", "GET", "/v1/admin/encryption/impact?keyIdentifier=k", "", 400, "InvalidKeyIdentifier"},
			{"creator", "POST", "/v1/admin/labels", `{"displayName":"L"}`, 403, "InsufficientPrivileges"},
			{"creator", "POST", "/v1/admin/domains", `{"displayName":"D"}`, 403, "InsufficientPrivileges"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/items/" + none + "/jobs/Run/instances", ``, 404, "ItemNotFound"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/items/" + none + "/jobs/Run/other", ``, 404, "EntityNotFound"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/sqlDatabases/" + none + "/revalidateCMK", ``, 404, "ItemNotFound"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/notebooks", `{"displayName":"X","definition":{"parts":[{"path":"a","payload":"!","payloadType":"InlineBase64"}]}}`, 400, "InvalidInput"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/notebooks", `{"displayName":"X","definition":{"parts":[{"path":"a","payload":"","payloadType":"Url"}]}}`, 400, "InvalidInput"},
			{"creator", "DELETE", "/v1/workspaces/" + ws + "/items/" + none + "?hardDelete=perhaps", "", 400, "InvalidInput"},
			{"creator", "GET", "/v1/workspaces/" + ws + "/roleAssignments/" + none, "", 404, "EntityNotFound"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/encryption/assign", `{"keyIdentifier":"http://x/keys/y"}`, 400, "InvalidKeyIdentifier"},
			{"creator", "POST", "/v1/workspaces/" + ws + "/encryption/assign", `{}`, 400, "InvalidInput"},
			{"nobody", "POST", "/v1/workspaces/" + ws + "/encryption/reset", ``, 403, "InsufficientPrivileges"},
			{"creator", "GET", "/v1/admin/workspaces", "", 403, "InsufficientPrivileges"},
			{"creator", "GET", "/v1/admin/tenantsettings", "", 403, "InsufficientPrivileges"},
			{"admin", "POST", "/v1/admin/tenantsettings/Nonsense/update", `{"enabled":true}`, 404, "EntityNotFound"},
			{"admin", "POST", "/v1/admin/tenantsettings/ApplyCustomerManagedKeys/update", `{}`, 400, "InvalidInput"},
			{"nobody", "GET", "/v1/capacities/" + none, "", 404, "CapacityNotFound"},
		} {
			rec := w.do(tt.who, tt.method, tt.path, tt.body)
			if rec.Code != tt.status || rec.Header().Get("x-ms-public-api-error-code") != tt.code {
				w.Errorf("%s %s by %q: %d %s, want %d %s", tt.method, tt.path, tt.who, rec.Code, rec.Body, tt.status, tt.code)
			}
			switch {
			case tt.status == 405 && rec.Header().Get("Allow") == "", tt.status == 401 && rec.Header().Get("WWW-Authenticate") == "":
				w.Errorf("%s %s: a header is missing: %v", tt.method, tt.path, rec.Header())
			case tt.code == "UnknownError" && strings.Contains(rec.Body.String(), "purpose"):
				w.Errorf("a panic's text is told: %s", rec.Body)
			}
		}
		rec := w.want(409, "WorkspaceNameAlreadyExists", "creator", "POST", "/v1/workspaces", `{"displayName":"w"}`)
		golden(w.T, "an error", rec.Body.Bytes(), `{"requestId":"ID","errorCode":"WorkspaceNameAlreadyExists",
			"message":"The tenant has a workspace of that name, in this or another case.","isRetriable":false}`)
	})
}

func TestStory(t *testing.T) {
	c := fabric.Config{BlobEndpoint: "https://onelake.blob.localhost:8443", DFSEndpoint: "https://onelake.dfs.localhost:8443"}
	run(t, c, func(w *world) {
		rec := w.want(201, "", "creator", "POST", "/v1/workspaces", `{"displayName":"Sales","description":"d","capacityId":"`+strings.ToUpper(string(workspace.DefaultCapacity.ID))+`"}`)
		golden(w.T, "created", rec.Body.Bytes(), `{"id":"ID","displayName":"Sales","description":"d","type":"Workspace","capacityId":"ID"}`)
		at := strings.TrimPrefix(rec.Header().Get("Location"), "https://api.fabric.localhost:8443")
		if !strings.HasPrefix(at, "/v1/workspaces/") {
			w.Fatalf("Location: %q", rec.Header().Get("Location"))
		}
		golden(w.T, "workspace", w.want(200, "", "creator", "GET", at+"/", "").Body.Bytes(), `{"id":"ID","displayName":"Sales",
			"description":"d","type":"Workspace","capacityId":"ID","capacityAssignmentProgress":"Completed","capacityRegion":"West Europe",
			"oneLakeEndpoints":{"blobEndpoint":"https://onelake.blob.localhost:8443","dfsEndpoint":"https://onelake.dfs.localhost:8443"}}`)
		w.want(200, "", "creator", "PATCH", at, `{"description":"e"}`)

		lake := w.want(201, "", "creator", "POST", at+"/lakehouses", `{"displayName":"Orders","creationPayload":null}`)
		golden(w.T, "lakehouse", lake.Body.Bytes(), `{"id":"ID","type":"Lakehouse","displayName":"Orders","description":"","workspaceId":"ID",
			"properties":{"oneLakeTablesPath":"https://onelake.dfs.localhost:8443/ID/ID/Tables","oneLakeFilesPath":"https://onelake.dfs.localhost:8443/ID/ID/Files"}}`)
		definition := `{"definition":{"format":"ipynb","parts":[{"path":"a.py","payload":"` +
			base64.StdEncoding.EncodeToString([]byte("print()")) + `","payloadType":"InlineBase64"}]}}`
		book := w.get("creator", "POST", at+"/items", `{"displayName":"Book","type":"Notebook","description":"n",`+definition[1:])["id"].(string)
		golden(w.T, "definition", w.want(200, "", "creator", "POST", at+"/notebooks/"+book+"/getDefinition", "").Body.Bytes(), definition)
		w.want(404, "ItemNotFound", "creator", "GET", at+"/lakehouses/"+book, "")
		w.want(404, "ItemNotFound", "creator", "DELETE", at+"/lakehouses/"+book, "")
		definition = strings.Replace(definition, "a.py", "b.py", 1)
		w.want(200, "", "creator", "POST", at+"/items/"+book+"/updateDefinition", definition)
		golden(w.T, "definition", w.want(200, "", "creator", "POST", at+"/items/"+book+"/getDefinition?format=ipynb", "").Body.Bytes(), definition)
		w.want(409, "ItemDisplayNameAlreadyInUse", "creator", "POST", at+"/notebooks", `{"displayName":"BOOK"}`)
		golden(w.T, "items of a type", w.want(200, "", "creator", "GET", at+"/items?type=notebook", "").Body.Bytes(),
			`{"value":[{"id":"ID","type":"Notebook","displayName":"Book","description":"n","workspaceId":"ID"}]}`)

		rec = w.want(201, "", "creator", "POST", at+"/roleAssignments", `{"principal":{"id":"`+string(people["viewer"])+`","type":"User"},"role":"Viewer"}`)
		golden(w.T, "role assignment", rec.Body.Bytes(), `{"id":"ID","principal":{"id":"ID","type":"User"},"role":"Viewer"}`)
		role := strings.TrimPrefix(rec.Header().Get("Location"), "https://api.fabric.localhost:8443")
		w.want(200, "", "viewer", "GET", role, "")
		w.want(409, "PrincipalAlreadyHasWorkspaceRolePermissions", "creator", "POST", at+"/roleAssignments", `{"principal":{"id":"`+string(people["viewer"])+`","type":"User"},"role":"Member"}`)
		w.want(403, "InsufficientPrivileges", "viewer", "POST", at+"/items", `{"displayName":"X","type":"Notebook"}`)

		golden(w.T, "never encrypted", w.want(200, "", "viewer", "GET", at+"/encryption", "").Body.Bytes(),
			`{"encryptionDetail":{"encryptionStatus":"Disabled"},"serving":{"state":"Serving"},"killSwitchBoundSeconds":60}`)
		w.want(403, "InsufficientPrivileges", "viewer", "POST", at+"/encryption/assign", `{"keyIdentifier":"https://x/keys/k"}`)
		key := w.vault.Create("k").String() + "/" // as Fabric's examples end
		w.busy(book, 5*time.Second)
		rec = w.want(200, "", "creator", "POST", at+"/encryption/assign", `{"keyIdentifier":"`+key+`"}`)
		if rec.Body.Len() != 0 || rec.Header().Get("Retry-After") == "" {
			w.Errorf("assign answers %q, %v", rec.Body, rec.Header())
		}
		rec = w.want(200, "", "viewer", "GET", at+"/encryption", "")
		if !strings.Contains(rec.Body.String(), `"EnableInProgress"`) || rec.Header().Get("Retry-After") == "" || !strings.Contains(rec.Body.String(), `"displayName":"Book"`) {
			w.Errorf("in progress: %s, %v", rec.Body, rec.Header())
		}
		w.want(409, "EncryptionInProgress", "creator", "POST", at+"/encryption/reset", "")
		time.Sleep(10 * time.Second)
		rec = w.want(200, "", "viewer", "GET", at+"/encryption", "")
		v := w.get("viewer", "GET", at+"/encryption", "")
		if d := v["encryptionDetail"].(map[string]any); d["encryptionStatus"] != "Active" || d["keyIdentifier"] != key || rec.Header().Get("Retry-After") != "" {
			w.Errorf("active: %s, %v", rec.Body, rec.Header())
		}
		w.want(400, "UnsupportedItemType", "creator", "POST", at+"/items", `{"displayName":"R","type":"Report"}`)
		rec = w.want(200, "", "admin", "GET", "/v1/admin/workspaces?include=encryption&encryptionStatus=active", "")
		golden(w.T, "posture", rec.Body.Bytes(), `{"workspaces":[{"id":"ID","name":"Sales","type":"Workspace","state":"Active","capacityId":"ID",
			"encryption":{"status":"Active","keyIdentifier":"`+key+`","serving":{"state":"Serving"}}}]}`)
		golden(w.T, "posture of others", w.want(200, "", "admin", "GET", "/v1/admin/workspaces?include=encryption&encryptionStatus=Disabled", "").Body.Bytes(), `{"workspaces":[]}`)

		w.vault.Grant(false)
		time.Sleep(time.Minute)
		w.want(403, "CustomerManagedKeyRefused", "creator", "GET", at+"/items", "")
		w.want(200, "", "creator", "GET", at, "")
		v = w.get("viewer", "GET", at+"/encryption", "")
		if s := v["serving"].(map[string]any); s["state"] != "Revoked" || s["reason"] != "KEKRefused" || v["encryptionDetail"].(map[string]any)["encryptionStatus"] != "Active" {
			w.Errorf("revoked: %v", v)
		}
		w.want(200, "", "creator", "DELETE", at+"/items/"+book, "")
		w.vault.Grant(true)
		time.Sleep(2 * time.Minute)
		w.want(404, "ItemNotFound", "creator", "GET", at+"/items/"+book, "")

		golden(w.T, "setting", w.want(200, "", "admin", "POST", "/v1/admin/tenantsettings/ApplyCustomerManagedKeys/update", `{"enabled":false}`).Body.Bytes(),
			`{"tenantSettings":[{"settingName":"ApplyCustomerManagedKeys","title":"Apply customer-managed keys","enabled":false,"canSpecifySecurityGroups":false,"tenantSettingGroup":"Encryption"}]}`)
		w.want(403, "TenantSwitchDisabled", "creator", "POST", at+"/encryption/reset", "")
		w.want(200, "", "admin", "POST", "/v1/admin/tenantsettings/ApplyCustomerManagedKeys/update", `{"enabled":true}`)
		w.want(200, "", "creator", "POST", at+"/encryption/reset", "")
		time.Sleep(10 * time.Second)
		if d := w.get("viewer", "GET", at+"/encryption", "")["encryptionDetail"].(map[string]any); d["encryptionStatus"] != "Disabled" {
			w.Errorf("after reset: %v", d)
		}
		w.want(403, "InsufficientPrivileges", "viewer", "DELETE", role, "")
		w.want(200, "", "creator", "DELETE", role, "")
		golden(w.T, "capacities", w.want(200, "", "creator", "GET", "/v1/capacities", "").Body.Bytes(),
			`{"value":[{"id":"ID","displayName":"Default","sku":"F64","region":"West Europe","state":"Active"}]}`)
		w.want(200, "", "creator", "DELETE", at, "")
		w.want(404, "WorkspaceNotFound", "creator", "GET", at+"/encryption", "")
	})
}

func TestPaging(t *testing.T) {
	run(t, fabric.Config{PageSize: 2}, func(w *world) {
		ws := ""
		for i := range 5 {
			ws = w.get("creator", "POST", "/v1/workspaces", fmt.Sprintf(`{"displayName":"W %d"}`, i))["id"].(string)
		}
		for i := range 4 {
			w.get("creator", "POST", "/v1/workspaces/"+ws+"/items", fmt.Sprintf(`{"displayName":"I%d","type":"Notebook"}`, i))
		}
		for _, tt := range []struct {
			who, path, field string
			want             int
		}{
			{"creator", "/v1/workspaces?roles=Admin,Member", "value", 5},
			{"admin", "/v1/admin/workspaces", "workspaces", 5},
			{"creator", "/v1/workspaces/" + ws + "/items", "value", 4},
			{"creator", "/v1/workspaces/" + ws + "/notebooks", "value", 4},
		} {
			seen := map[string]bool{}
			for path, n := tt.path, 0; path != ""; n++ {
				v := w.get(tt.who, "GET", path, "")
				for _, o := range v[tt.field].([]any) {
					seen[o.(map[string]any)["id"].(string)] = true
				}
				uri, _ := v["continuationUri"].(string)
				if (uri == "") != (v["continuationToken"] == nil) || n > 3 {
					w.Fatalf("%s: page %d is %v", tt.path, n, v)
				}
				path = strings.TrimPrefix(uri, "https://api.fabric.localhost:8443")
			}
			if len(seen) != tt.want {
				w.Errorf("%s: %d, want %d", tt.path, len(seen), tt.want)
			}
		}
		token := w.get("creator", "GET", "/v1/workspaces", "")["continuationToken"].(string)
		w.want(400, "InvalidContinuationToken", "creator", "GET", "/v1/workspaces/"+ws+"/items?continuationToken="+token, "")
	})
}

// scripted is an encryption whose status a test writes.
type scripted struct {
	fabric.Encryption // for what the test does not ask
	status            encryption.Status
}

func (s scripted) Assign(context.Context, identity.Caller, encryption.ScopeID, string) error {
	return nil
}
func (s scripted) Reset(context.Context, identity.Caller, encryption.ScopeID) error { return nil }
func (s scripted) Status(context.Context, identity.Caller, encryption.ScopeID) (encryption.Status, error) {
	return s.status, nil
}

func TestEncryptionStatus(t *testing.T) {
	since := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	item := func(n string, s encryption.ItemEncryption) encryption.ItemStatus {
		return encryption.ItemStatus{ID: encryption.ItemID(n), Type: "CopyJob", Status: s}
	}
	stuck := item("c", encryption.ItemFailed)
	stuck.Reason, stuck.Detail = fault.Integrity, "It does not open."
	half := item("b", encryption.ItemInProgress)
	half.Progress = encryption.Progress{Files: 1, TotalFiles: 2, Bytes: 3, TotalBytes: 4}
	customer := encryption.Status{
		Mode: encryption.CustomerManaged, KeyIdentifier: "https://v/keys/k2/", KID: "https://v/keys/k2/1", Bound: time.Minute,
	}
	with := func(edit func(*encryption.Status)) encryption.Status {
		s := customer
		edit(&s)
		return s
	}
	run(t, fabric.Config{}, func(w *world) {
		ws := w.get("creator", "POST", "/v1/workspaces", `{"displayName":"W"}`)["id"].(string)
		for _, tt := range []struct {
			name       string
			status     encryption.Status
			retryAfter bool
			want       string
		}{
			{"enabling, some failed", with(func(s *encryption.Status) {
				s.State, s.PreviousKeyIdentifier, s.Behind, s.Failed = encryption.Enabling, "https://v/keys/k1/", 2, 1
				s.Items = []encryption.ItemStatus{item("a", encryption.ItemActive), half, stuck}
				s.Totals.Progress, s.Percent, s.Left = half.Progress, 40, 90*time.Second
			}), true, `{"encryptionDetail":{"keyIdentifier":"https://v/keys/k2/","encryptionStatus":"EnableInProgress"},
				"previousEncryptionDetail":{"keyIdentifier":"https://v/keys/k1/","encryptionStatus":"Active"},
				"workspaceEncryptionItemsDetails":[
					{"encryptionStatus":"Failed","items":[{"id":"c","type":"CopyJob","reason":"Integrity","detail":"It does not open."}]},
					{"encryptionStatus":"EnableInProgress","items":[{"id":"b","type":"CopyJob","progress":{"files":1,"totalFiles":2,"bytes":3,"totalBytes":4}}]}],
				"progress":{"files":1,"totalFiles":2,"bytes":3,"totalBytes":4},"percentComplete":40,"estimatedSecondsLeft":90,
				"serving":{"state":"Serving"},"keyVersion":"https://v/keys/k2/1","killSwitchBoundSeconds":60}`},
			{"failed", with(func(s *encryption.Status) {
				s.State, s.Behind, s.Failed = encryption.Enabling, 1, 1
				s.Items = []encryption.ItemStatus{stuck}
			}), false, `{"encryptionDetail":{"keyIdentifier":"https://v/keys/k2/","encryptionStatus":"Failed"},
				"workspaceEncryptionItemsDetails":[{"encryptionStatus":"Failed","items":[{"id":"c","type":"CopyJob","reason":"Integrity","detail":"It does not open."}]}],
				"serving":{"state":"Serving"},"keyVersion":"https://v/keys/k2/1","killSwitchBoundSeconds":60,"percentComplete":0}`},
			{"active and unreachable", with(func(s *encryption.Status) {
				s.State = encryption.Active
				s.Scope = encryption.Scope{Serving: encryption.Unreachable, Reason: fault.KEKUnreachable, Detail: "d", ServingSince: since}
				s.Versions = []encryption.VersionStatus{
					{KID: "https://v/keys/k2/1", LiveWraps: 1, First: since}, {KID: "https://v/keys/k2/0", SafeToDisable: true, First: since, Last: since},
					{KID: "https://v/keys/k2/9", Backups: 2, NewestBackup: since, First: since, Last: since},
				}
			}), false, `{"encryptionDetail":{"keyIdentifier":"https://v/keys/k2/","encryptionStatus":"Active"},
				"serving":{"state":"Unreachable","reason":"KEKUnreachable","detail":"d","since":"2026-07-01T12:00:00Z"},
				"keyVersion":"https://v/keys/k2/1","killSwitchBoundSeconds":60,"keyVersions":[
					{"kid":"https://v/keys/k2/1","liveWraps":1,"safeToDisable":false,"firstUsed":"2026-07-01T12:00:00Z"},
					{"kid":"https://v/keys/k2/0","liveWraps":0,"safeToDisable":true,"firstUsed":"2026-07-01T12:00:00Z","lastUsed":"2026-07-01T12:00:00Z"},
					{"kid":"https://v/keys/k2/9","liveWraps":0,"backups":2,"newestBackup":"2026-07-01T12:00:00Z","safeToDisable":false,"firstUsed":"2026-07-01T12:00:00Z","lastUsed":"2026-07-01T12:00:00Z"}]}`},
			{"disabling", encryption.Status{
				Mode: encryption.PlatformManaged, State: encryption.Disabling, PreviousKeyIdentifier: "https://v/keys/k1/", Behind: 1,
				ReSealOnly: true, Bound: time.Minute, Items: []encryption.ItemStatus{half},
			}, true, `{"encryptionDetail":{"keyIdentifier":"https://v/keys/k1/","encryptionStatus":"DisableInProgress"},
				"previousEncryptionDetail":{"keyIdentifier":"https://v/keys/k1/","encryptionStatus":"Active"},
				"workspaceEncryptionItemsDetails":[{"encryptionStatus":"DisableInProgress","items":[{"id":"b","type":"CopyJob","progress":{"files":1,"totalFiles":2,"bytes":3,"totalBytes":4}}]}],
				"serving":{"state":"Serving"},"reSealOnly":true,"killSwitchBoundSeconds":60,"percentComplete":0}`},
			{"rotating deeply, with findings and a lost key", with(func(s *encryption.Status) {
				s.State, s.PreviousKeyIdentifier, s.Behind, s.Failed = encryption.Active, s.KeyIdentifier, 0, 0
				s.Scope = encryption.Scope{
					Serving: encryption.Revoked, Reason: fault.KEKRefused, KeyLost: since, Verified: since,
					Findings: "KeyExpired RecoveryNotProtected", Bound: 20 * time.Second, KeyBound: 10 * time.Second,
				}
			}), false, `{"encryptionDetail":{"keyIdentifier":"https://v/keys/k2/","encryptionStatus":"Active"},
				"serving":{"state":"KeyLost","reason":"KEKRefused"},"keyVersion":"https://v/keys/k2/1","killSwitchBoundSeconds":60,
				"ownKillSwitchBoundSeconds":20,"keyKillSwitchBoundSeconds":10,"keyLostSince":"2026-07-01T12:00:00Z",
				"keyVerified":"2026-07-01T12:00:00Z","findings":["KeyExpired","RecoveryNotProtected"]}`},
		} {
			w.Handler = fabric.New(w.ws, scripted{status: tt.status}, tokens{}, fabric.Config{})
			rec := w.want(200, "", "creator", "GET", "/v1/workspaces/"+ws+"/encryption", "")
			golden(w.T, tt.name, rec.Body.Bytes(), tt.want)
			if got := rec.Header().Get("Retry-After") != ""; got != tt.retryAfter {
				w.Errorf("%s: Retry-After is %q", tt.name, rec.Header().Get("Retry-After"))
			}
		}
	})
}

// An answer that has begun is aborted by a panic, never ended as if it were whole.
func TestPanicAfterTheAnswerBegan(t *testing.T) {
	run(t, fabric.Config{}, func(w *world) {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				w.Errorf("recovered %v", p)
			}
		}()
		r := httptest.NewRequest("GET", "https://h/v1/workspaces", nil)
		r.Header.Set("Authorization", "Bearer creator")
		w.ServeHTTP(broken{httptest.NewRecorder()}, r)
		w.Error("the panic was swallowed")
	})
}

// broken panics in the middle of the body.
type broken struct{ *httptest.ResponseRecorder }

func (broken) Write([]byte) (int, error) { panic("in the middle") }

func FuzzPageToken(f *testing.F) {
	id := "00000000-0000-4000-8000-00000000dead"
	f.Add(fabric.PageToken("workspaces", id), "workspaces")
	f.Add(fabric.PageToken("items a b", id), "items a b")
	f.Add("", "workspaces")
	f.Add("MQ", "")
	f.Fuzz(func(t *testing.T, token, listing string) {
		after, err := fabric.ParsePageToken(token, listing)
		switch {
		case err != nil && fault.ReasonOf(err) != fault.InvalidContinuation:
			t.Fatalf("%q: %v", token, err)
		case err != nil && after != "":
			t.Fatalf("%q: %q with an error", token, after)
		case err == nil && token != "" && fabric.PageToken(listing, after) != token:
			t.Fatalf("%q is taken and stands for %q of %q", token, after, listing)
		}
	})
}
