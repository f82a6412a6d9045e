package export_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/export"
)

// A receiver takes alerts, unless it is down.
type receiver struct {
	down  bool
	heard []string
}

func (r *receiver) Send(_ context.Context, id string, body []byte) (time.Duration, error) {
	var a export.Alert
	if err := json.Unmarshal(body, &a); err != nil || a.ID != id || a.Source != "/r" || a.Type != "io.kluis.platform.KeyUnwrap" || a.Data.Sequence < 0 {
		return 0, errors.New("no alert: " + string(body))
	}
	if r.down {
		return 0, errors.New("down")
	}
	r.heard = append(r.heard, id)
	return 0, nil
}

// TestAlerts lets a receiver fail in the middle of a batch: it gets the wanted
// entries in order and once, and none that is older than a day.
func TestAlerts(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 1, 0, 0, time.UTC)
	log, r := &fakeLog{n: 10}, &receiver{}
	wanted := 0
	f := &export.Follower{Log: log, Position: export.File(filepath.Join(t.TempDir(), "position")), Sink: &export.Alerts{
		Sender: r, Party: "platform", Now: func() time.Time { return now },
		Wants: func(e audit.Entry) bool {
			wanted++
			r.down = wanted == 5 // while the third alert is sent
			return e.Time.Second()%2 == 0
		},
	}}
	if _, err := f.Step(t.Context()); err == nil {
		t.Fatal("the receiver's failure was lost")
	}
	if _, err := f.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"platform-0", "platform-2", "platform-4", "platform-6", "platform-8"}
	if !slices.Equal(r.heard, want) {
		t.Errorf("heard %v", r.heard)
	}
	log.n = 20
	now = now.Add(24*time.Hour - 45*time.Second) // those of the seconds up to 15 are too old
	if _, err := f.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want = append(want, "platform-16", "platform-18"); !slices.Equal(r.heard, want) {
		t.Errorf("heard %v", r.heard)
	}
}
