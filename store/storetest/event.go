package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/vault/event"
)

// Event checks an implementation of [event.Store]. open returns a new, empty one.
func Event(t *testing.T, open func(t *testing.T) event.Store) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	same := func(t *testing.T, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}

	t.Run("feeds", func(t *testing.T) {
		s := open(t)
		update(t, s, func(tx event.Tx) error {
			return firstError(tx.PutEventFeed(event.Feed{}), tx.PutEventFeed(event.Feed{Vault: "v", Name: "n", Scope: "/s", Seq: 1}),
				tx.PutEventFeed(event.Feed{Vault: "v", Name: "n", Scope: "/s", Seq: 2}), tx.PutEventFeed(event.Feed{Vault: "w"}),
				tx.DropEventFeed("w"))
		})
		view(t, s, func(tx event.Tx) error {
			all, err := tx.EventFeeds()
			same(t, all, []event.Feed{{}, {Vault: "v", Name: "n", Scope: "/s", Seq: 2}})
			return err
		})
	})

	t.Run("deliveries", func(t *testing.T) {
		s := open(t)
		d := func(sink, id, ordering string) event.Delivery {
			return event.Delivery{Sink: sink, Event: id, Type: "t", Ordering: ordering, Body: []byte(id), Created: at, Next: at}
		}
		update(t, s, func(tx event.Tx) error {
			for _, one := range []event.Delivery{d("a", "1", "x"), d("a", "2", "x"), d("b", "1", "x"), d("a", "1", "x"), d("a", "3", "y")} {
				if err := tx.AddEventDelivery(one); err != nil {
					return err
				}
			}
			return nil
		})
		due := func(sink string, when time.Time) (ids []string) {
			t.Helper()
			view(t, s, func(tx event.Tx) error {
				all, err := tx.DueEventDeliveries(sink, when, 10)
				for _, one := range all {
					ids = append(ids, fmt.Sprintf("%d:%s", one.Seq, one.Event))
				}
				return err
			})
			return ids
		}
		same(t, due("a", at), []string{"1:1", "3:3"})
		same(t, due("b", at), []string{"1:1"})
		same(t, due("a", at.Add(-time.Second)), []string(nil))
		later := d("a", "1", "x")
		later.Seq, later.Attempts, later.Next, later.Error = 1, 2, at.Add(time.Minute), "e"
		update(t, s, func(tx event.Tx) error { return tx.SetEventDelivery(later) })
		same(t, due("a", at), []string{"3:3"}) // 2 waits for 1
		view(t, s, func(tx event.Tx) error {
			all, err := tx.EventDeliveries(false, 1)
			same(t, all, []event.Delivery{later})
			return err
		})
		later.Dead = at.Add(time.Hour)
		update(t, s, func(tx event.Tx) error { return firstError(tx.SetEventDelivery(later), tx.DropEventDelivery("a", 3)) })
		same(t, due("a", at), []string{"2:2"})
		view(t, s, func(tx event.Tx) error {
			all, err := tx.EventDeliveries(true, 10)
			same(t, all, []event.Delivery{later})
			return err
		})
		var gaveUp int64
		update(t, s, func(tx event.Tx) (err error) {
			gaveUp, err = tx.SweepEventDeliveries(at.Add(2*time.Hour), at.Add(time.Second), at.Add(2*time.Hour))
			return err
		})
		same(t, gaveUp, int64(2))
		view(t, s, func(tx event.Tx) error {
			all, err := tx.EventDeliveries(true, 10)
			same(t, len(all), 2) // what was given up in this very sweep stays
			return err
		})
	})
}
