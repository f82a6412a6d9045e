package rbac

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// An ApprovalState is how far an [Approval] has come.
type ApprovalState string

// The states. What is pending or approved ends by itself at its expiry.
const (
	ApprovalPending  ApprovalState = "pending"
	ApprovalApproved ApprovalState = "approved"
	ApprovalRejected ApprovalState = "rejected" // by a second person, or withdrawn by who asked
	ApprovalExecuted ApprovalState = "executed"
)

// How long an approval is waited for, and how many one principal may ask for at
// once under one scope.
const (
	ApprovalLife       = 24 * time.Hour
	maxPendingRequests = 100
)

// An Approval is one act that takes two people: who asks for it, and another who
// holds the same right and agrees. It holds for exactly the act that was asked for,
// for whoever asked, and once.
//
// A domain that finds that an act needs one calls [UseApproval] with what is to be
// done, in the act's own transaction. It succeeds if the act was approved, and marks
// the approval executed; otherwise it fails with [fault.ApprovalRequired], and the
// domain makes the request with [RequestApproval] in a transaction that commits.
// The client repeats its request when somebody has agreed: no protocol needs to
// know of approvals.
type Approval struct {
	ID          string // UUID
	Tenant      identity.TenantID
	Operation   string // as the audit log calls it
	Scope       Scope  // what it is done to
	Action      Action // the right that it takes, of both people
	Data        bool   // whether that is a data action
	Digest      string // of what exactly is to be done; see [ApprovalDigest]
	State       ApprovalState
	RequestedBy identity.PrincipalID
	Requested   time.Time
	Expires     time.Time
	DecidedBy   identity.PrincipalID
	Decided     time.Time
	Executed    time.Time
}

// Live reports whether the approval still waits for a decision or for its act.
func (a Approval) Live(now time.Time) bool {
	return (a.State == ApprovalPending || a.State == ApprovalApproved) && now.Before(a.Expires)
}

// same reports whether the approval is for the act that want describes.
func (a Approval) same(want Approval) bool {
	return a.Tenant == want.Tenant && a.Operation == want.Operation && a.Scope.Key() == want.Scope.Key() &&
		fold(string(a.Action)) == fold(string(want.Action)) && a.Data == want.Data && a.Digest == want.Digest &&
		a.RequestedBy == want.RequestedBy
}

// An ApprovalTx is the part of a store's transaction that keeps approvals.
type ApprovalTx interface {
	// Approval returns one, or [fault.ApprovalNotFound].
	Approval(id string) (Approval, error)
	// ApprovalsAt returns those of a tenant at a scope or below it, the oldest
	// first.
	ApprovalsAt(tenant identity.TenantID, scope Scope) ([]Approval, error)
	// PutApproval adds or replaces one.
	PutApproval(Approval) error
	// DropApprovals removes those that expired before a time. What became of them
	// is the audit log's to keep.
	DropApprovals(expired time.Time) error
}

// ApprovalDigest returns a digest of what an act is to do, beyond its operation and
// scope: ids that no other thing of the same name has, and new settings. Each part
// must marshal to JSON.
func ApprovalDigest(parts ...any) (string, error) {
	b, err := json.Marshal(parts)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// UseApproval marks the approval of the act that want describes executed, and
// returns it. It fails with [fault.ApprovalRequired] if nobody has agreed to it.
func UseApproval(tx ApprovalTx, want Approval, now time.Time) (Approval, error) {
	all, err := tx.ApprovalsAt(want.Tenant, want.Scope)
	if err != nil {
		return Approval{}, err
	}
	for _, a := range all {
		if a.same(want) && a.State == ApprovalApproved && a.Live(now) && a.DecidedBy != a.RequestedBy {
			a.State, a.Executed = ApprovalExecuted, now
			return a, tx.PutApproval(a)
		}
	}
	return Approval{}, approvalRequired("")
}

func approvalRequired(id string) *fault.Error {
	detail := "This needs the approval of a second person who holds the same right."
	mend := "Ask again once it is approved."
	if id != "" {
		mend = "Have approval " + id + " approved by another who holds the right, and send the request again."
	}
	return fault.New(fault.ApprovalRequired, detail).WithMend(mend).About(id)
}

// RequestApproval makes a request for what want describes, or finds the one that
// waits already, and returns it with the refusal that the caller gets.
func RequestApproval(tx ApprovalTx, want Approval, now time.Time) (a Approval, created bool, refusal *fault.Error, err error) {
	all, err := tx.ApprovalsAt(want.Tenant, want.Scope)
	if err != nil {
		return a, false, nil, err
	}
	mine := 0
	for _, a := range all {
		if !a.Live(now) || a.RequestedBy != want.RequestedBy {
			continue
		}
		if a.same(want) {
			return a, false, approvalRequired(a.ID), nil
		}
		mine++
	}
	if mine >= maxPendingRequests {
		return a, false, nil, fault.New(fault.Throttled, "You wait for too many approvals already.").WithMend("Withdraw some.")
	}
	want.ID, want.State, want.Requested, want.Expires = uuid.NewString(), ApprovalPending, now, now.Add(ApprovalLife)
	want.DecidedBy, want.Decided, want.Executed = "", time.Time{}, time.Time{}
	return want, true, approvalRequired(want.ID), tx.PutApproval(want)
}

// Decide agrees to a request, or rejects it. Who asked for it may reject it, and
// never agree; that the caller holds the approval's right is for the domain to
// check beforehand.
func Decide(tx ApprovalTx, id string, by identity.Caller, agree bool, now time.Time) (Approval, error) {
	a, err := tx.Approval(strings.ToLower(id))
	switch {
	case err != nil:
		return a, err
	case by.Principal == "" || a.Tenant != by.Tenant:
		return a, fault.New(fault.ApprovalNotFound, "There is no such approval.").About(id)
	case agree && a.RequestedBy == by.Principal:
		return a, fault.New(fault.Denied, "Nobody approves a request of his own.").WithMend("Another who holds the right must.")
	case !a.Live(now):
		return a, fault.New(fault.Conflict, "The request has expired, or was decided and done with.").About(id)
	case a.State == ApprovalApproved && agree:
		return a, nil
	}
	a.State, a.DecidedBy, a.Decided = ApprovalRejected, by.Principal, now
	if agree {
		a.State = ApprovalApproved
	}
	return a, tx.PutApproval(a)
}
