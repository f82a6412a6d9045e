package remedy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/azure"
	"github.com/kluis-io/kluis/posture/remedy"
)

// A standIn answers as the published contracts of Resource Manager, Key Vault and Fabric
// say: resources are patched by merging (RFC 7396), long changes are accepted and settle
// after some looks, a key is used only by whom a role or policy lets. It is no Azure.
type standIn struct {
	mu      sync.Mutex
	docs    map[string]map[string]any // by path in lower case
	looks   int                       // until a change has settled
	sent    []string
	space   string // a Fabric workspace's status
	spaceID string // and key
	rotated int
}

const (
	principal = "11111111-1111-1111-1111-111111111111"
	userID    = group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/u1"
	userRole  = "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/e147488a-f6f5-4113-8e2d-b22465e65bf6"
	officer   = "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/14b46e9e-c2b7-41b4-b07b-48a6ebf60603"
	rolesAt   = "/providers/Microsoft.Authorization/roleAssignments/"
)

func newStandIn() *standIn {
	s := &standIn{docs: map[string]map[string]any{}, space: "Disabled"}
	s.put(vault, map[string]any{"id": vault, "properties": map[string]any{
		"tenantId": "t", "enableRbacAuthorization": true, "enableSoftDelete": true, "enablePurgeProtection": true, "accessPolicies": []any{},
		"networkAcls": map[string]any{"defaultAction": "Allow", "bypass": "None"},
	}})
	s.put(vault+"/keys/k1", map[string]any{"id": vault + "/keys/k1", "properties": map[string]any{
		"kty": "RSA", "keyOps": []any{"wrapKey", "unwrapKey"}, "attributes": map[string]any{"enabled": true}, "keyUriWithVersion": key + "/00000000000000000000000000000001",
	}})
	s.put("policy", map[string]any{"lifetimeActions": []any{map[string]any{"trigger": map[string]any{"timeBeforeExpiry": "P30D"}, "action": map[string]any{"type": "Notify"}}}, "attributes": map[string]any{}})
	return s
}

func (s *standIn) put(path string, doc map[string]any) { s.docs[strings.ToLower(path)] = doc }

func (s *standIn) doc(path string) map[string]any { return s.docs[strings.ToLower(path)] }

// merge applies a merge patch.
func merge(doc, patch map[string]any) {
	for k, v := range patch {
		in, isObject := v.(map[string]any)
		old, hadObject := doc[k].(map[string]any)
		switch {
		case v == nil:
			delete(doc, k)
		case isObject && hadObject:
			merge(old, in)
		case isObject:
			fresh := map[string]any{}
			merge(fresh, in)
			doc[k] = fresh
		default:
			doc[k] = v
		}
	}
}

func (s *standIn) mayUse() bool {
	for path, d := range s.docs {
		if !strings.Contains(path, "/roleassignments/") {
			continue
		}
		p, _ := d["properties"].(map[string]any)
		if p["principalId"] == principal && p["roleDefinitionId"] == userRole {
			return true
		}
	}
	return false
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var body map[string]any
	json.NewDecoder(r.Body).Decode(&body)
	if r.Method != "GET" {
		text, _ := json.Marshal(body)
		s.sent = append(s.sent, r.Method+" "+r.URL.Path+" "+string(text))
	}
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	fail := func(status int, code string) {
		answer(status, map[string]any{"error": map[string]string{"code": code, "message": code}})
	}
	path := r.URL.Path
	switch {
	case strings.HasPrefix(path, "/v1/workspaces/"):
		s.fabric(path, r.Method, body, answer, fail)
		return
	case strings.HasPrefix(path, "/keys/"):
		s.vault(path, r.Method, body, answer, fail)
		return
	case r.URL.Query().Get("api-version") == "":
		fail(400, "MissingApiVersionParameter")
		return
	case strings.HasSuffix(path, "/roleAssignments"):
		s.listRoles(path, answer)
		return
	}
	doc := s.doc(path)
	switch {
	case r.Method == "PUT" && strings.Contains(path, rolesAt):
		body["id"], body["name"] = path, path[strings.LastIndex(path, "/")+1:]
		s.put(path, body)
		answer(201, body)
	case strings.Contains(path, "/accessPolicies/"):
		s.policies(strings.HasSuffix(path, "/add"), body)
		answer(200, nil)
	case doc == nil:
		fail(404, "ResourceNotFound")
	case r.Method == "GET":
		if p, ok := doc["properties"].(map[string]any); ok && p["provisioningState"] == "Updating" {
			if s.looks--; s.looks <= 0 {
				p["provisioningState"] = "Succeeded"
			}
		}
		answer(200, doc)
	case r.Method == "DELETE":
		delete(s.docs, strings.ToLower(path))
		answer(200, nil)
	case r.Method == "PATCH":
		s.patch(path, r.URL.Query().Get("api-version"), doc, body, answer, fail)
	default:
		fail(405, "MethodNotAllowed")
	}
}

func (s *standIn) listRoles(path string, answer func(int, any)) {
	at := strings.ToLower(strings.TrimSuffix(path, "/providers/Microsoft.Authorization/roleAssignments"))
	all := []any{}
	for _, p := range slices.Sorted(maps.Keys(s.docs)) {
		if scope, _, ok := strings.Cut(p, "/providers/microsoft.authorization/roleassignments/"); ok && (at == scope || strings.HasPrefix(at, scope+"/")) {
			all = append(all, s.docs[p])
		}
	}
	answer(200, map[string]any{"value": all})
}

func (s *standIn) patch(path, version string, doc, body map[string]any, answer func(int, any), fail func(int, string)) {
	rule := ruleOf(path)
	if rule != nil && rule.Type != "Microsoft.Storage/storageAccounts" && version != rule.APIVersion {
		fail(400, "InvalidApiVersionParameter")
		return
	}
	text, _ := json.Marshal(doc)
	var next map[string]any
	json.Unmarshal(text, &next)
	merge(next, body)
	if id, ok := body["identity"].(map[string]any); ok {
		have := next["identity"].(map[string]any)
		if kind, _ := id["type"].(string); strings.Contains(kind, "SystemAssigned") {
			have["principalId"] = principal
		} else {
			delete(have, "principalId")
			if kind == "None" {
				delete(next, "identity")
			}
		}
	}
	if _, sets := body["properties"]; sets && rule != nil {
		if look := rule.Look(next); look.State == posture.On && !s.mayUse() {
			fail(400, "KeyVaultAccessForbidden")
			return
		} else if look.State == posture.On && next["identity"] == nil {
			fail(400, "IdentityRequired")
			return
		}
		next["properties"].(map[string]any)["provisioningState"], s.looks = "Updating", 3
	} else if p := next["properties"].(map[string]any); rule == nil && doc["properties"].(map[string]any)["enablePurgeProtection"] == true && p["enablePurgeProtection"] != true {
		fail(400, "BadRequest")
		return
	}
	s.put(path, next)
	if rule == nil {
		answer(200, next)
		return
	}
	answer(202, nil)
}

func (s *standIn) policies(add bool, body map[string]any) {
	one := body["properties"].(map[string]any)["accessPolicies"].([]any)[0].(map[string]any)
	p := s.doc(vault)["properties"].(map[string]any)
	have := map[string]any{}
	for _, e := range p["accessPolicies"].([]any) {
		for _, k := range e.(map[string]any)["permissions"].(map[string]any)["keys"].([]any) {
			have[k.(string)] = nil
		}
	}
	for _, k := range one["permissions"].(map[string]any)["keys"].([]any) {
		if add {
			have[k.(string)] = nil
		} else {
			delete(have, k.(string))
		}
	}
	keys := []any{}
	for _, k := range slices.Sorted(maps.Keys(have)) {
		keys = append(keys, k)
	}
	p["accessPolicies"] = []any{map[string]any{"objectId": principal, "tenantId": "t", "permissions": map[string]any{"keys": keys}}}
}

func (s *standIn) vault(path, method string, body map[string]any, answer func(int, any), fail func(int, string)) {
	switch {
	case strings.HasSuffix(path, "/rotationpolicy") && method == "GET":
		answer(200, s.doc("policy"))
	case strings.HasSuffix(path, "/rotationpolicy") && method == "PUT":
		if body["attributes"] == nil || body["lifetimeActions"] == nil {
			fail(400, "BadParameter")
			return
		}
		for _, v := range body["attributes"].(map[string]any) {
			if v == nil {
				delete(body["attributes"].(map[string]any), "expiryTime")
			}
		}
		s.put("policy", body)
		answer(200, body)
	case strings.HasSuffix(path, "/rotate") && method == "POST":
		s.rotated++
		answer(200, map[string]any{})
	case method == "GET":
		answer(200, map[string]any{"key": map[string]any{"kid": fmt.Sprintf("%s/%032d", key, s.rotated+1)}})
	default:
		fail(405, "MethodNotAllowed")
	}
}

func (s *standIn) fabric(path, method string, body map[string]any, answer func(int, any), fail func(int, string)) {
	if s.space == "EnableInProgress" || s.space == "DisableInProgress" {
		if s.looks--; s.looks <= 0 {
			s.space = map[string]string{"EnableInProgress": "Active", "DisableInProgress": "Disabled"}[s.space]
		}
	}
	switch {
	case method == "GET":
		detail := map[string]any{"encryptionStatus": s.space}
		if s.space != "Disabled" {
			detail["keyIdentifier"] = s.spaceID
		}
		answer(200, map[string]any{"encryptionDetail": detail})
	case strings.HasSuffix(path, "/assign") && !s.mayUse():
		fail(400, "KeyVaultAccessDenied")
	case strings.HasSuffix(path, "/assign") && s.space == "Disabled":
		s.space, s.spaceID, s.looks = "EnableInProgress", body["keyIdentifier"].(string), 3
		answer(202, nil)
	case strings.HasSuffix(path, "/reset") && s.space == "Active":
		s.space, s.looks = "DisableInProgress", 3
		answer(202, nil)
	default:
		fail(409, "EncryptionOperationInProgress")
	}
}

func ruleOf(id string) *posture.Rule {
	_, rest, _ := strings.Cut(id, "/providers/")
	seg := strings.Split(rest, "/")
	typ := seg[0]
	for i := 1; i < len(seg); i += 2 {
		typ += "/" + seg[i]
	}
	return posture.RuleFor(typ)
}

// shape is all that is there, but for what is nothing, and for how far a service is.
func (s *standIn) shape() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var clean func(v any) any
	clean = func(v any) any {
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		out := map[string]any{}
		for k, e := range m {
			if e = clean(e); e != nil && e != "" && k != "provisioningState" {
				out[k] = e
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	}
	all := map[string]any{}
	for k, d := range s.docs {
		all[k] = clean(d)
	}
	text, _ := json.Marshal(all)
	return string(text) + s.space
}

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// A mortal manager dies at a call, before or after it took effect.
type mortal struct {
	remedy.Manager
	life *life
}

type life struct {
	calls, dieAt int
	after        bool
}

func (m mortal) Call(ctx context.Context, method, path string, in, out any) error {
	m.life.calls++
	if m.life.calls == m.life.dieAt && !m.life.after {
		return errKilled
	}
	if rest, ok := strings.CutPrefix(path, "https://kv1.vault.example.com"); ok {
		path = rest
	}
	err := m.Manager.Call(ctx, method, path, in, out)
	if m.life.calls == m.life.dieAt && m.life.after {
		return errKilled
	}
	return err
}

// on serves a stand-in, and returns what a run on it needs.
func (s *standIn) on(t *testing.T, l *life) remedy.Config {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	m := mortal{Manager: azure.NewManager(azure.Config{Endpoint: srv.URL, Credential: token{}, Client: policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}}), life: l}
	return remedy.Config{Data: m, Keys: m, Vault: m, Fabric: m, Journal: &memory{}, Poll: time.Microsecond, Wait: 10 * time.Second}
}

// A case is a finding on a stand-in, and how it is seen to be mended.
type mending struct {
	world   func() *standIn
	finding posture.Finding
	target  remedy.Target
	mended  func(*standIn) bool
}

func (m mending) plan(t *testing.T) remedy.Run {
	t.Helper()
	m.finding.ID, m.finding.State, m.finding.Remediable = "0123456789abcdef", "fail", "in-place"
	m.target.VaultID = vault
	r, err := remedy.New(m.finding, m.target, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// resource makes a resource of a type that is under no key.
func resource(rule *posture.Rule, body map[string]any) (string, func() *standIn) {
	provider, names, _ := strings.Cut(rule.Type, "/")
	id := group + "/providers/" + provider
	for n := range strings.SplitSeq(names, "/") {
		id += "/" + n + "/r1"
	}
	return id, func() *standIn {
		s := newStandIn()
		text, _ := json.Marshal(body)
		var doc map[string]any
		json.Unmarshal(text, &doc)
		if doc == nil {
			doc = map[string]any{}
		}
		if doc["properties"] == nil {
			doc["properties"] = map[string]any{}
		}
		doc["id"], doc["sku"] = id, map[string]any{"name": "Premium"}
		s.put(id, doc)
		return s
	}
}

func mendings() map[string]mending {
	out := map[string]mending{}
	target := remedy.Target{Key: posture.ParseKeyRef(key)}
	for _, rule := range posture.Types() {
		if rule.Apply == "" {
			continue
		}
		body := rule.Compose(posture.Setting{})
		if rule.Apply == "user" {
			body["identity"] = map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{userID: map[string]any{"principalId": principal}}}
		}
		id, world := resource(rule, body)
		out[rule.Type] = mending{
			world: world, target: target, finding: posture.Finding{Control: "CMK/" + rule.Type, Type: rule.Type, Resource: id},
			mended: func(s *standIn) bool {
				look := rule.Look(s.doc(id))
				return look.State == posture.On && look.Keys[0].Name == "k1" && (look.Keys[0].Version != "") == (rule.Rotation == "never") && s.mayUse()
			},
		}
	}
	kusto := posture.RuleFor("Microsoft.Kusto/clusters")
	pinned := kusto.Compose(posture.Setting{On: true, Key: key + "/00000000000000000000000000000001"})
	id, world := resource(kusto, pinned)
	keyed := func() *standIn {
		s := world()
		s.doc(id)["identity"] = map[string]any{"type": "SystemAssigned", "principalId": principal}
		s.put(vault+"/keys/k1"+rolesAt+"a0", map[string]any{"id": vault + "/keys/k1" + rolesAt + "a0", "name": "a0", "properties": map[string]any{"principalId": principal, "roleDefinitionId": userRole}})
		return s
	}
	out["G10"] = mending{world: keyed, finding: posture.Finding{Control: "G10", Type: kusto.Type, Resource: id}, mended: func(s *standIn) bool {
		look := kusto.Look(s.doc(id))
		return look.State == posture.On && look.Keys[0].Version == ""
	}}
	out["G13"] = mending{world: world, finding: posture.Finding{Control: "G13", Type: kusto.Type, Resource: id}, mended: func(s *standIn) bool { return s.doc(id)["identity"] != nil }}
	wide := vault + rolesAt + "b0"
	out["G14 by roles"] = mending{target: target, finding: posture.Finding{Control: "G14", Type: kusto.Type, Resource: id}, world: func() *standIn {
		s := world()
		s.doc(id)["identity"] = map[string]any{"type": "SystemAssigned", "principalId": principal}
		for _, at := range []string{wide, wide + "2"} {
			s.put(at, map[string]any{"id": at, "name": nameIn(at), "properties": map[string]any{"principalId": principal, "principalType": "ServicePrincipal", "roleDefinitionId": officer}})
		}
		return s
	}, mended: func(s *standIn) bool { return s.mayUse() && s.doc(wide) == nil && s.doc(wide+"2") == nil }}
	out["G14 by access policies"] = mending{target: target, finding: posture.Finding{Control: "G14", Type: kusto.Type, Resource: id}, world: func() *standIn {
		s := keyed()
		p := s.doc(vault)["properties"].(map[string]any)
		p["enableRbacAuthorization"], p["accessPolicies"] = false, []any{map[string]any{"objectId": principal, "tenantId": "t", "permissions": map[string]any{"keys": []any{"delete", "get", "unwrapKey", "wrapKey"}}}}
		return s
	}, mended: func(s *standIn) bool { return !strings.Contains(s.shape(), "delete") }}
	vaultProperty := func(s *standIn, name string) any { return s.doc(vault)["properties"].(map[string]any)[name] }
	out["G4"] = mending{world: newStandIn, finding: posture.Finding{Control: "G4", Type: "Microsoft.KeyVault/vaults", Resource: vault}, mended: func(s *standIn) bool {
		return vaultProperty(s, "networkAcls").(map[string]any)["defaultAction"] == "Deny"
	}}
	for _, control := range []string{"G5", "G7"} {
		out[control] = mending{world: newStandIn, finding: posture.Finding{Control: control, Type: "Microsoft.KeyVault/vaults/keys", Resource: key}, mended: func(s *standIn) bool {
			return strings.Contains(s.shape(), "P180D") && (s.rotated == 1) == (control == "G5")
		}}
	}
	workspace := target
	workspace.Principal = principal
	out["Microsoft.Fabric/workspaces"] = mending{world: newStandIn, target: workspace, finding: posture.Finding{Control: "CMK/Microsoft.Fabric/workspaces", Type: "Microsoft.Fabric/workspaces", Resource: "00000000-0000-0000-0000-00000000000a"}, mended: func(s *standIn) bool { return s.space == "Active" && s.mayUse() }}
	return out
}

func nameIn(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

// Every kind of finding is mended, seen, and undone; killed at any call, before or after it
// took effect, the same command goes on and the other one goes back.
func TestMended(t *testing.T) {
	kinds := mendings()
	if len(kinds) < 17 {
		t.Fatalf("only %d kinds", len(kinds))
	}
	for name, m := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := m.world(), &life{}
			c, before, run := s.on(t, l), s.shape(), m.plan(t)
			if err := remedy.Apply(t.Context(), c, &run); err != nil || !m.mended(s) {
				t.Fatalf("%v: %s; sent %q", err, s.shape(), s.sent)
			}
			if err := remedy.Backout(t.Context(), c, &run); err != nil || s.shape() != before || run.Status != remedy.BackedOut {
				t.Fatalf("%v: %s\nleft: %s\nwas:  %s\nsent %q", err, run.Status, s.shape(), before, s.sent)
			}
			ways := effort.Of(1, 4, 4) // of each call: killed before or after it, going on or back
			for dieAt := 1; dieAt <= l.calls; dieAt++ {
				for i, after := range []bool{false, true, false, true} {
					if then := []string{"on", "on", "back", "back"}[i]; (i+dieAt)%4 < ways {
						m.killed(t, &life{dieAt: dieAt, after: after}, then)
					}
				}
			}
		})
	}
}

func (m mending) killed(t *testing.T, l *life, then string) {
	t.Helper()
	s, kept := m.world(), &memory{}
	c, before, run := s.on(t, l), s.shape(), m.plan(t)
	c.Journal = kept
	err := remedy.Apply(t.Context(), c, &run)
	if err == nil {
		err = remedy.Backout(t.Context(), c, &run)
	}
	if kept.text == nil {
		if s.shape() != before || len(s.sent) > 0 {
			t.Fatalf("killed at %d: changed, and nothing tells of it: %q", l.dieAt, s.sent)
		}
		return
	}
	resumed := kept.run(t)
	if then == "on" && resumed.Status == remedy.Applying {
		if aerr := remedy.Apply(t.Context(), c, &resumed); aerr != nil || !m.mended(s) {
			t.Fatalf("killed at %d (%v), going on: %v; sent %q", l.dieAt, err, aerr, s.sent)
		}
	}
	if resumed.Status != remedy.BackedOut {
		if berr := remedy.Backout(t.Context(), c, &resumed); berr != nil {
			t.Fatalf("killed at %d (%v), going back: %v; sent %q", l.dieAt, err, berr, s.sent)
		}
	}
	if s.shape() != before {
		t.Fatalf("killed at %d, then %s:\nleft: %s\nwas:  %s\nsent %q", l.dieAt, then, s.shape(), before, s.sent)
	}
}

// What nobody can undo is done once, and says so.
func TestFinal(t *testing.T) {
	for control, name := range map[string]string{"G1": "enableSoftDelete", "G2": "enablePurgeProtection"} {
		s := newStandIn()
		delete(s.doc(vault)["properties"].(map[string]any), name)
		c := s.on(t, &life{})
		run := mending{finding: posture.Finding{Control: control, Type: "Microsoft.KeyVault/vaults", Resource: vault}}.plan(t)
		if !run.Final {
			t.Errorf("%s is not final", control)
		}
		if err := remedy.Apply(t.Context(), c, &run); err != nil || s.doc(vault)["properties"].(map[string]any)[name] != true {
			t.Errorf("%s: %v", control, err)
		}
		if err := remedy.Backout(t.Context(), c, &run); err == nil || run.Status != remedy.Applied {
			t.Errorf("%s was taken back: %v, %s", control, err, run.Status)
		}
	}
}

// What does not fit is refused, and nothing is sent.
func TestKindsRefuse(t *testing.T) {
	kinds := mendings()
	for name, c := range map[string]struct {
		kind   string
		change func(*standIn)
	}{
		"no user-assigned identity": {"Microsoft.Cache/redisEnterprise", func(s *standIn) {
			for _, d := range s.docs {
				delete(d, "identity")
			}
		}},
		"a role from above": {"G14 by roles", func(s *standIn) {
			s.put(group+rolesAt+"up", map[string]any{"id": group + rolesAt + "up", "name": "up", "properties": map[string]any{"principalId": principal, "roleDefinitionId": officer}})
		}},
		"all rights": {"G14 by access policies", func(s *standIn) {
			s.policies(true, map[string]any{"properties": map[string]any{"accessPolicies": []any{map[string]any{"permissions": map[string]any{"keys": []any{"all"}}}}}})
		}},
		"a workspace under a key": {"Microsoft.Fabric/workspaces", func(s *standIn) { s.space, s.spaceID = "Active", "other" }},
		"a disabled key": {"Microsoft.Kusto/clusters", func(s *standIn) {
			s.doc(vault + "/keys/k1")["properties"].(map[string]any)["attributes"] = map[string]any{"enabled": false}
		}},
	} {
		m := kinds[c.kind]
		s := m.world()
		c.change(s)
		config, run := s.on(t, &life{}), m.plan(t)
		for _, do := range []func(context.Context, remedy.Config, *remedy.Run) error{remedy.Check, remedy.Apply} {
			if err := do(t.Context(), config, &run); err == nil || len(s.sent) > 0 {
				t.Errorf("%s: %v, sent %q", name, err, s.sent)
			}
		}
	}
	if _, err := remedy.New(posture.Finding{ID: "0123456789abcdef", State: "fail", Remediable: "in-place", Control: "CMK/Microsoft.Fabric/workspaces", Type: "Microsoft.Fabric/workspaces", Resource: "w"}, remedy.Target{Key: posture.ParseKeyRef(key), VaultID: vault}, time.Now()); err == nil {
		t.Error("a workspace is taken without a principal")
	}
	m := kinds["Microsoft.Kusto/clusters"]
	s := m.world()
	config, run := s.on(t, &life{}), m.plan(t)
	if err := remedy.Apply(t.Context(), config, &run); err != nil {
		t.Fatal(err)
	}
	s.doc(run.Resource)["properties"].(map[string]any)["keyVaultProperties"].(map[string]any)["keyName"] = "theirs"
	if err := remedy.Backout(t.Context(), config, &run); err == nil || !strings.Contains(err.Error(), "Somebody else") {
		t.Errorf("what somebody else has set is undone: %v", err)
	}
	run.Kind = "unheard-of"
	if err := remedy.Check(t.Context(), config, &run); err == nil || errors.Is(err, errKilled) {
		t.Errorf("a run of another release is taken: %v", err)
	}
}
