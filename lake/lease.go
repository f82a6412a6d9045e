package lake

import (
	"context"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Lease is one client's right to change a file or folder, as its row has it. It
// has nothing to do with key leases. The rules, and their words, are those of
// https://learn.microsoft.com/rest/api/storageservices/lease-blob. The zero Lease
// is none.
type Lease struct {
	ID     string        // as the client chose it, a UUID
	Length time.Duration // what was asked for; 0: for good
	Ends   time.Time     // zero: never
	Breaks time.Time     // when a break ends it; zero: it is not being broken
	Seen   time.Time     // when it was looked at; of no row
}

// A LeaseState is where a lease is in its life.
type LeaseState string

// The states. A lease holds in the states Leased and Breaking.
const (
	LeaseAvailable LeaseState = "available"
	LeaseLeased    LeaseState = "leased"
	LeaseExpired   LeaseState = "expired"
	LeaseBreaking  LeaseState = "breaking"
	LeaseBroken    LeaseState = "broken"
)

// State returns the lease's state when it was read.
func (l Lease) State() LeaseState { return l.state(l.Seen) }

func (l Lease) state(now time.Time) LeaseState {
	switch {
	case l.ID == "":
		return LeaseAvailable
	case !l.Breaks.IsZero() && !now.Before(l.Breaks):
		return LeaseBroken
	case !l.Breaks.IsZero():
		return LeaseBreaking
	case !l.Ends.IsZero() && !now.Before(l.Ends):
		return LeaseExpired
	}
	return LeaseLeased
}

// Holds reports whether writes need the lease's id.
func (l Lease) Holds() bool {
	state := l.State()
	return state == LeaseLeased || state == LeaseBreaking
}

// at returns the lease as it is looked at now.
func (l Lease) at(now time.Time) Lease {
	l.Seen = now
	return l
}

// allowsRead checks the lease id of a request that reads: without one it may.
func (l Lease) allowsRead(id string) error {
	switch {
	case id == "":
		return nil
	case l.ID == "":
		return refuse(fault.LeaseHeld, LeaseNotPresent, "There is currently no lease on the resource.")
	case !strings.EqualFold(id, l.ID):
		return refuse(fault.LeaseHeld, LeaseMismatch, "The lease ID specified did not match the lease ID for the resource.")
	case !l.Holds():
		return refuse(fault.LeaseHeld, LeaseLost, "A lease ID was specified, but the lease for the resource has expired.")
	}
	return nil
}

// allowsWrite checks the lease id of a request that writes.
func (l Lease) allowsWrite(id string) error {
	if id == "" && l.Holds() {
		return refuse(fault.LeaseHeld, LeaseMissing, "There is currently a lease on the resource and no lease ID was specified in the request.")
	}
	return l.allowsRead(id)
}

// kept returns the lease after a write that it allowed: one that is over is gone.
func (l Lease) kept() Lease {
	if l.Holds() {
		return l
	}
	return Lease{}
}

// A LeaseAction is what a request does to a lease.
type LeaseAction string

// The actions.
const (
	AcquireLease LeaseAction = "acquire"
	RenewLease   LeaseAction = "renew"
	ChangeLease  LeaseAction = "change"
	ReleaseLease LeaseAction = "release"
	BreakLease   LeaseAction = "break"
)

// A LeaseRequest is one action. Conditions.Lease is not used.
type LeaseRequest struct {
	Action     LeaseAction
	ID         string         // of the lease; for all but AcquireLease and BreakLease
	Proposed   string         // the new id, for AcquireLease (one is made if it is "") and ChangeLease
	Length     time.Duration  // for AcquireLease: 15 to 60 s, 0 for good
	Break      *time.Duration // for BreakLease: at most so long, up to 60 s
	Conditions Conditions
}

// The bounds of a lease's length and of a break, as Azure has them.
const (
	minLease = 15 * time.Second
	maxLease = 60 * time.Second
)

func (r LeaseRequest) check() error {
	switch {
	case r.Action == AcquireLease && r.Length != 0 && (r.Length < minLease || r.Length > maxLease):
		return fault.New(fault.InvalidArgument, "A lease lasts between 15 and 60 seconds, or for good.")
	case r.Action == BreakLease && r.Break != nil && (*r.Break < 0 || *r.Break > maxLease):
		return fault.New(fault.InvalidArgument, "A break takes between 0 and 60 seconds.")
	case r.Action == ChangeLease && r.Proposed == "":
		return fault.New(fault.InvalidArgument, "A change of a lease proposes its new id.")
	case (r.Action == RenewLease || r.Action == ChangeLease || r.Action == ReleaseLease) && r.ID == "":
		return fault.New(fault.InvalidArgument, "The request does not say which lease it is about.")
	}
	return nil
}

// apply returns the lease after the request.
func (l Lease) apply(r LeaseRequest, now time.Time) (Lease, error) {
	state := l.state(now)
	mine := strings.EqualFold(r.ID, l.ID)
	switch r.Action {
	case AcquireLease:
		return l.acquire(r, state, now)
	case RenewLease:
		switch {
		case state == LeaseAvailable || !mine:
			return l, refuse(fault.Conflict, LeaseOtherThanThis, "The lease ID specified did not match the lease ID for the resource.")
		case state == LeaseBreaking || state == LeaseBroken:
			return l, refuse(fault.Conflict, LeaseBrokenNotRenewed, "The lease has been broken explicitly and cannot be renewed.")
		}
		return l.from(now), nil
	case ChangeLease:
		switch {
		case state == LeaseBreaking && (mine || strings.EqualFold(r.Proposed, l.ID)):
			return l, refuse(fault.Conflict, LeaseBreakingNotChanged, "The lease is being broken and cannot be changed.")
		case state != LeaseLeased && state != LeaseBreaking:
			return l, refuse(fault.Conflict, LeaseNotThere, "There is currently no lease on the resource.")
		case !mine && !strings.EqualFold(r.Proposed, l.ID):
			return l, refuse(fault.Conflict, LeaseOtherThanThis, "The lease ID specified did not match the lease ID for the resource.")
		}
		l.ID = r.Proposed
		return l, nil
	case ReleaseLease:
		if state == LeaseAvailable || !mine {
			return l, refuse(fault.Conflict, LeaseOtherThanThis, "The lease ID specified did not match the lease ID for the resource.")
		}
		return Lease{}, nil
	case BreakLease:
		return l.broken(r, state, now)
	}
	return l, fault.New(fault.InvalidArgument, "There is no such action on a lease.")
}

func (l Lease) acquire(r LeaseRequest, state LeaseState, now time.Time) (Lease, error) {
	same := r.Proposed != "" && strings.EqualFold(r.Proposed, l.ID)
	switch {
	case state == LeaseBreaking && same:
		return l, refuse(fault.Conflict, LeaseBreakingNotAcquired, "The lease is being broken and cannot be acquired until it is.")
	case state == LeaseBreaking, state == LeaseLeased && !same:
		return l, refuse(fault.Conflict, LeasePresent, "There is already a lease present.")
	}
	l = Lease{ID: r.Proposed, Length: r.Length}
	if l.ID == "" {
		l.ID = newLeaseID()
	}
	return l.from(now), nil
}

// from begins the lease's length anew.
func (l Lease) from(now time.Time) Lease {
	l.Breaks = time.Time{}
	if l.Length > 0 {
		l.Ends = now.Add(l.Length)
	}
	return l
}

func (l Lease) broken(r LeaseRequest, state LeaseState, now time.Time) (Lease, error) {
	switch state {
	case LeaseAvailable:
		return l, refuse(fault.Conflict, LeaseNotThere, "There is currently no lease on the resource.")
	case LeaseBroken:
		return l, nil
	case LeaseExpired:
		l.Breaks = now
		return l, nil
	}
	end := now // a lease for good breaks at once unless the request says otherwise
	if r.Break != nil {
		end = now.Add(*r.Break)
	}
	for _, other := range []time.Time{l.Ends, l.Breaks} {
		if !other.IsZero() && (r.Break == nil && end.Equal(now) || other.Before(end)) {
			end = other
		}
	}
	l.Breaks = end
	return l, nil
}

// newLeaseID returns a random UUID.
func newLeaseID() string {
	b := []byte(newID())
	b[12] = '4'
	b[16] = "89ab"[b[16]&3]
	s := string(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// Lease acts on the lease of a file or folder, which keeps its ETag and times. A
// broken lease's remaining time is that until Breaks.
func (l *Lake) Lease(ctx context.Context, caller identity.Caller, p Path, r LeaseRequest) (props Properties, err error) {
	err = l.do(ctx, caller, opLease, rbac.DataWrite, p, func(s *session) error {
		if p.isManaged() {
			return errManaged()
		}
		if err := r.check(); err != nil {
			return err
		}
		return s.update(ctx, func(tx Tx) error {
			pl, m, err := s.existing(tx, p)
			if err != nil {
				return err
			}
			if err := r.Conditions.forWrite(&m.attributes); err != nil {
				return err
			}
			n, err := s.leaseNode(tx, pl.entry.ID, r)
			if err != nil {
				return err
			}
			m.lease = n.Lease
			props = s.properties(p.String(), n.Key, m)
			return s.record(tx, n.ID, 0)
		})
	})
	return props, err
}

// leaseNode acts on the lease of a node, and returns the node with it.
func (s *session) leaseNode(tx Tx, id NodeID, r LeaseRequest) (NodeRow, error) {
	n, _, err := tx.LakeNode(id)
	if err != nil {
		return n, err
	}
	now := s.now()
	if n.Lease, err = n.Lease.apply(r, now); err != nil {
		return n, err
	}
	err = tx.PutLakeNode(n)
	n.Lease = n.Lease.at(now)
	return n, err
}

// Remaining returns how long a lease that is being broken still holds.
func (l Lease) Remaining() time.Duration {
	if l.State() != LeaseBreaking {
		return 0
	}
	return l.Breaks.Sub(l.Seen)
}

// leasedBelow fails if something below a folder is leased: who removes the folder
// would remove what somebody else has reserved.
func (s *session) leasedBelow(tx Tx, folder NodeID) error {
	leased, err := tx.LakeNodesLeased(s.item.ID)
	if err != nil {
		return err
	}
	now := s.now()
	for _, n := range leased {
		if !n.Lease.at(now).Holds() {
			continue
		}
		for at := n.ID; at != folder; {
			e, ok, err := tx.LakeEntryByID(at)
			if err != nil {
				return err
			}
			if !ok { // the root, or cut off
				break
			}
			if at = e.Folder; at == folder {
				return refuse(fault.LeaseHeld, LeaseMissing, "There is currently a lease on something in the folder.")
			}
		}
	}
	return nil
}
