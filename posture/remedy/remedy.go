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
// What can be mended so is what can be undone, of a resource, a vault or a key; kind.go
// lists it. The exceptions are soft delete and purge protection, which nobody can undo: a
// run that sets those says that it is Final.
//
// It speaks to the estate through a [Manager] for each side, the data's and the key's:
// where duties are separated, those are two people's. Who may not do a step stops the
// run there, and the error says which command whose right takes.
package remedy

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// A Manager makes calls of one interface, as one principal. A refusal is a fault with
// its reason: [fault.Denied], [fault.ResourceNotFound], [fault.Conflict],
// [fault.KEKRefused] if the key could not be used, [fault.InvalidArgument].
type Manager interface {
	// Call sends in as JSON, unless it is nil, to a path with its query, or at a vault to
	// a whole URL, and reads the answer into out, unless that is nil.
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
	Type     string `json:"type,omitempty"`
	Endpoint string `json:"endpoint"`
	Key      string `json:"key,omitempty"`     // its identifier
	Version  string `json:"version,omitempty"` // of the key, where a resource has to name one
	VaultID  string `json:"vaultId,omitempty"` // its vault's resource id
	Actor    string `json:"actor"`             // as whom it was begun

	Kind      string    `json:"kind,omitempty"`      // how it is mended; "" as "storage"
	Principal string    `json:"principal,omitempty"` // who asks the vault, where the resource does not tell
	Document  *Document `json:"document,omitempty"`  // what is set in one document
	Final     bool      `json:"final,omitempty"`     // it cannot be taken back

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

// A Target is what a run is told besides its finding.
type Target struct {
	Key       posture.KeyRef // to put the resource under, or the finding's own
	VaultID   string         // its vault's resource id
	Principal string         // who asks the vault for a Fabric workspace: Fabric Platform CMK's object id
	Endpoint  string         // the estate's
	Actor     string         // as whom
}

// Supported says why a finding cannot be remediated here, nil if it can.
func Supported(f posture.Finding) error {
	switch {
	case f.Remediable == "recreate" && strings.HasPrefix(f.Control, cmkPrefix):
		return fault.New(fault.NotSupported, "The resource takes its key when it is made: it has to be made anew, and its data moved.").
			About(f.Resource).WithMend("'kluis posture plan' has the steps.")
	case f.Remediable != "in-place":
		return fault.New(fault.NotSupported, "It cannot be mended in place.").About(f.Resource).WithMend(f.Mend)
	case f.State == "unknown":
		return fault.New(fault.PreconditionFailed, "What there is to mend is unknown: it could not be read.").
			About(f.Resource).WithMend("Scan as somebody who may read it.")
	case f.Excepted != nil:
		return fault.New(fault.PreconditionFailed, "The finding is excepted: "+f.Excepted.Reason+".").
			About(f.Resource).WithMend("Take the exception out of the policy first.")
	}
	_, err := kindFor(f)
	return err
}

// NeedsKey reports whether the run of a finding has to be told a key.
func NeedsKey(f posture.Finding) bool { return strings.HasPrefix(f.Control, cmkPrefix) }

// New plans the run that mends a finding.
func New(f posture.Finding, t Target, now time.Time) (Run, error) {
	if err := Supported(f); err != nil {
		return Run{}, err
	}
	name, err := kindFor(f)
	if err != nil {
		return Run{}, err
	}
	r := Run{
		ID: f.ID, Control: f.Control, Resource: f.Resource, Name: nameOf(f.Resource), Endpoint: t.Endpoint, VaultID: t.VaultID,
		Actor: t.Actor, Status: Planned, Begun: now.UTC(), Updated: now.UTC(), Kind: name, Type: f.Type,
	}
	k := kinds[name]
	if k.keyed {
		switch {
		case t.Key.IsZero():
			return Run{}, fault.New(fault.InvalidArgument, "A remediation needs the key to put the resource under.")
		case t.Key.Version != "":
			return Run{}, fault.New(fault.InvalidArgument, "The key is named with a version, which would pin it.").WithMend("Leave the version out.")
		case t.VaultID == "":
			return Run{}, fault.New(fault.PreconditionFailed, "The scan has not seen the key's vault.").
				About(t.Key.Vault).WithMend("Scan as somebody who may read it.")
		}
		r.Key = t.Key.URL()
	}
	if k.plan != nil {
		if err := k.plan(&r, f, t); err != nil {
			return Run{}, err
		}
	}
	for _, s := range k.steps {
		r.Steps = append(r.Steps, Step{Name: s.name, Do: s.do, State: Pending})
	}
	return r, nil
}

// Open reports whether the run is under way: something was changed, and neither all nor
// nothing of it stands.
func (r Run) Open() bool { return r.Status == Applying || r.Status == BackingOut }
