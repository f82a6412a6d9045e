package remedy

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// least leaves a resource's identity the right to wrap and unwrap with its key, and takes
// what it has beyond that on the key and its vault. What it has from further above, other
// resources may need: that is refused.
var least = kind{
	check: (*executor).checkLeast, image: (*executor).image, restored: func(*executor, json.RawMessage) bool { return true },
	undisturbed: func(*executor, json.RawMessage) error { return nil }, // each grant is looked at by its step
	plan: func(r *Run, _ posture.Finding, t Target) error {
		if t.Key.IsZero() || t.VaultID == "" {
			return fault.New(fault.PreconditionFailed, "The scan has not seen the resource's key, or its vault.").WithMend("Scan as somebody who may read them.")
		}
		t.Key.Version = ""
		r.Key, r.VaultID = t.Key.URL(), t.VaultID
		return nil
	},
	steps: []stepKind{grantStep, {
		name: "narrow", several: true, do: "Take what it may do beyond that on the key and its vault.",
		look: (*executor).lookNarrow, act: (*executor).narrow, lookBack: (*executor).lookNarrowBack, undo: (*executor).widen,
	}},
}

func (x *executor) checkLeast(ctx context.Context) error {
	principal, err := x.principal(ctx)
	if err != nil {
		return err
	}
	if principal == "" {
		return fault.New(fault.PreconditionFailed, "The resource has no identity.").About(x.run.Resource)
	}
	v, err := x.access(ctx)
	if err != nil {
		return err
	}
	if !v.Properties.RBAC {
		if slices.ContainsFunc(v.rightsBeyond(principal), func(r string) bool { return strings.EqualFold(r, "all") }) {
			return fault.New(fault.PreconditionFailed, "Its access policy names all rights at once.").About(x.run.VaultID).
				WithMend("Set what it needs: az keyvault set-policy --name " + nameOf(x.run.VaultID) + " --object-id " + principal + " --key-permissions get wrapKey unwrapKey")
		}
		return nil
	}
	all, err := x.beyond(ctx, principal)
	if err != nil {
		return err
	}
	for _, a := range all {
		if !x.atVault(a) {
			return fault.New(fault.PreconditionFailed, "It has a role from above the vault, which other resources may need.").About(a.ID).
				WithMend("Have who gave it decide: az role assignment delete --ids " + a.ID)
		}
	}
	return nil
}

// atVault reports whether an assignment is at the vault or at a key in it.
func (x *executor) atVault(a roleAssignment) bool {
	return strings.HasPrefix(strings.ToLower(a.ID), strings.ToLower(x.run.VaultID)+"/")
}

// beyond returns the assignments that give a principal more than a service needs.
func (x *executor) beyond(ctx context.Context, principal string) ([]roleAssignment, error) {
	all, err := x.assignments(ctx, principal)
	return slices.DeleteFunc(all, func(a roleAssignment) bool { return !posture.BeyondUse(nameOf(a.Properties.Role)) }), err
}

// rightsBeyond returns what an access policy gives a principal beyond what it needs.
func (v vaultAccess) rightsBeyond(principal string) (more []string) {
	for _, p := range v.Properties.Policies {
		if !strings.EqualFold(p.ObjectID, principal) {
			continue
		}
		for _, k := range p.Permissions.Keys {
			if !slices.ContainsFunc(needed, func(n string) bool { return strings.EqualFold(n, k) }) {
				more = append(more, k)
			}
		}
	}
	return more
}

// A taking is what the step takes: assignments, or rights of an access policy.
type taking struct {
	Principal   string           `json:"principal"`
	Assignments []roleAssignment `json:"assignments,omitempty"`
	Rights      []string         `json:"rights,omitempty"`
}

func (t taking) empty() bool { return len(t.Assignments) == 0 && len(t.Rights) == 0 }

func (x *executor) beyondNow(ctx context.Context) (t taking, v vaultAccess, err error) {
	if t.Principal, err = x.principal(ctx); err != nil {
		return t, v, err
	}
	if v, err = x.access(ctx); err != nil {
		return t, v, err
	}
	if !v.Properties.RBAC {
		t.Rights = v.rightsBeyond(t.Principal)
		return t, v, nil
	}
	t.Assignments, err = x.beyond(ctx, t.Principal)
	return t, v, err
}

func (x *executor) lookNarrow(ctx context.Context) (presence, string, error) {
	t, _, err := x.beyondNow(ctx)
	if err != nil || !t.empty() {
		return absent, "it has more", err
	}
	return present, "it may wrap and unwrap, and no more", nil
}

func (x *executor) narrow(ctx context.Context, s *Step) error {
	t, v, err := x.beyondNow(ctx)
	if err != nil {
		return err
	}
	if s.Undo == "" { // one that was killed has said what it takes
		text, err := json.Marshal(t)
		if err != nil {
			return err
		}
		s.Undo, s.Change = string(text), t
		if err := x.save(nil); err != nil {
			return err
		}
	}
	if len(t.Rights) > 0 {
		return x.Keys.Call(ctx, "PUT", x.policies("remove"), policyBody(v.Properties.TenantID, t.Principal, t.Rights), nil)
	}
	for _, a := range t.Assignments {
		if !x.atVault(a) {
			return fault.New(fault.Conflict, "It was given a role from above the vault since.").About(a.ID)
		}
		if err := x.Keys.Call(ctx, "DELETE", a.ID+"?api-version="+assignmentVersion, nil, nil); err != nil && fault.ReasonOf(err) != fault.ResourceNotFound {
			return err
		}
	}
	return nil
}

func (x *executor) lookNarrowBack(ctx context.Context, s *Step) (presence, string, error) {
	var took taking
	if s.Undo == "" {
		return present, "nothing was taken", nil
	}
	if err := json.Unmarshal([]byte(s.Undo), &took); err != nil {
		return absent, "", err
	}
	now, _, err := x.beyondNow(ctx)
	if err != nil {
		return absent, "", err
	}
	for _, a := range took.Assignments {
		if !slices.ContainsFunc(now.Assignments, func(o roleAssignment) bool { return strings.EqualFold(o.ID, a.ID) }) {
			return absent, "a role is gone", nil
		}
	}
	for _, r := range took.Rights {
		if !slices.ContainsFunc(now.Rights, func(o string) bool { return strings.EqualFold(o, r) }) {
			return absent, "a right is gone", nil
		}
	}
	return present, "it has again what it had", nil
}

func (x *executor) widen(ctx context.Context, s *Step) error {
	var took taking
	if err := json.Unmarshal([]byte(s.Undo), &took); err != nil {
		return err
	}
	if len(took.Rights) > 0 {
		v, err := x.access(ctx)
		if err != nil {
			return err
		}
		return x.Keys.Call(ctx, "PUT", x.policies("add"), policyBody(v.Properties.TenantID, took.Principal, took.Rights), nil)
	}
	var failed error
	for _, a := range took.Assignments {
		body := map[string]any{"properties": map[string]any{"roleDefinitionId": a.Properties.Role, "principalId": a.Properties.Principal, "principalType": "ServicePrincipal"}}
		err := x.Keys.Call(ctx, "PUT", a.ID+"?api-version="+assignmentVersion, body, nil)
		if fault.ReasonOf(err) == fault.Conflict {
			err = nil // it is there
		}
		failed = errors.Join(failed, err)
	}
	return failed
}
