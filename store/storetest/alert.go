package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/posture/alert"
)

// Alert checks an implementation of [alert.Store]. open returns a new, empty one.
func Alert(t *testing.T, open func(t *testing.T) alert.Store) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	s := open(t)
	b := alert.Alert{ID: "b", Kind: alert.KeyNearExpiry, Subject: "k", First: at, Last: at, Pending: []string{"siem"}, Ack: &alert.Ack{By: "ann", At: at, Until: at.Add(time.Hour)}}
	a := alert.Alert{ID: "a", Resolved: at}
	update(t, s, func(tx alert.Tx) error {
		return firstError(tx.PutAlert(b), tx.PutAlert(alert.Alert{ID: "a"}), tx.PutAlert(alert.Alert{ID: "c"}), tx.PutAlert(a), tx.DropAlert("c"), tx.DropAlert("d"))
	})
	view(t, s, func(tx alert.Tx) error {
		all, err := tx.Alerts()
		if d := cmp.Diff([]alert.Alert{a, b}, all); d != "" {
			t.Error(d)
		}
		return err
	})
}
