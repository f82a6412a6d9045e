// Package pace decides when a vault is asked: when a key lease is renewed, how
// often a scope without access is tried again, how long leases are, and what one
// vault can be asked for in a second.
//
// All of it is arithmetic on times that the caller gives, with no clock, goroutine
// or lock of its own, so that package encryption and the simulation in
// test/simulation drive the same code.
package pace

import "time"

// An Action is what is to be done about a scope.
type Action int

// The actions.
const (
	Nothing Action = iota
	Ask            // a scope without a lease: whether its vault says yes again
	Expire         // the lease is over
	Renew          // ask the vault again, while the lease runs
)

// A Clock is what decides about one scope.
type Clock struct {
	Leased  bool      // a lease was given and not ended
	Valid   bool      // and it still runs
	Hinted  bool      // the vault's feed says: ask again
	Given   time.Time // when the lease began: before its question was sent
	Used    time.Time // when somebody last used the keys
	Renewal time.Time // from when on the lease is renewed
	Poll    time.Time // after which a scope without one is tried again
}

// Due returns what is to be done at a time. Idle scopes are not renewed: a lease
// which nobody has used since it was given runs out.
func (c Clock) Due(now time.Time) Action {
	switch {
	case !c.Leased && (c.Hinted || now.After(c.Poll)):
		return Ask
	case !c.Leased:
		return Nothing
	case !c.Valid:
		return Expire
	case c.Hinted || !now.Before(c.Renewal) && !c.Used.Before(c.Given):
		return Renew
	}
	return Nothing
}

// Urgency returns how urgent the question is that is due.
func (c Clock) Urgency() Urgency {
	switch {
	case c.Leased && c.Hinted: // it may mean a no
		return Told
	case c.Leased:
		return Keeping
	case c.Hinted: // it may mean a yes
		return Opening
	}
	return Trying
}

// What share of a lease goes by before it is renewed: spread, so that leases which
// began together are not renewed together, and never later than half of it.
const (
	renewFrom = 0.4
	renewTo   = 0.5
	renewMean = (renewFrom + renewTo) / 2
)

// Renewal returns from when on a lease is renewed. Like every function here that
// spreads something, it takes a random number of [0,1).
func Renewal(given time.Time, length time.Duration, random float64) time.Time {
	return given.Add(time.Duration(float64(length) * (renewFrom + (renewTo-renewFrom)*random)))
}

// Again returns when a renewal that was not answered is tried again: after one to
// two seconds.
func Again(now time.Time, random float64) time.Time {
	return now.Add(time.Second + time.Duration(float64(time.Second)*random))
}

// Poll returns when a scope without access is tried again: after the interval, an
// eighth more or less. Of many replicas each waits so much longer, and at random, that
// all together try three times in an interval, and hardly any is without one.
func Poll(now time.Time, every time.Duration, replicas int, random float64) time.Time {
	if replicas > 1 {
		return now.Add(time.Duration(2. / 3 * float64(replicas) * float64(every) * random))
	}
	return now.Add(every - every/8 + time.Duration(float64(every/4)*random))
}
