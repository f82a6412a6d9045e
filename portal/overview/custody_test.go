package overview

import (
	"testing"
	"time"

	"github.com/kluis-io/kluis/portal/client"
)

// TestRotation reckons when policies have keys rotated.
func TestRotation(t *testing.T) {
	made := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for after, want := range map[string]string{
		"P90D": "2026-05-01", "P2Y": "2028-01-31", "P1Y6M": "2027-07-31", "p2w": "2026-02-14", "": "", "90D": "", "PD": "", "P1X": "",
	} {
		var p client.RotationPolicy
		p.Actions = append(p.Actions, struct {
			Trigger struct {
				AfterCreate  string `json:"timeAfterCreate,omitempty"`
				BeforeExpiry string `json:"timeBeforeExpiry,omitempty"`
			} `json:"trigger"`
			Action struct {
				Type string `json:"type"`
			} `json:"action"`
		}{})
		p.Actions[0].Action.Type, p.Actions[0].Trigger.AfterCreate = "Rotate", after
		due, ok := rotation(p, made)
		if got := due.Format(time.DateOnly); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %s, %t; want %q", after, got, ok, want)
		}
	}
}
