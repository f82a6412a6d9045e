package remedy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/remedy"
)

const (
	group   = "/subscriptions/s/resourceGroups/g"
	account = group + "/providers/Microsoft.Storage/storageAccounts/sa1"
	vault   = group + "/providers/Microsoft.KeyVault/vaults/kv1"
	key     = "https://kv1.vault.example.com/keys/k1"
)

var errKilled = errors.New("killed")

// An estate is one account, one vault and one key, as Resource Manager shows them.
type estate struct {
	identity   string
	source     string
	keyName    string
	state      string
	looks      int // at the account, until its data has followed
	rbac       bool
	purge      bool
	keyEnabled bool
	policy     map[string]bool   // permissions of the account's identity
	roles      map[string]string // assignments: id to role
	deaf       int               // how often the service is refused before a grant is felt
	denied     bool              // who asks may give no rights

	calls, dieAt int      // the process dies at this call, before or after it took effect
	dieAfter     bool     // after
	changes      []string // what was sent
}

func newEstate() *estate {
	return &estate{identity: "None", source: "Microsoft.Storage", state: "Disabled", rbac: true, purge: true, keyEnabled: true, policy: map[string]bool{}, roles: map[string]string{}}
}

func (e *estate) Call(_ context.Context, method, path string, in, out any) error {
	e.calls++
	if e.calls == e.dieAt && !e.dieAfter {
		return errKilled
	}
	answer, err := e.serve(method, path, in)
	if e.calls == e.dieAt && e.dieAfter {
		return errKilled
	}
	if err != nil || out == nil {
		return err
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

func (e *estate) account() map[string]any {
	if e.state == "Enabling" || e.state == "Disabling" {
		if e.looks--; e.looks <= 0 {
			e.state = map[string]string{"Enabling": "Active", "Disabling": "Disabled"}[e.state]
		}
	}
	enc := map[string]any{"keySource": e.source, "kluis": map[string]any{"state": e.state}}
	if e.source == "Microsoft.Keyvault" {
		enc["keyvaultproperties"] = map[string]any{"keyvaulturi": "https://kv1.vault.example.com/", "keyname": e.keyName, "currentVersionedKeyIdentifier": key + "/v1"}
	}
	a := map[string]any{"id": account, "properties": map[string]any{"encryption": enc}}
	if e.identity != "None" {
		a["identity"] = map[string]any{"type": e.identity, "principalId": "p1"}
	}
	return a
}

func (e *estate) mayUse() bool {
	for _, role := range e.roles {
		if strings.HasSuffix(role, "e147488a-f6f5-4113-8e2d-b22465e65bf6") && e.rbac {
			return true
		}
	}
	return !e.rbac && e.policy["get"] && e.policy["wrapKey"] && e.policy["unwrapKey"]
}

func (e *estate) serve(method, path string, in any) (any, error) {
	path, _, _ = strings.Cut(path, "?")
	var body map[string]any
	text, _ := json.Marshal(in)
	json.Unmarshal(text, &body)
	properties, _ := body["properties"].(map[string]any)
	if method != "GET" {
		e.changes = append(e.changes, method+" "+strings.TrimPrefix(path, group)+" "+string(text))
	}
	assignment := strings.TrimPrefix(path, vault+"/keys/k1/providers/Microsoft.Authorization/roleAssignments/")
	switch {
	case method == "GET" && path == account:
		return e.account(), nil
	case method == "GET" && path == vault:
		p := []any{}
		if len(e.policy) > 0 {
			keys := []string{}
			for k := range e.policy {
				keys = append(keys, k)
			}
			p = append(p, map[string]any{"objectId": "p1", "permissions": map[string]any{"keys": keys}})
		}
		return map[string]any{"properties": map[string]any{"enablePurgeProtection": e.purge, "enableRbacAuthorization": e.rbac, "accessPolicies": p, "tenantId": "t"}}, nil
	case method == "GET" && path == vault+"/keys/k1":
		return map[string]any{"properties": map[string]any{"kty": "RSA", "keyOps": []string{"wrapKey", "unwrapKey"}, "attributes": map[string]any{"enabled": e.keyEnabled}}}, nil
	case method == "GET" && path == vault+"/keys/k1/providers/Microsoft.Authorization/roleAssignments":
		all := []any{}
		for id, role := range e.roles {
			all = append(all, map[string]any{"name": id, "properties": map[string]any{"principalId": "p1", "roleDefinitionId": role}})
		}
		return map[string]any{"value": all}, nil
	case assignment != path && method == "GET":
		if e.roles[assignment] == "" {
			return nil, fault.New(fault.ResourceNotFound, "no such assignment")
		}
		return map[string]any{}, nil
	case assignment != path && method == "PUT" || strings.HasSuffix(path, "/accessPolicies/add"):
		if e.denied {
			return nil, fault.New(fault.Denied, "no")
		}
		if assignment != path {
			e.roles[assignment], _ = properties["roleDefinitionId"].(string)
			return nil, nil
		}
		e.setPolicy(properties, true)
		return nil, nil
	case strings.HasSuffix(path, "/accessPolicies/remove"):
		e.setPolicy(properties, false)
		return nil, nil
	case assignment != path && method == "DELETE":
		delete(e.roles, assignment)
		return nil, nil
	case method == "PATCH" && path == account:
		return nil, e.patch(body, properties)
	}
	return nil, fault.New(fault.ResourceNotFound, method+" "+path)
}

func (e *estate) setPolicy(properties map[string]any, on bool) {
	one := properties["accessPolicies"].([]any)[0].(map[string]any)
	for _, k := range one["permissions"].(map[string]any)["keys"].([]any) {
		if on {
			e.policy[k.(string)] = true
		} else {
			delete(e.policy, k.(string))
		}
	}
}

func (e *estate) patch(body, properties map[string]any) error {
	if id, ok := body["identity"].(map[string]any); ok {
		if id["type"] == "None" && e.source != "Microsoft.Storage" {
			return fault.New(fault.InvalidArgument, "under a key")
		}
		e.identity = id["type"].(string)
	}
	enc, ok := properties["encryption"].(map[string]any)
	if !ok {
		return nil
	}
	if enc["keySource"] == "Microsoft.Storage" {
		if e.source != "Microsoft.Storage" {
			e.source, e.state, e.looks = "Microsoft.Storage", "Disabling", 2
		}
		return nil
	}
	if e.identity == "None" || !e.mayUse() || e.deaf > 0 {
		e.deaf--
		return fault.New(fault.KEKRefused, "KeyVaultAuthenticationFailure")
	}
	if e.source == "Microsoft.Storage" {
		e.state, e.looks = "Enabling", 2
	}
	e.source, e.keyName = "Microsoft.Keyvault", enc["keyvaultproperties"].(map[string]any)["keyname"].(string)
	return nil
}

// shape is all that a run may change.
func (e *estate) shape() string {
	return fmt.Sprint(e.identity, " ", e.source, " ", len(e.policy), " ", len(e.roles), " ", e.mayUse())
}

func finding() posture.Finding {
	return posture.Finding{ID: "0123456789abcdef", Control: "CMK/Microsoft.Storage/storageAccounts", Type: "Microsoft.Storage/storageAccounts", Resource: account, State: "fail", Remediable: "in-place", Reversible: true}
}

func plan(t *testing.T) remedy.Run {
	t.Helper()
	r, err := remedy.New(finding(), remedy.Target{Key: posture.ParseKeyRef(key), VaultID: vault, Endpoint: "https://arm", Actor: "me"}, time.Unix(1790000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func setUp(t *testing.T, e *estate) (remedy.Config, *remedy.Folder) {
	t.Helper()
	f, err := remedy.OpenFolder(filepath.Join(t.TempDir(), "runs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return remedy.Config{Data: e, Keys: e, Journal: f, Poll: time.Microsecond, Wait: 10 * time.Second}, f
}

// What was done is what was seen, and what is taken back leaves nothing.
func TestThereAndBack(t *testing.T) {
	for name, change := range map[string]func(*estate){
		"roles":                     func(*estate) {},
		"access policies":           func(e *estate) { e.rbac = false },
		"some of a policy is there": func(e *estate) { e.rbac, e.policy["get"] = false, true },
		"an identity is there":      func(e *estate) { e.identity = "SystemAssigned" },
		"a grant is felt late":      func(e *estate) { e.deaf = 5 },
		"all but the key is there": func(e *estate) {
			e.identity, e.roles["mine"] = "SystemAssigned", "/x/e147488a-f6f5-4113-8e2d-b22465e65bf6"
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEstate()
			change(e)
			before := e.shape()
			c, folder := setUp(t, e)
			run := plan(t)
			if err := remedy.Apply(t.Context(), c, &run); err != nil {
				t.Fatal(err)
			}
			if run.Status != remedy.Applied || e.source != "Microsoft.Keyvault" || e.state != "Active" || !e.mayUse() {
				t.Errorf("%s: %s, data %s", run.Status, e.shape(), e.state)
			}
			kept, err := folder.Find("0123")
			if err != nil || kept.Status != remedy.Applied || kept.After == nil {
				t.Errorf("kept %+v, %v", kept, err)
			}
			if err := remedy.Backout(t.Context(), c, &kept); err != nil {
				t.Fatal(err)
			}
			if kept.Status != remedy.BackedOut || e.shape() != before || e.state != "Disabled" {
				t.Errorf("%s: %s, want %s; sent %q", kept.Status, e.shape(), before, e.changes)
			}
			if err := remedy.Backout(t.Context(), c, &kept); !errors.Is(err, fault.Conflict) {
				t.Errorf("taken back twice: %v", err)
			}
			again := plan(t)
			if err := errors.Join(folder.Retire(kept), remedy.Apply(t.Context(), c, &again)); err != nil || e.source != "Microsoft.Keyvault" {
				t.Errorf("applied again: %v", err)
			}
			if all, err := folder.Runs(false); err != nil || len(all) != 2 {
				t.Errorf("%d runs are kept, %v", len(all), err)
			}
		})
	}
}

// memory is a journal of one run, as its text.
type memory struct{ text []byte }

func (m *memory) Save(r remedy.Run) (err error) {
	m.text, err = json.Marshal(r)
	return err
}

func (m *memory) run(t *testing.T) (r remedy.Run) {
	t.Helper()
	if err := json.Unmarshal(m.text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// Killed at any call, before or after it took effect, on the way there or back: the same
// command goes on, the other one goes back, and nothing is left half done.
func TestKilled(t *testing.T) {
	for _, rbac := range []bool{true, false} {
		calls := func() int {
			e := newEstate()
			e.rbac = rbac
			c, _ := setUp(t, e)
			run := plan(t)
			if err := errors.Join(remedy.Apply(t.Context(), c, &run), remedy.Backout(t.Context(), c, &run)); err != nil {
				t.Fatal(err)
			}
			return e.calls
		}()
		for dieAt := 1; dieAt <= calls; dieAt++ {
			for _, dieAfter := range []bool{false, true} {
				for _, then := range []string{"on", "back"} {
					t.Run(fmt.Sprintf("rbac=%t/%d/after=%t/%s", rbac, dieAt, dieAfter, then), func(t *testing.T) {
						e := newEstate()
						e.rbac = rbac
						before := e.shape()
						kept := &memory{}
						c := remedy.Config{Data: e, Keys: e, Journal: kept, Poll: time.Microsecond, Wait: 10 * time.Second}
						e.dieAt, e.dieAfter = dieAt, dieAfter
						run := plan(t)
						err := remedy.Apply(t.Context(), c, &run)
						if err == nil {
							err = remedy.Backout(t.Context(), c, &run)
						}
						if kept.text == nil {
							if e.shape() != before || len(e.changes) > 0 {
								t.Fatalf("changed, and nothing tells of it: %s", e.shape())
							}
							return
						}
						resumed := kept.run(t)
						if errors.Is(err, errKilled) && !resumed.Open() && e.source == "Microsoft.Storage" {
							t.Fatalf("killed, and %s", resumed.Status)
						}
						if then == "on" && resumed.Status == remedy.Applying {
							if err := remedy.Apply(t.Context(), c, &resumed); err != nil || e.source != "Microsoft.Keyvault" || resumed.Status != remedy.Applied {
								t.Fatalf("going on: %v, %s", err, e.shape())
							}
						}
						if resumed.Status != remedy.BackedOut {
							if err := remedy.Backout(t.Context(), c, &resumed); err != nil {
								t.Fatal(err)
							}
						}
						if e.shape() != before {
							t.Errorf("%s is left of %s; sent %q", e.shape(), before, e.changes)
						}
					})
				}
			}
		}
		if calls < 20 {
			t.Errorf("only %d calls were cut", calls)
		}
	}
}

// What does not fit is refused before anything is changed.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*estate)
		reason fault.Reason
	}{
		"no purge protection": {func(e *estate) { e.purge = false }, fault.PreconditionFailed},
		"a disabled key":      {func(e *estate) { e.keyEnabled = false }, fault.PreconditionFailed},
		"it is under a key":   {func(e *estate) { e.source, e.keyName = "Microsoft.Keyvault", "other" }, fault.PreconditionFailed},
	} {
		e := newEstate()
		c.change(e)
		config, folder := setUp(t, e)
		run := plan(t)
		for _, do := range []func(context.Context, remedy.Config, *remedy.Run) error{remedy.Check, remedy.Apply} {
			if err := do(t.Context(), config, &run); fault.ReasonOf(err) != c.reason || len(e.changes) > 0 {
				t.Errorf("%s: %v, sent %q", name, err, e.changes)
			}
		}
		if all, err := folder.Runs(true); err != nil || len(all) > 0 {
			t.Errorf("%s: %d runs are kept, %v", name, len(all), err)
		}
	}
	for name, c := range map[string]func(*posture.Finding){
		"made with its key": func(f *posture.Finding) { f.Remediable = "recreate" },
		"for ever":          func(f *posture.Finding) { f.Remediable = "no" },
		"another type":      func(f *posture.Finding) { f.Control = "CMK/Microsoft.Sql/servers" },
		"a part":            func(f *posture.Finding) { f.Control = "CMK/Microsoft.Storage/storageAccounts#queue" },
		"a judgement":       func(f *posture.Finding) { f.Control = "G16" },
		"unknown":           func(f *posture.Finding) { f.State = "unknown" },
		"excepted":          func(f *posture.Finding) { f.Excepted = &posture.Exception{Reason: "r"} },
	} {
		f := finding()
		c(&f)
		if err := remedy.Supported(f); err == nil || fault.As(err).Detail == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct{ key, vault string }{"no key": {"", vault}, "a version": {key + "/0123456789abcdef0123456789abcdef", vault}, "no vault": {key, ""}} {
		if _, err := remedy.New(finding(), remedy.Target{Key: posture.ParseKeyRef(c.key), VaultID: c.vault}, time.Now()); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// Who may not give rights at the vault is told what its custodian has to do, and goes on
// when that was done. What the custodian has granted stays his to take away.
func TestDutiesApart(t *testing.T) {
	for _, rbac := range []bool{true, false} {
		e := newEstate()
		e.rbac, e.denied = rbac, true
		c, folder := setUp(t, e)
		run := plan(t)
		err := remedy.Apply(t.Context(), c, &run)
		if !errors.Is(err, fault.Denied) || !strings.Contains(fault.As(err).Mend, "az role assignment create") || run.Status != remedy.Applying {
			t.Fatalf("%v, %s", err, run.Status)
		}
		kept, ferr := folder.Find(run.ID)
		if ferr != nil || !strings.Contains(kept.Problem, "step 2, grant") {
			t.Errorf("kept %q, %v", kept.Problem, ferr)
		}
		e.roles["custodians"] = "/x/e147488a-f6f5-4113-8e2d-b22465e65bf6"
		e.policy = map[string]bool{"get": true, "wrapKey": true, "unwrapKey": true}
		if err := remedy.Apply(t.Context(), c, &kept); err != nil || e.source != "Microsoft.Keyvault" {
			t.Fatal(err)
		}
		if err := remedy.Backout(t.Context(), c, &kept); err != nil || !e.mayUse() {
			t.Errorf("%v; left of the custodian's own grant: %v %v", err, e.roles, e.policy)
		}
	}
}

// What somebody else has done since is not undone.
func TestDisturbed(t *testing.T) {
	e := newEstate()
	c, _ := setUp(t, e)
	run := plan(t)
	if err := remedy.Apply(t.Context(), c, &run); err != nil {
		t.Fatal(err)
	}
	e.keyName = "theirs"
	if err := remedy.Backout(t.Context(), c, &run); !errors.Is(err, fault.Conflict) || e.keyName != "theirs" || e.source != "Microsoft.Keyvault" {
		t.Errorf("%v, %s", err, e.shape())
	}
}

// Runs are their owner's to read, and one process's at a time.
func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "runs")
	f, err := remedy.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remedy.OpenFolder(dir); !errors.Is(err, fault.Conflict) {
		t.Errorf("opened twice: %v", err)
	}
	if err := f.Save(plan(t)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "0123456789abcdef.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	bad := plan(t)
	bad.ID = "../../etc/passwd"
	if err := f.Save(bad); err == nil {
		t.Error("an id that is a path is taken")
	}
	if _, err := f.Find(""); err == nil {
		t.Error("nothing is found")
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "fedcba9876543210.json"), []byte("{"), 0o600), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Runs(false); err == nil {
		t.Error("a torn file passes for a run")
	}
}
