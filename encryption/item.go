package encryption

import (
	"context"
	"errors"
	"slices"
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
)

const (
	workLease     = 30 * time.Second // of one worker on one item, extended with each report that is stored
	reportEvery   = 250 * time.Millisecond
	waitForWriter = time.Second     // before an item is tried again that somebody writes to under an old key
	waitForKey    = 2 * time.Second // before an item is tried again whose scope has no access
	maxBackoff    = 10 * time.Minute
)

// work brings one item under the sealing generation's keys, under a fencing
// token. What goes wrong is noted in the item's row.
func (s *Scopes) work(ctx context.Context, u *Use, i Item, g Generation) (err error) {
	ctx, span := traced(ctx, "bring item under key")
	defer func() { span.End(err) }()
	if !u.entry.seals(g) {
		return u.entry.behind()
	}
	before := i.Fence
	i.Fence++
	i.Owner = s.owner
	if err := s.hold(ctx, &i, before); err != nil {
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
		return s.postpone(ctx, u, i, err)
	}
	return itemAfterDone.Hit()
}

// seals reports whether the entry has caught up with a generation.
func (e *entry) seals(g Generation) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.sealing.Number == g.Number
}

func (s *Scopes) update(ctx context.Context, i Item, fence int64) error {
	return s.ring.store.Update(ctx, func(tx Tx) error { return tx.UpdateItem(i, fence) })
}

// hold gives the item's worker its lease, in the database's time.
func (s *Scopes) hold(ctx context.Context, i *Item, fence int64) error {
	return s.ring.store.Update(ctx, func(tx Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		i.Until = now.Add(workLease)
		return tx.UpdateItem(*i, fence)
	})
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
	stored := s.ring.now()
	for _, c := range s.contents {
		job := &Job{Use: u, Item: i.ID, fence: i.Fence}
		job.report = func(p Progress) error {
			i.Progress = total.plus(p)
			now := s.ring.now()
			if now.Sub(stored) < reportEvery {
				return nil
			}
			stored = now
			return s.hold(ctx, i, i.Fence)
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
		for _, p := range []Purpose{ContentKey, NamesKey} {
			if now, ok := currentOf(keys, p); !ok || now.Generation < g.Number {
				return keysChanged()
			}
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
		return s.done(ctx, tx, i, g, "ReencryptItem")
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
				return keysChanged()
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
		return s.done(ctx, tx, i, g, "ResealItem")
	})
	if err == nil {
		e.forget(i.ID)
	}
	return err
}

func (s *Scopes) done(ctx context.Context, tx Tx, i Item, g Generation, operation string) error {
	i.Generation, i.Failed, i.Reason, i.Detail = g.Number, false, "", ""
	i.Attempt, i.NextRun, i.Until, i.Owner = 0, time.Time{}, time.Time{}, ""
	if err := tx.UpdateItem(i, i.Fence); err != nil {
		return err
	}
	sc, err := tx.Scope(i.Scope)
	if err != nil {
		return err
	}
	e := s.ring.entry(ctx, operation, sc)
	e.Resource += "/items/" + string(i.ID)
	e.Detail = map[string]string{"generation": number(g.Number)}
	return tx.AppendAudit(e)
}

// postpone notes why an item could not be done, and when it is tried again. A
// scope without access only waits; its items have not failed.
func (s *Scopes) postpone(ctx context.Context, u *Use, i Item, cause error) error {
	reason := fault.ReasonOf(cause)
	stopped := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx)
	if !stopped && !waitsForKey(reason) { // whatever went wrong, it may be for want of the item
		gone, err := s.drop(ctx, i)
		if err != nil {
			return err
		}
		if gone {
			u.entry.forgetItem(i.ID)
			return nil
		}
	}
	i.Owner, i.Until = "", time.Time{}
	switch {
	case stopped:
	case reason == fault.Conflict || reason == fault.EncryptionChanged:
		i.NextRun = s.ring.now().Add(waitForWriter)
	case waitsForKey(reason):
		i.NextRun = s.ring.now().Add(waitForKey)
	default:
		return s.failed(ctx, i, cause)
	}
	return s.update(ctx, i, i.Fence)
}

// failed notes a failure that somebody has to look at. It is tried again all the
// same, ever more seldom.
func (s *Scopes) failed(ctx context.Context, i Item, cause error) error {
	i.Failed, i.Reason, i.Detail = true, fault.ReasonOf(cause), fault.As(cause).Public()
	if i.Detail == "" {
		i.Detail = "Something went wrong on the platform's side, and its log says what."
	}
	i.NextRun = s.ring.now().Add(min(10*time.Second<<min(i.Attempt, 10), maxBackoff))
	i.Attempt++
	s.ring.log.ErrorContext(ctx, "an item could not be brought under its workspace's key",
		"workspace", string(i.Scope), "item", string(i.ID), "error", cause)
	return s.ring.store.Update(ctx, func(tx Tx) error {
		sc, err := tx.Scope(i.Scope)
		if err != nil {
			return err
		}
		e := s.ring.entry(ctx, "ReencryptItem", sc)
		e.Outcome, e.Reason = audit.Failed, i.Reason
		e.Resource += "/items/" + string(i.ID)
		if err := tx.AppendAudit(e); err != nil {
			return err
		}
		return tx.UpdateItem(i, i.Fence)
	})
}

// drop deals with an item that was deleted while its scope's key was changed: its
// keys are shredded, and only their rows wait to be swept. It is behind no more.
// It reports false if the item is not deleted: some of its keys live.
func (s *Scopes) drop(ctx context.Context, i Item) (gone bool, err error) {
	err = s.ring.store.Update(ctx, func(tx Tx) error {
		keys, err := tx.ItemKeys(i.ID)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(keys, func(k KeyRow) bool { return k.State != Shredded }) {
			return nil
		}
		gone = true
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
		now.Owner, now.Until, now.NextRun = "", time.Time{}, time.Time{} // or the next change would wait for this one's lease
		return tx.UpdateItem(now, fence)
	})
	return gone, err
}
