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
	setOn      = Subscription + "/resourceGroups/shared/providers/Microsoft.Compute/diskEncryptionSets/des1"
	accountOn  = Subscription + "/resourceGroups/shared/providers/Microsoft.Storage/storageAccounts/linkedon"
	accountOff = Subscription + "/resourceGroups/shared/providers/Microsoft.Storage/storageAccounts/linkedoff"
	spaceOn    = Subscription + "/resourceGroups/shared/providers/Microsoft.OperationalInsights/workspaces/ws1"
)

// New makes an estate of n resources, the shared targets not counted. Resource i is
// of type i modulo their number, and its state changes with each round.
func New(n int) *Estate {
	e := &Estate{Want: map[string]posture.State{}}
	var wholes []*posture.Rule
	for _, r := range posture.Types() {
		if r.Part == "" {
			wholes = append(wholes, r)
		}
	}
	e.add(Find("Microsoft.Compute/diskEncryptionSets"), setOn, posture.On)
	e.add(Find("Microsoft.Storage/storageAccounts"), accountOn, posture.On)
	e.add(Find("Microsoft.Storage/storageAccounts"), accountOff, posture.Off)
	e.Bodies = append(e.Bodies, map[string]any{
		"id": spaceOn + "/linkedStorageAccounts/Alerts", "name": "Alerts", "properties": map[string]any{"storageAccountIds": []any{accountOn}},
	})
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
	case rule.Family == posture.Indirect && state == posture.On:
		s.Key = setOn
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
	body["identity"] = map[string]any{"type": "SystemAssigned", "principalId": "11111111-1111-1111-1111-111111111111"}
	return body
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
