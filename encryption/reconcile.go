package encryption

import (
	"context"
	"errors"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
)

var (
	itemAfterTake    = failpoint.New("encryption/item/after-take")
	itemAfterRefresh = failpoint.New("encryption/item/after-refresh")
	itemAfterContent = failpoint.New("encryption/item/after-content")
	itemAfterDone    = failpoint.New("encryption/item/after-done")
	scopeBeforeDone  = failpoint.New("encryption/scope/before-done")
	scopeAfterDone   = failpoint.New("encryption/scope/after-done")
)

const (
	reconcileEvery = time.Second
	workLease      = 30 * time.Second // of one worker on one item, extended with each report
	waitForWriter  = time.Second      // before an item is tried again that somebody writes to under an old key
	waitForKey     = 2 * time.Second  // before an item is tried again whose scope has no access
	maxBackoff     = 10 * time.Minute
)

// Wake makes the state machine look at once for what is to be done.
func (s *Scopes) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run brings items under their scopes' keys, until ctx ends. It looks at the
// rows, not at who changed them: whatever a crash left half done is found and
// finished.
func (s *Scopes) Run(ctx context.Context) {
	t := time.NewTicker(reconcileEvery)
	defer t.Stop()
	for ctx.Err() == nil {
		more, err := s.reconcile(ctx)
		if err != nil && ctx.Err() == nil {
			s.ring.log.ErrorContext(ctx, "bringing items under their keys", "error", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-t.C:
		}
	}
}

// reconcile does what is due, and reports whether it did anything.
func (s *Scopes) reconcile(ctx context.Context) (did bool, err error) {
	var scopes []Scope
	if err := s.ring.store.View(ctx, func(tx Tx) error {
		scopes, err = tx.Scopes()
		return err
	}); err != nil {
		return false, err
	}
	for _, sc := range scopes {
		one, err := s.reconcileScope(ctx, sc)
		did = did || one
		if err != nil && !errors.Is(err, fault.EncryptionChanged) {
			if ctx.Err() != nil {
				return did, ctx.Err()
			}
			s.ring.log.ErrorContext(ctx, "bringing a workspace's items under its keys", "workspace", string(sc.ID), "error", err)
		}
	}
	return did, nil
}

func (s *Scopes) reconcileScope(ctx context.Context, sc Scope) (did bool, err error) {
	var behind int
	var next []Item
	var g Generation
	err = s.ring.store.View(ctx, func(tx Tx) error {
		v, err := readView(tx, sc.ID)
		if err != nil {
			return err
		}
		if g, err = v.sealing(); err != nil {
			return err
		}
		behind, _, next, err = tx.ItemsBehind(sc.ID, g.Number, s.ring.now())
		return err
	})
	if err != nil {
		return false, err
	}
	if behind == 0 {
		if g.State == Enabling || g.State == Disabling {
			return true, s.finish(ctx, sc.ID)
		}
		return false, nil
	}
	for _, i := range next {
		if ctx.Err() != nil {
			return did, ctx.Err()
		}
		if err := s.work(ctx, i, g); err != nil {
			if !errors.Is(err, fault.EncryptionChanged) {
				return did, err
			}
			continue
		}
		did = true
	}
	return did, nil
}

// work brings one item under the sealing generation's keys, under a fencing
// token. What goes wrong is noted in the item's row.
func (s *Scopes) work(ctx context.Context, i Item, g Generation) error {
	u, err := s.ring.Use(ctx, i.Scope)
	if err != nil {
		return s.postpone(ctx, i, err)
	}
	before := i.Fence
	i.Fence++
	i.Owner, i.Until = s.owner, s.ring.now().Add(workLease)
	if err := s.update(ctx, i, before); err != nil {
		return err
	}
	if err := itemAfterTake.Hit(); err != nil {
		return err
	}
	if g.ReSealOnly {
		err = s.reseal(ctx, u, i, g)
	} else {
		err = s.reencrypt(ctx, u, &i, g)
	}
	if err != nil {
		return s.postpone(ctx, i, err)
	}
	return itemAfterDone.Hit()
}

func (s *Scopes) update(ctx context.Context, i Item, fence int64) error {
	return s.ring.store.Update(ctx, func(tx Tx) error { return tx.UpdateItem(i, fence) })
}

// reencrypt moves all of an item's data under fresh keys, and shreds the old.
func (s *Scopes) reencrypt(ctx context.Context, u *Use, i *Item, g Generation) error {
	if _, err := u.Current(ctx, i.ID, ContentKey); err != nil { // makes fresh keys if need be
		return err
	}
	if err := itemAfterRefresh.Hit(); err != nil {
		return err
	}
	total := Progress{} // of the domains that are done
	for _, c := range s.contents {
		job := &Job{Use: u, Item: i.ID, fence: i.Fence}
		job.report = func(p Progress) error {
			i.Progress = total.plus(p)
			i.Until = s.ring.now().Add(workLease)
			return s.update(ctx, *i, i.Fence)
		}
		i.Progress = total
		if err := c.Reencrypt(ctx, job); err != nil {
			return err
		}
		total = i.Progress
	}
	if err := itemAfterContent.Hit(); err != nil {
		return err
	}
	return s.retire(ctx, u, *i, g)
}

func (p Progress) plus(q Progress) Progress {
	return Progress{
		Files: p.Files + q.Files, TotalFiles: p.TotalFiles + q.TotalFiles,
		Bytes: p.Bytes + q.Bytes, TotalBytes: p.TotalBytes + q.TotalBytes,
	}
}

// retire removes an item's old keys, which nothing names any more, and turns the
// item Active. It fails with [fault.Conflict] if something does: a write that
// began under an old key and is still under way, or was published meanwhile.
func (s *Scopes) retire(ctx context.Context, u *Use, i Item, g Generation) error {
	var retired []KeyID
	err := s.ring.store.Update(ctx, func(tx Tx) error {
		keys, err := tx.ItemKeys(i.ID)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if key.Generation >= g.Number {
				continue
			}
			if err := tx.DeleteKey(key.ID); err != nil {
				return err
			}
			retired = append(retired, key.ID)
		}
		return s.done(tx, i, g, "ReencryptItem")
	})
	if err == nil {
		u.entry.forget(i.ID, retired...)
	}
	return err
}

// reseal seals an item's keys under the sealing generation. Its data stays as it
// is.
func (s *Scopes) reseal(ctx context.Context, u *Use, i Item, g Generation) error {
	e := u.entry
	err := s.ring.store.Update(ctx, func(tx Tx) error {
		keys, err := tx.ItemKeys(i.ID)
		if err != nil {
			return err
		}
		e.mu.RLock()
		defer e.mu.RUnlock()
		for _, row := range keys {
			if row.Generation >= g.Number || row.State == Shredded {
				continue
			}
			from, to := e.scopeKeys[row.Generation], e.scopeKeys[g.Number]
			if from == nil || to == nil {
				return fault.New(fault.EncryptionChanged, "The workspace's keys have changed meanwhile.")
			}
			key, err := openItemKey(s.ring.root.Instance(), e.row.Tenant, row, from)
			if err != nil {
				return err
			}
			row.Generation = g.Number
			sealItemKey(s.ring.root.Instance(), e.row.Tenant, &row, to, key)
			key.Clear()
			if err := tx.UpdateKey(row); err != nil {
				return err
			}
		}
		return s.done(tx, i, g, "ResealItem")
	})
	if err == nil {
		e.forget(i.ID)
	}
	return err
}

func (s *Scopes) done(tx Tx, i Item, g Generation, operation string) error {
	i.Generation, i.Failed, i.Reason, i.Detail = g.Number, false, "", ""
	i.Attempt, i.NextRun, i.Until, i.Owner = 0, time.Time{}, time.Time{}, ""
	if err := tx.UpdateItem(i, i.Fence); err != nil {
		return err
	}
	sc, err := tx.Scope(i.Scope)
	if err != nil {
		return err
	}
	e := s.ring.entry(operation, sc)
	e.Resource += "/items/" + string(i.ID)
	e.Detail = map[string]string{"generation": number(g.Number)}
	return tx.AppendAudit(e)
}

// postpone notes why an item could not be done, and when it is tried again. A
// scope without access only waits; its items have not failed.
func (s *Scopes) postpone(ctx context.Context, i Item, cause error) error {
	reason := fault.ReasonOf(cause)
	if reason == fault.ItemNotFound || reason == fault.WorkspaceNotFound {
		return s.drop(ctx, i)
	}
	if ctx.Err() != nil || reason == fault.EncryptionChanged {
		return cause
	}
	ctx = context.WithoutCancel(ctx)
	i.Owner, i.Until = "", time.Time{}
	switch {
	case reason == fault.Conflict:
		i.NextRun = s.ring.now().Add(waitForWriter)
	case reason.RefusedByVault() || reason == fault.KEKUnreachable || reason == fault.KEKIntegrity || reason == fault.Unavailable:
		i.NextRun = s.ring.now().Add(waitForKey)
	default:
		i.Attempt++
		i.Failed, i.Reason = true, reason
		i.Detail = fault.As(cause).Public()
		i.NextRun = s.ring.now().Add(min(10*time.Second<<min(i.Attempt, 10), maxBackoff))
		s.ring.log.ErrorContext(ctx, "an item could not be brought under its workspace's key",
			"workspace", string(i.Scope), "item", string(i.ID), "error", cause)
		e := audit.Entry{
			Operation: "ReencryptItem", Outcome: audit.Failed, Reason: reason, Principal: systemPrincipal,
			Resource: "/workspaces/" + string(i.Scope) + "/items/" + string(i.ID),
		}
		return s.ring.store.Update(ctx, func(tx Tx) error {
			if err := tx.AppendAudit(e); err != nil {
				return err
			}
			return tx.UpdateItem(i, i.Fence)
		})
	}
	return s.update(ctx, i, i.Fence)
}

// drop deals with an item that was deleted while its scope's key was changed: its
// keys are shredded, and only their rows wait to be swept. It is behind no more.
func (s *Scopes) drop(ctx context.Context, i Item) error {
	return s.ring.store.Update(context.WithoutCancel(ctx), func(tx Tx) error {
		now, err := tx.Item(i.ID)
		if errors.Is(err, fault.ItemNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		sc, err := tx.Scope(i.Scope)
		if err != nil {
			return err
		}
		fence := now.Fence
		now.Generation, now.Failed, now.Fence = sc.Sealing, false, fence+1
		return tx.UpdateItem(now, fence)
	})
}

// finish ends a change of key once every item is done: the older scope keys are
// forgotten, and the generation's state says so.
func (s *Scopes) finish(ctx context.Context, id ScopeID) error {
	if err := scopeBeforeDone.Hit(); err != nil {
		return err
	}
	k := s.ring
	var next view
	err := k.store.Update(ctx, func(tx Tx) error {
		v, err := readView(tx, id)
		if err != nil {
			return err
		}
		g, err := v.sealing()
		if err != nil {
			return err
		}
		behind, _, _, err := tx.ItemsBehind(id, g.Number, time.Time{})
		if err != nil || behind > 0 || g.State != Enabling && g.State != Disabling {
			return err
		}
		sh, err := openGeneration(k.root, v.scope.Tenant, g)
		if err != nil {
			return err
		}
		defer sh.clear()
		for _, l := range v.links {
			if err := tx.DeleteLink(id, l.Generation); err != nil {
				return err
			}
		}
		sc := v.scope
		sc.Epoch++
		g.Epoch = sc.Epoch
		g.State = map[State]State{Enabling: Active, Disabling: Disabled}[g.State]
		sealGeneration(k.root, sc.Tenant, &g, sh)
		if err := tx.PutGeneration(g); err != nil {
			return err
		}
		if err := tx.UpdateScope(sc, v.scope.Epoch); err != nil {
			return err
		}
		e := k.entry("CompleteWorkspaceEncryption", sc)
		e.Detail = map[string]string{"state": string(g.State), "generation": number(g.Number)}
		next = view{scope: sc, generations: []Generation{g}}
		return tx.AppendAudit(e)
	})
	if err != nil || next.scope.ID == "" {
		return err
	}
	k.settle(next)
	return scopeAfterDone.Hit()
}

// settle tells the entry in use that only the sealing generation is left.
func (k *Keyring) settle(v view) {
	e := k.slot(v.scope.ID).entry.Load()
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	g := v.generations[0]
	if e.sealing.Number != g.Number {
		return
	}
	e.row, e.sealing = v.scope, g
	for n, key := range e.scopeKeys {
		if n != g.Number {
			key.Clear()
			delete(e.scopeKeys, n)
		}
	}
}
