package lake

import "github.com/kluis-io/kluis/fault"

// A Refusal says more closely than a fault's reason why a request was refused,
// where storage clients tell such cases apart. It stands in the error's tree
// behind its reason.
type Refusal string

// The refusals of requests under a lease: by a write or read that ...
const (
	LeaseMissing    Refusal = "lease missing"     // names no lease, and there is one
	LeaseMismatch   Refusal = "lease mismatch"    // names another
	LeaseNotPresent Refusal = "lease not present" // names one, and there is none
	LeaseLost       Refusal = "lease lost"        // names one that is over
)

// The refusals of actions on leases.
const (
	LeasePresent             Refusal = "lease present"
	LeaseNotThere            Refusal = "no lease to act on"
	LeaseOtherThanThis       Refusal = "another lease"
	LeaseBreakingNotAcquired Refusal = "lease breaking, not acquired"
	LeaseBreakingNotChanged  Refusal = "lease breaking, not changed"
	LeaseBrokenNotRenewed    Refusal = "lease broken, not renewed"
)

// Other refusals.
const (
	WrongContentType Refusal = "wrong type of blob"  // blocks of an append blob, or appends to one that is none
	AppendPosition   Refusal = "append position"     // the append would not begin where the client says
	AppendTooLarge   Refusal = "append beyond size"  // the file would be larger than the client allows
	TooManyBlocks    Refusal = "too many blocks"     // the file has as many as it can have
	Archived         Refusal = "archived"            // its tier is not read
	TierCondition    Refusal = "condition of tier"   // a conditional header on the time of the access tier does not hold
	SourceCondition  Refusal = "condition of source" // a conditional header on a copy's source does not hold
)

func (r Refusal) Error() string { return string(r) }

// refuse returns an error with a reason, the refusal and a text that may be shown.
func refuse(reason fault.Reason, r Refusal, detail string) error {
	return fault.Wrap(reason, r, detail)
}
