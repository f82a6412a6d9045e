package kek_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kluis-io/kluis/kek"
)

func TestLeaseCountsFromBeforeTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := time.Now()
		time.Sleep(20 * time.Second) // a slow vault
		l := kek.NewLease(sent, 30*time.Second)
		if got, want := l.HalfTime(), sent.Add(15*time.Second); !got.Equal(want) {
			t.Errorf("HalfTime = %v, want %v", got, want)
		}
		if got, want := l.Expires(), sent.Add(30*time.Second); !got.Equal(want) {
			t.Errorf("Expires = %v, want %v", got, want)
		}
		time.Sleep(10*time.Second - time.Nanosecond)
		if !l.Valid(time.Now()) {
			t.Error("ended 1 ns early")
		}
		time.Sleep(time.Nanosecond)
		if l.Valid(time.Now()) {
			t.Error("runs at its end")
		}
		if l.Valid(sent) {
			t.Error("came back to life for an earlier time")
		}
	})
}

func TestLeaseEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		l := kek.NewLease(now, time.Hour)
		c := l
		if !l.Valid(now) || !c.Valid(now) {
			t.Fatal("a new lease does not run")
		}
		go c.End()
		synctest.Wait()
		if l.Valid(now) {
			t.Error("ending a copy did not end the lease")
		}
	})
	if (kek.Lease{}).Valid(time.Now()) {
		t.Error("the zero lease runs")
	}
	kek.Lease{}.End()
	for _, length := range []time.Duration{0, -time.Second} {
		if kek.NewLease(time.Now(), length).Valid(time.Now()) {
			t.Errorf("a lease of %v runs", length)
		}
	}
}

func TestLeaseClocks(t *testing.T) {
	const s = time.Second
	type at struct {
		mono, wall time.Duration
		valid      bool
	}
	for _, tc := range []struct {
		name  string
		steps []at
	}{
		{"both agree", []at{{0, 0, true}, {29 * s, 29 * s, true}, {30 * s, 30 * s, false}}},
		{"suspended: the monotonic clock stood still", []at{{1 * s, 1 * s, true}, {2 * s, 30 * s, false}}},
		{"wall clock too slow", []at{{27 * s, 23 * s, true}, {30 * s, 26 * s, false}}},
		{"back by 5 s", []at{{10 * s, 10 * s, true}, {11 * s, 6 * s, true}}},
		{"back by more than 5 s", []at{{10 * s, 10 * s, true}, {11 * s, 6*s - 1, false}}},
		{"ended by a step, stays ended", []at{{10 * s, 4 * s, false}, {11 * s, 11 * s, false}}},
		{"forward, then back to where it was", []at{{1 * s, 9 * s, true}, {2 * s, 2 * s, false}}},
		{"back in small steps", []at{{2 * s, 0, true}, {5 * s, 1 * s, true}, {8 * s, 2 * s, false}}},
		{"no monotonic reading, back before the request", []at{{-5 * s, -5 * s, true}, {-6 * s, -6 * s, false}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := kek.NewLease(time.Now(), 30*s)
			for i, a := range tc.steps {
				if got := l.ValidAfter(a.mono, a.wall); got != a.valid {
					t.Errorf("step %d: monotonic %v, wall %v: valid %v, want %v", i, a.mono, a.wall, got, a.valid)
				}
			}
		})
	}
}

func TestLeaseWithoutMonotonicReading(t *testing.T) {
	sent := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	l := kek.NewLease(sent, time.Minute)
	if !l.Valid(sent.Add(59 * time.Second)) {
		t.Error("ended early")
	}
	if l.Valid(sent.Add(time.Minute)) {
		t.Error("runs at its end")
	}
}

func BenchmarkLeaseValid(b *testing.B) {
	l := kek.NewLease(time.Now(), time.Hour)
	for b.Loop() {
		if !l.Valid(time.Now()) {
			b.Fatal("ended")
		}
	}
}
