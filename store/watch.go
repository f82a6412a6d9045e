package store

import (
	"context"
	"time"
)

// A Cost is what one transaction took of the database.
type Cost struct {
	Writes     bool
	Statements int // sent; a server that is not in this process is asked at least as often
	Took       time.Duration
	Err        error // why it did not happen
}

// Watched returns the same stores, which tell watch what each transaction took, with the
// context of who asked for it. It must not block.
func (d Domains) Watched(watch func(context.Context, Cost)) Domains {
	return Domains{watched{d.runner, watch}, watched{d.recall, watch}}
}

type watched struct {
	Runner
	watch func(context.Context, Cost)
}

func (w watched) View(ctx context.Context, fn func(*Tx) error) error {
	return w.count(ctx, false, fn, func(fn func(*Tx) error) error { return w.Runner.View(ctx, fn) })
}

func (w watched) Update(ctx context.Context, fn func(*Tx) error) error {
	return w.count(ctx, true, fn, func(fn func(*Tx) error) error { return w.Runner.Update(ctx, fn) })
}

func (w watched) count(ctx context.Context, writes bool, fn func(*Tx) error, run func(func(*Tx) error) error) error {
	c := Cost{Writes: writes}
	began := time.Now()
	err := run(func(t *Tx) error {
		before := t.asked
		defer func() { c.Statements += t.asked - before }()
		return fn(t)
	})
	c.Took, c.Err = time.Since(began), err
	w.watch(ctx, c)
	return err
}
