package posture_test

import (
	"testing"

	"github.com/kluis-io/kluis/posture"
)

// An item takes its workspace's label unless its own asks for as much.
func TestItemTakes(t *testing.T) {
	strict := map[string]bool{"secret": true, "topsecret": true}
	for _, tt := range []struct {
		own, wanted string
		takes       bool
	}{
		{"", "public", true}, {"", "secret", true}, {"public", "secret", true}, {"public", "Secret", true},
		{"secret", "public", false}, {"public", "internal", false}, {"topsecret", "secret", false}, {"SECRET", "secret", false},
	} {
		if got := posture.ItemTakes(tt.own, tt.wanted, strict); got != tt.takes {
			t.Errorf("%q under %q: %t", tt.own, tt.wanted, got)
		}
	}
}
