package posture_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/export"
	"github.com/kluis-io/kluis/posture/own"
	"github.com/kluis-io/kluis/posture/posturetest"
)

// now is when the tests scan.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func inventory(t testing.TB, texts ...string) *posture.Inventory {
	t.Helper()
	inv := &posture.Inventory{}
	files := fstest.MapFS{}
	for i, s := range texts {
		files[fmt.Sprintf("%03d.json", i)] = &fstest.MapFile{Data: []byte(s), ModTime: now}
	}
	if err := export.Read(t.Context(), files, inv); err != nil {
		t.Fatal(err)
	}
	inv.Link()
	return inv
}

func TestTable(t *testing.T) {
	if n := len(posture.Types()); n != 63 { // apps are in no list of types with keys
		t.Errorf("%d rows, want 63", n)
	}
	seen := map[string]bool{}
	for _, r := range posture.Types() {
		if seen[r.Name()] {
			t.Errorf("%s is there twice", r.Name())
		}
		seen[r.Name()] = true
		if r.Enable != "in-place" && r.Enable != "recreate" && r.Enable != "no" {
			t.Errorf("%s: enable is %q", r.Name(), r.Enable)
		}
		if _, ok := posture.ControlByID("CMK/" + r.Name()); !ok {
			t.Errorf("%s has no control", r.Name())
		}
	}
}

// TestDialects puts every type under a key and under none, in each dialect in which
// exports have it, and expects the same of both.
func TestDialects(t *testing.T) {
	for _, r := range posture.Types() {
		if r.Part != "" {
			continue
		}
		for _, state := range []posture.State{posture.On, posture.Off} {
			for name, shape := range map[string]func(map[string]any) map[string]any{
				"arm": func(b map[string]any) map[string]any { return b }, "az": posturetest.Flatten,
			} {
				if r.Type == "Microsoft.Fabric/workspaces" && name == "az" {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", r.Type, state, name), func(t *testing.T) {
					e := posturetest.New(0)
					var list bytes.Buffer
					if err := posturetest.Write(&list, e.Bodies); err != nil {
						t.Fatal(err)
					}
					id := posturetest.ID(r, 1)
					body := posturetest.Body(r, id, state)
					if r.Via == "parent" && state == posture.Off {
						t.Skip("its server decides: see TestEstate")
					}
					one, err := json.Marshal(shape(body))
					if err != nil {
						t.Fatal(err)
					}
					inv := inventory(t, list.String(), string(one))
					got := inv.Resources[len(inv.Resources)-1]
					if got.ID != id || got.CMK.State != state {
						t.Errorf("%s is %s (%s), want %s\n%s", got.ID, got.CMK.State, got.CMK.Why, state, one)
					}
					if state == posture.On && r.KeyPath != "" && len(got.CMK.Keys) == 0 {
						t.Errorf("the key was not found\n%s", one)
					}
					if got.Evidence.SHA256 == "" || got.Evidence.Path == "" || got.Evidence.Source != "export" {
						t.Errorf("evidence %+v", got.Evidence)
					}
				})
			}
		}
	}
}

// TestByHand takes answers as the services give them, written by hand.
func TestByHand(t *testing.T) {
	const rg = `/subscriptions/s/resourceGroups/g/providers/`
	des := `{"id":"` + rg + `Microsoft.Compute/diskEncryptionSets/des","type":"Microsoft.Compute/diskEncryptionSets","properties":{"encryptionType":"EncryptionAtRestWithCustomerKey","activeKey":{"sourceVault":{"id":"x"},"keyUrl":"https://kv1.vault.azure.net/keys/disk/0123456789abcdef0123456789abcdef"},"rotationToLatestKeyVersionEnabled":true}}`
	k1 := []posture.KeyRef{{Vault: "kv1.vault.azure.net", Name: "k1"}}
	disk := []posture.KeyRef{{Vault: "kv1.vault.azure.net", Name: "disk", Version: "0123456789abcdef0123456789abcdef"}}
	pinned := []posture.KeyRef{{Vault: "kv1.vault.azure.net", Name: "k1", Version: "v1"}}
	for _, tt := range []struct {
		name  string
		texts []string
		want  posture.CMK
	}{
		{"storage by Resource Manager", []string{`{"id":"` + rg + `Microsoft.Storage/storageAccounts/a","type":"Microsoft.Storage/storageAccounts","kind":"StorageV2","sku":{"name":"Standard_LRS"},"properties":{"encryption":{"keySource":"Microsoft.Keyvault","keyvaultproperties":{"keyname":"k1","keyversion":"","keyvaulturi":"https://kv1.vault.azure.net","currentVersionedKeyIdentifier":"https://kv1.vault.azure.net/keys/k1/v7"},"identity":{"userAssignedIdentity":"/sub/id"}}}}`},
			posture.CMK{State: posture.On, Keys: k1, Versionless: true, InUse: "v7", Identity: "/sub/id"}},
		{"storage by az", []string{`{"id":"` + rg + `Microsoft.Storage/storageAccounts/a","type":"Microsoft.Storage/storageAccounts","resourceGroup":"g","encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyName":"k1","keyVersion":null,"keyVaultUri":"https://kv1.vault.azure.net/"},"encryptionIdentity":{"encryptionUserAssignedIdentity":"/sub/id"}}}`},
			posture.CMK{State: posture.On, Keys: k1, Versionless: true, Identity: "/sub/id"}},
		{"storage back on the platform's key, with leftovers", []string{`{"id":"` + rg + `Microsoft.Storage/storageAccounts/a","properties":{"encryption":{"keySource":"Microsoft.Storage","keyvaultproperties":{"keyname":"k1","keyvaulturi":"https://kv1.vault.azure.net"}}}}`},
			posture.CMK{State: posture.Off}},
		{"storage half configured", []string{`{"id":"` + rg + `Microsoft.Storage/storageAccounts/a","properties":{"encryption":{"keySource":"Microsoft.Keyvault"}}}`},
			posture.CMK{State: posture.Partial, Why: "it asks for a customer-managed key and names none"}},
		{"SQL server and its protector", []string{`{"id":"` + rg + `Microsoft.Sql/servers/s","properties":{"keyId":null}}`, `{"id":"` + rg + `Microsoft.Sql/servers/s/encryptionProtector/current","type":"Microsoft.Sql/servers/encryptionProtector","serverKeyType":"AzureKeyVault","uri":"https://kv1.vault.azure.net/keys/k1/v1","autoRotationEnabled":true}`},
			posture.CMK{State: posture.On, Keys: pinned, Versionless: true, Via: []string{rg + "Microsoft.Sql/servers/s/encryptionprotector"}}},
		{"SQL server alone", []string{`{"id":"` + rg + `Microsoft.Sql/servers/s","properties":{}}`},
			posture.CMK{State: posture.Unknown, Why: "its child encryptionprotector was not read"}},
		{"disk, read before its set", []string{`{"id":"` + rg + `Microsoft.Compute/disks/d","properties":{"encryption":{"type":"EncryptionAtRestWithCustomerKey","diskEncryptionSetId":"` + rg + `Microsoft.Compute/diskEncryptionSets/DES"}}}`, des},
			posture.CMK{State: posture.On, Keys: disk, Versionless: true, Via: []string{rg + "Microsoft.Compute/diskEncryptionSets/des"}}},
		{"machine with one disk of two", []string{`{"id":"` + rg + `Microsoft.Compute/virtualMachines/m","properties":{"storageProfile":{"osDisk":{"managedDisk":{"id":"` + rg + `Microsoft.Compute/disks/os","diskEncryptionSet":{"id":"` + rg + `Microsoft.Compute/diskEncryptionSets/des"}}},"dataDisks":[{"lun":0,"managedDisk":{"id":"` + rg + `Microsoft.Compute/disks/data"}}]}}}`, des, `{"id":"` + rg + `Microsoft.Compute/disks/data","properties":{"encryption":{"type":"EncryptionAtRestWithPlatformKey"}}}`},
			posture.CMK{State: posture.Partial, Keys: disk, Versionless: true, Via: []string{rg + "Microsoft.Compute/diskEncryptionSets/des", rg + "Microsoft.Compute/disks/data"}}},
		{"Cosmos", []string{`{"id":"` + rg + `Microsoft.DocumentDB/databaseAccounts/c","properties":{"keyVaultKeyUri":"https://kv1.vault.azure.net/keys/k1"}}`},
			posture.CMK{State: posture.On, Keys: k1, Versionless: true}},
		{"Redis with the empty object that means the platform's key", []string{`{"id":"` + rg + `Microsoft.Cache/redisEnterprise/r","properties":{"encryption":{"customerManagedKeyEncryption":{}}}}`},
			posture.CMK{State: posture.Off}},
		{"Event Hubs, standard", []string{`{"id":"` + rg + `Microsoft.EventHub/namespaces/e","sku":{"name":"Standard"},"properties":{}}`},
			posture.CMK{State: posture.NotSupported, Why: "this kind or tier has no customer-managed keys"}},
		{"Event Hubs, premium", []string{`{"id":"` + rg + `Microsoft.EventHub/namespaces/e","sku":{"name":"Premium"},"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":[{"keyName":"k1","keyVaultUri":"https://kv1.vault.azure.net","keyVersion":"","identity":{"userAssignedIdentity":"/i"}}]}}}`},
			posture.CMK{State: posture.On, Keys: k1, Versionless: true, Identity: "/i"}},
		{"registry, switched off", []string{`{"id":"` + rg + `Microsoft.ContainerRegistry/registries/r","sku":{"name":"Premium"},"properties":{"encryption":{"status":"disabled"}}}`},
			posture.CMK{State: posture.Off}},
		{"Databricks, one of three", []string{`{"id":"` + rg + `Microsoft.Databricks/workspaces/w","sku":{"name":"premium"},"properties":{"encryption":{"entities":{"managedServices":{"keySource":"Microsoft.Keyvault","keyVaultProperties":{"keyVaultUri":"https://kv1.vault.azure.net","keyName":"k1","keyVersion":"v1"}}}}}}`},
			posture.CMK{State: posture.Partial, Keys: pinned}},
		{"Fabric, by the admin's list", []string{`{"workspaces":[{"id":"w","name":"n","type":"Workspace","state":"Active","capacityId":"c","encryption":{"status":"Active","keyIdentifier":"https://kv1.vault.azure.net/keys/k1"}}]}`},
			posture.CMK{State: posture.On, Keys: k1, Versionless: true}},
		{"Log Analytics with the version present and empty", []string{`{"data":[{"id":"` + rg + `microsoft.operationalinsights/clusters/c","type":"microsoft.operationalinsights/clusters","properties":{"keyVaultProperties":{"keyVaultUri":"https://kv1.vault.azure.net","keyName":"k1","keyVersion":""}}}],"resultTruncated":"false"}`},
			posture.CMK{State: posture.On, Keys: k1, Versionless: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := inventory(t, tt.texts...).Resources[0]
			if d := cmp.Diff(tt.want, got.CMK); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestEstate scans a generated estate, and expects of each resource what it was made
// to be.
func TestEstate(t *testing.T) {
	e := posturetest.New(5000)
	var list bytes.Buffer
	if err := posturetest.Write(&list, e.Bodies); err != nil {
		t.Fatal(err)
	}
	inv := inventory(t, list.String())
	scan := posture.Judge(inv, policy(t, estatePolicy), nil, now)
	if len(scan.Resources) != len(e.Want) {
		t.Fatalf("%d resources, want %d", len(scan.Resources), len(e.Want))
	}
	for _, r := range scan.Resources {
		want := e.Want[r.ID]
		if r.CMK.State != want {
			t.Errorf("%s is %s (%s), want %s", r.ID, r.CMK.State, r.CMK.Why, want)
		}
		verdict := map[posture.State]string{posture.On: posture.Compliant, posture.Off: posture.NonCompliant, posture.Unknown: posture.Undecided}[want]
		switch {
		case r.Group == "" || r.Group == "shared":
			verdict = posture.Unclassified
		case r.Group[0] == 'd':
			verdict = posture.OutOfScope
		case want == posture.On && r.Type == "Microsoft.Storage/storageAccounts":
			verdict = posture.NonCompliant // its queues and tables are not under its key
		}
		if r.Verdict != verdict {
			t.Errorf("%s (%s) is %s, want %s", r.ID, want, r.Verdict, verdict)
		}
	}
}

const estatePolicy = `
rules:
- {name: production, when: {resourceGroups: "prod-*"}, requires: cmk, why: it is production}
- {name: development, when: {resourceGroups: "dev-*"}, requires: platform, why: it holds no data of customers}
`

func policy(t testing.TB, text string) *posture.Policy {
	t.Helper()
	p, err := posture.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ownControls are three of one's own over each resource, of which one follows the chain.
const ownControls = `
controls:
- {id: O-1, title: t, mend: m, applies: resource.required, assert: 'resource.state == "on"'}
- {id: O-2, title: t, mend: m, assert: 'resource.tags["env"] == "test" && resource.location == "westeurope"'}
- {id: O-3, title: t, mend: m, assert: 'resource.keys.all(k, k.name == "k1" && k.users > 0)'}
`

// TestEstateByOwn judges the same estate by controls of one's own.
func TestEstateByOwn(t *testing.T) {
	set, err := own.Parse("own", []byte(ownControls))
	if err != nil {
		t.Fatal(err)
	}
	e := posturetest.New(5000)
	var list bytes.Buffer
	if err := posturetest.Write(&list, e.Bodies); err != nil {
		t.Fatal(err)
	}
	scan := posture.Judge(inventory(t, list.String()), policy(t, estatePolicy), nil, now, set)
	said := map[string]string{}
	for _, f := range scan.Findings {
		if f.Control == "O-1" || f.Control == "O-3" {
			said[f.Control+f.Resource] = f.State
		}
		if f.Control == "O-2" {
			t.Errorf("O-2 fails for %s", f.Resource)
		}
	}
	for _, r := range scan.Resources {
		want := map[posture.State]string{posture.Off: "fail", posture.Unknown: "unknown"}[e.Want[r.ID]]
		keys := ""
		if want == "unknown" {
			keys = want
		}
		if r.Group == "" || r.Group[0] != 'p' {
			want = ""
		}
		if said["O-1"+r.ID] != want || said["O-3"+r.ID] != keys {
			t.Errorf("%s (%s): %q and %q, want %q and %q", r.ID, e.Want[r.ID], said["O-1"+r.ID], said["O-3"+r.ID], want, keys)
		}
	}
}

// BenchmarkScan reads and judges estates of all types, by the built-in controls alone
// and by three more. It fails on a wrong verdict. Memory is the process's peak.
func BenchmarkScan(b *testing.B) {
	set, err := own.Parse("own", []byte(ownControls))
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{10_000, 100_000, 200_000} {
		for name, checkers := range map[string][]posture.Checker{"built-in": nil, "own": {set}} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				e := posturetest.New(n)
				var list bytes.Buffer
				if err := posturetest.Write(&list, e.Bodies); err != nil {
					b.Fatal(err)
				}
				want := e.Want
				e = nil
				p := policy(b, estatePolicy)
				b.SetBytes(int64(list.Len()))
				files := fstest.MapFS{"list.json": {Data: list.Bytes(), ModTime: now}}
				runtime.GC()
				before := processor(b)
				for b.Loop() {
					inv := &posture.Inventory{}
					if err := export.Read(b.Context(), files, inv); err != nil {
						b.Fatal(err)
					}
					inv.Link()
					scan := posture.Judge(inv, p, nil, now, checkers...)
					b.StopTimer()
					b.ReportMetric(processor(b)-before, "CPU-s")
					if len(scan.Resources) != len(want) {
						b.Fatalf("%d resources, want %d", len(scan.Resources), len(want))
					}
					for _, r := range scan.Resources {
						if r.CMK.State != want[r.ID] {
							b.Fatalf("%s is %s, want %s", r.ID, r.CMK.State, want[r.ID])
						}
					}
					b.ReportMetric(peak(b), "MiB-peak")
					before = processor(b)
					b.StartTimer()
				}
			})
		}
	}
}

// processor returns the seconds of processor time that the process has used.
func processor(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// peak returns the most memory that the process has had, in MiB, 0 where it is not told.
func peak(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
