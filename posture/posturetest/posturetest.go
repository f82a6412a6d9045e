// Package posturetest makes estates whose states are known because they were made
// that way: resources of every type, under a key, under none, or undecidable, with
// what they lead to.
package posturetest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/kluis-io/kluis/posture"
)

// Subscription is the one in which the estates lie.
const Subscription = "/subscriptions/00000000-0000-0000-0000-000000000001"

// KeyURL is the key that everything under a key is under.
const KeyURL = "https://kv1.vault.azure.net/keys/k1"

// An Estate is bodies in Resource Manager's shape and what is to be found.
type Estate struct {
	Bodies []map[string]any
	Want   map[string]posture.State // by id
}

// Targets are the ends of the links in an estate: one under a key, one not.
const (
	SetOn      = Subscription + "/resourceGroups/shared/providers/Microsoft.Compute/diskEncryptionSets/des1"
	accountOn  = Subscription + "/resourceGroups/shared/providers/Microsoft.Storage/storageAccounts/linkedon"
	accountOff = Subscription + "/resourceGroups/shared/providers/Microsoft.Storage/storageAccounts/linkedoff"
	spaceOn    = Subscription + "/resourceGroups/shared/providers/Microsoft.OperationalInsights/workspaces/ws1"
)

// New makes an estate of n resources, the shared targets not counted. Resource i is
// of type i modulo their number, and its state changes with each round.
func New(n int) *Estate {
	e, wholes := shared(), wholes()
	for i := range n {
		rule := wholes[i%len(wholes)]
		state := []posture.State{posture.On, posture.Off, posture.Unknown}[i/len(wholes)%3]
		if state == posture.Unknown && rule.Family < posture.Indirect {
			state = posture.On // these know by themselves
		}
		e.add(rule, ID(rule, i), state)
	}
	return e
}

// EachType makes an estate of one resource of every type, all of one state where the
// type can be of it, and under a key where not. In a planned one each can be unknown:
// its key is then known after apply.
func EachType(state posture.State, planned bool) *Estate {
	e := shared()
	for i, rule := range wholes() {
		s, id := state, ID(rule, i)
		if s == posture.Unknown && rule.Family < posture.Indirect {
			s = posture.On
		}
		e.add(rule, id, s)
		body := e.Bodies[len(e.Bodies)-1]
		if planned && state == posture.Unknown {
			// Resource Manager's body with everything that a key's setting sets unknown but its switch.
			setting := posture.Setting{On: true, Key: posture.UnknownValue}
			planned := rule.Compose(setting)
			asAzure(rule, planned, posture.UnknownValue)
			maps.Copy(body, planned)
			e.Want[id] = posture.Unknown
		}
	}
	return e
}

func wholes() (out []*posture.Rule) {
	for _, r := range posture.Types() {
		if r.Part == "" {
			out = append(out, r)
		}
	}
	return out
}

// shared makes the estate of the targets alone.
func shared() *Estate {
	e := &Estate{Want: map[string]posture.State{}}
	e.add(Find("Microsoft.Compute/diskEncryptionSets"), SetOn, posture.On)
	e.add(Find("Microsoft.Storage/storageAccounts"), accountOn, posture.On)
	e.add(Find("Microsoft.Storage/storageAccounts"), accountOff, posture.Off)
	e.Bodies = append(e.Bodies, map[string]any{
		"id": spaceOn + "/linkedStorageAccounts/Alerts", "name": "Alerts", "properties": map[string]any{"storageAccountIds": []any{accountOn}},
	})
	return e
}

// Dialects are the ways in which exports show a body made here.
var Dialects = map[string]func(map[string]any) map[string]any{
	"arm": func(b map[string]any) map[string]any { return b },
	"az":  Flatten,
}

// Find returns a type's row.
func Find(name string) *posture.Rule {
	for _, r := range posture.Types() {
		if r.Name() == name {
			return r
		}
	}
	return nil
}

// ID returns the id of the i-th resource.
func ID(rule *posture.Rule, i int) string {
	group := "dev"
	if i%2 == 0 {
		group = "prod"
	}
	if rule.Type == "Microsoft.Fabric/workspaces" {
		return fmt.Sprintf("00000000-0000-0000-0000-%012d", i)
	}
	provider, names, _ := strings.Cut(rule.Type, "/")
	id := fmt.Sprintf("%s/resourceGroups/%s-%d/providers/%s", Subscription, group, i%97, provider)
	for segment := range strings.SplitSeq(names, "/") {
		id += fmt.Sprintf("/%s/r%d", segment, i)
	}
	return id
}

func (e *Estate) add(rule *posture.Rule, id string, state posture.State) {
	body := Body(rule, id, state)
	if rule.Via == "parent" && state != posture.On {
		// The server decides: it is in the estate, under none, or not at all.
		if state == posture.Off {
			parent := id[:strings.LastIndex(id, "/databases/")]
			e.add(Find("Microsoft.Sql/servers"), parent, posture.Off)
		}
	}
	e.Bodies = append(e.Bodies, body)
	e.Want[id] = state
}

// Body makes a resource of a state.
func Body(rule *posture.Rule, id string, state posture.State) map[string]any {
	s := posture.Setting{On: state != posture.Off, Key: KeyURL}
	missing := "/subscriptions/0/resourceGroups/g/providers/Microsoft.Gone/things/x"
	switch {
	case rule.Family == posture.AppSettings && state == posture.On:
		s.Key = "linkedon"
	case rule.Family == posture.AppSettings:
		s.Key = "gone"
	case rule.Family == posture.Indirect && state == posture.On:
		s.Key = SetOn
	case rule.Family == posture.Indirect:
		s.Key = missing
	case rule.Type == "Microsoft.Insights/scheduledQueryRules" && state == posture.On:
		s.Key = []any{spaceOn}
	case rule.Family == posture.Linked && state == posture.On:
		s.Key = accountOn
		if strings.HasSuffix(rule.Via, "accountName") {
			s.Key = "linkedon"
		}
	case rule.Family == posture.Linked && state == posture.Off && rule.OnTest == "":
		s.On, s.Key = true, accountOff
	case rule.Family == posture.Linked:
		s.Key = missing
	}
	body := map[string]any{}
	if rule.Via != "parent" || state == posture.On {
		body = rule.Compose(s)
	}
	if state == posture.On {
		asAzure(rule, body, s.Key)
	}
	if state == posture.Unknown {
		delete(body, "resources")
	}
	if _, ok := body["properties"]; !ok && rule.Type != "Microsoft.Fabric/workspaces" {
		body["properties"] = map[string]any{"provisioningState": "Succeeded"}
	}
	body["id"], body["name"], body["type"] = id, id[strings.LastIndexByte(id, '/')+1:], rule.Type
	if rule.Type == "Microsoft.Fabric/workspaces" {
		body["type"] = "Workspace"
	}
	body["location"], body["tags"] = "westeurope", map[string]any{"env": "test"}
	body["sku"] = map[string]any{"name": "Premium", "tier": "Premium"}
	if rule.Type == "Microsoft.DataBox/jobs" {
		body["sku"] = map[string]any{"name": "DataBox"}
	}
	body["identity"] = map[string]any{"type": "SystemAssigned", "principalId": "11111111-1111-1111-1111-111111111111"}
	return body
}

// lists are the types whose key lies in a list of such, and where.
var lists = map[string]string{
	"Microsoft.Devices/IotHubs": "encryption", "Microsoft.Devices/provisioningServices": "encryption",
	"Microsoft.EventHub/namespaces": "encryption", "Microsoft.ServiceBus/namespaces": "encryption",
}

// asAzure adds to a body under a key what Azure shows beside it, and the table of types
// does not need.
func asAzure(rule *posture.Rule, body map[string]any, key any) {
	in := func(path ...string) map[string]any {
		at := body
		for _, name := range path {
			next, ok := at[name].(map[string]any)
			if !ok {
				return map[string]any{}
			}
			at = next
		}
		return at
	}
	switch rule.Type {
	case "Microsoft.Sql/servers", "Microsoft.Sql/managedInstances":
		if _, ok := body["properties"].(map[string]any); !ok {
			body["properties"] = map[string]any{}
		}
		in("properties")["keyId"] = key
	case "Microsoft.StorageCache/caches":
		in("properties", "encryptionSettings", "keyEncryptionKey")["sourceVault"] = map[string]any{"id": Subscription + "/resourceGroups/shared/providers/Microsoft.KeyVault/vaults/kv1"}
	case "Microsoft.Synapse/workspaces":
		in("properties", "encryption", "cmk", "key")["name"] = "default"
	}
	if at, ok := lists[rule.Type]; ok {
		e := in("properties", at)
		e["keyVaultProperties"] = []any{e["keyVaultProperties"]}
	}
}

// Flatten brings a body into the shape that az shows.
func Flatten(body map[string]any) map[string]any {
	out := maps.Clone(body)
	properties, _ := out["properties"].(map[string]any)
	delete(out, "properties")
	for k, v := range properties {
		out[k] = v
	}
	if all, ok := out["resources"].([]any); ok {
		flat := make([]any, len(all))
		for i, c := range all {
			flat[i] = Flatten(c.(map[string]any))
		}
		out["resources"] = flat
	}
	return out
}

// Write writes bodies as one answer that lists.
func Write(w io.Writer, bodies []map[string]any) error {
	if _, err := io.WriteString(w, `{"value":[`); err != nil {
		return err
	}
	for i, b := range bodies {
		if i > 0 {
			if _, err := io.WriteString(w, ",\n"); err != nil {
				return err
			}
		}
		text, err := json.Marshal(b)
		if err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "]}\n")
	return err
}
