// Package remedy carries out what a plan of package posture says, for findings that can
// be mended in place, and takes it back.
//
// A [Run] is one remediation: what the resource was before the first change, the steps,
// and how far they are. It is saved before and after each step, so that a run that was
// killed goes on where it stopped, and what was done is never unknown. Each step looks
// first whether its effect is there, acts if not, and looks again: a step counts as
// done when its effect was seen. Backing out undoes, in the opposite order, what the run
// itself has done, and ends with the resource as it was.
//
// It speaks to the estate through a [Manager] for each side, the data's and the key's:
// where duties are separated, those are two people's. Who may not do a step stops the
// run there, and the error says which command whose right takes.
package remedy

import (
	"context"
	"encoding/json"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// A Manager makes calls of Resource Manager, as one principal. A refusal is a fault with
// its reason: [fault.Denied], [fault.ResourceNotFound], [fault.Conflict],
// [fault.KEKRefused] if the key could not be used, [fault.InvalidArgument].
type Manager interface {
	// Call sends in as JSON, unless it is nil, to a path with its query, and reads the
	// answer into out, unless that is nil.
	Call(ctx context.Context, method, path string, in, out any) error
}

// A Journal keeps runs. Save returns when the run is durable.
type Journal interface {
	Save(Run) error
}

// A Status says how a run stands.
type Status string

// The statuses of a run.
const (
	Planned    Status = "planned"     // nothing was changed
	Applying   Status = "applying"    // some steps are done; going on or backing out ends this
	Applied    Status = "applied"     // every step is done and was seen
	BackingOut Status = "backing-out" // some steps are undone
	BackedOut  Status = "backed-out"  // the resource is as it was
)

// A Run is one remediation of one resource.
type Run struct {
	ID       string `json:"id"` // the finding's
	Control  string `json:"control"`
	Resource string `json:"resource"`
	Name     string `json:"name"` // the resource's, to be typed
	Endpoint string `json:"endpoint"`
	Key      string `json:"key"`     // its identifier
	VaultID  string `json:"vaultId"` // its vault's resource id
	Actor    string `json:"actor"`   // as whom it was begun

	Status  Status          `json:"status"`
	Begun   time.Time       `json:"begun"`
	Updated time.Time       `json:"updated"`
	Before  json.RawMessage `json:"before,omitempty"` // the resource before the first change
	After   json.RawMessage `json:"after,omitempty"`  // and after the last
	Steps   []Step          `json:"steps"`
	Problem string          `json:"problem,omitempty"` // why the last attempt stopped
}

// A Step is one change, and how far it is.
type Step struct {
	Name   string    `json:"name"`
	Do     string    `json:"do"`
	State  StepState `json:"state"`
	Time   time.Time `json:"time,omitzero"`
	Seen   string    `json:"seen,omitempty"`   // by which it counts as done or undone
	Change any       `json:"change,omitempty"` // what was sent
	Undo   string    `json:"undo,omitempty"`   // what takes it back needs
}

// A StepState says how far a step is.
type StepState string

// The states of a step.
const (
	Pending StepState = "pending"
	Found   StepState = "found"   // its effect was there before: nothing was changed, and nothing is undone
	Started StepState = "started" // it may have been done or not
	Done    StepState = "done"
	Undone  StepState = "undone"
)

// Supported says why a finding cannot be remediated here, nil if it can.
func Supported(f posture.Finding) error {
	switch {
	case f.Remediable == "recreate":
		return fault.New(fault.NotSupported, "The resource takes its key when it is made: it has to be made anew, and its data moved.").
			About(f.Resource).WithMend("'kluis posture plan' has the steps.")
	case f.Remediable != "in-place":
		return fault.New(fault.NotSupported, "The resource cannot be put under a key.").About(f.Resource).WithMend(f.Mend)
	case f.Control != storageControl:
		return fault.New(fault.NotSupported, "Findings of "+f.Control+" are not mended by kluis itself.").
			About(f.Resource).WithMend("'kluis posture plan' has the commands.")
	case f.State == "unknown":
		return fault.New(fault.PreconditionFailed, "Whether the resource is under a key is unknown: it could not be read.").
			About(f.Resource).WithMend("Scan as somebody who may read it.")
	case f.Excepted != nil:
		return fault.New(fault.PreconditionFailed, "The finding is excepted: "+f.Excepted.Reason+".").
			About(f.Resource).WithMend("Take the exception out of the policy first.")
	}
	return nil
}

// New plans a run that puts a finding's resource under a key, which lies in the vault
// with the resource id.
func New(f posture.Finding, key posture.KeyRef, vaultID, endpoint, actor string, now time.Time) (Run, error) {
	if err := Supported(f); err != nil {
		return Run{}, err
	}
	switch {
	case key.IsZero():
		return Run{}, fault.New(fault.InvalidArgument, "A remediation needs the key to put the resource under.")
	case key.Version != "":
		return Run{}, fault.New(fault.InvalidArgument, "The key is named with a version, which would pin it.").WithMend("Leave the version out.")
	case vaultID == "":
		return Run{}, fault.New(fault.PreconditionFailed, "The scan has not seen the key's vault.").
			About(key.Vault).WithMend("Scan as somebody who may read it.")
	}
	r := Run{
		ID: f.ID, Control: f.Control, Resource: f.Resource, Name: nameOf(f.Resource), Endpoint: endpoint, Key: key.URL(), VaultID: vaultID,
		Actor: actor, Status: Planned, Begun: now.UTC(), Updated: now.UTC(),
	}
	for _, s := range storageSteps {
		r.Steps = append(r.Steps, Step{Name: s.name, Do: s.do, State: Pending})
	}
	return r, nil
}

// Open reports whether the run is under way: something was changed, and neither all nor
// nothing of it stands.
func (r Run) Open() bool { return r.Status == Applying || r.Status == BackingOut }
