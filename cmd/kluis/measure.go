package main

import (
	"context"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/lake"
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
func (m *metrics) transaction(party string) func(store.Cost) {
	times, statements := m.transactions.MustCurryWith(prometheus.Labels{"party": party}), m.statements.MustCurryWith(prometheus.Labels{"party": party})
	return func(c store.Cost) {
		kind := "read"
		if c.Writes {
			kind = "write"
		}
		times.WithLabelValues(kind, outcome(c.Failed)).Observe(c.Took.Seconds())
		statements.WithLabelValues(kind).Add(float64(c.Statements))
	}
}

func outcome(failed bool) string {
	if failed {
		return "failed"
	}
	return "done"
}

// objects returns an object store that is counted, or the same if nobody reads that.
func (m *metrics) objects(o lake.Objects) lake.Objects {
	if m == nil {
		return o
	}
	return measuredObjects{o, m}
}

type measuredObjects struct {
	lake.Objects
	*metrics
}

func (m measuredObjects) took(operation string, began time.Time, err error) {
	m.objectTime.WithLabelValues(operation, outcome(err != nil)).Observe(time.Since(began).Seconds())
}

func (m measuredObjects) Create(ctx context.Context, id string) (lake.ObjectWriter, error) {
	began := time.Now()
	w, err := m.Objects.Create(ctx, id)
	m.took("create", began, err)
	if err != nil {
		return nil, err
	}
	return &measuredWriter{w, m}, nil
}

func (m measuredObjects) Open(ctx context.Context, id string) (lake.Object, error) {
	began := time.Now()
	o, err := m.Objects.Open(ctx, id)
	m.took("open", began, err)
	if err != nil {
		return nil, err
	}
	return measuredObject{o, m}, nil
}

func (m measuredObjects) Delete(ctx context.Context, id string) error {
	began := time.Now()
	err := m.Objects.Delete(ctx, id)
	m.took("delete", began, err)
	return err
}

func (m measuredObjects) List(ctx context.Context, each func(string, time.Time) error) error {
	began := time.Now()
	err := m.Objects.List(ctx, each)
	m.took("list", began, err)
	return err
}

type measuredWriter struct {
	lake.ObjectWriter
	to measuredObjects
}

func (w *measuredWriter) Write(b []byte) (int, error) {
	n, err := w.ObjectWriter.Write(b)
	w.to.objectBytes.WithLabelValues("written").Add(float64(n))
	return n, err
}

func (w *measuredWriter) Commit() error {
	began := time.Now()
	err := w.ObjectWriter.Commit()
	w.to.took("commit", began, err)
	return err
}

type measuredObject struct {
	lake.Object
	from measuredObjects
}

func (o measuredObject) ReadAt(b []byte, at int64) (int, error) {
	began := time.Now()
	n, err := o.Object.ReadAt(b, at)
	o.from.took("read", began, unlessEOF(err))
	o.from.objectBytes.WithLabelValues("read").Add(float64(n))
	return n, err
}

func unlessEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
