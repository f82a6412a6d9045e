package main

import (
	"context"
	"io"
	"time"

	"github.com/kluis-io/kluis/internal/trace"
	"github.com/kluis-io/kluis/lake"
)

// watchObjects returns an object store that is counted and traced, or the same if
// neither is asked for.
func (c Config) watchObjects(o lake.Objects) lake.Objects {
	if c.measured == nil && c.traced == nil {
		return o
	}
	return watchedObjects{o, c.measured}
}

type watchedObjects struct {
	lake.Objects
	metrics *metrics // nil if nobody reads them
}

func (m watchedObjects) took(ctx context.Context, operation string, began time.Time, err error) {
	if m.metrics != nil {
		m.metrics.objectTime.WithLabelValues(operation, outcome(err != nil)).Observe(time.Since(began).Seconds())
	}
	trace.Note(ctx, operation+" object", trace.Client, began).End(err)
}

func (m watchedObjects) moved(direction string, n int) {
	if m.metrics != nil {
		m.metrics.objectBytes.WithLabelValues(direction).Add(float64(n))
	}
}

func (m watchedObjects) Create(ctx context.Context, id string) (lake.ObjectWriter, error) {
	began := time.Now()
	w, err := m.Objects.Create(ctx, id)
	m.took(ctx, "create", began, err)
	if err != nil {
		return nil, err
	}
	return &watchedWriter{w, m, ctx}, nil
}

func (m watchedObjects) Open(ctx context.Context, id string) (lake.Object, error) {
	began := time.Now()
	o, err := m.Objects.Open(ctx, id)
	m.took(ctx, "open", began, err)
	if err != nil {
		return nil, err
	}
	return watchedObject{o, m, ctx}, nil
}

func (m watchedObjects) Delete(ctx context.Context, id string) error {
	began := time.Now()
	err := m.Objects.Delete(ctx, id)
	m.took(ctx, "delete", began, err)
	return err
}

func (m watchedObjects) List(ctx context.Context, each func(string, time.Time) error) error {
	began := time.Now()
	err := m.Objects.List(ctx, each)
	m.took(ctx, "list", began, err)
	return err
}

type watchedWriter struct {
	lake.ObjectWriter
	to  watchedObjects
	ctx context.Context // of who writes
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	n, err := w.ObjectWriter.Write(b)
	w.to.moved("written", n)
	return n, err
}

func (w *watchedWriter) Commit() error {
	began := time.Now()
	err := w.ObjectWriter.Commit()
	w.to.took(w.ctx, "commit", began, err)
	return err
}

type watchedObject struct {
	lake.Object
	from watchedObjects
	ctx  context.Context // of who reads
}

func (o watchedObject) ReadAt(b []byte, at int64) (int, error) {
	began := time.Now()
	n, err := o.Object.ReadAt(b, at)
	o.from.took(o.ctx, "read", began, unlessEOF(err))
	o.from.moved("read", n)
	return n, err
}

func unlessEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
