package vault

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// The data actions on keys, as role definitions name them.
const (
	actionKeyRead    rbac.Action = "Microsoft.KeyVault/vaults/keys/read"
	actionKeyCreate  rbac.Action = "Microsoft.KeyVault/vaults/keys/create/action"
	actionKeyUpdate  rbac.Action = "Microsoft.KeyVault/vaults/keys/update/action"
	actionKeyRotate  rbac.Action = "Microsoft.KeyVault/vaults/keys/rotate/action"
	actionKeyDelete  rbac.Action = "Microsoft.KeyVault/vaults/keys/delete"
	actionKeyRecover rbac.Action = "Microsoft.KeyVault/vaults/keys/recover/action"
	actionKeyPurge   rbac.Action = "Microsoft.KeyVault/vaults/keys/purge/action"
	actionKeyImport  rbac.Action = "Microsoft.KeyVault/vaults/keys/import/action"
	actionKeyBackup  rbac.Action = "Microsoft.KeyVault/vaults/keys/backup/action"
	actionKeyRestore rbac.Action = "Microsoft.KeyVault/vaults/keys/restore/action"
	actionRandom     rbac.Action = "Microsoft.KeyVault/vaults/rng/action"

	actionRotationRead  rbac.Action = "Microsoft.KeyVault/vaults/keyrotationpolicies/read"
	actionRotationWrite rbac.Action = "Microsoft.KeyVault/vaults/keyrotationpolicies/write"
)

// use says what an operation needs and what the audit log calls it.
var use = map[Operation]struct {
	audit  string
	action rbac.Action
}{
	Encrypt:   {"KeyEncrypt", "Microsoft.KeyVault/vaults/keys/encrypt/action"},
	Decrypt:   {"KeyDecrypt", "Microsoft.KeyVault/vaults/keys/decrypt/action"},
	Sign:      {"KeySign", "Microsoft.KeyVault/vaults/keys/sign/action"},
	Verify:    {"KeyVerify", "Microsoft.KeyVault/vaults/keys/verify/action"},
	WrapKey:   {"KeyWrap", "Microsoft.KeyVault/vaults/keys/wrap/action"},
	UnwrapKey: {"KeyUnwrap", "Microsoft.KeyVault/vaults/keys/unwrap/action"},
}

// An act is one call of one caller: what its audit entry will say, and which
// vaults' feeds it has put something on.
type act struct {
	began   time.Time
	caller  identity.Caller
	entry   audit.Entry
	touched []ID
	wanted  *rbac.Approval // what the act lacked; see [Vaults.consent]
	until   time.Time      // when the right to it ends by itself; zero if never
}

func begin(c identity.Caller, operation string, scope rbac.Scope) *act {
	return &act{began: time.Now(), caller: c, entry: c.Entry(operation, string(scope))}
}

func (a *act) note(key, value string) {
	if a.entry.Detail == nil {
		a.entry.Detail = map[string]string{}
	}
	a.entry.Detail[key] = value
}

// done returns the entry with the time that the act has taken until it is recorded,
// in microseconds.
func (a *act) done() audit.Entry {
	a.note("micros", strconv.FormatInt(time.Since(a.began).Microseconds(), 10))
	return a.entry
}

// read runs fn on a snapshot and records the act before it returns.
func (v *Vaults) read(ctx context.Context, a *act, fn func(Tx) error) error {
	if err := v.store.View(ctx, fn); err != nil {
		return v.refused(ctx, a, err)
	}
	return v.record(ctx, a.done())
}

// write runs fn in a transaction that also records the act, and tells of the changes
// that it made.
func (v *Vaults) write(ctx context.Context, a *act, fn func(Tx) error) error {
	err := v.store.Update(ctx, func(tx Tx) error {
		a.touched = a.touched[:0]
		if err := fn(tx); err != nil {
			return err
		}
		return appendEntry(tx, a.done())
	})
	if err != nil {
		return v.refused(ctx, a, err)
	}
	v.tell(a.touched)
	if len(a.touched) > 0 {
		// After the commit, since a database that lacks what its witness knows is refused;
		// and an act that stands is not failed for a witness that is slow to hear of it.
		v.tells(context.WithoutCancel(ctx))
	}
	return nil
}

// tell lets all of this process know of vaults that have changed.
func (v *Vaults) tell(changed []ID) {
	if len(changed) > 0 {
		v.memory.forget(changed...)
		v.feed.wake(changed...)
	}
}

// refused records that the act did not happen and returns why; it returns
// [fault.AuditFailed] if that cannot be recorded.
func (v *Vaults) refused(ctx context.Context, a *act, err error) error {
	switch r := fault.ReasonOf(err); {
	case r == fault.AuditFailed:
		return err
	case r == fault.ApprovalRequired && a.wanted != nil:
		return v.ask(ctx, a)
	}
	if rerr := v.record(ctx, identity.Failed(a.done(), err)); rerr != nil {
		return rerr
	}
	return err
}

func (v *Vaults) record(ctx context.Context, e audit.Entry) error {
	if err := v.audit.Record(context.WithoutCancel(ctx), e); err != nil {
		return auditFailed(err)
	}
	return nil
}

func appendEntry(tx Tx, e audit.Entry) error {
	if err := tx.AppendAudit(e); err != nil {
		return auditFailed(err)
	}
	return nil
}

func auditFailed(err error) error {
	return fault.Wrap(fault.AuditFailed, err, "The operation could not be recorded, so it was not done.")
}

// changed puts a change on a vault's feed, within the transaction that makes it.
func (v *Vaults) changed(tx Tx, a *act, c Change) error {
	c.Time = v.clock()
	if err := tx.AppendVaultChange(c); err != nil {
		return err
	}
	newest, _, err := tx.VaultRevision(c.Vault)
	if err != nil {
		return err
	}
	if newest > feedLength && newest%feedScan == 0 { // what is too old is [Vaults.Sweep]'s
		if err := tx.TrimVaultChanges(c.Vault, newest-feedLength, time.Time{}); err != nil {
			return err
		}
	}
	a.touched = append(a.touched, c.Vault)
	return nil
}

// allowed reports whether the caller may do an action at a scope that belongs to
// a tenant, and by which assignment.
func (v *Vaults) allowed(tx Tx, c identity.Caller, tenant identity.TenantID, action rbac.Action, data bool, scope rbac.Scope) (rbac.Assignment, bool, error) {
	if !of(c, tenant) {
		return rbac.Assignment{}, false, nil
	}
	return rbac.Check(tx, v.roles, c, action, data, scope)
}

// of reports whether the caller is somebody of the tenant.
func of(c identity.Caller, tenant identity.TenantID) bool {
	return c.Tenant != "" && c.Tenant == tenant && c.Principal != ""
}

// authorise is allowed, with a refusal as its error, and notes the assignment.
func (v *Vaults) authorise(tx Tx, a *act, tenant identity.TenantID, action rbac.Action, data bool, scope rbac.Scope) error {
	by, ok, err := v.allowed(tx, a.caller, tenant, action, data, scope)
	switch {
	case err != nil:
		return err
	case !ok:
		return denied(a.caller, tenant, action, scope)
	}
	a.note("assignment", by.ID)
	a.until = by.Expires
	return nil
}

// denied says what is missing, in Azure's words. Where a vault lies is told to
// callers of its own tenant only.
func denied(c identity.Caller, tenant identity.TenantID, action rbac.Action, scope rbac.Scope) error {
	if c.Tenant != tenant {
		return fault.New(fault.Denied, "The token's tenant is not the one that the resource belongs to.").
			WithMend("Ask for a token in the resource's own tenant.")
	}
	return fault.New(fault.Denied, fmt.Sprintf(
		"Caller is not authorized to perform action on resource.\r\nCaller: appid=%s;oid=%s\r\nAction: '%s'\r\nResource: '%s'\r\nAssignment: (not found)\r\nGive the caller a role that holds the action, at the resource or above it.",
		c.Application, c.Principal, action, scope))
}

// liveVault returns the vault unless it is soft-deleted or unknown.
func liveVault(tx Tx, name Name) (Vault, error) {
	vault, err := tx.Vault(name)
	if err == nil && !vault.live() {
		err = vaultNotFound(name)
	}
	return vault, err
}

func vaultNotFound(name Name) error {
	return fault.New(fault.VaultNotFound, fmt.Sprintf("There is no vault named %s, or it is soft-deleted.", name)).About(string(name))
}
