package remedy

import (
	"context"
	"encoding/json"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// keysVersion is that of the vault's own interface.
const keysVersion = "7.4"

// rotation gives a key a policy by which it rotates and expires, and where its newest
// version is the finding, a new one. Taking it back sets the policy of before; a version
// that was made stays, as what was wrapped with it since needs it.
var rotation = kind{
	check: (*executor).checkRotation, image: (*executor).documentImage, undisturbed: (*executor).documentUndisturbed, restored: (*executor).documentRestored,
	plan: planRotation,
	steps: []stepKind{documentStep("policy", "Let the key rotate each half year, and its versions expire after one."), {
		name: "rotate", do: "Make a new version, where the newest is at fault.",
		look: (*executor).lookRotated, act: (*executor).rotate,
		lookBack: func(*executor, context.Context, *Step) (presence, string, error) {
			return present, "the new version stays: data may be under it", nil
		},
		undo: func(*executor, context.Context, *Step) error { return nil },
	}},
}

func planRotation(r *Run, f posture.Finding, _ Target) error {
	key := posture.ParseKeyRef(f.Resource)
	if key.IsZero() {
		return fault.New(fault.Internal, "The finding is about no key.").About(f.Resource)
	}
	r.Key, r.Name = key.URL(), key.Name
	r.Document = &Document{
		Side: "vault", At: key.URL() + "/rotationpolicy?api-version=" + keysVersion, Method: "PUT",
		Want: map[string]any{
			"lifetimeActions": []any{
				map[string]any{"trigger": map[string]any{"timeAfterCreate": "P180D"}, "action": map[string]any{"type": "Rotate"}},
				map[string]any{"trigger": map[string]any{"timeBeforeExpiry": "P30D"}, "action": map[string]any{"type": "Notify"}},
			},
			"attributes": map[string]any{"expiryTime": "P1Y"},
		},
	}
	return nil
}

// checkRotation notes which version is the newest.
func (x *executor) checkRotation(ctx context.Context) error {
	if _, err := x.document(ctx); err != nil {
		return err
	}
	var err error
	x.run.Version, err = x.newest(ctx)
	return err
}

// newest returns the key's newest version.
func (x *executor) newest(ctx context.Context) (string, error) {
	var key struct {
		Key struct {
			KID string `json:"kid"`
		} `json:"key"`
	}
	m, err := x.side("vault")
	if err == nil {
		err = m.Call(ctx, "GET", x.run.Key+"?api-version="+keysVersion, nil, &key)
	}
	return posture.ParseKeyRef(key.Key.KID).Version, err
}

// lookRotated looks whether there is a newer version. A key whose policy alone is at fault
// (G7) needs none.
func (x *executor) lookRotated(ctx context.Context) (presence, string, error) {
	if x.run.Control == "G7" {
		return present, "the newest version is not at fault", nil
	}
	version, err := x.newest(ctx)
	if err != nil || version == x.run.Version {
		return absent, "version " + version, err
	}
	return present, "version " + version, nil
}

func (x *executor) rotate(ctx context.Context, _ *Step) error {
	m, err := x.side("vault")
	if err != nil {
		return err
	}
	var out json.RawMessage
	return m.Call(ctx, "POST", x.run.Key+"/rotate?api-version="+keysVersion, struct{}{}, &out)
}
