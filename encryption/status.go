package encryption

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/rbac"
)

// An ItemEncryption is an item's status.
type ItemEncryption string

// The statuses of an item.
const (
	ItemActive     ItemEncryption = "Active"
	ItemInProgress ItemEncryption = "InProgress"
	ItemFailed     ItemEncryption = "Failed"
)

// A Status is the encryption of a scope as its people see it.
type Status struct {
	Scope                 Scope
	Mode                  Mode
	State                 State
	KeyIdentifier         string // exactly as it was given; "" if platform-managed
	PreviousKeyIdentifier string // while items are still under the previous key
	KID                   kek.KID
	ReSealOnly            bool
	Items                 []ItemStatus
	Versions              []VersionStatus
	Generation            int64         // the sealing one's number
	Bound                 time.Duration // the kill-switch bound, by whoever set it lowest
	Lease                 time.Duration // how long a key lease given now is
	Stretched             bool          // it is longer than it aims to be, since the vault's budget allows no more
	Percent               int           // of the change of key under way; 100 if there is none
	Left                  time.Duration // that the change may still take, by how fast it went; 0 if that is not known
	Progress              Progress      // of all items together
	Behind, Failed        int           // items that are not under the scope's key yet, and those of them that failed; the scope's own names count
	MayChange             bool          // whether the caller may assign, rotate and reset a workspace's key
}

// An ItemStatus is the status of one item.
type ItemStatus struct {
	ID       ItemID
	Type     string
	Status   ItemEncryption
	Reason   fault.Reason
	Detail   string
	Progress Progress
}

// A VersionStatus says what a key version is still needed for.
type VersionStatus struct {
	KID           kek.KID
	LiveWraps     int  // shares that only this version can unwrap
	SafeToDisable bool // nothing live needs it
	First         time.Time
	Last          time.Time // zero while it is in use
}

// InProgress reports whether items are on their way.
func (s Status) InProgress() bool { return s.Behind > s.Failed }

// Status tells how a scope is encrypted. It needs no key.
func (s *Scopes) Status(ctx context.Context, caller identity.Caller, id ScopeID) (Status, error) {
	entry := caller.Entry("GetWorkspaceEncryption", s.resource(ctx, id))
	err := s.authorise(ctx, caller, id, rbac.EncryptionRead)
	var st Status
	if err == nil {
		st, err = s.status(ctx, id)
		st.MayChange = s.authorise(ctx, caller, id, rbac.EncryptionWrite) == nil
	}
	if err != nil {
		entry = identity.Failed(entry, err)
	}
	if auditErr := s.ring.recorder.Record(context.WithoutCancel(ctx), entry); auditErr != nil {
		return Status{}, auditErr
	}
	return st, err
}

func (s *Scopes) status(ctx context.Context, id ScopeID) (st Status, err error) {
	err = s.ring.store.View(ctx, func(tx Tx) error {
		v, err := readView(tx, id)
		if err != nil {
			return err
		}
		g, err := v.sealing()
		if err != nil {
			return err
		}
		st = Status{
			Scope: v.scope, Mode: g.Mode, State: g.State, KeyIdentifier: g.KeyIdentifier, KID: g.KID,
			ReSealOnly: g.ReSealOnly, Bound: s.ring.boundOf(v.scope), Generation: g.Number, Lease: s.ring.leaseOf(v.scope, g),
		}
		st.Stretched = st.Lease > min(s.ring.lease, st.Bound)
		if len(v.links) > 0 {
			st.PreviousKeyIdentifier = v.links[0].KeyIdentifier
		}
		if st.Behind, st.Failed, _, err = tx.ItemsBehind(id, g.Number, time.Time{}); err != nil {
			return err
		}
		items, err := tx.ItemStates(id)
		if err != nil {
			return err
		}
		for _, i := range items {
			st.add(i, g.Number)
		}
		st.estimate(s.ring.now().Sub(g.Created))
		used, err := tx.VersionsUsed(id)
		if err != nil {
			return err
		}
		for _, u := range used {
			st.Versions = append(st.Versions, versionStatus(u, v.generations))
		}
		return nil
	})
	return st, err
}

func (s *Status) add(i Item, generation int64) {
	is := ItemStatus{ID: i.ID, Type: i.Type, Status: ItemActive, Progress: i.Progress}
	switch {
	case i.Generation >= generation:
	case i.Failed:
		is.Status, is.Reason, is.Detail = ItemFailed, i.Reason, i.Detail
	default:
		is.Status = ItemInProgress
	}
	s.Items = append(s.Items, is)
	s.Progress.Files += i.Progress.Files
	s.Progress.TotalFiles += i.Progress.TotalFiles
	s.Progress.Bytes += i.Progress.Bytes
	s.Progress.TotalBytes += i.Progress.TotalBytes
}

// estimate says how much of a change is done, by items, and how long the rest takes
// if it goes on as it went since it began.
func (s *Status) estimate(since time.Duration) {
	if s.Behind == 0 {
		s.Percent = 100
		return
	}
	total := float64(len(s.Items) + 1) // the scope's own names count
	done := total - float64(s.Behind)
	for _, i := range s.Items {
		switch p := i.Progress; {
		case i.Status == ItemActive:
		case p.TotalBytes > 0:
			done += float64(min(p.Bytes, p.TotalBytes)) / float64(p.TotalBytes)
		case p.TotalFiles > 0:
			done += float64(min(p.Files, p.TotalFiles)) / float64(p.TotalFiles)
		}
	}
	share := max(0, done/total)
	s.Percent = min(99, int(100*share))
	if share > 0 && share < 1 && s.InProgress() {
		s.Left = time.Duration(float64(since) * (1 - share) / share)
	}
}

func versionStatus(u VersionUse, live []Generation) VersionStatus {
	vs := VersionStatus{KID: kek.KID(u.KID), First: u.First, Last: u.Last}
	for _, g := range live {
		if string(g.KID) == u.KID {
			vs.LiveWraps++
		}
	}
	vs.SafeToDisable = vs.LiveWraps == 0
	return vs
}
