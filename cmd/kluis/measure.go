package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/store"
)

// question returns what is told of every question to a customer's vault.
func (m *metrics) question() func(kek.Op, encryption.Outcome, time.Duration) {
	if m == nil {
		return nil
	}
	return func(op kek.Op, outcome encryption.Outcome, took time.Duration) {
		m.questions.WithLabelValues(string(op), string(outcome)).Observe(took.Seconds())
	}
}

// transaction returns what is told of every transaction of a party's database.
func (m *metrics) transaction(party string) func(context.Context, store.Cost) {
	if m == nil {
		return nil
	}
	times, statements := m.transactions.MustCurryWith(prometheus.Labels{"party": party}), m.statements.MustCurryWith(prometheus.Labels{"party": party})
	return func(_ context.Context, c store.Cost) {
		kind := "read"
		if c.Writes {
			kind = "write"
		}
		times.WithLabelValues(kind, outcome(c.Err != nil)).Observe(c.Took.Seconds())
		statements.WithLabelValues(kind).Add(float64(c.Statements))
	}
}

func outcome(failed bool) string {
	if failed {
		return "failed"
	}
	return "done"
}
