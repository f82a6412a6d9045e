package vault

import (
	"context"
	"slices"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// consent makes sure that a second person has agreed to the act, if the vault
// requires that. what tells it from others of the same operation at the scope;
// the vault's id always does. The approval is used up in the act's transaction.
//
// Nothing that revokes needs consent: a key is disabled, and a role taken away, by
// one person at once.
func (v *Vaults) consent(tx Tx, a *act, vault Vault, action rbac.Action, data bool, scope rbac.Scope, what ...any) error {
	if !vault.RequireApproval {
		return nil
	}
	digest, err := rbac.ApprovalDigest(append([]any{vault.ID}, what...)...)
	if err != nil {
		return err
	}
	want := rbac.Approval{
		Tenant: vault.Tenant, Operation: a.entry.Operation, Scope: scope, Action: action, Data: data, Digest: digest,
		RequestedBy: a.caller.Principal,
	}
	used, err := rbac.UseApproval(tx, want, v.clock())
	if err != nil {
		if fault.ReasonOf(err) == fault.ApprovalRequired {
			a.wanted = &want
		}
		return err
	}
	a.note("approval", used.ID)
	a.note("approvedBy", string(used.DecidedBy))
	return nil
}

// ask keeps the request for what the act lacks, with the record that the act was
// refused for now, and returns that refusal.
func (v *Vaults) ask(ctx context.Context, a *act) error {
	var refusal *fault.Error
	err := v.store.Update(context.WithoutCancel(ctx), func(tx Tx) error {
		request, _, refused, err := rbac.RequestApproval(tx, *a.wanted, v.clock())
		if err != nil {
			return err
		}
		refusal = refused
		a.note("approval", request.ID)
		return appendEntry(tx, identity.Failed(a.done(), refusal))
	})
	if err != nil {
		a.wanted = nil
		return v.refused(ctx, a, err)
	}
	return refusal
}

// weakened checks that a second person has agreed where a vault's new settings
// guard it less than the old ones.
func (v *Vaults) weakened(tx Tx, a *act, old, vault Vault) error {
	weaker := old.RequireApproval && !vault.RequireApproval || old.SeparateDuties && !vault.SeparateDuties ||
		old.RBAC != vault.RBAC || old.Network.widens(vault.Network) ||
		slices.ContainsFunc(vault.TrustedServices, func(s string) bool { return !slices.Contains(old.TrustedServices, s) })
	if !weaker {
		return nil
	}
	return v.consent(tx, a, old, actionVaultWrite, false, vault.Scope(),
		vault.RequireApproval, vault.SeparateDuties, vault.RBAC, vault.Network, vault.TrustedServices)
}

// agrees authorises the caller for what an approval is about: the same right, where
// the act takes it.
func (v *Vaults) agrees(tx Tx, a *act, vault Vault, ap rbac.Approval) error {
	asked := begin(a.caller, ap.Operation, ap.Scope) // so that the right is told apart as in the act itself
	defer func() {
		for k, s := range asked.entry.Detail {
			a.note(k, s)
		}
	}()
	if ap.Data {
		return v.admit(tx, asked, vault, ap.Action, ap.Scope)
	}
	scope := ap.Scope
	if ap.Action == vault.Flavour.action(actionDeletedPurge) {
		scope = Subscription{ID: vault.Subscription}.Scope()
	}
	return v.authorise(tx, asked, vault.Tenant, ap.Action, false, scope)
}

// approvals finds a vault, soft-deleted or not, for somebody of its tenant who may
// reach it.
func (v *Vaults) approvals(tx Tx, a *act, name Name) (Vault, error) {
	vault, err := tx.Vault(name)
	if fault.ReasonOf(err) == fault.VaultNotFound {
		return vault, vaultNotFound(name)
	}
	if err != nil {
		return vault, err
	}
	a.entry.Resource = string(vault.Scope())
	a.note("vault", string(vault.ID))
	if !of(a.caller, vault.Tenant) {
		return vault, denied(a.caller, vault.Tenant, "", vault.Scope())
	}
	return vault, v.admits(vault, a.caller)
}

// approvalMemory is for how long after its expiry a request is shown.
const approvalMemory = 7 * 24 * time.Hour

func (v *Vaults) sweepApprovals(ctx context.Context, now time.Time) error {
	return v.store.Update(ctx, func(tx Tx) error { return tx.DropApprovals(now.Add(-approvalMemory)) })
}

// Approvals lists the requests at a vault that the caller has made or could decide,
// the oldest first; those that have ended are shown for a week.
func (v *Vaults) Approvals(ctx context.Context, c identity.Caller, name Name) (mine []rbac.Approval, err error) {
	a := begin(c, "ApprovalList", "")
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err := v.approvals(tx, a, name)
		if err != nil {
			return err
		}
		all, err := tx.ApprovalsAt(vault.Tenant, vault.Scope())
		if err != nil {
			return err
		}
		for _, ap := range all {
			err := v.sees(tx, c, vault, ap)
			if err == nil {
				mine = append(mine, ap)
			} else if !fault.ReasonOf(err).Refusal() {
				return err
			}
		}
		return nil
	})
	return mine, err
}

// sees reports, as an error if not, whether the caller may know of an approval.
func (v *Vaults) sees(tx Tx, c identity.Caller, vault Vault, ap rbac.Approval) error {
	if ap.RequestedBy == c.Principal {
		return nil
	}
	return v.agrees(tx, begin(c, "", ""), vault, ap)
}

// Approval returns one request at a vault, which the caller has made or could
// decide.
func (v *Vaults) Approval(ctx context.Context, c identity.Caller, name Name, id string) (ap rbac.Approval, err error) {
	a := begin(c, "ApprovalGet", "")
	err = v.read(ctx, a, func(tx Tx) error {
		ap, _, err = v.approvalAt(tx, a, name, id)
		return err
	})
	return ap, err
}

func (v *Vaults) approvalAt(tx Tx, a *act, name Name, id string) (rbac.Approval, Vault, error) {
	vault, err := v.approvals(tx, a, name)
	if err != nil {
		return rbac.Approval{}, vault, err
	}
	ap, err := tx.Approval(id)
	if err == nil && (ap.Tenant != vault.Tenant || !vault.Scope().Contains(ap.Scope)) {
		err = fault.New(fault.ApprovalNotFound, "There is no such approval at this vault.").About(id)
	}
	if err != nil {
		return ap, vault, err
	}
	a.entry.Resource = string(ap.Scope)
	a.note("approval", ap.ID)
	a.note("operation", ap.Operation)
	return ap, vault, v.sees(tx, a.caller, vault, ap)
}

// DecideApproval agrees to a request at a vault or rejects it. To agree takes
// another principal than the one who asked, with the same right; who asked may
// withdraw.
func (v *Vaults) DecideApproval(ctx context.Context, c identity.Caller, name Name, id string, agree bool) (ap rbac.Approval, err error) {
	op := "ApprovalReject"
	if agree {
		op = "ApprovalApprove"
	}
	a := begin(c, op, "")
	err = v.write(ctx, a, func(tx Tx) error {
		if _, _, err := v.approvalAt(tx, a, name, id); err != nil {
			return err
		}
		ap, err = rbac.Decide(tx, id, c, agree, v.clock())
		return err
	})
	return ap, err
}
