package account

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/rbac"
)

var (
	created    = failpoint.New("account/create/committed") // platform-managed; the key source that was asked for is still to come
	keyChanged = failpoint.New("account/update/key-changed")
	deleted    = failpoint.New("account/delete/marked")
)

// Put makes an account, or changes one as [Accounts.Patch] does; isNew says which. Who
// makes an account is Storage Blob Data Owner of it.
func (a *Accounts) Put(ctx context.Context, c identity.Caller, p Path, s Spec) (acct Account, isNew bool, err error) {
	e := c.Entry("PutStorageAccount", "/subscriptions")
	if err := a.checkPath(c, &p); err != nil {
		return acct, false, a.record(ctx, e, err)
	}
	e.Resource = string(p.Scope())
	var there bool
	err = a.store.View(ctx, func(tx Tx) error {
		if err := permit(tx, c, rbac.AccountsWrite, p.Scope()); err != nil {
			return err
		}
		row, err := tx.AccountNamed(p.Name)
		if errors.Is(err, fault.ResourceNotFound) {
			return nil
		}
		if err == nil && row.Path.Scope().Key() != p.Scope().Key() {
			return errTaken(p.Name)
		}
		there = err == nil
		return err
	})
	if err != nil {
		return acct, false, a.record(ctx, e, err)
	}
	if !there {
		if err := a.create(ctx, c, p, s); err != nil {
			return acct, false, err
		}
	}
	acct, err = a.Patch(ctx, c, p, s)
	if err != nil && !there { // nobody has used it yet
		err = errors.Join(err, a.Delete(context.WithoutCancel(ctx), c, p))
	}
	return acct, !there, err
}

func errTaken(n Name) error {
	return fault.New(fault.Conflict, "The storage account named "+string(n)+" is already taken.")
}

func (a *Accounts) create(ctx context.Context, c identity.Caller, p Path, s Spec) error {
	now := a.time()
	row := Row{Path: p, ID: encryption.ScopeID(uuid.NewString()), Tenant: c.Tenant, SharedKey: true, Created: now, Updated: now}
	e := c.Entry("CreateStorageAccount", string(p.Scope()))
	e.Detail = map[string]string{"scope": string(row.ID)}
	scope, err := a.keys.NewScope(row.ID, row.Tenant)
	if err == nil {
		err = s.apply(&row)
	}
	if err == nil {
		_, _, err = s.wanted(Encryption{})
	}
	if err == nil && slices.Contains(a.reserved, string(p.Name)) {
		err = errTaken(p.Name)
	}
	if err != nil {
		return a.record(ctx, e, err)
	}
	signing := []KeyRow{a.newKey(row, key1, 1, now), a.newKey(row, key2, 1, now)}
	err = a.write(ctx, &e, func(tx Tx) error {
		if err := permit(tx, c, rbac.AccountsWrite, p.Scope()); err != nil {
			return err
		}
		if err := scope.At(p.Scope()).Insert(tx); err != nil {
			return err
		}
		if err := tx.PutAccount(row); err != nil {
			if errors.Is(err, fault.Conflict) {
				return errTaken(p.Name)
			}
			return err
		}
		for _, k := range signing {
			if err := tx.PutAccountKey(k); err != nil {
				return err
			}
		}
		return tx.PutRoleAssignment(rbac.Assignment{
			ID: uuid.NewString(), Tenant: c.Tenant, Principal: c.Principal, PrincipalType: c.Type, Role: rbac.StorageBlobDataOwner,
			Scope: p.Scope(), Created: now, CreatedBy: c.Principal,
		})
	})
	if err == nil {
		err = created.Hit()
	}
	return err
}

// Patch changes an account. The key first: if the vault does not let the platform use
// it, nothing has changed.
func (a *Accounts) Patch(ctx context.Context, c identity.Caller, p Path, s Spec) (acct Account, err error) {
	e := c.Entry("UpdateStorageAccount", "/subscriptions")
	if err := a.checkPath(c, &p); err != nil {
		return acct, a.record(ctx, e, err)
	}
	e.Resource = string(p.Scope())
	var before Account
	err = a.store.View(ctx, func(tx Tx) error {
		row, err := live(tx, c, rbac.AccountsWrite, p)
		if err != nil {
			return err
		}
		p = row.Path
		if err := s.apply(&row); err != nil {
			return err
		}
		if before, err = a.describe(tx, row); err != nil {
			return err
		}
		return s.fit(&row, before.Encryption)
	})
	if err != nil {
		return acct, a.record(ctx, e, err)
	}
	if err := a.changeKey(ctx, c, before, s); err != nil {
		return acct, a.record(ctx, e, err)
	}
	if err := keyChanged.Hit(); err != nil {
		return acct, err
	}
	err = a.write(ctx, &e, func(tx Tx) error {
		row, err := live(tx, c, rbac.AccountsWrite, p)
		if err != nil {
			return err
		}
		if err := s.apply(&row); err != nil {
			return err
		}
		row.Updated = a.time()
		if acct, err = a.describe(tx, row); err != nil {
			return err
		}
		if err := s.fit(&row, acct.Encryption); err != nil {
			return err
		}
		acct.Identity = row.Identity
		return tx.PutAccount(row)
	})
	return acct, err
}

// changeKey brings the account's scope under the key that is asked for. One that it is
// under already is not asked for again: clients send back what they were told.
func (a *Accounts) changeKey(ctx context.Context, c identity.Caller, acct Account, s Spec) error {
	identifier, asked, err := s.wanted(acct.Encryption)
	switch {
	case err != nil || !asked:
		return err
	case identifier == "" && acct.Encryption.Mode == encryption.PlatformManaged,
		identifier != "" && strings.EqualFold(identifier, acct.Encryption.KeyIdentifier):
		return nil
	}
	change := func() error {
		if identifier == "" {
			return a.encryption.Reset(ctx, c, acct.ID)
		}
		return a.encryption.Assign(ctx, c, acct.ID, identifier)
	}
	if err = change(); fault.ReasonOf(err) != fault.EncryptionInProgress {
		return err
	}
	if serr := a.settle(ctx, acct.ID); serr != nil {
		return errors.Join(err, serr)
	}
	return change()
}

// Azure's own account changes its keys within the request, however soon one change comes
// after another; here the data of the change before may still be on its way, and
// clients wait a while for that.
const (
	settleTime = 30 * time.Second
	settleStep = 200 * time.Millisecond
)

// settle waits for the end of what the account's change before has begun.
func (a *Accounts) settle(ctx context.Context, id encryption.ScopeID) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		moving := false
		err := a.store.View(ctx, func(tx Tx) error {
			acct, err := a.describe(tx, Row{ID: id})
			moving = acct.Encryption.State == encryption.Enabling || acct.Encryption.State == encryption.Disabling
			return err
		})
		if err != nil || !moving {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // it is refused with a reason
		case <-time.After(settleStep):
		}
	}
}

// describe returns an account with what the rows of its scope key say.
func (a *Accounts) describe(tx Tx, row Row) (Account, error) {
	acct := Account{
		Path: row.Path, ID: row.ID, Tenant: row.Tenant, Location: row.Location, SKU: row.SKU, Kind: row.Kind, Tags: row.Tags,
		Identity: row.Identity, Created: row.Created, Updated: row.Updated, KeyIdentity: row.KeyIdentity, SharedKey: row.SharedKey,
		Principal: a.principal(row.Tenant),
	}
	sc, err := tx.Scope(row.ID)
	if err != nil {
		return acct, err
	}
	gens, err := tx.Generations(row.ID)
	if err != nil {
		return acct, err
	}
	i := slices.IndexFunc(gens, func(g encryption.Generation) bool { return g.Number == sc.Sealing })
	if i < 0 {
		return acct, fault.New(fault.Integrity, "The account's sealing key row is missing.").About(string(row.ID))
	}
	g := gens[i]
	acct.Encryption = Encryption{
		Mode: g.Mode, State: g.State, Serving: sc.Serving, KeyIdentifier: g.KeyIdentifier, KID: string(g.KID),
	}
	if g.KID == "" {
		return acct, nil
	}
	// The version may have wrapped an earlier share of the account's too.
	acct.Encryption.Rotated = g.Created
	used, err := tx.VersionsUsed(row.ID)
	for _, u := range used {
		if u.KID == string(g.KID) && u.First.After(g.Created) {
			acct.Encryption.Rotated = u.First
		}
	}
	return acct, err
}

// Account returns one.
func (a *Accounts) Account(ctx context.Context, c identity.Caller, p Path) (acct Account, err error) {
	e := c.Entry("GetStorageAccount", "/subscriptions")
	if err := a.checkPath(c, &p); err != nil {
		return acct, a.record(ctx, e, err)
	}
	e.Resource = string(p.Scope())
	err = a.read(ctx, e, func(tx Tx) error {
		row, err := live(tx, c, rbac.AccountsRead, p)
		if err != nil {
			return err
		}
		if acct, err = a.describe(tx, row); err == nil {
			_, denied := live(tx, c, rbac.AccountsWrite, p)
			acct.MayChange = denied == nil
		}
		return err
	})
	return acct, err
}

// List returns the accounts of a subscription, or of one of its groups, that the
// caller may see.
func (a *Accounts) List(ctx context.Context, c identity.Caller, subscription, group string) (all []Account, err error) {
	e := c.Entry("ListStorageAccounts", "/subscriptions")
	sub, err := a.subscription(c, subscription)
	if err != nil {
		return nil, a.record(ctx, e, err)
	}
	e.Resource = string(sub.Scope())
	err = a.read(ctx, e, func(tx Tx) error {
		rows, err := tx.AccountsIn(sub.ID)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if group != "" && !strings.EqualFold(group, row.ResourceGroup) || row.Tenant != c.Tenant {
				continue
			}
			ok, err := permitted(tx, c, rbac.AccountsRead, row.Path.Scope())
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			acct, err := a.describe(tx, row)
			if err != nil {
				return err
			}
			all = append(all, acct)
		}
		return nil
	})
	return all, err
}

// Subscriptions returns those of the caller's tenant in which he holds any role.
func (a *Accounts) Subscriptions(ctx context.Context, c identity.Caller) (mine []Subscription, err error) {
	err = a.read(ctx, c.Entry("ListSubscriptions", "/subscriptions"), func(tx Tx) error {
		for _, s := range a.subs {
			if s.Tenant != c.Tenant {
				continue
			}
			held, err := tx.RoleAssignmentsAt(s.Scope(), true)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(held, func(as rbac.Assignment) bool {
				return as.Tenant == c.Tenant && slices.Contains(c.Subjects(), as.Principal)
			}) {
				mine = append(mine, s)
			}
		}
		return nil
	})
	return mine, err
}

// NameFree says whether an account could have the name; if not, reason is
// [fault.InvalidArgument] or [fault.Conflict].
func (a *Accounts) NameFree(ctx context.Context, c identity.Caller, name string) (free bool, reason fault.Reason, err error) {
	if _, err := ParseName(name); err != nil {
		return false, fault.InvalidArgument, nil
	}
	if slices.Contains(a.reserved, name) {
		return false, fault.Conflict, nil
	}
	_, err = a.Find(ctx, Name(name))
	switch {
	case err == nil:
		return false, fault.Conflict, nil
	case errors.Is(err, fault.ResourceNotFound):
		return true, "", nil
	}
	return false, "", err
}

// MayFill says whether the caller may make accounts in a resource group, be it empty.
func (a *Accounts) MayFill(ctx context.Context, c identity.Caller, subscription, group string) error {
	p := Path{Subscription: subscription, ResourceGroup: group, Name: "any"}
	e := c.Entry("PutResourceGroup", "/subscriptions")
	if err := a.checkPath(c, &p); err != nil {
		return a.record(ctx, e, err)
	}
	e.Resource = string(p.group())
	return a.read(ctx, e, func(tx Tx) error { return permit(tx, c, rbac.AccountsWrite, p.group()) })
}
