package store

import (
	"time"

	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/event"
)

// Event returns the events of the vaults in this database.
func (d Domains) Event() event.Store {
	return domain[event.Tx]{d.runner, func(t *Tx) event.Tx { return t }}
}

func (t *Tx) EventFeeds() (all []event.Feed, err error) {
	err = t.rows(`SELECT vault, name, scope, seq FROM event_feed ORDER BY vault`, nil, func(scan func(...any) error) error {
		var f event.Feed
		err := scan((*string)(&f.Vault), (*string)(&f.Name), &f.Scope, &f.Seq)
		all = append(all, f)
		return err
	})
	return all, err
}

func (t *Tx) PutEventFeed(f event.Feed) error {
	_, err := t.exec(`INSERT INTO event_feed (vault, name, scope, seq) VALUES ($1, $2, $3, $4)
		ON CONFLICT (vault) DO UPDATE SET name = excluded.name, scope = excluded.scope, seq = excluded.seq`,
		string(f.Vault), string(f.Name), f.Scope, f.Seq)
	return err
}

func (t *Tx) DropEventFeed(id vault.ID) error {
	_, err := t.exec(`DELETE FROM event_feed WHERE vault = $1`, string(id))
	return err
}

func (t *Tx) AddEventDelivery(d event.Delivery) error {
	_, err := t.exec(`INSERT INTO event_delivery (sink, seq, event, type, ordering, body, created, attempts, next, dead, error)
		SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM event_delivery WHERE sink = $1
		ON CONFLICT (sink, event) DO NOTHING`,
		d.Sink, d.Event, string(d.Type), d.Ordering, d.Body, micros(d.Created), d.Attempts, micros(d.Next), micros(d.Dead), d.Error)
	return err
}

const deliveryColumns = `sink, seq, event, type, ordering, body, created, attempts, next, dead, error`

func (t *Tx) deliveriesWhere(where string, args ...any) (all []event.Delivery, err error) {
	err = t.rows(`SELECT `+deliveryColumns+` FROM event_delivery WHERE `+where, args, func(scan func(...any) error) error {
		var d event.Delivery
		var created, next, dead int64
		err := scan(&d.Sink, &d.Seq, &d.Event, (*string)(&d.Type), &d.Ordering, &d.Body, &created, &d.Attempts, &next, &dead, &d.Error)
		d.Created, d.Next, d.Dead = fromMicros(created), fromMicros(next), fromMicros(dead)
		all = append(all, d)
		return err
	})
	return all, err
}

func (t *Tx) DueEventDeliveries(sink string, at time.Time, limit int) ([]event.Delivery, error) {
	return t.deliveriesWhere(`sink = $1 AND next <= $2 AND seq IN
		(SELECT MIN(seq) FROM event_delivery WHERE sink = $1 AND dead = 0 GROUP BY ordering) ORDER BY seq LIMIT $3`,
		sink, micros(at), limit)
}

func (t *Tx) SetEventDelivery(d event.Delivery) error {
	_, err := t.exec(`UPDATE event_delivery SET attempts = $3, next = $4, dead = $5, error = $6 WHERE sink = $1 AND seq = $2 AND event = $7`,
		d.Sink, d.Seq, d.Attempts, micros(d.Next), micros(d.Dead), d.Error, d.Event)
	return err
}

func (t *Tx) DropEventDelivery(sink string, seq int64) error {
	_, err := t.exec(`DELETE FROM event_delivery WHERE sink = $1 AND seq = $2`, sink, seq)
	return err
}

func (t *Tx) EventDeliveries(dead bool, limit int) ([]event.Delivery, error) {
	if dead {
		return t.deliveriesWhere(`dead > 0 ORDER BY created, sink, seq LIMIT $1`, limit)
	}
	return t.deliveriesWhere(`dead = 0 ORDER BY created, sink, seq LIMIT $1`, limit)
}

func (t *Tx) SweepEventDeliveries(now, waiting, dead time.Time) (gaveUp int64, err error) {
	if gaveUp, err = t.exec(`UPDATE event_delivery SET dead = $1 WHERE dead = 0 AND created < $2`, micros(now), micros(waiting)); err != nil {
		return 0, err
	}
	_, err = t.exec(`DELETE FROM event_delivery WHERE dead > 0 AND dead < $1`, micros(dead))
	return gaveUp, err
}
