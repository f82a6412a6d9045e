package governance

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/rbac"
)

// An Exception is a finding that somebody has accepted, beside those of the policy: it
// counts as excepted at once, and in every scan until the end of its last day.
type Exception struct {
	ID       string               `json:"id"` // UUID
	Finding  string               `json:"finding"`
	Control  string               `json:"control"`
	Resource string               `json:"resource"`
	Owner    string               `json:"owner"` // who answers for it
	Reason   string               `json:"reason"`
	Expires  time.Time            `json:"expires"` // its last day, in UTC
	Made     time.Time            `json:"madeAt"`
	By       identity.PrincipalID `json:"madeBy"`
}

func (e Exception) judged() posture.Exception {
	return posture.Exception{
		Resources: posture.Patterns{e.Resource}, Controls: posture.Patterns{e.Control}, Owner: e.Owner, Reason: e.Reason, Expires: posture.Date{Time: e.Expires},
	}
}

// Accepted returns the exceptions as a scan takes them.
func Accepted(all []Exception) []posture.Exception {
	out := make([]posture.Exception, len(all))
	for i, e := range all {
		out[i] = e.judged()
	}
	return out
}

// Bounds of an exception.
const (
	mostReason    = 1000 // bytes
	mostOwner     = 200  // bytes
	longestExcept = 366 * 24 * time.Hour
)

// Except accepts an open finding, named by its id, until the end of a day. The log has
// who, which and until when; owner and reason stay with the exception.
func (r *Records) Except(ctx context.Context, c identity.Caller, finding, owner, reason string, expires time.Time) (x Exception, err error) {
	e := c.Entry("MakeException", "/findings/"+identifier(finding))
	now := r.now()
	return x, r.write(ctx, &e, func(tx Tx) error {
		if err := r.permit(tx, c, rbac.ExceptionsWrite); err != nil {
			return err
		}
		owner, reason, day := strings.TrimSpace(owner), strings.TrimSpace(reason), expires.UTC().Truncate(24*time.Hour)
		switch {
		case owner == "" || reason == "" || len(owner) > mostOwner || len(reason) > mostReason:
			return fault.New(fault.InvalidArgument, "An exception has an owner, of at most 200 bytes, and a reason, of at most 1000.")
		case !day.After(now) || day.Sub(now) > longestExcept:
			return fault.New(fault.InvalidArgument, "An exception ends on a day to come, within a year.")
		}
		open, err := openSpans(tx, finding)
		if err != nil {
			return err
		}
		f := open[0].Finding
		if strings.Contains(f.Resource, "*") {
			return fault.New(fault.NotSupported, "A finding about a pattern is excepted in the policy.")
		}
		if f.Excepted != nil {
			return fault.New(fault.Conflict, "The finding is excepted already, by "+f.Excepted.Owner+".").WithMend("Withdraw that exception first, or change the policy that has it.")
		}
		x = Exception{
			ID: uuid.NewString(), Finding: f.ID, Control: f.Control, Resource: f.Resource,
			Owner: owner, Reason: reason, Expires: day, Made: now, By: c.Principal,
		}
		e.Detail = map[string]string{"exception": x.ID, "control": x.Control, "until": day.Format(time.DateOnly)}
		if err := tx.PutException(x); err != nil {
			return err
		}
		judged := x.judged()
		return turn(tx, open, &judged, now)
	})
}

// Withdraw ends an exception: its finding fails again.
func (r *Records) Withdraw(ctx context.Context, c identity.Caller, id string) error {
	e := c.Entry("WithdrawException", "/exceptions/"+identifier(id))
	return r.write(ctx, &e, func(tx Tx) error {
		if err := r.permit(tx, c, rbac.ExceptionsWrite); err != nil {
			return err
		}
		all, err := tx.Exceptions()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(x Exception) bool { return x.ID == id })
		if i < 0 {
			return fault.New(fault.NotFound, "There is no such exception.").WithMend("One of the policy is taken out of that.")
		}
		e.Detail = map[string]string{"finding": all[i].Finding, "control": all[i].Control}
		if err := tx.DropException(id); err != nil {
			return err
		}
		open, err := openSpans(tx, all[i].Finding)
		if fault.ReasonOf(err) == fault.NotFound {
			return nil // mended since
		}
		if err != nil {
			return err
		}
		return turn(tx, open, nil, r.now())
	})
}

// Exceptions returns those that were made here, the first to end first.
func (r *Records) Exceptions(ctx context.Context, c identity.Caller) (all []Exception, err error) {
	err = r.read(ctx, c, rbac.FindingsRead, "ListExceptions", "/exceptions", func(tx Tx) error {
		all, err = tx.Exceptions()
		slices.SortFunc(all, func(a, b Exception) int {
			return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.ID, b.ID))
		})
		return err
	})
	return all, err
}

// openSpans returns the open spans of a finding, one for each estate that has it, or
// [fault.NotFound].
func openSpans(tx Tx, finding string) ([]history.Span, error) {
	if finding == "" {
		return nil, fault.New(fault.InvalidArgument, "A finding is named by its id.")
	}
	open, err := tx.SelectSpans(history.Selection{Finding: strings.ToLower(finding), Standing: history.Open}, history.Place{}, MostFindings)
	if err == nil && len(open) == 0 {
		err = fault.New(fault.NotFound, "No such finding is open.")
	}
	return open, err
}

// turn has spans stand as excepted, or as they did before, from now on.
func turn(tx Tx, spans []history.Span, x *posture.Exception, now time.Time) error {
	for _, s := range spans {
		status := history.Excepted
		if x == nil {
			status = history.Failing
			if s.Finding.State == "unknown" {
				status = history.Unknown
			}
		}
		s.Finding.Excepted = x
		s.Turns = append(s.Turns, history.Turn{Time: now, Status: status})
		if err := tx.PutSpan(s); err != nil {
			return err
		}
	}
	return nil
}
