package remedy

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// workspaceKind is a Fabric workspace: Fabric's own principal asks the vault, and Fabric's
// API assigns the key and resets it
// (https://learn.microsoft.com/rest/api/fabric/core/workspaces).
var workspaceKind = kind{
	keyed: true, check: (*executor).checkWorkspace, image: (*executor).workspaceImage, undisturbed: (*executor).workspaceUndisturbed, restored: (*executor).workspaceRestored,
	plan: func(r *Run, f posture.Finding, t Target) error {
		if t.Principal == "" {
			return fault.New(fault.InvalidArgument, "A workspace's key is used by the tenant's principal Fabric Platform CMK, and it is not said which that is.").
				WithMend("Name its object id with --principal; 'az ad sp show --id 61d6811f-7544-4e75-a1e6-1c59c0383311 --query id' tells it.")
		}
		r.Principal = t.Principal
		return nil
	},
	steps: []stepKind{grantStep, {
		name: "key", do: "Put the workspace under the key, and wait until all of its items are.",
		look: (*executor).lookAssigned, act: (*executor).assign, lookBack: (*executor).lookReset, undo: (*executor).reset,
	}},
}

// A workspaceEncryption is as much of Fabric's answer as the steps concern.
type workspaceEncryption struct {
	Detail struct {
		Key    string `json:"keyIdentifier"`
		Status string `json:"encryptionStatus"`
	} `json:"encryptionDetail"`
}

func (e workspaceEncryption) key() string {
	if strings.EqualFold(e.Detail.Status, "Disabled") {
		return ""
	}
	return strings.ToLower(e.Detail.Key)
}

func (x *executor) workspacePath(op string) string {
	return "/v1/workspaces/" + x.run.Resource + "/encryption" + op
}

func (x *executor) workspaceImage(ctx context.Context) (raw json.RawMessage, err error) {
	m, err := x.side("fabric")
	if err == nil {
		err = m.Call(ctx, "GET", x.workspacePath(""), nil, &raw)
	}
	return raw, err
}

func workspaceIn(raw json.RawMessage) (e workspaceEncryption, err error) {
	if json.Unmarshal(raw, &e) != nil || e.Detail.Status == "" {
		err = fault.New(fault.Internal, "The answer is no workspace's encryption.")
	}
	return e, err
}

func (x *executor) workspace(ctx context.Context) (workspaceEncryption, error) {
	raw, err := x.workspaceImage(ctx)
	if err != nil {
		return workspaceEncryption{}, err
	}
	return workspaceIn(raw)
}

func (x *executor) checkWorkspace(ctx context.Context) error {
	e, err := x.workspace(ctx)
	if err != nil {
		return err
	}
	if !strings.EqualFold(e.Detail.Status, "Disabled") {
		return fault.New(fault.PreconditionFailed, "The workspace is under a key by now, or on its way: "+e.Detail.Status+".").About(x.run.Resource).WithMend("Scan again.")
	}
	return x.checkKey(ctx)
}

// workspaceUndisturbed allows what is under no key too: somebody may have reset it.
func (x *executor) workspaceUndisturbed(raw json.RawMessage) error {
	e, err := workspaceIn(raw)
	if err == nil && e.key() != "" && e.key() != strings.ToLower(x.run.Key) {
		err = fault.New(fault.Conflict, "The workspace was put under another key since: "+e.key()+".").About(x.run.Resource).
			WithMend("Decide which of the two is right, and change it by hand.")
	}
	return err
}

func (x *executor) workspaceRestored(raw json.RawMessage) bool {
	e, err := workspaceIn(raw)
	return err == nil && strings.EqualFold(e.Detail.Status, "Disabled")
}

func (x *executor) lookAssigned(ctx context.Context) (presence, string, error) {
	e, err := x.workspace(ctx)
	switch {
	case err != nil || e.key() != strings.ToLower(x.run.Key):
		return absent, "status " + e.Detail.Status, err
	case strings.EqualFold(e.Detail.Status, "Active"):
		return present, "under " + e.Detail.Key, nil
	case strings.EqualFold(e.Detail.Status, "EnableInProgress"):
		return coming, "items are on their way", nil
	case strings.EqualFold(e.Detail.Status, "DisableInProgress"):
		return absent, "it is being reset", nil
	}
	return absent, "status " + e.Detail.Status, nil // assigning anew goes on with the items that failed
}

func (x *executor) assign(ctx context.Context, s *Step) error {
	m, err := x.side("fabric")
	if err != nil {
		return err
	}
	s.Change = map[string]string{"keyIdentifier": x.run.Key}
	return m.Call(ctx, "POST", x.workspacePath("/assign"), s.Change, nil)
}

func (x *executor) lookReset(ctx context.Context, _ *Step) (presence, string, error) {
	e, err := x.workspace(ctx)
	switch {
	case err != nil:
		return absent, "", err
	case strings.EqualFold(e.Detail.Status, "Disabled"):
		return present, "under the platform's key", nil
	case strings.EqualFold(e.Detail.Status, "DisableInProgress"):
		return coming, "items are on their way", nil
	}
	return absent, "status " + e.Detail.Status, nil
}

func (x *executor) reset(ctx context.Context, _ *Step) error {
	m, err := x.side("fabric")
	if err != nil {
		return err
	}
	return m.Call(ctx, "POST", x.workspacePath("/reset"), nil, nil)
}
