package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/rbac"
)

// An ApprovalStore keeps approvals, as a part of any party's database.
type ApprovalStore interface {
	View(fn func(rbac.ApprovalTx) error) error
	Update(fn func(rbac.ApprovalTx) error) error
}

// Approvals checks an implementation of [rbac.ApprovalTx]. open returns a new, empty
// one.
func Approvals(t *testing.T, open func(t *testing.T) ApprovalStore) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	approval := func(id string, scope rbac.Scope, requested time.Duration) rbac.Approval {
		return rbac.Approval{
			ID: id, Tenant: "t", Operation: "KeyPurge", Scope: scope, Action: "a/purge/action", Data: true, Digest: "d",
			State: rbac.ApprovalPending, RequestedBy: "p1", Requested: at.Add(requested), Expires: at.Add(time.Hour + requested),
		}
	}
	s := open(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(scope rbac.Scope, want ...rbac.Approval) {
		t.Helper()
		must(s.View(func(tx rbac.ApprovalTx) error {
			got, err := tx.ApprovalsAt("t", scope)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("at %s: %s", scope, d)
			}
			return err
		}))
	}
	first, second, third := approval("A1", "/s/v1/keys/K", 2*time.Second), approval("a2", "/s/V1", time.Second), approval("a3", "/s/v10", 0)
	foreign := approval("a4", "/s/v1", 0)
	foreign.Tenant = "u"
	must(s.Update(func(tx rbac.ApprovalTx) error {
		for _, a := range []rbac.Approval{first, second, third, foreign} {
			if err := tx.PutApproval(a); err != nil {
				return err
			}
		}
		return nil
	}))
	first.ID = "a1" // ids are lower case
	want("/S/v1", second, first)
	want("/s/v1/KEYS/k", first)
	want("/s", third, second, first)
	want("/other")

	second.State, second.DecidedBy, second.Decided, second.Executed = rbac.ApprovalExecuted, "p2", at, at.Add(time.Second)
	must(s.Update(func(tx rbac.ApprovalTx) error { return tx.PutApproval(second) }))
	must(s.View(func(tx rbac.ApprovalTx) error {
		got, err := tx.Approval("A2")
		if d := cmp.Diff(second, got); d != "" {
			t.Error(d)
		}
		if _, err := tx.Approval("a9"); fault.ReasonOf(err) != fault.ApprovalNotFound {
			t.Errorf("one that is not there: %v", err)
		}
		if _, err := tx.ApprovalsAt("t", "/a//b"); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("a malformed scope: %v", err)
		}
		return err
	}))
	must(s.Update(func(tx rbac.ApprovalTx) error { return tx.DropApprovals(second.Expires) }))
	want("/s", second, first) // what expires at that very time stays
}
