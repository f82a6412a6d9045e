package fabric_test

import (
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/api/fabric"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/workspace"
)

var moment = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*Z"`)

// timeless puts T in place of every time.
func timeless(body string) string { return moment.ReplaceAllString(body, `"T"`) }

// made creates something and returns its id.
func (w *world) made(who, path, body string) string {
	w.Helper()
	return w.get(who, "POST", path, body)["id"].(string)
}

// ids returns the ids of a listing, over all its pages.
func (w *world) ids(who, path string) (all []string) {
	w.Helper()
	for path != "" {
		v := w.get(who, "GET", path, "")
		for _, i := range v["value"].([]any) {
			all = append(all, i.(map[string]any)["id"].(string))
		}
		next, _ := v["continuationUri"].(string)
		path = strings.TrimPrefix(next, "https://api.fabric.localhost:8443")
	}
	return all
}

func (w *world) encryption(at string) map[string]any {
	w.Helper()
	return w.get("creator", "GET", at+"/encryption", "")
}

// assign puts a workspace under a new key and waits until it is active.
func (w *world) assign(at, key string) string {
	w.Helper()
	id := w.vault.Create(key).String()
	w.want(200, "", "creator", "POST", at+"/encryption/assign", `{"keyIdentifier":"`+id+`"}`)
	time.Sleep(10 * time.Second)
	if d := w.encryption(at)["encryptionDetail"].(map[string]any); d["encryptionStatus"] != "Active" {
		w.Fatalf("after the assign: %v", d)
	}
	return id
}

func TestFolders(t *testing.T) {
	run(t, fabric.Config{PageSize: 2}, func(w *world) {
		at := "/v1/workspaces/" + w.made("creator", "/v1/workspaces", `{"displayName":"W"}`)
		a := w.made("creator", at+"/folders", `{"displayName":"A"}`)
		b := w.made("creator", at+"/folders", `{"displayName":"B","parentFolderId":"`+a+`"}`)
		w.made("creator", at+"/folders", `{"displayName":"a","parentFolderId":"`+a+`"}`) // the same name in another place
		w.want(409, "ItemDisplayNameAlreadyInUse", "creator", "POST", at+"/folders", `{"displayName":"a"}`)
		golden(w.T, "folder", w.want(200, "", "creator", "GET", at+"/folders/"+b, "").Body.Bytes(),
			`{"id":"ID","displayName":"B","workspaceId":"ID","parentFolderId":"ID"}`)
		if n := len(w.ids("creator", at+"/folders?recursive=true")); n != 3 {
			w.Errorf("%d folders", n)
		}
		if n := len(w.ids("creator", at+"/folders?recursive=false")); n != 1 {
			w.Errorf("%d folders at the top", n)
		}
		book := w.made("creator", at+"/items", `{"displayName":"Book","type":"Notebook","folderId":"`+b+`"}`)
		top := w.made("creator", at+"/items", `{"displayName":"Top","type":"Notebook"}`)
		for q, n := range map[string]int{"": 2, "?recursive=false": 1, "?rootFolderId=" + a: 1, "?recursive=false&rootFolderId=" + a: 0, "?rootFolderId=" + b: 1} {
			if got := len(w.ids("creator", at+"/items"+q)); got != n {
				w.Errorf("items%s: %d, want %d", q, got, n)
			}
		}
		w.want(409, "Conflict", "creator", "DELETE", at+"/folders/"+b, "")
		w.want(400, "InvalidInput", "creator", "POST", at+"/folders/"+a+"/move", `{"targetFolderId":"`+b+`"}`)
		w.want(200, "", "creator", "POST", at+"/folders/"+b+"/move", "")
		w.want(200, "", "creator", "POST", at+"/items/"+top+"/move", `{"targetFolderId":"`+b+`"}`)
		w.want(200, "", "creator", "PATCH", at+"/folders/"+b, `{"displayName":"C"}`)
		w.assign(at, "k") // re-seals folders' names too
		golden(w.T, "after re-encryption", w.want(200, "", "creator", "GET", at+"/folders/"+b, "").Body.Bytes(),
			`{"id":"ID","displayName":"C","workspaceId":"ID"}`)
		for _, i := range []string{book, top} {
			w.want(200, "", "creator", "DELETE", at+"/items/"+i, "")
		}
		w.want(200, "", "creator", "DELETE", at+"/folders/"+b, "")
	})
}

func TestRecoverableItems(t *testing.T) {
	run(t, fabric.Config{}, func(w *world) {
		at := "/v1/workspaces/" + w.made("creator", "/v1/workspaces", `{"displayName":"W"}`)
		folder := w.made("creator", at+"/folders", `{"displayName":"A"}`)
		book := w.made("creator", at+"/items", `{"displayName":"Book","type":"Notebook","folderId":"`+folder+`"}`)
		w.want(200, "", "creator", "DELETE", at+"/items/"+book, "")
		w.want(200, "", "creator", "DELETE", at+"/folders/"+folder, "")
		v := w.get("creator", "GET", at+"/recoverableItems", "")["value"].([]any)
		until, err := time.Parse(time.RFC3339, v[0].(map[string]any)["retentionExpirationDateTime"].(string))
		if len(v) != 1 || err != nil || time.Until(until) != 7*24*time.Hour {
			w.Errorf("recoverable: %v", v)
		}
		other := w.made("creator", at+"/items", `{"displayName":"BOOK","type":"Notebook"}`)
		w.want(409, "ItemDisplayNameAlreadyInUse", "creator", "POST", at+"/recoverableItems/"+book+"/recover", "")
		w.want(200, "", "creator", "DELETE", at+"/items/"+other, "")
		golden(w.T, "recovered", w.want(200, "", "creator", "POST", at+"/recoverableItems/"+book+"/recover", "").Body.Bytes(),
			`{"id":"ID","type":"Notebook","displayName":"Book","description":"","workspaceId":"ID"}`)
		w.want(404, "ItemNotFound", "creator", "DELETE", at+"/recoverableItems/"+book, "")
		w.want(200, "", "creator", "DELETE", at+"/recoverableItems/"+other, "")
		w.want(404, "ItemNotFound", "creator", "POST", at+"/recoverableItems/"+other+"/recover", "")
	})
}

func TestOperations(t *testing.T) {
	run(t, fabric.Config{}, func(w *world) {
		at := "/v1/workspaces/" + w.made("creator", "/v1/workspaces", `{"displayName":"W"}`)
		async := func(path, body string) string {
			w.Helper()
			r := httptest.NewRequest("POST", "https://api.fabric.localhost:8443"+path, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer creator")
			r.Header.Set("Prefer", "wait=5, respond-async")
			rec := httptest.NewRecorder()
			w.ServeHTTP(rec, r)
			op := "/v1/operations/" + rec.Header().Get("x-ms-operation-id")
			if rec.Code != 202 || rec.Header().Get("Location") != "https://api.fabric.localhost:8443"+op || rec.Header().Get("Retry-After") == "" {
				w.Fatalf("%s: %d %v %s", path, rec.Code, rec.Header(), rec.Body)
			}
			return op
		}
		definition := `{"definition":{"parts":[{"path":"a.py","payload":"` + base64.StdEncoding.EncodeToString([]byte("1")) + `","payloadType":"InlineBase64"}]}}`
		op := async(at+"/items", `{"displayName":"Book","type":"Notebook",`+definition[1:])
		rec := w.want(200, "", "creator", "GET", op, "")
		if !strings.Contains(rec.Body.String(), `"status":"Succeeded"`) || rec.Header().Get("Location") != "https://api.fabric.localhost:8443"+op+"/result" {
			w.Errorf("%s %v", rec.Body, rec.Header())
		}
		book := w.get("creator", "GET", op+"/result", "")["id"].(string)
		w.want(404, "OperationNotFound", "admin", "GET", op, "") // it is the creator's own
		golden(w.T, "result", w.want(200, "", "creator", "GET", async(at+"/items/"+book+"/getDefinition", "")+"/result", "").Body.Bytes(), definition)
		w.want(404, "OperationHasNoResult", "creator", "GET", async(at+"/items/"+book+"/updateDefinition", definition)+"/result", "")
		w.want(409, "ItemDisplayNameAlreadyInUse", "creator", "POST", at+"/items", `{"displayName":"Book","type":"Notebook"}`)

		key := w.assign(at, "k")
		w.busy(book, 5*time.Second)
		rec = w.want(202, "", "creator", "POST", at+"/encryption/rotate", "")
		op = "/v1/operations/" + rec.Header().Get("x-ms-operation-id")
		if v := w.get("creator", "GET", op, ""); v["status"] != "Running" || v["percentComplete"].(float64) >= 100 {
			w.Errorf("rotating: %v", v)
		}
		w.want(409, "OperationNotSucceeded", "creator", "GET", op+"/result", "")
		w.want(409, "EncryptionInProgress", "creator", "POST", at+"/encryption/rotate", "")
		time.Sleep(10 * time.Second)
		if v := w.get("creator", "GET", op, ""); v["status"] != "Succeeded" || v["percentComplete"] != 100.0 {
			w.Errorf("rotated: %v", v)
		}
		if d := w.encryption(at)["encryptionDetail"].(map[string]any); d["encryptionStatus"] != "Active" || d["keyIdentifier"] != key {
			w.Errorf("after the rotation: %v", d)
		}
		golden(w.T, "after the rotation", w.want(200, "", "creator", "POST", at+"/items/"+book+"/getDefinition", "").Body.Bytes(), definition)
	})
}

func TestJobs(t *testing.T) {
	run(t, fabric.Config{PageSize: 1}, func(w *world) {
		at := "/v1/workspaces/" + w.made("creator", "/v1/workspaces", `{"displayName":"W"}`)
		item := at + "/items/" + w.made("creator", at+"/items", `{"displayName":"Book","type":"Notebook"}`)
		start := func() string {
			rec := w.want(202, "", "creator", "POST", item+"/jobs/RunNotebook/instances", "")
			return strings.TrimPrefix(rec.Header().Get("Location"), "https://api.fabric.localhost:8443")
		}
		job := start()
		w.want(202, "", "creator", "POST", item+"/jobs/instances?jobType=RunNotebook", "")
		if n := len(w.ids("creator", item+"/jobs/instances")); n != 2 {
			w.Errorf("%d jobs", n)
		}
		golden(w.T, "job", []byte(timeless(w.want(200, "", "creator", "GET", job, "").Body.String())), `{"id":"ID","itemId":"ID","jobType":"RunNotebook",
			"invokeType":"Manual","status":"NotStarted","rootActivityId":"ID","startTimeUtc":"T","endTimeUtc":null}`)
		w.want(200, "", "creator", "PATCH", job, `{"status":"InProgress"}`)
		for i := range 20 {
			w.want(200, "", "creator", "POST", job+"/log", fmt.Sprintf("line %d\n", i))
		}
		w.assign(at, "k")
		w.want(200, "", "creator", "POST", job+"/log", "under the key\n")
		text := w.want(200, "", "creator", "GET", job+"/log", "").Body.String()
		if n := strings.Count(text, "\n"); n != 21 || !strings.HasPrefix(text, "line 0\nline 1\n") || !strings.HasSuffix(text, "line 19\nunder the key\n") {
			w.Errorf("the log: %q", text)
		}
		w.want(403, "InsufficientPrivileges", "nobody", "GET", job+"/log", "")
		w.want(413, "PayloadTooLarge", "creator", "POST", job+"/log", strings.Repeat("x", workspace.MaxLogPiece+1))
		w.vault.Grant(false)
		time.Sleep(time.Minute)
		w.want(403, "CustomerManagedKeyRefused", "creator", "GET", job+"/log", "")
		w.want(403, "CustomerManagedKeyRefused", "creator", "POST", item+"/jobs/RunNotebook/instances", "")
		w.want(202, "", "creator", "POST", job+"/cancel", "")
		w.want(409, "Conflict", "creator", "POST", job+"/cancel", "")
		w.want(200, "", "creator", "DELETE", item+"?hardDelete=true", "")
		w.want(404, "ItemNotFound", "creator", "GET", job, "")
	})
}

func TestPreview(t *testing.T) {
	capacities := []workspace.Capacity{
		{ID: "00000000-0000-4000-8000-0000000000c1", DisplayName: "far", SKU: "F2", Region: "Mars", State: "Active"},
		{ID: "00000000-0000-4000-8000-0000000000c2", DisplayName: "trial", SKU: "FT1", Region: "West Europe", State: "Active"},
		{ID: "00000000-0000-4000-8000-0000000000c3", DisplayName: "good", SKU: "F2", Region: "West Europe", State: "Active"},
	}
	runWith(t, fabric.Config{}, workspace.Config{Capacities: capacities}, func(w *world) {
		at := "/v1/workspaces/" + w.made("creator", "/v1/workspaces", `{"displayName":"W"}`)
		report := w.made("creator", at+"/items", `{"displayName":"R","type":"Report"}`)
		key := w.vault.Create("k").String()
		body := `{"keyIdentifier":"` + key + `"}`
		codes := func(path string) (all string) {
			w.Helper()
			v := w.get("creator", "POST", at+path, body)
			for _, b := range v["blockers"].([]any) {
				b := b.(map[string]any)
				if b["message"] == "" || b["mend"] == nil {
					w.Errorf("a blocker without a text or a mend: %v", b)
				}
				all += b["errorCode"].(string) + " "
			}
			if allowed := v["allowed"].(bool); allowed != (all == "") {
				w.Errorf("allowed is %t with %q", allowed, all)
			}
			return all
		}
		w.vault.Grant(false)
		w.want(200, "", "admin", "POST", "/v1/admin/tenantsettings/ApplyCustomerManagedKeys/update", `{"enabled":false}`)
		if got := codes("/encryption/preview"); got != "TenantSwitchDisabled UnsupportedItemType EncryptionBlocked EncryptionBlocked " {
			w.Errorf("blockers: %s", got)
		}
		w.want(200, "", "admin", "POST", "/v1/admin/tenantsettings/ApplyCustomerManagedKeys/update", `{"enabled":true}`)
		w.want(200, "", "creator", "DELETE", at+"/items/"+report+"?hardDelete=true", "")
		w.vault.Grant(true)
		if got := codes("/encryption/assign?dryRun=true"); got != "EncryptionBlocked " {
			w.Errorf("blockers: %s", got)
		}
		w.want(400, "EncryptionBlocked", "creator", "POST", at+"/encryption/assign", body)
		for _, c := range []struct {
			capacity string
			blockers string
		}{{"c2", "EncryptionBlocked "}, {"c3", ""}} {
			w.want(202, "", "creator", "POST", at+"/assignToCapacity", `{"capacityId":"00000000-0000-4000-8000-0000000000`+c.capacity+`"}`)
			if got := codes("/encryption/preview"); got != c.blockers {
				w.Errorf("on %s: %s", c.capacity, got)
			}
		}
		if d := w.encryption(at)["encryptionDetail"].(map[string]any); d["encryptionStatus"] != "Disabled" {
			w.Errorf("a preview changed something: %v", d)
		}
		body = `{"keyIdentifier":"http://nowhere/k"}`
		if got := codes("/encryption/preview"); got != "InvalidKeyIdentifier " {
			w.Errorf("a bad identifier: %s", got)
		}

		w.want(200, "", "creator", "POST", at+"/encryption/assign", `{"keyIdentifier":"`+key+`"}`)
		time.Sleep(10 * time.Second)
		w.want(400, "EncryptionBlocked", "creator", "POST", at+"/assignToCapacity", `{"capacityId":"`+string(capacities[0].ID)+`"}`)
		w.want(400, "EncryptionBlocked", "creator", "POST", at+"/unassignFromCapacity", "")

		// The same key under another spelling is no change, and is told as it was given.
		w.want(200, "", "creator", "POST", at+"/encryption/assign", `{"keyIdentifier":"`+key+`/"}`)
		v := w.encryption(at)
		if d := v["encryptionDetail"].(map[string]any); d["keyIdentifier"] != key+"/" || d["encryptionStatus"] != "Active" {
			w.Errorf("respelled: %v", v)
		}
		time.Sleep(time.Minute)
		w.made("creator", at+"/items", `{"displayName":"N","type":"Notebook"}`)

		// The exit stays open if the tenant says so.
		w.want(200, "", "admin", "POST", "/v1/admin/tenantsettings/ApplyCustomerManagedKeys/update", `{"enabled":false}`)
		w.want(403, "TenantSwitchDisabled", "creator", "POST", at+"/encryption/reset", "")
		w.want(200, "", "admin", "POST", "/v1/admin/tenantsettings/AllowCustomerManagedKeyExit/update", `{"enabled":true}`)
		w.want(403, "TenantSwitchDisabled", "creator", "POST", at+"/encryption/rotate", "")
		w.want(200, "", "creator", "POST", at+"/encryption/reset", "")
	})
}

func TestBoundsAndFindings(t *testing.T) {
	run(t, fabric.Config{}, func(w *world) {
		at := "/v1/workspaces/" + w.made("creator", "/v1/workspaces", `{"displayName":"W"}`)
		key := w.assign(at, "k")
		bound := func(want float64) {
			w.Helper()
			if v := w.encryption(at); v["killSwitchBoundSeconds"] != want {
				w.Errorf("the bound is %v, want %v", v["killSwitchBoundSeconds"], want)
			}
		}
		use := func() { // across a renewal
			w.Helper()
			for range 20 {
				w.want(200, "", "creator", "GET", at+"/items", "")
				time.Sleep(time.Second)
			}
		}
		tag := func(v string) {
			w.vault.State(w.vault.Newest("k"), func(k *kek.KeyInfo) { k.Tags = map[string]string{encryption.BoundTag: v} })
		}
		bound(60)
		const setting = "/v1/admin/tenantsettings/CustomerManagedKeyKillSwitchBound/update"
		seconds := func(n string) string {
			return `{"enabled":true,"properties":[{"name":"Seconds","value":"` + n + `","type":"Integer"}]}`
		}
		for _, body := range []string{`{"enabled":true}`, seconds("4"), seconds("3601"), seconds("soon"), seconds("-1")} {
			w.want(400, "InvalidInput", "admin", "POST", setting, body)
		}
		w.want(403, "InsufficientPrivileges", "creator", "POST", setting, seconds("30"))
		w.want(200, "", "admin", "POST", setting, seconds("30"))
		bound(30)
		w.want(400, "InvalidInput", "creator", "PUT", at+"/encryption/killSwitchBound", `{"seconds":31}`)
		w.want(200, "", "creator", "PUT", at+"/encryption/killSwitchBound", `{"seconds":20}`)
		bound(20)
		w.want(200, "", "admin", "POST", setting, seconds("15"))
		bound(15)
		w.want(200, "", "admin", "POST", setting, `{"enabled":false}`)
		bound(20)
		tag("10")
		use()
		bound(10)
		tag("soon")
		use()
		bound(5) // nothing fails open
		v := w.encryption(at)
		if fmt.Sprint(v["findings"]) != "[BoundTagUnreadable]" {
			w.Errorf("findings: %v", v["findings"])
		}
		w.vault.State(w.vault.Newest("k"), func(k *kek.KeyInfo) { k.RecoveryLevel = "Recoverable+Purgeable" })
		tag("3600")
		use()
		v = w.encryption(at)
		if fmt.Sprint(v["findings"]) != "[RecoveryNotProtected]" || v["killSwitchBoundSeconds"] != 20.0 {
			w.Errorf("status: %v", v)
		}

		impact := w.get("admin", "GET", "/v1/admin/encryption/impact?keyIdentifier="+key, "")
		if all := impact["workspaces"].([]any); len(all) != 1 || all[0].(map[string]any)["displayName"] != "W" {
			w.Errorf("impact: %v", impact)
		}
		if all := w.get("nobody", "GET", "/v1/admin/encryption/impact?keyIdentifier="+key, "")["workspaces"].([]any); len(all) != 0 {
			w.Errorf("impact for nobody: %v", all)
		}

		w.vault.Grant(false)
		w.want(403, "CustomerManagedKeyRefused", "creator", "POST", at+"/encryption/revalidate", "")
		w.want(403, "CustomerManagedKeyRefused", "creator", "GET", at+"/items", "")
		w.want(200, "", "creator", "PUT", at+"/encryption/keyLost", `{"lost":true}`)
		if s := w.encryption(at)["serving"].(map[string]any); s["state"] != "KeyLost" {
			w.Errorf("serving: %v", s)
		}
		w.vault.Grant(true) // a backup brought it back
		time.Sleep(2 * time.Minute)
		w.want(200, "", "creator", "POST", at+"/encryption/revalidate", "")
		if v := w.encryption(at); v["keyLostSince"] != nil || v["serving"].(map[string]any)["state"] != "Serving" {
			w.Errorf("restored: %v", v)
		}
	})
}

func TestLabels(t *testing.T) {
	run(t, fabric.Config{}, func(w *world) {
		secret := w.made("admin", "/v1/admin/labels", `{"displayName":"Secret","requiresCustomerManagedKey":true}`)
		public := w.made("admin", "/v1/admin/labels", `{"displayName":"Public"}`)
		w.want(409, "Conflict", "admin", "POST", "/v1/admin/labels", `{"displayName":"public"}`)
		domain := w.made("admin", "/v1/admin/domains", `{"displayName":"Research"}`)
		w.want(200, "", "admin", "PATCH", "/v1/admin/domains/"+domain, `{"defaultLabelId":"`+secret+`"}`)
		golden(w.T, "domains", w.want(200, "", "nobody", "GET", "/v1/domains", "").Body.Bytes(),
			`{"value":[{"id":"ID","displayName":"Research","description":"","defaultLabelId":"ID"}]}`)

		// A workspace of the domain holds nothing until it has a key.
		ws := w.made("creator", "/v1/workspaces", `{"displayName":"W","domainId":"`+domain+`"}`)
		at := "/v1/workspaces/" + ws
		w.want(400, "EncryptionBlocked", "creator", "POST", at+"/items", `{"displayName":"N","type":"Notebook"}`)
		w.assign(at, "k")
		item := w.made("creator", at+"/items", `{"displayName":"N","type":"Notebook","sensitivityLabelSettings":{"labelId":"`+secret+`"}}`)
		if v := w.get("creator", "GET", at+"/items/"+item, ""); v["sensitivityLabel"].(map[string]any)["id"] != secret {
			w.Errorf("the item: %v", v)
		}
		reset := func(status int, code string) {
			w.Helper()
			w.want(status, code, "creator", "POST", at+"/encryption/reset", "")
		}
		reset(400, "EncryptionBlocked")
		w.want(200, "", "admin", "POST", "/v1/admin/domains/"+domain+"/unassignWorkspaces", `{"workspacesIds":["`+ws+`"]}`)
		reset(400, "EncryptionBlocked") // for the item's sake
		w.want(403, "InsufficientPrivileges", "creator", "POST", at+"/items/"+item+"/setLabel", `{"labelId":"`+public+`"}`)
		w.want(200, "", "creator", "POST", at+"/setLabel", `{"labelId":"`+public+`"}`)
		w.want(200, "", "admin", "POST", at+"/setLabel", `{"labelId":"`+secret+`"}`)
		w.want(403, "InsufficientPrivileges", "creator", "POST", at+"/setLabel", `{"labelId":""}`)
		w.want(409, "Conflict", "admin", "DELETE", "/v1/admin/labels/"+secret, "")
		w.want(200, "", "creator", "DELETE", at+"/items/"+item+"?hardDelete=true", "")
		reset(400, "EncryptionBlocked") // for the workspace's
		w.want(200, "", "admin", "POST", at+"/setLabel", `{"labelId":""}`)
		reset(200, "")
		time.Sleep(10 * time.Second)

		// What is under no key and holds items takes no such label.
		w.made("creator", at+"/items", `{"displayName":"N","type":"Notebook"}`)
		w.want(400, "EncryptionBlocked", "admin", "POST", at+"/setLabel", `{"labelId":"`+secret+`"}`)
		w.want(400, "EncryptionBlocked", "admin", "POST", "/v1/admin/domains/"+domain+"/assignWorkspaces", `{"workspacesIds":["`+ws+`"]}`)
		w.want(409, "Conflict", "admin", "DELETE", "/v1/admin/labels/"+secret, "")
		w.want(200, "", "admin", "DELETE", "/v1/admin/domains/"+domain, "")
		w.want(200, "", "admin", "DELETE", "/v1/admin/labels/"+secret, "")
	})
}

func TestCoverage(t *testing.T) {
	run(t, fabric.Config{}, func(w *world) {
		at := "/v1/workspaces/" + w.made("creator", "/v1/workspaces", `{"displayName":"W"}`)
		lake := w.made("creator", at+"/items", `{"displayName":"L","type":"Lakehouse"}`)
		w.made("creator", at+"/items", `{"displayName":"I","type":"HealthDataManager"}`)
		w.want(400, "FeatureNotAvailable", "creator", "POST", at+"/items/"+lake+"/shortcuts", `{"path":"Files","name":"s"}`)
		golden(w.T, "shortcuts", w.want(200, "", "creator", "GET", at+"/items/"+lake+"/shortcuts", "").Body.Bytes(), `{"value":[]}`)
		key := w.assign(at, "k")
		v := w.get("creator", "GET", at+"/encryption/coverage", "")
		items := v["items"].([]any)
		if v["keyIdentifier"] != key || len(items) != 2 {
			w.Fatalf("coverage: %v", v)
		}
		for _, i := range items {
			i := i.(map[string]any)
			if i["encryptionStatus"] != "Active" || len(i["sealed"].([]any)) == 0 || len(i["visible"].([]any)) == 0 || (i["elsewhere"] != nil) != (i["id"] == lake) {
				w.Errorf("an item: %v", i)
			}
		}
		w.want(403, "InsufficientPrivileges", "nobody", "GET", at+"/encryption/coverage", "")
	})
}

func TestThrottling(t *testing.T) {
	run(t, fabric.Config{Rate: 0.5, Burst: 3}, func(w *world) {
		for range 3 {
			w.want(200, "", "creator", "GET", "/v1/workspaces", "")
		}
		rec := w.want(429, "TooManyRequests", "creator", "GET", "/v1/workspaces", "")
		after, err := strconv.Atoi(rec.Header().Get("Retry-After"))
		if err != nil || after != 2 {
			w.Errorf("Retry-After is %q", rec.Header().Get("Retry-After"))
		}
		w.want(200, "", "viewer", "GET", "/v1/workspaces", "")
		time.Sleep(time.Duration(after) * time.Second)
		w.want(200, "", "creator", "GET", "/v1/workspaces", "")
	})
}
