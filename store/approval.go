package store

import (
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

const approvalColumns = `id, tenant, operation, scope, action, data, digest, state, requested_by, requested, expires, decided_by, decided, executed`

func scanApproval(scan func(into ...any) error) (a rbac.Approval, err error) {
	var requested, expires, decided, executed int64
	err = scan(&a.ID, (*string)(&a.Tenant), &a.Operation, (*string)(&a.Scope), (*string)(&a.Action), &a.Data, &a.Digest, (*string)(&a.State),
		(*string)(&a.RequestedBy), &requested, &expires, (*string)(&a.DecidedBy), &decided, &executed)
	a.Requested, a.Expires, a.Decided, a.Executed = fromMicros(requested), fromMicros(expires), fromMicros(decided), fromMicros(executed)
	return a, err
}

// Approval implements [rbac.ApprovalTx].
func (t *Tx) Approval(id string) (rbac.Approval, error) {
	a, err := scanApproval(func(into ...any) error {
		return t.row(`SELECT `+approvalColumns+` FROM approval WHERE id = $1`, []any{strings.ToLower(id)}, into...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return a, fault.New(fault.ApprovalNotFound, "There is no such approval.").About(id)
	}
	return a, err
}

// ApprovalsAt implements [rbac.ApprovalTx].
func (t *Tx) ApprovalsAt(tenant identity.TenantID, scope rbac.Scope) (all []rbac.Approval, err error) {
	if scope, err = rbac.ParseScope(string(scope)); err != nil {
		return nil, err
	}
	from, to := below(scope)
	err = t.rows(`SELECT `+approvalColumns+` FROM approval WHERE tenant = $1 AND (scope_key = $2 OR (scope_key > $3 AND scope_key < $4))
		ORDER BY requested, id`, []any{string(tenant), scope.Key(), from, to}, func(scan func(into ...any) error) error {
		a, err := scanApproval(scan)
		all = append(all, a)
		return err
	})
	return all, err
}

// PutApproval implements [rbac.ApprovalTx].
func (t *Tx) PutApproval(a rbac.Approval) error {
	scope, err := rbac.ParseScope(string(a.Scope))
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO approval (`+approvalColumns+`, scope_key)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT (id) DO UPDATE SET
		state = excluded.state, decided_by = excluded.decided_by, decided = excluded.decided, executed = excluded.executed`,
		strings.ToLower(a.ID), string(a.Tenant), a.Operation, string(scope), string(a.Action), a.Data, a.Digest, string(a.State),
		string(a.RequestedBy), micros(a.Requested), micros(a.Expires), string(a.DecidedBy), micros(a.Decided), micros(a.Executed), scope.Key())
	return err
}

// DropApprovals implements [rbac.ApprovalTx].
func (t *Tx) DropApprovals(expired time.Time) error {
	_, err := t.exec(`DELETE FROM approval WHERE expires < $1`, micros(expired))
	return err
}
