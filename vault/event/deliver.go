package event

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/vault"
)

// afterSend: the receiver has the event, and the database does not know.
var afterSend = failpoint.New("vault/event/after-send")

// The bounds of delivery.
const (
	giveUpAfter = 24 * time.Hour
	keepDead    = 30 * 24 * time.Hour
	firstPause  = time.Second
	longPause   = 10 * time.Minute
	longWait    = time.Hour // the most that a receiver may ask us to wait
	parallel    = 4         // sends at once to one sink, of as many keys
	maxError    = 200       // bytes of an error that are kept
)

// A Sender takes an event to a receiver. It bounds the time that this takes, and
// what it reads of the answer.
type Sender interface {
	// Send returns nil if the receiver has taken the event. Otherwise retryAfter is
	// how long the receiver wants to be left alone, zero if it did not say. The error's
	// text is shown, and holds no secret.
	Send(ctx context.Context, id string, body []byte) (retryAfter time.Duration, err error)
}

// A Sink is a receiver with what it wants to hear.
type Sink struct {
	Name   string // under which its deliveries are kept
	Sender Sender
	Vaults []vault.Name // nil for all
	Types  []string     // types, or beginnings of types that end in "*"; nil for all
}

func (s Sink) wants(t Type, name vault.Name) bool {
	if len(s.Vaults) > 0 && !slices.ContainsFunc(s.Vaults, func(v vault.Name) bool { return strings.EqualFold(string(v), string(name)) }) {
		return false
	}
	return len(s.Types) == 0 || slices.ContainsFunc(s.Types, func(p string) bool {
		beginning, wild := strings.CutSuffix(p, "*")
		return p == string(t) || wild && strings.HasPrefix(string(t), beginning)
	})
}

// Config is what [New] needs.
type Config struct {
	Store Store
	Sinks []Sink
	Host  func(vault.Name) string // a vault's host, with the port unless it is 443
	Now   func() time.Time        // time.Now if nil
}

// Events is the service.
type Events struct {
	store Store
	sinks []Sink
	host  func(vault.Name) string
	now   func() time.Time
}

// New returns the service. It fails if two sinks share a name.
func New(c Config) (*Events, error) {
	seen := map[string]bool{}
	for _, s := range c.Sinks {
		if s.Name == "" || seen[s.Name] {
			return nil, fault.New(fault.InvalidArgument, "Each webhook needs a name of its own.")
		}
		seen[s.Name] = true
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Events{store: c.Store, sinks: c.Sinks, host: c.Host, now: c.Now}, nil
}

func (e *Events) clock() time.Time { return e.now().UTC().Truncate(time.Microsecond) }

// Run collects and delivers until ctx ends.
func (e *Events) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { repeat(ctx, time.Second, "collecting events", e.Collect) })
	all.Go(func() { repeat(ctx, time.Minute, "giving up events", e.Sweep) })
	for _, s := range e.sinks {
		all.Go(func() {
			repeat(ctx, time.Second, "delivering events", func(ctx context.Context) error {
				for {
					n, err := e.Deliver(ctx, s)
					if n == 0 || err != nil {
						return err
					}
				}
			})
		})
	}
}

func repeat(ctx context.Context, every time.Duration, what string, fn func(context.Context) error) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if err := fn(ctx); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, what, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Deliver sends what is due at a sink, one event of each key, and returns how many
// it tried.
func (e *Events) Deliver(ctx context.Context, s Sink) (int, error) {
	var due []Delivery
	err := e.store.View(ctx, func(tx Tx) (err error) {
		due, err = tx.DueEventDeliveries(s.Name, e.clock(), 4*parallel)
		return err
	})
	if err != nil || len(due) == 0 {
		return 0, err
	}
	var (
		sends  sync.WaitGroup
		mu     sync.Mutex
		failed error
		slots  = make(chan struct{}, parallel)
	)
	for _, d := range due {
		slots <- struct{}{}
		sends.Go(func() {
			defer func() { <-slots }()
			if err := e.send(ctx, s, d); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	sends.Wait()
	return len(due), failed
}

func (e *Events) send(ctx context.Context, s Sink, d Delivery) error {
	wait, err := s.Sender.Send(ctx, d.Event, d.Body)
	if ctx.Err() != nil {
		return ctx.Err() // the attempt does not count, and the event may come twice
	}
	if err == nil {
		if err := afterSend.Hit(); err != nil {
			return err
		}
		return e.store.Update(ctx, func(tx Tx) error { return tx.DropEventDelivery(d.Sink, d.Seq) })
	}
	now := e.clock()
	d.Attempts++
	d.Error = err.Error()[:min(len(err.Error()), maxError)]
	d.Next = now.Add(max(pause(d.Attempts), min(wait, longWait)))
	slog.WarnContext(ctx, "an event was not taken", "sink", d.Sink, "event", d.Event, "attempts", d.Attempts, "error", d.Error)
	if fault.ReasonOf(err) == fault.NotFound || now.Sub(d.Created) >= giveUpAfter {
		d.Dead = now
		slog.ErrorContext(ctx, "an event was given up", "sink", d.Sink, "event", d.Event, "type", d.Type)
	}
	return e.store.Update(ctx, func(tx Tx) error { return tx.SetEventDelivery(d) })
}

// pause returns how long to wait after a failed attempt: twice as long each time,
// and between half of that and all of it, so that receivers are not hit by all at
// once.
func pause(attempts int) time.Duration {
	d := longPause
	if attempts < 20 {
		d = min(longPause, firstPause<<(attempts-1))
	}
	return d/2 + rand.N(d/2+1)
}

// Sweep gives up what has waited for a day, also for sinks that are not configured
// any more, and forgets what was given up a month ago.
func (e *Events) Sweep(ctx context.Context) error {
	now := e.clock()
	var gaveUp int64
	err := e.store.Update(ctx, func(tx Tx) (err error) {
		gaveUp, err = tx.SweepEventDeliveries(now, now.Add(-giveUpAfter), now.Add(-keepDead))
		return err
	})
	if err == nil && gaveUp > 0 {
		slog.ErrorContext(ctx, "events were given up", "count", gaveUp)
	}
	if err != nil {
		err = fmt.Errorf("sweep: %w", err)
	}
	return err
}

// Deliveries returns at most limit deliveries, either those given up or those that
// wait, oldest first: for the custodian to see.
func Deliveries(ctx context.Context, s Store, dead bool, limit int) (all []Delivery, err error) {
	err = s.View(ctx, func(tx Tx) error {
		all, err = tx.EventDeliveries(dead, limit)
		return err
	})
	return all, err
}
