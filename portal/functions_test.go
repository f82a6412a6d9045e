package portal_test

import (
	"testing"
	"time"

	"github.com/kluis-io/kluis/portal"
)

func TestSpelling(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 150 << 10: "150 KiB", 5 << 40: "5.0 TiB"} {
		if got := portal.BytesText(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		5 * time.Millisecond: "5 ms", time.Second: "1 s", 60 * time.Second: "1 min", 90 * time.Second: "1 min 30 s",
		time.Hour + 5*time.Second: "1 h", 49 * time.Hour: "2 d 1 h",
	} {
		if got := portal.LengthText(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "just now", -time.Minute: "1 minute ago", -3 * time.Hour: "3 hours ago", -72 * time.Hour: "3 days ago", 48 * time.Hour: "in 2 days",
	} {
		if got := portal.AgoFrom(now.Add(d), now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	for thing, want := range map[string]string{"key": "2 keys", "day": "2 days", "policy": "2 policies", "workspace": "2 workspaces"} {
		if got := portal.Many(2, thing); got != want {
			t.Errorf("two of %s: %q", thing, got)
		}
	}
}

func TestCountAndPeriod(t *testing.T) {
	for n, want := range map[int]string{0: "0", 12: "12", 123: "123", 1000: "1,000", 12345: "12,345", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := portal.Count(n); got != want {
			t.Errorf("%d is spelled %q, want %q", n, got, want)
		}
	}
	for iso, want := range map[string]string{"P90D": "90 days", "P1M": "1 month", "P2Y": "2 years", "p1y6m": "1 year 6 months", "P": "P", "": "", "PT5M": "PT5M", "P-1D": "P-1D", "90": "90", "PD": "PD"} {
		if got := portal.Period(iso); got != want {
			t.Errorf("%q is spelled %q, want %q", iso, got, want)
		}
	}
}
