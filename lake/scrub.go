package lake

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// The scrub reads all that is stored and opens it, so that what a disk has lost is
// known while there is still a backup that has it.
const (
	// scrubPeriod is from one pass's beginning to the next one's: half of the 30 days
	// within which every byte is read, so that a pass that is late is not too late.
	scrubPeriod = 15 * 24 * time.Hour
	// scrubSlack is how much faster a pass is than it must be.
	scrubSlack = 1.25
	// scrubFloor is the least rate of a pass, in bytes a second.
	scrubFloor = 4 << 20
	scrubRows  = 64
	// scrubListed is how many damaged extents a status names.
	scrubListed = 1000
)

// The operations, as audit entries name them.
const (
	// OpDamaged is what the scrub records of an extent that does not open: it is an
	// alert.
	OpDamaged = "lake/scrub/damaged"

	opScrub       = "lake/scrub"
	opScrubStatus = "lake/scrub/read"
)

// Alerts reports whether a tenant's security contact should hear of an entry: bytes
// of the tenant's are not what was stored.
func Alerts(e audit.Entry, tenant string) bool {
	return e.Tenant == tenant && e.Outcome == audit.Failed && e.Reason == fault.Integrity && strings.HasPrefix(e.Operation, "lake/")
}

// A ScrubPass is one reading of all that is stored.
type ScrubPass struct {
	Begun   time.Time
	Ended   time.Time // zero while it runs
	Extents int64     // that were opened
	Bytes   int64     // sealed, of those
	Unread  int64     // extents whose scope's key could not be used
}

// A ScrubRow is where the scrub is, and what it has done.
type ScrubRow struct {
	Item   encryption.ItemID // of the last extent that was read
	State  ExtentState
	Extent ExtentID
	Total  int64 // sealed bytes that there were when the pass began
	Pass   ScrubPass
	Last   ScrubPass // that ended; zero if none has
}

// A Damage is an extent that does not open.
type Damage struct {
	Extent ExtentID
	Item   encryption.ItemID
	Tenant identity.TenantID
	Owner  string // the file, or what is staged
	Found  time.Time
}

// A ScrubTx is the part of a transaction that only the scrub needs.
type ScrubTx interface {
	// LakeItemAfter returns the first item above after that has extents; "" if there
	// is none.
	LakeItemAfter(after encryption.ItemID) (encryption.ItemID, error)
	// LakeExtentsIn returns extents of an item in a state, by id, those above after:
	// as they lie in the database.
	LakeExtentsIn(item encryption.ItemID, state ExtentState, after ExtentID, limit int) ([]ExtentRow, error)
	// LakeBytes returns how many sealed bytes there are, doomed ones apart.
	LakeBytes() (int64, error)
	// LakeScrub returns the one row, zero if it has never been put.
	LakeScrub() (ScrubRow, error)
	PutLakeScrub(ScrubRow) error
	// LakeDamage returns what was found in a tenant's extents, oldest first.
	LakeDamage(tenant identity.TenantID, limit int) ([]Damage, error)
	// PutLakeDamage adds one, and reports whether it is new.
	PutLakeDamage(Damage) (fresh bool, err error)
	// DeleteLakeDamage removes those of extents that are gone.
	DeleteLakeDamage() error
}

// ScrubStatus is what the scrub has done, and what it has found in the data of the
// one tenant that asks.
type ScrubStatus struct {
	Running bool
	Total   int64 // sealed bytes when the pass began
	Pass    ScrubPass
	Last    ScrubPass
	Damaged []Damage
}

// ScrubStatus tells whoever may read the tenant's settings. The amounts are the
// installation's.
func (l *Lake) ScrubStatus(ctx context.Context, caller identity.Caller) (st ScrubStatus, err error) {
	entry := caller.Entry(opScrubStatus, "/lake/scrub")
	err = l.store.View(ctx, func(tx Tx) error {
		st = ScrubStatus{}
		_, ok, err := rbac.Check(tx, rbac.PlatformRoles, caller, rbac.TenantSettingsRead, false, "/")
		if err == nil && !ok {
			err = fault.New(fault.Denied, "This needs the right "+string(rbac.TenantSettingsRead)+".").
				WithMend("Ask an administrator for a role that has it.")
		}
		if err != nil {
			return err
		}
		row, err := tx.LakeScrub()
		if err != nil {
			return err
		}
		st.Total, st.Pass, st.Last = row.Total, row.Pass, row.Last
		st.Running = !row.Pass.Begun.IsZero() && row.Pass.Ended.IsZero()
		st.Damaged, err = tx.LakeDamage(caller.Tenant, scrubListed)
		return err
	})
	if err != nil {
		entry = identity.Failed(entry, err)
	}
	if rec := l.recorder.Record(context.WithoutCancel(ctx), entry); rec != nil {
		return ScrubStatus{}, auditFailed(rec)
	}
	return st, err
}

// Scrub reads every byte that is stored within 30 days, again and again, no faster
// than that needs, until ctx ends. It goes on where it was stopped.
func (l *Lake) Scrub(ctx context.Context) {
	for {
		wait, err := l.ScrubStep(ctx)
		if err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "scrubbing the lake", "error", err)
			wait = time.Minute
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// ScrubStep reads the next few extents, and returns how long to wait before the
// step after it.
func (l *Lake) ScrubStep(ctx context.Context) (wait time.Duration, err error) {
	s := &scrub{lake: l}
	if due, err := s.begin(ctx); err != nil || due > 0 {
		return min(due, time.Hour), err
	}
	var rows []ExtentRow
	s.before = s.row.Pass.Bytes
	err = l.store.View(ctx, func(tx Tx) (err error) {
		rows, err = s.next(tx)
		return err
	})
	if err == nil && len(rows) > 0 {
		err = s.read(ctx, rows)
	}
	if err != nil {
		return 0, err
	}
	if err := s.save(ctx, len(rows) == 0); err != nil {
		return 0, err
	}
	return time.Duration(float64(s.row.Pass.Bytes-s.before) / s.rate() * float64(time.Second)), nil
}

// A scrub is one step.
type scrub struct {
	lake    *Lake
	row     ScrubRow
	before  int64 // bytes of the pass when the step began
	damaged []Damage
	path    string // of the item's scope, for the audit log
}

// rate returns bytes a second.
func (s *scrub) rate() float64 {
	return max(scrubFloor, float64(s.row.Total)*scrubSlack/scrubPeriod.Seconds())
}

// begin begins a pass, or goes on with one. If none is due it returns how long
// that is to come.
func (s *scrub) begin(ctx context.Context) (due time.Duration, err error) {
	now := s.lake.now().UTC().Truncate(time.Microsecond)
	err = s.lake.store.View(ctx, func(tx Tx) (err error) {
		if s.row, err = tx.LakeScrub(); err != nil {
			return err
		}
		p := s.row.Pass
		if !p.Begun.IsZero() && p.Ended.IsZero() {
			return nil
		}
		if due = p.Begun.Add(scrubPeriod).Sub(now); due > 0 && !p.Begun.IsZero() {
			return nil
		}
		due = 0
		s.row = ScrubRow{Pass: ScrubPass{Begun: now}, Last: s.row.Last}
		s.row.Total, err = tx.LakeBytes()
		return err
	})
	return due, err
}

// next returns the extents after the last one, and moves to their item. There are
// none once all have been read.
func (s *scrub) next(tx Tx) ([]ExtentRow, error) {
	r := &s.row
	for {
		if r.Item != "" {
			rows, err := tx.LakeExtentsIn(r.Item, r.State, r.Extent, scrubRows)
			if err != nil || len(rows) > 0 {
				return rows, err
			}
			if r.State == Staged {
				r.State, r.Extent = Live, ""
				continue
			}
		}
		item, err := tx.LakeItemAfter(r.Item)
		if err != nil || item == "" {
			return nil, err
		}
		r.Item, r.State, r.Extent = item, Staged, ""
	}
}

// read opens extents of one item.
func (s *scrub) read(ctx context.Context, rows []ExtentRow) error {
	l := s.lake
	var scope encryption.Scope
	err := l.store.View(ctx, func(tx Tx) error {
		item, err := tx.Item(s.row.Item)
		if err == nil {
			scope, err = tx.Scope(item.Scope)
		}
		return err
	})
	if errors.Is(err, fault.ItemNotFound) || errors.Is(err, fault.WorkspaceNotFound) {
		s.row.Extent = rows[len(rows)-1].ID // it was removed meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	if s.path = string(scope.Path); s.path == "" {
		s.path = string(encryption.WorkspacePath(scope.ID))
	}
	use, unusable := l.keys.Use(ctx, scope.ID)
	for _, row := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case row.Size == 0: // it is being written
		case unusable != nil:
			s.row.Pass.Unread++
		default:
			if err := s.open(ctx, use, scope.Tenant, row); err != nil {
				return err
			}
		}
		s.row.Extent = row.ID
		if s.row.Pass.Bytes-s.before >= maxScrubStep {
			return nil // the rest of the page is the next step's
		}
	}
	return nil
}

// maxScrubStep is about how many bytes one step reads.
var maxScrubStep int64 = 64 << 20

// open opens one extent, and notes it if that is what cannot be done.
func (s *scrub) open(ctx context.Context, use *encryption.Use, tenant identity.TenantID, row ExtentRow) error {
	err := s.verify(ctx, use, row)
	if errors.Is(err, fault.Integrity) || errors.Is(err, fault.NotFound) {
		now, ok, view := s.again(ctx, row)
		if view != nil || !ok {
			return view // it was removed or moved meanwhile
		}
		err = s.verify(ctx, use, now)
	}
	switch {
	case err == nil:
		s.row.Pass.Extents++
		s.row.Pass.Bytes += row.Size
	case ctx.Err() != nil:
		return ctx.Err()
	case use.Check() != nil:
		s.row.Pass.Unread++
	case errors.Is(err, fault.Integrity), errors.Is(err, fault.NotFound):
		s.row.Pass.Extents++
		s.row.Pass.Bytes += row.Size
		s.damaged = append(s.damaged, Damage{
			Extent: row.ID, Item: row.Item, Tenant: tenant, Owner: row.Owner, Found: s.lake.now().UTC().Truncate(time.Microsecond),
		})
	case errors.Is(err, fault.ItemNotFound): // shredded meanwhile
	default:
		return err
	}
	return nil
}

// again reads the row of an extent, the one after the last, as it lies in the
// database now.
func (s *scrub) again(ctx context.Context, row ExtentRow) (now ExtentRow, ok bool, err error) {
	err = s.lake.store.View(ctx, func(tx Tx) error {
		rows, err := tx.LakeExtentsIn(row.Item, row.State, s.row.Extent, 1)
		if ok = err == nil && len(rows) == 1 && rows[0].ID == row.ID; ok {
			now = rows[0]
		}
		return err
	})
	return now, ok, err
}

// verify opens all of an extent.
func (s *scrub) verify(ctx context.Context, use *encryption.Use, row ExtentRow) error {
	key, err := use.Key(ctx, row.Item, row.Key)
	if err != nil {
		return err
	}
	plain, err := envelope.PlainSize(row.Size)
	if err != nil {
		return err
	}
	e, err := s.lake.openExtent(ctx, key, extentRef{id: row.ID, plain: plain}, row)
	if err != nil {
		return err
	}
	defer e.close()
	r := e.r.Range(0, plain)
	defer r.Close()
	n, err := r.WriteTo(guard{use, io.Discard})
	if err == nil && n != plain {
		err = errStoredSize(row.ID)
	}
	return err
}

// save keeps how far the scrub has come, and records what it has found.
func (s *scrub) save(ctx context.Context, ended bool) error {
	l := s.lake
	if ended {
		s.row.Pass.Ended = l.now().UTC().Truncate(time.Microsecond)
		s.row.Last = s.row.Pass
		s.row.Item, s.row.State, s.row.Extent = "", Staged, ""
	}
	return l.store.Update(ctx, func(tx Tx) error {
		for _, d := range s.damaged {
			fresh, err := tx.PutLakeDamage(d)
			if err != nil {
				return err
			}
			if !fresh {
				continue
			}
			err = tx.AppendAudit(audit.Entry{
				Operation: OpDamaged, Outcome: audit.Failed, Reason: fault.Integrity, Tenant: string(d.Tenant),
				Resource: s.path + "/items/" + string(d.Item), Detail: map[string]string{"extent": string(d.Extent), "node": d.Owner},
			})
			if err != nil {
				return auditFailed(err)
			}
			slog.ErrorContext(ctx, "the scrub has found a damaged extent", "extent", d.Extent, "item", d.Item)
		}
		if ended {
			p := s.row.Pass
			if err := tx.DeleteLakeDamage(); err != nil {
				return err
			}
			err := tx.AppendAudit(audit.Entry{Operation: opScrub, Outcome: audit.Allowed, Resource: "/lake", Detail: map[string]string{
				"extents": strconv.FormatInt(p.Extents, 10), "bytes": strconv.FormatInt(p.Bytes, 10), "unread": strconv.FormatInt(p.Unread, 10),
			}})
			if err != nil {
				return auditFailed(err)
			}
		}
		return tx.PutLakeScrub(s.row)
	})
}
