package encryption

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/rbac"
)

// An ItemEncryption is an item's status.
type ItemEncryption string

// The statuses of an item.
const (
	ItemActive     ItemEncryption = "Active"
	ItemInProgress ItemEncryption = "InProgress"
	ItemFailed     ItemEncryption = "Failed"
)

// A Status is the encryption of a scope as its people see it.
type Status struct {
	Scope                 Scope
	Mode                  Mode
	State                 State
	KeyIdentifier         string // exactly as it was given; "" if platform-managed
	PreviousKeyIdentifier string // while items are still under the previous key
	KID                   kek.KID
	ReSealOnly            bool
	Items                 []ItemStatus // nil in a summary
	Totals                ItemTotals
	Versions              []VersionStatus
	Generation            int64         // the sealing one's number
	Bound                 time.Duration // the kill-switch bound, by whoever set it lowest
	Lease                 time.Duration // how long a key lease given now is
	Stretched             bool          // it is longer than it aims to be, since the vault's budget allows no more
	Percent               int           // of the change of key under way; 100 if there is none
	Left                  time.Duration // that the change may still take, by how fast it went; 0 if that is not known
	Behind, Failed        int           // items that are not under the scope's key yet, and those of them that failed; the scope's own names count
	MayChange             bool          // whether the caller may assign, rotate and reset a workspace's key
}

// ItemTotals count a scope's items, the scope's own names not among them.
type ItemTotals struct {
	Items          int
	Behind, Failed int      // not under the scope's key yet, and those of them that failed
	Done           float64  // of Items: what is under the scope's key, each item by how far it is
	Progress       Progress // of all together
}

// An ItemStatus is the status of one item.
type ItemStatus struct {
	ID       ItemID
	Type     string
	Status   ItemEncryption
	Reason   fault.Reason
	Detail   string
	Progress Progress
}

// A VersionStatus says what a key version is still needed for.
type VersionStatus struct {
	KID           kek.KID
	LiveWraps     int       // shares that only this version can unwrap
	Backups       int       // of the platform, as far as it knows of them, that take this version to be restored
	NewestBackup  time.Time // of those
	SafeToDisable bool      // nothing live needs it, and no backup
	First         time.Time
	Last          time.Time // zero while it is in use
}

// InProgress reports whether items are on their way.
func (s Status) InProgress() bool { return s.Behind > s.Failed }

// Status tells how a scope is encrypted, with each of its items. It needs no key.
func (s *Scopes) Status(ctx context.Context, caller identity.Caller, id ScopeID) (Status, error) {
	return s.tell(ctx, caller, id, true)
}

// Summary is [Scopes.Status] without the items: what it costs does not grow with them by
// more than counting.
func (s *Scopes) Summary(ctx context.Context, caller identity.Caller, id ScopeID) (Status, error) {
	return s.tell(ctx, caller, id, false)
}

func (s *Scopes) tell(ctx context.Context, caller identity.Caller, id ScopeID, items bool) (st Status, err error) {
	err = s.looking(ctx, caller, "GetWorkspaceEncryption", id, false, func() (err error) {
		st, err = s.status(ctx, id, items)
		st.MayChange = s.authorise(ctx, caller, id, rbac.EncryptionWrite) == nil
		return err
	})
	return st, err
}

// An ItemQuery says which of a scope's items are asked for, a page at a time.
type ItemQuery struct {
	Status ItemEncryption        // "" for any
	Among  func(ItemStatus) bool // nil for all
	After  ItemID                // the last one of the page before
	Limit  int
}

// itemPage is how many rows are read at once for a query that names its items.
const itemPage = 500

// Items tells of a page of a scope's items, by id, and whether there are more. It needs
// no key.
func (s *Scopes) Items(ctx context.Context, caller identity.Caller, id ScopeID, q ItemQuery) (page []ItemStatus, more bool, err error) {
	err = s.looking(ctx, caller, "ListEncryptedItems", id, false, func() error {
		return s.ring.store.View(ctx, func(tx Tx) error {
			sc, err := tx.Scope(id)
			if err != nil {
				return err
			}
			page, more, err = q.page(tx, sc)
			return err
		})
	})
	return page, more, err
}

// page reads on until the page is full.
func (q ItemQuery) page(tx Tx, sc Scope) (page []ItemStatus, more bool, err error) {
	batch := q.Limit + 1
	if q.Among != nil {
		batch = max(batch, itemPage)
	}
	for after := q.After; ; {
		rows, err := tx.ItemPage(sc.ID, sc.Sealing, q.Status, after, batch)
		if err != nil {
			return nil, false, err
		}
		for _, i := range rows {
			after = i.ID
			is := i.status(sc.Sealing)
			if q.Among != nil && !q.Among(is) {
				continue
			}
			if len(page) == q.Limit {
				return page, true, nil
			}
			page = append(page, is)
		}
		if len(rows) < batch {
			return page, false, nil
		}
	}
}

func (s *Scopes) status(ctx context.Context, id ScopeID, withItems bool) (st Status, err error) {
	err = s.ring.store.View(ctx, func(tx Tx) error {
		v, err := readView(tx, id)
		if err != nil {
			return err
		}
		g, err := v.sealing()
		if err != nil {
			return err
		}
		st = Status{
			Scope: v.scope, Mode: g.Mode, State: g.State, KeyIdentifier: g.KeyIdentifier, KID: g.KID,
			ReSealOnly: g.ReSealOnly, Bound: s.ring.boundOf(v.scope), Generation: g.Number, Lease: s.ring.leaseOf(v.scope, g),
		}
		st.Stretched = st.Lease > min(s.ring.lease, st.Bound)
		if len(v.links) > 0 {
			st.PreviousKeyIdentifier = v.links[0].KeyIdentifier
		}
		if st.Behind, st.Failed, _, err = tx.ItemsBehind(id, g.Number, time.Time{}); err != nil {
			return err
		}
		if st.Totals, err = tx.ItemTotals(id, g.Number); err != nil {
			return err
		}
		if withItems {
			items, err := tx.ItemStates(id)
			if err != nil {
				return err
			}
			for _, i := range items {
				st.Items = append(st.Items, i.status(g.Number))
			}
		}
		st.estimate(s.ring.now().Sub(g.Created))
		used, err := tx.VersionsUsed(id)
		if err != nil {
			return err
		}
		if len(used) == 0 {
			return nil
		}
		backups, err := tx.Backups()
		for _, u := range used {
			st.Versions = append(st.Versions, versionStatus(u, v.generations, backups))
		}
		return err
	})
	return st, err
}

// status says how the item stands while the generation seals.
func (i Item) status(generation int64) ItemStatus {
	is := ItemStatus{ID: i.ID, Type: i.Type, Status: ItemActive, Progress: i.Progress}
	switch {
	case i.Generation >= generation:
	case i.Failed:
		is.Status, is.Reason, is.Detail = ItemFailed, i.Reason, i.Detail
	default:
		is.Status = ItemInProgress
	}
	return is
}

// estimate says how much of a change is done, by items, and how long the rest takes
// if it goes on as it went since it began.
func (s *Status) estimate(since time.Duration) {
	if s.Behind == 0 {
		s.Percent = 100
		return
	}
	done := s.Totals.Done
	if s.Behind == s.Totals.Behind { // the scope's own names count
		done++
	}
	share := done / float64(s.Totals.Items+1)
	s.Percent = min(99, int(100*share))
	if share > 0 && share < 1 && s.InProgress() {
		s.Left = time.Duration(float64(since) * (1 - share) / share)
	}
}

func versionStatus(u VersionUse, live []Generation, backups []Backup) VersionStatus {
	vs := VersionStatus{KID: kek.KID(u.KID), First: u.First, Last: u.Last}
	for _, g := range live {
		if string(g.KID) == u.KID {
			vs.LiveWraps++
		}
	}
	for _, b := range backups {
		if b.needs(u) {
			vs.Backups++
			if b.Made.After(vs.NewestBackup) {
				vs.NewestBackup = b.Made
			}
		}
	}
	vs.SafeToDisable = vs.LiveWraps == 0 && vs.Backups == 0
	return vs
}
