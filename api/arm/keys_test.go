package arm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// Keys as resources, as the Go SDK reads and makes them.
func TestSDKKeys(t *testing.T) {
	f := vaulttest.New(t)
	s := serve(t, f)
	ctx := t.Context()
	v := f.Vault(t, "kv1")
	reader := vaulttest.Caller(8)
	f.Grant(t, reader, rbac.Reader, v.Scope())
	client := func(c identity.Caller) *armkeyvault.KeysClient {
		k, err := armkeyvault.NewKeysClient(vaulttest.Subscription, vaulttest.Credential{Caller: c}, options(s))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := client(f.Officer)
	body := armkeyvault.KeyCreateParameters{
		Tags: map[string]*string{"for": new("sa1")},
		Properties: &armkeyvault.KeyProperties{
			Kty: new(armkeyvault.JSONWebKeyTypeRSA), KeySize: new(int32(2048)),
			KeyOps:     []*armkeyvault.JSONWebKeyOperation{new(armkeyvault.JSONWebKeyOperationWrapKey), new(armkeyvault.JSONWebKeyOperationUnwrapKey)},
			Attributes: &armkeyvault.KeyAttributes{Expires: new(int64(1893456000))},
			RotationPolicy: &armkeyvault.RotationPolicy{
				Attributes: &armkeyvault.KeyRotationPolicyAttributes{ExpiryTime: new("P1Y")},
				LifetimeActions: []*armkeyvault.LifetimeAction{{
					Action: &armkeyvault.Action{Type: new(armkeyvault.KeyRotationPolicyActionTypeRotate)}, Trigger: &armkeyvault.Trigger{TimeAfterCreate: new("P90D")},
				}},
			},
		},
	}
	_, err := client(reader).CreateIfNotExist(ctx, vaulttest.Group, "kv1", "k1", body, nil)
	wantStatus(t, err, 403, "AuthorizationFailed")
	_, err = k.Get(ctx, vaulttest.Group, "kv1", "k1", nil)
	wantStatus(t, err, 404, "KeyNotFound")
	_, err = k.Get(ctx, vaulttest.Group, "kv9", "k1", nil)
	wantStatus(t, err, 404, "ResourceNotFound")
	made, err := k.CreateIfNotExist(ctx, vaulttest.Group, "kv1", "k1", body, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := made.Properties
	if *made.Type != "Microsoft.KeyVault/vaults/keys" || *made.ID != string(v.Scope())+"/keys/k1" || *made.Tags["for"] != "sa1" ||
		*p.KeyURI != "https://kv1.vault.localhost:"+s.Port+"/keys/k1" || !strings.HasPrefix(*p.KeyURIWithVersion, *p.KeyURI+"/") ||
		*p.KeySize != 2048 || len(p.KeyOps) != 2 || *p.Attributes.Expires != 1893456000 || !*p.Attributes.Enabled ||
		len(p.RotationPolicy.LifetimeActions) != 2 || *p.RotationPolicy.LifetimeActions[0].Trigger.TimeAfterCreate != "P90D" {
		t.Errorf("made %+v", p)
	}

	// What is there stays as it is, whatever is asked for.
	body.Properties.KeySize, body.Properties.RotationPolicy = new(int32(4096)), nil
	again, err := k.CreateIfNotExist(ctx, vaulttest.Group, "kv1", "K1", body, nil)
	if err != nil || *again.Properties.KeyURIWithVersion != *p.KeyURIWithVersion || *again.Properties.KeySize != 2048 {
		t.Errorf("again %+v, %v", again.Properties, err)
	}
	rotated, err := f.Vaults.RotateKey(ctx, f.Officer, "kv1", "k1")
	if err != nil {
		t.Fatal(err)
	}
	r := client(reader)
	now, err := r.Get(ctx, vaulttest.Group, "kv1", "k1", nil)
	if err != nil || !strings.HasSuffix(*now.Properties.KeyURIWithVersion, string(rotated.Version.Version)) || now.Properties.RotationPolicy == nil {
		t.Errorf("now %+v, %v", now.Properties, err)
	}
	old := (*p.KeyURIWithVersion)[strings.LastIndexByte(*p.KeyURIWithVersion, '/')+1:]
	first, err := r.GetVersion(ctx, vaulttest.Group, "kv1", "k1", old, nil)
	if err != nil || *first.Properties.KeyURIWithVersion != *p.KeyURIWithVersion || *first.Type != "Microsoft.KeyVault/vaults/keys/versions" {
		t.Errorf("the first %+v, %v", first, err)
	}
	var versions []string
	for pager := r.NewListVersionsPager(vaulttest.Group, "kv1", "k1", nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range page.Value {
			versions = append(versions, *one.Name)
		}
	}
	if len(versions) != 2 || versions[0] != old {
		t.Errorf("versions %v", versions)
	}

	// More than a page of them.
	for i := range vault.PageLimit + 1 {
		f.Key(t, "kv1", vault.KeyName(fmt.Sprintf("many%02d", i)))
	}
	seen := map[string]bool{}
	for pager := r.NewListPager(vaulttest.Group, "kv1", nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range page.Value {
			seen[*one.Name] = true
		}
	}
	if len(seen) != vault.PageLimit+2 {
		t.Errorf("%d keys are listed", len(seen))
	}

	if _, err := f.Vaults.DeleteKey(ctx, f.Officer, "kv1", "k1"); err != nil {
		t.Fatal(err)
	}
	_, err = k.CreateIfNotExist(ctx, vaulttest.Group, "kv1", "k1", body, nil)
	wantStatus(t, err, 409, "ConflictError")
}

// graphAnswer is what Resource Graph answers.
type graphAnswer struct {
	Total int              `json:"totalRecords"`
	Count int              `json:"count"`
	Data  []map[string]any `json:"data"`
	Skip  string           `json:"$skipToken"`
}

func TestResourceGraph(t *testing.T) {
	f := vaulttest.New(t)
	s := serve(t, f)
	for _, name := range []vault.Name{"kv3", "kv1", "kv2"} {
		f.Vault(t, name)
	}
	seesOne := vaulttest.Caller(8)
	f.Grant(t, seesOne, rbac.Reader, vaulttest.Path("kv2").Scope())
	ask := func(c identity.Caller, status int, query, more string) (a graphAnswer) {
		t.Helper()
		text, err := json.Marshal(query)
		if err != nil {
			t.Fatal(err)
		}
		res, body := send(t, s, c, "POST", "/providers/Microsoft.ResourceGraph/resources?api-version=2024-04-01", `{"query":`+string(text)+more+`}`)
		if res.StatusCode != status {
			t.Errorf("%s%s: %d %s", query, more, res.StatusCode, body)
		}
		if status == 200 {
			if err := json.Unmarshal([]byte(body), &a); err != nil {
				t.Error(err)
			}
		}
		return a
	}
	const query = "Resources | where type in~ ('Microsoft.KeyVault/vaults', 'microsoft.storage/storageaccounts') | project id, name, properties | order by name asc"
	var names []any
	for skip := ""; ; {
		a := ask(f.Officer, 200, query, `,"options":{"$top":2,"$skipToken":"`+skip+`"}`)
		if a.Total != 3 || a.Count != len(a.Data) || len(a.Data) > 2 {
			t.Errorf("%d of %d: %v", a.Count, a.Total, a.Data)
		}
		for _, row := range a.Data {
			names = append(names, row["name"])
			if len(row) != 3 || row["properties"].(map[string]any)["vaultUri"] == nil {
				t.Errorf("row %v", row)
			}
		}
		if skip = a.Skip; skip == "" {
			break
		}
	}
	if fmt.Sprint(names) != "[kv1 kv2 kv3]" {
		t.Errorf("names %v", names)
	}
	if a := ask(seesOne, 200, "resources", ""); a.Total != 1 || a.Data[0]["name"] != "kv2" || a.Data[0]["type"] != "microsoft.keyvault/vaults" || a.Data[0]["resourceGroup"] != vaulttest.Group {
		t.Errorf("who may see one sees %v", a.Data)
	}
	if a := ask(vaulttest.Caller(9), 200, query, ""); a.Total != 0 {
		t.Errorf("a stranger sees %v", a.Data)
	}
	if a := ask(f.Officer, 200, query, `,"subscriptions":["33333333-0000-4000-8000-000000000000"]`); a.Total != 0 {
		t.Errorf("another subscription holds %v", a.Data)
	}
	if a := ask(f.Officer, 200, "Resources | limit 2", ""); a.Total != 2 {
		t.Errorf("limited: %v", a.Data)
	}
	ask(f.Officer, 400, "Resources | summarize count()", "")
	ask(f.Officer, 400, query, `,"options":{"$top":0}`)
	ask(f.Officer, 400, query, `,"options":{"$skipToken":"#"}`)
	ask(f.Officer, 400, query, `,"options":{"$skip":3}`)
	ask(f.Officer, 400, query, `,"options":{"resultFormat":"table"}`)
	ask(identity.Caller{}, 401, query, "")
}
