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
	Failed     bool
}

// Watched returns the same stores, which tell watch what each transaction took. It
// must not block.
func (d Domains) Watched(watch func(Cost)) Domains {
	return Domains{watched{d.runner, watch}, watched{d.recall, watch}}
}

type watched struct {
	Runner
	watch func(Cost)
}

func (w watched) View(ctx context.Context, fn func(*Tx) error) error {
	return w.count(false, fn, func(fn func(*Tx) error) error { return w.Runner.View(ctx, fn) })
}

func (w watched) Update(ctx context.Context, fn func(*Tx) error) error {
	return w.count(true, fn, func(fn func(*Tx) error) error { return w.Runner.Update(ctx, fn) })
}

func (w watched) count(writes bool, fn func(*Tx) error, run func(func(*Tx) error) error) error {
	c := Cost{Writes: writes}
	began := time.Now()
	err := run(func(t *Tx) error {
		before := t.asked
		defer func() { c.Statements += t.asked - before }()
		return fn(t)
	})
	c.Took, c.Failed = time.Since(began), err != nil
	w.watch(c)
	return err
}
