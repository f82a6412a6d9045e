package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/kluis-io/kluis/internal/failpoint"
)

// afterSend: the receiver has the alert, and the database does not know.
var afterSend = failpoint.New("posture/alert/after-send")

// A Sink takes alerts to a receiver, within the time that it sets itself. The error's
// text is shown, and holds no secret.
type Sink interface {
	Send(ctx context.Context, m Message) error
}

// A Message is an alert as it is sent.
type Message struct {
	ID    string // the same in each attempt, and another each time that the alert is told
	Alert Alert
}

// ContentType is a CloudEvent's in structured mode.
const ContentType = "application/cloudevents+json; charset=utf-8"

// CloudEvent returns the message as a CloudEvent 1.0 (structured JSON). source names
// the installation.
func (m Message) CloudEvent(source string) ([]byte, error) {
	a := m.Alert
	a.Pending, a.Failure = nil, ""
	return json.Marshal(map[string]any{
		"specversion": "1.0", "id": m.ID, "source": source, "type": "io.kluis.posture.alert." + string(a.Kind), "subject": a.Subject,
		"time": a.Told.UTC(), "datacontenttype": "application/json", "data": a,
	})
}

// Config is what a board needs.
type Config struct {
	Store  Store
	Sinks  map[string]Sink
	Signal func(ctx context.Context, now time.Time) ([]Signal, error) // what is so now
	Now    func() time.Time                                           // time.Now if nil
	Every  time.Duration                                              // between two looks; 0 means a minute
}

// A Board watches, keeps alerts and sends them.
type Board struct{ Config }

// New returns a board.
func New(c Config) *Board {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Every == 0 {
		c.Every = time.Minute
	}
	return &Board{c}
}

// Run looks and sends until ctx ends.
func (b *Board) Run(ctx context.Context) {
	t := time.NewTicker(b.Every)
	defer t.Stop()
	for {
		if err := b.Step(ctx); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "watching for alerts", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Step looks once, and sends what is to be sent. Where it cannot look it changes no
// alert, and sends all the same.
func (b *Board) Step(ctx context.Context) error {
	now := b.Now().UTC().Truncate(time.Microsecond)
	signals, err := b.Signal(ctx, now)
	if err == nil {
		err = b.keep(ctx, signals, now)
	}
	return errors.Join(err, b.send(ctx))
}

func (b *Board) keep(ctx context.Context, signals []Signal, now time.Time) error {
	var names []string
	for name := range b.Sinks {
		names = append(names, name)
	}
	slices.Sort(names)
	return b.Store.Update(ctx, func(tx Tx) error {
		known, err := tx.Alerts()
		if err != nil {
			return err
		}
		changed, gone := fold(known, signals, names, now)
		for _, a := range changed {
			if err := tx.PutAlert(a); err != nil {
				return err
			}
		}
		for _, id := range gone {
			if err := tx.DropAlert(id); err != nil {
				return err
			}
		}
		return nil
	})
}

// send gives every sink what waits for it. One that fails holds up no other.
func (b *Board) send(ctx context.Context) error {
	all, err := List(ctx, b.Store, true)
	if err != nil {
		return err
	}
	down := map[string]bool{}
	for _, a := range all {
		for _, name := range a.Pending {
			sink := b.Sinks[name]
			if down[name] {
				continue
			}
			var failure error
			if sink != nil { // else it is configured no more
				failure = sink.Send(ctx, Message{ID: fmt.Sprintf("%s-%d", a.ID, a.Times), Alert: a})
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := afterSend.Hit(); err != nil {
				return err
			}
			if failure != nil {
				slog.WarnContext(ctx, "an alert was not taken", "sink", name, "alert", a.ID, "error", failure)
				down[name] = true
			}
			if err := b.sent(ctx, a, name, failure); err != nil {
				return err
			}
		}
	}
	return nil
}

// sent notes what a sink made of an alert, unless it was told anew meanwhile.
func (b *Board) sent(ctx context.Context, told Alert, sink string, failure error) error {
	return b.Store.Update(ctx, func(tx Tx) error {
		all, err := tx.Alerts()
		if err != nil {
			return err
		}
		for _, a := range all {
			if a.ID != told.ID || a.Times != told.Times {
				continue
			}
			a.Failure = ""
			if failure != nil {
				a.Failure = failure.Error()
			} else {
				a.Pending = slices.DeleteFunc(a.Pending, func(n string) bool { return n == sink })
			}
			return tx.PutAlert(a)
		}
		return nil
	})
}
