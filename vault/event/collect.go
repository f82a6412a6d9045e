package event

import (
	"context"
	"fmt"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/vault"
)

// beforeCollect: events are known, and not yet in the database.
var beforeCollect = failpoint.New("vault/event/before-collect")

// collectBatch is how many changes become events in one transaction.
const collectBatch = 200

// Collect turns what has happened since the last call into events. What happened
// before the very first call becomes none.
func (e *Events) Collect(ctx context.Context) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	for {
		more, err := e.collectChanges(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// begin notes at the first call where every vault's feed stands.
func (e *Events) begin(ctx context.Context) error {
	var feeds []Feed
	err := e.store.View(ctx, func(tx Tx) (err error) {
		feeds, err = tx.EventFeeds()
		return err
	})
	if err != nil || len(feeds) > 0 {
		return err
	}
	return e.store.Update(ctx, func(tx Tx) error {
		ids, err := tx.VaultIDs()
		if err != nil {
			return err
		}
		for _, id := range ids {
			v, err := tx.VaultByID(id)
			if err != nil {
				return err
			}
			newest, _, err := tx.VaultRevision(id)
			if err != nil {
				return err
			}
			if err := tx.PutEventFeed(Feed{Vault: id, Name: v.Name, Scope: string(v.Scope()), Seq: newest}); err != nil {
				return err
			}
		}
		return tx.PutEventFeed(Feed{})
	})
}

// A gathered is what one look has found: deliveries, and where the feeds then
// stand.
type gathered struct {
	deliveries []Delivery
	feeds      []Feed
	gone       []vault.ID
}

func (g *gathered) add(e *Events, ev CloudEvent, s subject) error {
	d, err := e.deliveries(ev, s, e.clock())
	g.deliveries = append(g.deliveries, d...)
	return err
}

// collectChanges takes a batch off the vaults' feeds, and reports whether there is
// more. Only one goroutine collects, so that what it read is still so when it
// writes.
func (e *Events) collectChanges(ctx context.Context) (more bool, err error) {
	var g gathered
	err = e.store.View(ctx, func(tx Tx) error {
		known, err := tx.EventFeeds()
		if err != nil {
			return err
		}
		feeds := map[vault.ID]Feed{}
		for _, f := range known {
			feeds[f.Vault] = f
		}
		delete(feeds, "")
		ids, err := tx.VaultIDs()
		if err != nil {
			return err
		}
		for _, id := range ids {
			f := feeds[id]
			delete(feeds, id)
			if more {
				continue
			}
			n, err := e.changes(tx, &g, id, f)
			if err != nil {
				return err
			}
			more = n == collectBatch || len(g.deliveries) >= collectBatch*max(1, len(e.sinks))
		}
		for id, f := range feeds { // what is left of vaults that are not there any more
			s := subject{vault: id, name: f.Name, scope: f.Scope}
			if err := g.add(e, e.event(string(id)+"-purged", VaultPurged, e.clock(), s), s); err != nil {
				return err
			}
			g.gone = append(g.gone, id)
		}
		return nil
	})
	if err != nil || len(g.feeds)+len(g.gone) == 0 {
		return false, err
	}
	if err := beforeCollect.Hit(); err != nil {
		return false, err
	}
	return more, e.store.Update(ctx, func(tx Tx) error {
		for _, f := range g.feeds {
			if err := tx.PutEventFeed(f); err != nil {
				return err
			}
		}
		for _, id := range g.gone {
			if err := tx.DropEventFeed(id); err != nil {
				return err
			}
		}
		for _, d := range g.deliveries {
			if err := tx.AddEventDelivery(d); err != nil {
				return err
			}
		}
		return nil
	})
}

// changes makes events of a batch of one vault's changes, and returns how many
// those are.
func (e *Events) changes(tx Tx, g *gathered, id vault.ID, f Feed) (int, error) {
	newest, dropped, err := tx.VaultRevision(id)
	if err != nil {
		return 0, err
	}
	if f.Vault != "" && f.Seq == newest {
		return 0, nil
	}
	v, err := tx.VaultByID(id)
	if err != nil {
		return 0, err
	}
	at := subject{vault: id, name: v.Name, scope: string(v.Scope())}
	f = Feed{Vault: id, Name: v.Name, Scope: at.scope, Seq: f.Seq}
	if f.Seq < dropped {
		if err := g.add(e, e.event(fmt.Sprintf("%s-%d-lost", id, dropped), ChangesLost, e.clock(), at), at); err != nil {
			return 0, err
		}
		f.Seq = dropped
	}
	next, err := tx.VaultChanges(id, f.Seq, collectBatch)
	if err != nil {
		return 0, err
	}
	for _, c := range next {
		f.Seq = c.Seq
		if c.Kind == vault.AccessPolicyChanged && c.Principal != "" {
			continue // for that principal's ears; the vault has one of its own
		}
		s := at
		s.key, s.principal = c.Key, c.Principal
		if c.Key != "" {
			if s.version, err = version(tx, id, c); err != nil {
				return 0, err
			}
		}
		if err := g.add(e, e.event(fmt.Sprintf("%s-%d", id, c.Seq), TypeOf(c.Kind), c.Time, s), s); err != nil {
			return 0, err
		}
	}
	g.feeds = append(g.feeds, f)
	return len(next), nil
}

// version returns the version that a change is about, with no more than its name if
// it is there no more.
func version(tx Tx, id vault.ID, c vault.Change) (vault.KeyVersion, error) {
	gone := vault.KeyVersion{Version: c.Version}
	k, err := tx.VaultKey(id, c.Key)
	if fault.ReasonOf(err) == fault.KeyNotFound {
		return gone, nil
	}
	if err != nil {
		return gone, err
	}
	want := c.Version
	if want == "" && c.Principal == "" {
		want = k.Current
	}
	if want == "" {
		return gone, nil
	}
	v, err := tx.VaultKeyVersion(k.ID, want)
	if fault.ReasonOf(err) == fault.KeyNotFound {
		return gone, nil
	}
	return v, err
}
