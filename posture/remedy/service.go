package remedy

import (
	"context"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// service is a resource of any type of the table that one PATCH can put under a key and
// back: what is sent is made of the type's row.
var service = kind{
	keyed: true, check: (*executor).checkService, image: (*executor).image, undisturbed: (*executor).documentUndisturbed, restored: (*executor).documentRestored,
	plan:  planService,
	steps: []stepKind{identityStep, grantStep, documentStep("key", "Put the resource under the key, and wait until the service has.")},
}

func planService(r *Run, f posture.Finding, _ Target) error {
	rule := posture.RuleFor(f.Type)
	r.Document = &Document{Side: "data", At: f.Resource + "?api-version=" + rule.APIVersion, Method: "PATCH", Empty: rule.Empty}
	return nil
}

// checkService looks whether the resource is under no key, and the key fits. It says what
// is to be sent: that depends on the key's version and the resource's identity.
func (x *executor) checkService(ctx context.Context) error {
	s, err := x.subject(ctx)
	if err != nil {
		return err
	}
	rule := x.rule()
	switch rule.Look(s.body).State {
	case posture.Off:
	case posture.NotSupported:
		return fault.New(fault.PreconditionFailed, "This kind or tier has no customer-managed keys.").About(x.run.Resource)
	default:
		return fault.New(fault.PreconditionFailed, "The resource is under a customer's key by now, or on its way.").About(x.run.Resource).WithMend("Scan again.")
	}
	identity := s.named
	if rule.Apply == "user" {
		if identity = s.assigned(); identity == "" {
			return fault.New(fault.PreconditionFailed, "A resource of this type asks the vault as a user-assigned identity, and it has none.").About(x.run.Resource).
				WithMend(`az rest --method patch --url "` + x.at() + `" --body '{"identity":{"type":"UserAssigned","userAssignedIdentities":{"IDENTITY_ID":{}}}}'`)
		}
	}
	if err := x.checkKey(ctx); err != nil {
		return err
	}
	key := x.run.Key
	if x.run.Version != "" {
		key += "/" + x.run.Version
	}
	x.run.Document.Want = rule.Compose(posture.Setting{On: true, Key: key, Identity: identity, Blank: x.run.Version == ""})
	return nil
}

// unpin names a resource's key without its version.
var unpin = kind{
	check: (*executor).checkPinned, image: (*executor).documentImage, undisturbed: (*executor).documentUndisturbed, restored: (*executor).documentRestored,
	plan:  planUnpin,
	steps: []stepKind{documentStep("unpin", "Name the key without a version, so that the resource follows rotations.")},
}

func planUnpin(r *Run, f posture.Finding, _ Target) error {
	rule := posture.RuleFor(f.Type)
	r.Document = &Document{Side: "data", At: f.Resource + "?api-version=" + rule.APIVersion, Method: "PATCH", Empty: rule.Empty}
	return nil
}

func (x *executor) checkPinned(ctx context.Context) error {
	body, err := x.document(ctx)
	if err != nil {
		return err
	}
	rule := x.rule()
	now := rule.Look(body)
	if now.State != posture.On || len(now.Keys) != 1 || now.Keys[0].Version == "" {
		return fault.New(fault.PreconditionFailed, "The resource pins no version by now.").About(x.run.Resource).WithMend("Scan again.")
	}
	key := now.Keys[0]
	key.Version = ""
	x.run.Key = key.URL()
	want := rule.Compose(posture.Setting{On: true, Key: key.URL(), Identity: rule.IdentityIn(body), Blank: true})
	if strings.EqualFold(rule.Type, storageType) {
		want = map[string]any{"properties": map[string]any{"encryption": map[string]any{"keyvaultproperties": x.keyProperties(key.URL(), "")}}}
	}
	x.run.Document.Want = want
	return nil
}

// identityKind gives a resource under a key the identity that it lacks.
var identityKind = kind{
	check: (*executor).checkIdentity, image: (*executor).image,
	undisturbed: (*executor).documentUndisturbed, restored: (*executor).documentRestored,
	plan:  func(r *Run, _ posture.Finding, _ Target) error { r.Document = &Document{}; return nil },
	steps: []stepKind{identityStep},
}

func (x *executor) checkIdentity(ctx context.Context) error {
	s, err := x.subject(ctx)
	if err == nil && s.named != "" {
		err = fault.New(fault.PreconditionFailed, "The resource asks the vault as an identity that it has not.").About(s.named).
			WithMend("Assign that identity to it, or name another.")
	}
	return err
}
