package export

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/audit"
)

// alertLife is how long an alert is tried. An older entry raises none.
const alertLife = 24 * time.Hour

// A Sender takes an alert to its receiver. Its errors hold no secret.
type Sender interface {
	Send(ctx context.Context, id string, body []byte) (retryAfter time.Duration, err error)
}

// Alerts is a sink that tells somebody of the entries that he wants to hear of, as
// CloudEvents 1.0: each at least once, in order, and for a day.
type Alerts struct {
	Sender Sender
	Party  string                 // whose log it is: begins the events' ids
	Wants  func(audit.Entry) bool // which entries raise an alert
	Now    func() time.Time

	sent int64 // sequence number after the newest that was sent
}

// An Alert is an event as it is sent (CloudEvents 1.0, structured JSON).
type Alert struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`     // the same in each delivery
	Source      string    `json:"source"` // the resource, as a path of ids
	Type        string    `json:"type"`   // io.kluis.PARTY.OPERATION
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`

	Data audit.Numbered `json:"data"`
}

// Write implements [Sink].
func (a *Alerts) Write(ctx context.Context, entries []audit.Numbered) error {
	for _, e := range entries {
		if e.Sequence < a.sent || !a.Wants(e.Entry) {
			continue
		}
		alert := Alert{
			SpecVersion: "1.0", ID: a.Party + "-" + strconv.FormatInt(e.Sequence, 10), Source: e.Resource,
			Type: "io.kluis." + a.Party + "." + e.Operation, Time: e.Time.UTC(), ContentType: "application/json", Data: e,
		}
		if a.Now().Sub(e.Time) > alertLife {
			slog.ErrorContext(ctx, "an alert was given up", "event", alert.ID, "type", alert.Type)
			continue
		}
		body, err := json.Marshal(alert)
		if err != nil {
			return err
		}
		if _, err := a.Sender.Send(ctx, alert.ID, body); err != nil {
			return err
		}
		a.sent = e.Sequence + 1
	}
	return nil
}

// Close implements [Sink].
func (a *Alerts) Close() error { return nil }
