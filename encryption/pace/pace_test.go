package pace_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/encryption/pace"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Whatever is asked, and whenever, no more is granted than the rate allows, plus what
// an unused second leaves; only what waits for nothing goes beyond, and the others
// pay for it.
func TestBudgetHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.1, 500).Draw(t, "rate")
		b := pace.NewBudget(rate, start)
		now, granted := start, 0.0
		var costliest float64
		for range rapid.IntRange(1, 400).Draw(t, "questions") {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond)
			cost := rapid.SampledFrom([]float64{1, 4, 8}).Draw(t, "cost")
			u := rapid.SampledFrom([]pace.Urgency{pace.Keeping, pace.Opening, pace.Trying, pace.Looking}).Draw(t, "urgency")
			if b.Take(now, u, cost) {
				granted += cost
				costliest = max(costliest, cost)
			}
			if most := rate*now.Sub(start).Seconds() + rate + costliest; granted > most+1e-6 {
				t.Fatalf("%.2f were granted in %v, and %.2f are allowed", granted, now.Sub(start), most)
			}
		}
	})
}

// While there is little, the urgent go first.
func TestUrgency(t *testing.T) {
	b := pace.NewBudget(80, start)
	for _, step := range []struct {
		urgency pace.Urgency
		granted int
	}{{pace.Looking, 40}, {pace.Trying, 20}, {pace.Opening, 10}, {pace.Keeping, 10}} {
		n := 0
		for b.Take(start, step.urgency, 1) {
			n++
		}
		if n != step.granted {
			t.Errorf("urgency %d: %d granted, want %d", step.urgency, n, step.granted)
		}
	}
	for range 1000 {
		if !b.Take(start, pace.Told, 1) {
			t.Fatal("what waits for nothing had to wait")
		}
	}
	if b.Take(start.Add(2*time.Second-time.Millisecond), pace.Keeping, 1) {
		t.Error("nobody paid for what waited for nothing")
	}
	if !b.Take(start.Add(2*time.Second+20*time.Millisecond), pace.Keeping, 1) {
		t.Error("the others paid for more than two seconds")
	}
}

// A silent vault is asked one question now and then, and starts slowly.
func TestSilence(t *testing.T) {
	const rate = 100
	b := pace.NewBudget(rate, start)
	now := start
	for range 3 {
		if !b.Take(now, pace.Keeping, 1) || b.Silent() {
			t.Fatal("taken for silent too early")
		}
		b.Unanswered(now, 0, 0.5)
	}
	if !b.Silent() {
		t.Fatal("not taken for silent")
	}
	probes := 0
	for end := now.Add(time.Hour); now.Before(end); now = now.Add(250 * time.Millisecond) {
		for range 50 { // scopes that want to know
			if b.Take(now, pace.Trying, 1) {
				probes++
				b.Unanswered(now.Add(5*time.Second), 0, 0.5)
			}
		}
	}
	if probes < 3600/30 || probes > 3600/10 {
		t.Errorf("%d probes of a vault that was silent for an hour", probes)
	}
	b.Answered(now)
	n := 0
	for end := now.Add(10 * time.Second); now.Before(end); now = now.Add(250 * time.Millisecond) {
		for b.Take(now, pace.Trying, 1) {
			n++
		}
	}
	if n > 10*rate {
		t.Errorf("%d questions in the ten seconds after the first answer", n)
	}
}

// A vault that asks to be left alone is, for at most a minute.
func TestRetryAfter(t *testing.T) {
	b := pace.NewBudget(100, start)
	b.Unanswered(start, time.Hour, 0)
	if b.Take(start.Add(59*time.Second), pace.Keeping, 1) {
		t.Error("asked though it wants to be left alone")
	}
	if !b.Take(start.Add(time.Minute), pace.Keeping, 1) {
		t.Error("believed for more than a minute")
	}
}

// Leases grow with what their renewals cost, and never beyond the bound.
func TestLength(t *testing.T) {
	b := pace.NewBudget(pace.DefaultRate, start)
	for _, c := range []struct {
		scopes int
		want   time.Duration
	}{{0, 30 * time.Second}, {1620, 30 * time.Second}, {3240, time.Minute}, {100_000, 10 * time.Minute}} {
		b.Demand(float64(c.scopes))
		if got := b.Length(30*time.Second, 10*time.Minute).Round(time.Second); got != c.want {
			t.Errorf("%d scopes: %v, want %v", c.scopes, got, c.want)
		}
	}
	if !pace.Carries(pace.DefaultRate, 3240*pace.Carried(1, time.Minute)) || pace.Carries(pace.DefaultRate, 3241*pace.Carried(1, time.Minute)) {
		t.Error("what is carried is not what the leases stretch to")
	}
}

// However many processes share a vault's budget, and whatever each of them wants, together
// they ask for no more than it allows, plus what an unused second leaves and one question
// that costs more than a share ever holds; only where each share is less than a question a
// second, they may.
func TestSharesHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(1, 500).Draw(t, "rate")
		n := rapid.IntRange(1, int(rate)).Draw(t, "replicas")
		serving := n
		affinity := rapid.IntRange(0, n).Draw(t, "affinity")
		if affinity > 0 {
			serving = affinity
		}
		all := make([]*pace.Budget, serving) // of those that serve the tenant
		for i := range all {
			all[i] = pace.NewBudget(pace.Share(rate, n, affinity), start)
		}
		now, granted := start, 0.0
		for range rapid.IntRange(1, 200).Draw(t, "moments") {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond)
			for range rapid.IntRange(1, 20).Draw(t, "questions") {
				b := all[rapid.IntRange(0, serving-1).Draw(t, "process")]
				for b.Take(now, pace.Keeping, 1) { // all that it is given
					granted++
				}
			}
			if most := rate*now.Sub(start).Seconds() + rate; granted > most+1e-6 {
				t.Fatalf("%d processes were given %.2f in %v, and %.2f are allowed", serving, granted, now.Sub(start), most)
			}
		}
	})
}
