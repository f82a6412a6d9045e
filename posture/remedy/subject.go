package remedy

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// A subject is as much of a resource's JSON as the steps concern that all kinds share.
type subject struct {
	Identity *struct {
		Type         string                    `json:"type"`
		PrincipalID  string                    `json:"principalId"`
		UserAssigned map[string]userAssignment `json:"userAssignedIdentities"`
	} `json:"identity"`
	Properties struct {
		State string `json:"provisioningState"`
	} `json:"properties"`

	named string // the user-assigned identity that its encryption names
	body  map[string]any
}

type userAssignment struct {
	PrincipalID string `json:"principalId"`
}

// rule is the row of the resource's type, nil for a vault or a key.
func (x *executor) rule() *posture.Rule {
	if x.run.Type == "" {
		return posture.RuleFor(storageType)
	}
	return posture.RuleFor(x.run.Type)
}

func (x *executor) parse(text json.RawMessage) (s subject, err error) {
	if err := json.Unmarshal(text, &s.body); err != nil {
		return s, fault.New(fault.Internal, "The answer is no object.").About(x.run.Resource)
	}
	if _, ok := s.body["properties"].(map[string]any); !ok {
		return s, nil // a document of another interface
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fault.New(fault.Internal, "The answer is no resource.").About(x.run.Resource)
	}
	if rule := x.rule(); rule != nil {
		s.named = rule.IdentityIn(s.body)
	}
	return s, nil
}

// subject reads the resource as it is now.
func (x *executor) subject(ctx context.Context) (subject, error) {
	raw, err := x.image(ctx)
	if err != nil {
		return subject{}, err
	}
	return x.parse(raw)
}

// identityType is the resource's, "None" if it has none.
func (s subject) identityType() string {
	if s.Identity == nil || s.Identity.Type == "" {
		return "None"
	}
	return strings.ReplaceAll(s.Identity.Type, " ", "")
}

// assigned returns the user-assigned identity that is to ask the vault, where the type
// needs one: the one that is named, or else the first that the resource has.
func (s subject) assigned() string {
	if s.named != "" || s.Identity == nil {
		return s.named
	}
	all := keysOf(s.Identity.UserAssigned)
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

func keysOf(m map[string]userAssignment) (out []string) {
	for id := range m {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// asks returns who asks the vault: the identity that the encryption names, or the
// resource's own.
func (x *executor) asks(s subject) string {
	name := s.named
	if rule := x.rule(); rule != nil && rule.Apply == "user" {
		name = s.assigned()
	}
	switch {
	case x.run.Principal != "":
		return x.run.Principal
	case s.Identity == nil:
		return ""
	case name != "":
		for id, u := range s.Identity.UserAssigned {
			if strings.EqualFold(id, name) {
				return u.PrincipalID
			}
		}
	}
	return s.Identity.PrincipalID
}

// at is where the resource is read and changed.
func (x *executor) at() string {
	version := accountVersion
	if rule := x.rule(); rule != nil && x.run.Kind != "" && x.run.Kind != "storage" {
		version = rule.APIVersion
	}
	return x.run.Resource + "?api-version=" + version
}

func (x *executor) image(ctx context.Context) (raw json.RawMessage, err error) {
	err = x.Data.Call(ctx, "GET", x.at(), nil, &raw)
	return raw, err
}

func (x *executor) patch(ctx context.Context, s *Step, body any) error {
	s.Change = body
	return x.Data.Call(ctx, "PATCH", x.at(), body, nil)
}

var identityStep = stepKind{
	name: "identity", do: "Give the resource an identity that asks the vault.",
	look: (*executor).lookIdentity, act: (*executor).setIdentity, lookBack: (*executor).lookIdentityBack, undo: (*executor).resetIdentity,
}

func (x *executor) lookIdentity(ctx context.Context) (presence, string, error) {
	a, err := x.subject(ctx)
	if err != nil || x.asks(a) == "" {
		return absent, "no identity", err
	}
	return present, "principal " + x.asks(a), nil
}

func (x *executor) setIdentity(ctx context.Context, s *Step) error {
	identity := map[string]any{"type": "SystemAssigned"}
	if x.was.Identity != nil && len(x.was.Identity.UserAssigned) > 0 {
		identity["type"], identity["userAssignedIdentities"] = "SystemAssigned,UserAssigned", keysOnly(x.was.Identity.UserAssigned)
	}
	return x.patch(ctx, s, map[string]any{"identity": identity})
}

func keysOnly(m map[string]userAssignment) map[string]any {
	out := map[string]any{}
	for id := range m {
		out[id] = map[string]any{}
	}
	return out
}

func (x *executor) lookIdentityBack(ctx context.Context, _ *Step) (presence, string, error) {
	a, err := x.subject(ctx)
	if err != nil || a.identityType() != x.was.identityType() {
		return absent, "", err
	}
	return present, "identity " + a.identityType(), nil
}

func (x *executor) resetIdentity(ctx context.Context, s *Step) error {
	identity := map[string]any{"type": x.was.identityType()}
	if x.was.Identity != nil && len(x.was.Identity.UserAssigned) > 0 {
		identity["userAssignedIdentities"] = keysOnly(x.was.Identity.UserAssigned)
	}
	return x.patch(ctx, s, map[string]any{"identity": identity})
}
