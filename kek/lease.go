package kek

import (
	"sync/atomic"
	"time"
)

// maxStep is the furthest that the wall clock may fall back against the monotonic
// one before a lease no longer trusts either.
const maxStep = 5 * time.Second

// A Lease is the time for which a scope key may be used without asking the vault
// again. Copies of a Lease are the same lease: ending one ends all. The zero Lease
// has ended. It is safe for concurrent use.
type Lease struct {
	sent   time.Time // before the request was sent
	length time.Duration
	state  *leaseState
}

type leaseState struct {
	ended atomic.Bool
	ahead atomic.Int64 // how far the wall clock was seen ahead of the monotonic one, at most, in nanoseconds
}

// NewLease returns the lease that a vault's yes gives: it ends length after sent,
// the time at which the request was about to leave, so that no delay of the answer
// can stretch it. Take sent from [time.Now], which reads both clocks.
func NewLease(sent time.Time, length time.Duration) Lease {
	return Lease{sent: sent, length: length, state: new(leaseState)}
}

// Valid reports whether the lease still runs at now, as read by [time.Now]. It ends
// by whichever of the monotonic and the wall clock says so first (a suspended
// machine stops the one, an administrator turns back the other), and at once if
// the wall clock fell back by more than 5 s. A lease found ended stays ended.
func (l Lease) Valid(now time.Time) bool {
	return l.valid(now.Sub(l.sent), now.Round(0).Sub(l.sent.Round(0)))
}

// valid is Valid in terms of what each clock says has passed since the request was
// sent. Where a time has no monotonic reading, both are the wall clock's word.
func (l Lease) valid(mono, wall time.Duration) bool {
	if l.state == nil || l.state.ended.Load() {
		return false
	}
	ahead := int64(wall - mono)
	highest := l.state.ahead.Load()
	for ahead > highest && !l.state.ahead.CompareAndSwap(highest, ahead) {
		highest = l.state.ahead.Load()
	}
	fellBack := ahead < highest-int64(maxStep) || wall < -maxStep
	if mono >= l.length || wall >= l.length || fellBack {
		l.state.ended.Store(true)
		return false
	}
	return true
}

// End ends the lease and every copy of it.
func (l Lease) End() {
	if l.state != nil {
		l.state.ended.Store(true)
	}
}

// HalfTime returns when the lease should be renewed.
func (l Lease) HalfTime() time.Time { return l.sent.Add(l.length / 2) }

// Expires returns when the lease ends if nothing ends it earlier.
func (l Lease) Expires() time.Time { return l.sent.Add(l.length) }

// Length returns for how long the lease was given, counted from before the request
// was sent.
func (l Lease) Length() time.Duration { return l.length }
