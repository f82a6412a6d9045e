package encryption

import (
	"context"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/check"
)

// A CheckTx is the part of a transaction that only checks need.
type CheckTx interface {
	// ScopesAfter returns at most limit scopes with ids above after, by id.
	ScopesAfter(after ScopeID, limit int) ([]Scope, error)
	// ItemsAfter returns at most limit items of the scope with ids above after, by
	// id: its own, and those whose keys are shredded, too.
	ItemsAfter(s ScopeID, after ItemID, limit int) ([]Item, error)
}

// What a check of this package looks at.
const (
	partScope      = "scope"
	partGeneration = "scope key"
	partLink       = "link"
	partItem       = "item"
	partKey        = "item key"
	partVersion    = "key version"
)

// Check checks, without a vault, that every scope has one row that seals and that
// this opens with the root; that it says of itself what is so; and that every live
// key of its items can be reached from it. Where the root alone opens a scope's
// key, its commitment, and every key below it, is opened too.
func Check(ctx context.Context, store Store, root Root, r *check.Report) error {
	return eachScope(ctx, store, func(sc Scope) error {
		c := &scopeCheck{root: root, report: r}
		var used []VersionUse
		err := store.View(ctx, func(tx Tx) (err error) {
			if c.view, err = readView(tx, sc.ID); err == nil {
				used, err = tx.VersionsUsed(sc.ID)
			}
			return err
		})
		if err != nil {
			return err
		}
		r.Checked(partScope)
		c.sealing()
		c.serving()
		c.links()
		c.versions(used)
		return eachItem(ctx, store, sc.ID, func(i Item, keys []KeyRow) error {
			c.item(i, keys)
			return nil
		}, c.end)
	})
}

func eachScope(ctx context.Context, store Store, each func(Scope) error) error {
	return check.Pages(func(after ScopeID, limit int) (page []Scope, err error) {
		err = store.View(ctx, func(tx Tx) (err error) {
			page, err = tx.ScopesAfter(after, limit)
			return err
		})
		return page, err
	}, func(s Scope) ScopeID { return s.ID }, each)
}

// eachItem calls each with the scope's items and their keys, and then end.
func eachItem(ctx context.Context, store Store, id ScopeID, each func(Item, []KeyRow) error, end func()) error {
	type row struct {
		Item
		keys []KeyRow
	}
	err := check.Pages(func(after ItemID, limit int) (page []row, err error) {
		err = store.View(ctx, func(tx Tx) error {
			items, err := tx.ItemsAfter(id, after, limit)
			if err != nil {
				return err
			}
			for _, i := range items {
				keys, err := tx.ItemKeys(i.ID)
				if err != nil {
					return err
				}
				page = append(page, row{i, keys})
			}
			return nil
		})
		return page, err
	}, func(r row) ItemID { return r.ID }, func(r row) error { return each(r.Item, r.keys) })
	if err == nil {
		end()
	}
	return err
}

// A scopeCheck checks one scope.
type scopeCheck struct {
	view
	root   Root
	report *check.Report

	generation Generation // the one that seals; zero if there is none
	reachable  map[int64]bool
	opened     *material // nil unless the root alone opens the scope's key
	own        bool      // the scope's own item was seen
	shredded   bool      // it is being deleted
	behind     int
}

func (c *scopeCheck) found(part, format string, args ...any) {
	c.report.Found(part, string(c.scope.ID), format, args...)
}

// sealing checks the generation rows: the sealing one, and that no other is left
// that would open the scope without the sealing one's guard.
func (c *scopeCheck) sealing() {
	for _, g := range c.generations {
		c.report.Checked(partGeneration)
		switch {
		case g.Number != c.scope.Sealing && g.Mode == PlatformManaged:
			c.found(partGeneration, "Generation %d, which the root alone opens, is still there beside %d, which seals.", g.Number, c.scope.Sealing)
		case g.Number != c.scope.Sealing:
			c.found(partGeneration, "Generation %d is still there beside %d, which seals.", g.Number, c.scope.Sealing)
		case g.Epoch != c.scope.Epoch:
			c.found(partGeneration, "The sealing row is of epoch %d and the scope of %d.", g.Epoch, c.scope.Epoch)
		}
		if g.Number == c.scope.Sealing {
			c.generation = g
		}
	}
	g := c.generation
	if g.Number == 0 {
		c.found(partGeneration, "There is no row of generation %d, which seals: nothing of the scope can be opened.", c.scope.Sealing)
		return
	}
	switch g.Mode {
	case PlatformManaged:
		if g.State != Disabling && g.State != Disabled || len(g.Wrapped) > 0 || g.KID != "" {
			c.found(partGeneration, "The row is platform-managed and says otherwise too: state %q, kid %q.", g.State, g.KID)
		}
	case CustomerManaged:
		if g.State != Enabling && g.State != Active || len(g.Wrapped) == 0 || g.KID == "" || g.KeyIdentifier == "" || g.Algorithm == "" {
			c.found(partGeneration, "The row is customer-managed and lacks what that takes: state %q, kid %q.", g.State, g.KID)
		}
	default:
		c.found(partGeneration, "There is no mode %q.", g.Mode)
	}
	sh, err := openGeneration(c.root, c.scope.Tenant, g)
	if err != nil {
		c.found(partGeneration, "Generation %d does not open under the root: %s", g.Number, check.Text(err))
		return
	}
	defer sh.clear()
	if g.Mode != PlatformManaged {
		return
	}
	m := &material{scope: c.scope, sealing: g, scopeKeys: map[int64]*envelope.Key{}}
	if err := m.derive(c.root.Instance(), c.view, sh); err != nil {
		c.found(partGeneration, "The scope key does not open: %s", check.Text(err))
		m.clear()
		return
	}
	c.opened = m
}

func (c *scopeCheck) serving() {
	s := c.scope
	switch {
	case s.Serving != Serves && s.Serving != Revoked && s.Serving != Unreachable:
		c.found(partScope, "There is no serving state %q.", s.Serving)
	case s.Serving != Serves && c.generation.Mode == PlatformManaged:
		c.found(partScope, "It is %s, though no vault guards it.", s.Serving)
	case s.Serving == Serves && s.Reason != "":
		c.found(partScope, "It serves, and has a reason not to: %s.", s.Reason)
	}
}

// links checks that every older scope key lies under one that can be reached.
func (c *scopeCheck) links() {
	c.reachable = map[int64]bool{c.scope.Sealing: true}
	for _, l := range c.view.links { // newest first
		c.report.Checked(partLink)
		if l.Generation >= l.Under || !c.reachable[l.Under] {
			c.found(partLink, "Generation %d lies under %d, which cannot be reached.", l.Generation, l.Under)
			continue
		}
		c.reachable[l.Generation] = true
	}
}

// versions checks that the key version in use is said to be, and no other.
func (c *scopeCheck) versions(used []VersionUse) {
	live := ""
	if c.generation.Mode == CustomerManaged {
		live = string(c.generation.KID)
	}
	said := live == ""
	for _, u := range used {
		c.report.Checked(partVersion)
		switch {
		case u.KID == live && u.Last.IsZero():
			said = true
		case u.KID != live && u.Last.IsZero():
			c.found(partVersion, "Version %s is said to be in use, and wraps nothing.", u.KID)
		}
	}
	if !said && c.generation.Number != 0 {
		c.found(partVersion, "Version %s wraps the share, and is not said to be in use: somebody may think it safe to disable.", live)
	}
}

// item checks one item's row and keys.
func (c *scopeCheck) item(i Item, keys []KeyRow) {
	r, id := c.report, string(i.ID)
	r.Checked(partItem)
	own := i.ID == ScopeItem(c.scope.ID)
	c.own = c.own || own
	shredded := 0
	current := map[Purpose]int{}
	for _, k := range keys {
		r.Checked(partKey)
		if k.State == Shredded {
			shredded++
			if len(k.Sealed) > 0 {
				r.Found(partKey, string(k.ID), "It is shredded, and its bytes are still there.")
			}
			continue
		}
		if k.State == Current {
			current[k.Purpose]++
		}
		c.key(i, k)
	}
	if len(keys) > 0 && shredded == len(keys) {
		c.shredded = c.shredded || own
		return // deleted, and waits for its last rows to go
	}
	if shredded > 0 {
		r.Found(partItem, id, "Some of its keys are shredded, and others are not.")
	}
	for _, p := range []Purpose{ContentKey, NamesKey} {
		if n := current[p]; n != 1 {
			r.Found(partItem, id, "It has %d keys of purpose %q that seal, and not one.", n, p)
		}
	}
	switch {
	case i.Generation > c.scope.Sealing:
		r.Found(partItem, id, "It is said to be under generation %d, and the scope seals under %d.", i.Generation, c.scope.Sealing)
	case i.Generation == c.scope.Sealing && i.Failed:
		r.Found(partItem, id, "It is said to have failed, and is under the sealing generation.")
	case i.Generation < c.scope.Sealing:
		c.behind++
	}
}

func (c *scopeCheck) key(i Item, k KeyRow) {
	found := func(format string, args ...any) { c.report.Found(partKey, string(k.ID), format, args...) }
	switch {
	case k.Scope != i.Scope:
		found("It belongs to scope %s, and its item to %s.", k.Scope, i.Scope)
	case k.State != Current && k.State != Retiring:
		found("There is no state %q.", k.State)
	case len(k.Sealed) == 0:
		found("Its sealed bytes are missing: all that it sealed is lost.")
	case k.Generation > c.scope.Sealing:
		found("It is under generation %d, and the scope seals under %d.", k.Generation, c.scope.Sealing)
	case !c.reachable[k.Generation]:
		found("It is under generation %d, to which no link leads: all that it sealed is lost.", k.Generation)
	case k.Generation < i.Generation:
		found("It is under generation %d, and its item is said to be under %d.", k.Generation, i.Generation)
	case c.opened != nil:
		key, err := openItemKey(c.root.Instance(), c.scope.Tenant, k, c.opened.scopeKeys[k.Generation])
		if err != nil {
			found("It does not open under generation %d: %s", k.Generation, check.Text(err))
			return
		}
		key.Clear()
	}
}

// end checks what all items together must be.
func (c *scopeCheck) end() {
	if c.opened != nil {
		c.opened.clear()
	}
	if !c.own {
		c.found(partItem, "The scope has no keys for its own names.")
	}
	if c.shredded || c.generation.State != Active && c.generation.State != Disabled {
		return
	}
	if c.behind > 0 {
		c.found(partScope, "It is said to be %s, and %d items are not under its key.", c.generation.State, c.behind)
	}
	if len(c.view.links) > 0 {
		c.found(partScope, "It is said to be %s, and a link to an older scope key is still there.", c.generation.State)
	}
}

// CheckKeys opens every live key of every scope with the right to use it. Scopes
// whose vault refuses or does not answer are noted, and not checked.
func CheckKeys(ctx context.Context, keys *Inspector, r *check.Report) error {
	store := keys.ring.store
	return eachScope(ctx, store, func(sc Scope) error {
		refused := false
		return eachItem(ctx, store, sc.ID, func(i Item, rows []KeyRow) error {
			for _, row := range rows {
				if row.State == Shredded {
					continue
				}
				u, err := keys.Use(ctx, sc.ID)
				switch {
				case ctx.Err() != nil:
					return ctx.Err()
				case err != nil && !refused:
					refused = true
					noteRefusal(r, sc.ID, err)
					fallthrough
				case err != nil:
					r.Skipped("opened key")
					continue
				}
				r.Checked("opened key")
				if _, err := u.Key(ctx, i.ID, row.ID); err != nil {
					r.Found(partKey, string(row.ID), "It does not open: %s", check.Text(err))
				}
			}
			return nil
		}, func() {})
	})
}

func noteRefusal(r *check.Report, id ScopeID, err error) {
	switch reason := fault.ReasonOf(err); {
	case reason.RefusedByVault():
		r.Note(partScope, string(id), "Not checked: the vault refuses. %s", check.Text(err))
	case reason == fault.KEKUnreachable || reason == fault.Unavailable:
		r.Note(partScope, string(id), "Not checked: the vault does not answer. %s", check.Text(err))
	default:
		r.Found(partScope, string(id), "Its key does not open: %s", check.Text(err))
	}
}

// An Inspector opens scopes' keys for a check, under key leases as [Keyring] does:
// every vault is asked, and every answer recorded. But it changes nothing else: no
// latch is set or cleared, and no key version followed. It is for one goroutine.
type Inspector struct {
	ring *Keyring
	open map[ScopeID]inspected
}

type inspected struct {
	use *Use
	err error
}

// Inspect returns an Inspector of the ring's scopes.
func (k *Keyring) Inspect() *Inspector { return &Inspector{ring: k, open: map[ScopeID]inspected{}} }

// Use returns the right to use a scope's keys. A vault that refused, or did not
// answer, is not asked again; one whose lease is over is.
func (n *Inspector) Use(ctx context.Context, id ScopeID) (*Use, error) {
	was, ok := n.open[id]
	if ok && (was.err != nil || was.use.Check() == nil) {
		return was.use, was.err
	}
	if ok {
		was.use.entry.drop(leaseOver(id))
	}
	u, err := n.ask(ctx, id)
	if ctx.Err() == nil {
		n.open[id] = inspected{u, err}
	}
	return u, err
}

func (n *Inspector) ask(ctx context.Context, id ScopeID) (*Use, error) {
	v, err := n.ring.view(ctx, id)
	if err != nil {
		return nil, err
	}
	if v.scope.Serving == Revoked {
		return nil, refused(v.scope)
	}
	m, err := n.ring.unlock(ctx, v)
	if err != nil {
		return nil, err
	}
	return &Use{entry: newEntry(n.ring, m), scope: id}, nil
}

// UseAsOf is Use.
func (n *Inspector) UseAsOf(ctx context.Context, row Scope) (*Use, error) { return n.Use(ctx, row.ID) }

// Forget does nothing: whoever inspects shreds nothing.
func (n *Inspector) Forget(ScopeID, ItemID) {}

// Close forgets every key.
func (n *Inspector) Close() {
	for id, o := range n.open {
		if o.use != nil {
			o.use.entry.drop(stopping())
		}
		delete(n.open, id)
	}
}
