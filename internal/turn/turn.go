// Package turn has one process at a time do a piece of work, of all that share a
// database: the sweeps, and what is sent to others.
//
// A process has its turn under a lease in the database's time. Who dies loses it when
// that ends, and who stands still for longer finds its work ended when it goes on: at
// most one statement that was under way is done beside another's work. So the work must
// bear being begun again, and being done by two for a moment; work that does not has
// fencing tokens of its own, as the items of package encryption have.
package turn

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// A Store keeps turns.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is one transaction of a [Store].
type Tx interface {
	// Now returns the time by the database's clock.
	Now() (time.Time, error)
	// Turn returns whose turn a piece of work is; the zero Turn if it is nobody's.
	Turn(name string) (Turn, error)
	// PutTurn replaces it.
	PutTurn(name string, t Turn) error
}

// A Turn is one process's.
type Turn struct {
	Owner string
	Until time.Time
	Done  int64 // how far the work has come, for whoever goes on with it
}

// DefaultSpan is how long a turn is that is not extended.
const DefaultSpan = 15 * time.Second

// Turns are those of one process.
type Turns struct {
	store Store
	owner string
	span  time.Duration
}

// New returns the turns of a process that nobody has yet; a span of 0 means
// [DefaultSpan].
func New(s Store, span time.Duration) *Turns {
	if span == 0 {
		span = DefaultSpan
	}
	return &Turns{store: s, owner: rand.Text(), span: span}
}

// While runs work whenever it is this process's turn, until ctx ends. The work's
// context ends with the turn; work that returns before is not run again.
func (t *Turns) While(ctx context.Context, name string, work func(context.Context)) {
	for ctx.Err() == nil {
		began := time.Now()
		mine, err := t.take(ctx, name)
		if err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "asking for a turn", "work", name, "error", err)
		}
		if mine && t.run(ctx, name, began, work) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(t.span / 3):
		}
	}
}

// take gives this process the turn, or extends it.
func (t *Turns) take(ctx context.Context, name string) (mine bool, err error) {
	err = t.store.Update(ctx, func(tx Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		was, err := tx.Turn(name)
		if err != nil {
			return err
		}
		if mine = was.Owner == t.owner || !was.Until.After(now); !mine {
			return nil
		}
		return tx.PutTurn(name, Turn{t.owner, now.Add(t.span), was.Done})
	})
	return mine && err == nil, err
}

// run runs the work for as long as the turn is extended in time. It reports whether the
// work has returned by itself.
func (t *Turns) run(ctx context.Context, name string, began time.Time, work func(context.Context)) (done bool) {
	ctx, lost := context.WithCancel(ctx)
	defer lost()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		work(ctx)
	}()
	over := time.NewTimer(time.Until(began.Add(t.span)))
	defer over.Stop()
	extend := time.NewTicker(t.span / 3)
	defer extend.Stop()
	for {
		select {
		case <-ended:
			t.give(name)
			return ctx.Err() == nil
		case <-ctx.Done():
			<-ended
			t.give(name)
			return false
		case <-over.C:
			lost()
		case <-extend.C:
			asked := time.Now()
			if asked.After(began.Add(t.span)) { // it stood still
				lost()
				continue
			}
			if mine, err := t.take(ctx, name); err == nil && !mine {
				lost()
			} else if mine {
				began = asked
				over.Reset(time.Until(began.Add(t.span)))
			}
		}
	}
}

// give lets another process go on at once.
func (t *Turns) give(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), t.span/3)
	defer cancel()
	t.store.Update(ctx, func(tx Tx) error {
		was, err := tx.Turn(name)
		if err != nil || was.Owner != t.owner {
			return err
		}
		return tx.PutTurn(name, Turn{Done: was.Done})
	})
}

// Position returns where this process keeps how far a piece of work has come. It is
// shared, and only whose turn it is can move it.
func (t *Turns) Position(name string) *Position { return &Position{t, name} }

// A Position is how far a piece of work has come.
type Position struct {
	turns *Turns
	name  string
}

// Load returns it; 0 is the beginning.
func (p *Position) Load(ctx context.Context) (done int64, err error) {
	err = p.turns.store.View(ctx, func(tx Tx) error {
		was, err := tx.Turn(p.name)
		done = was.Done
		return err
	})
	return done, err
}

// Store moves it, unless another process has taken the work over.
func (p *Position) Store(ctx context.Context, done int64) error {
	return p.turns.store.Update(ctx, func(tx Tx) error {
		was, err := tx.Turn(p.name)
		if err != nil {
			return err
		}
		if was.Owner != p.turns.owner {
			return fault.New(fault.Conflict, "Another process has taken this work over.")
		}
		was.Done = done
		return tx.PutTurn(p.name, was)
	})
}
