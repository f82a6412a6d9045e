package pace

import "time"

// DefaultRate is how many operations with RSA-2048 keys a vault is asked for in a
// second, if nobody says otherwise: what Azure publishes for HSM-protected keys
// (2,000 in ten seconds), which is half of what it publishes for software-protected
// ones, so that half is left to whoever else uses such a vault.
// https://learn.microsoft.com/azure/key-vault/general/service-limits
const DefaultRate = 200

// Cost returns what an operation costs, in operations with RSA-2048 keys, by a key's
// bits. Azure's limits are weighted alike: 4,000, 1,000 and 500 in ten seconds for
// 2048, 3072 and 4096. Any other key is a symmetric one, and costs 1.
func Cost(bits int) float64 {
	switch bits {
	case 3072:
		return 4
	case 4096:
		return 8
	}
	return 1
}

// Share returns what one of several replicas may ask a vault in a second: its part of
// the budget, by how many of them serve a tenant (0 means all), and at least one
// question a second, for else it could not open two scopes in a row. So more than
// [DefaultRate] replicas that all serve one tenant may go beyond the budget; then it is
// for the vault to say so, and they leave it alone for as long as it asks.
func Share(rate float64, replicas, affinity int) float64 {
	if affinity > 0 {
		replicas = min(replicas, affinity)
	}
	return max(rate/float64(max(1, replicas)), min(rate, 1))
}

// An Urgency is what a question to a vault is for. While the budget is short, the
// more urgent go first.
type Urgency int

// The urgencies, the most urgent first.
const (
	Told    Urgency = iota // the vault's feed, or an administrator, wants it: it waits for nothing, and others pay
	Keeping                // renewing a lease that is in use
	Opening                // opening a scope that somebody waits for
	Trying                 // trying a scope without access again
	Looking                // looking whether a key has a newer version, and moving to it
)

// reserve is what share of a full budget is left to the more urgent.
var reserve = [...]float64{Told: 0, Keeping: 0, Opening: 1. / 8, Trying: 1. / 4, Looking: 1. / 2}

const (
	// renewing is the share of the budget that renewals may take before leases are
	// stretched; the rest is for what opens, rotates and returns.
	renewing = 0.6
	// full is for how long an unused budget grows.
	full = time.Second
	// debt is the most that what waits for nothing takes from those that do.
	debt = 2 * time.Second
	// silent is how many questions in a row go unanswered until a vault is taken for
	// silent.
	silent = 3
	// While a vault is silent, one question is put to it now and then: after a second,
	// then twice that, and so on.
	firstProbe, lastProbe = time.Second, 15 * time.Second
	// openingProbe is for who waits for a scope.
	openingProbe = 2 * time.Second
	// probing is the share of the budget that probes of a silent vault take at most.
	probing = 0.1
	// maxRetryAfter is the longest that a vault is believed which asks to be left alone.
	maxRetryAfter = time.Minute
)

// A Budget says what one vault may be asked by one process, and how a vault that
// does not answer is left alone: instead of every scope's question, one question is
// put to it now and then, and once it answers the others follow at the budget's
// rate. It is for one goroutine at a time.
type Budget struct {
	rate   float64 // a second
	left   float64 // may be below zero
	at     time.Time
	demand float64

	missed int           // questions unanswered in a row
	wait   time.Duration // between the probes of a silent vault
	probed time.Time     // when it was last probed
	probe  time.Time     // when it is probed next
	spread bool          // and that was spread
	pause  time.Time     // until when it wants to be left alone
}

// NewBudget returns a full budget.
func NewBudget(rate float64, now time.Time) *Budget {
	return &Budget{rate: rate, left: rate * full.Seconds(), at: now}
}

func (b *Budget) refill(now time.Time) {
	if now.After(b.at) {
		b.left = min(b.left+b.rate*now.Sub(b.at).Seconds(), b.rate*full.Seconds())
		b.at = now
	}
}

// Take takes the cost of a question, or reports that it must not be put yet.
func (b *Budget) Take(now time.Time, u Urgency, cost float64) bool {
	b.refill(now)
	if u == Told {
		b.left = max(b.left-cost, -b.rate*debt.Seconds())
		return true
	}
	if now.Before(b.pause) {
		return false
	}
	if b.Silent() {
		if now.Before(b.probe) && (u != Opening || now.Sub(b.probed) < b.slower(openingProbe, cost)) {
			return false
		}
		b.wait = min(2*b.wait, lastProbe)
		b.probed, b.probe, b.spread = now, now.Add(b.slower(b.wait, cost)), false
		b.left -= cost
		return true
	}
	// What costs more than there ever is may be taken from a full budget.
	if most := b.rate * full.Seconds(); b.left < min(reserve[u]*most+cost, most) {
		return false
	}
	b.left -= cost
	return true
}

// slower keeps the probes of many processes within a part of the budget that they
// share.
func (b *Budget) slower(d time.Duration, cost float64) time.Duration {
	return max(d, time.Duration(cost/(b.rate*probing)*float64(time.Second)))
}

// Silent reports whether the vault is taken not to answer.
func (b *Budget) Silent() bool { return b.missed >= silent }

// Answered notes that the vault has answered, be it with a no.
func (b *Budget) Answered(now time.Time) {
	if b.Silent() {
		b.refill(now)
		b.left = min(b.left, 0) // it starts slowly, however long it was not asked
	}
	b.missed, b.wait, b.pause = 0, 0, time.Time{}
}

// Unanswered notes that it has not, and how long it asks to be left alone; 0 if it
// does not say.
func (b *Budget) Unanswered(now time.Time, retryAfter time.Duration, random float64) {
	b.missed++
	if retryAfter > 0 {
		b.pause = now.Add(min(retryAfter, maxRetryAfter))
	}
	if b.missed < silent {
		return
	}
	if b.wait == 0 {
		b.wait, b.probe, b.spread = firstProbe, now.Add(firstProbe), false
	}
	if !b.spread { // from the probes of other processes, which began together
		b.probe, b.spread = b.probe.Add(time.Duration(float64(b.wait/2)*random)), true
	}
}

// Demand says what all leases that this process keeps cost together, one renewal of
// each.
func (b *Budget) Demand(cost float64) { b.demand = cost }

// Length returns how long leases are: as long as they aim to be, or stretched
// towards the bound so that renewals stay within the budget.
func (b *Budget) Length(aim, bound time.Duration) time.Duration {
	need := time.Duration(b.demand / (b.rate * renewing * renewMean) * float64(time.Second))
	return min(max(aim, need), bound)
}

// Carried returns what the renewals of scopes cost in a second whose leases are as
// long as their bound, and Carries whether a budget carries that.
func Carried(cost float64, bound time.Duration) float64 {
	return cost / (bound.Seconds() * renewMean)
}

// Carries reports whether a budget carries so much a second, beside all else.
func Carries(rate, carried float64) bool { return carried <= rate*renewing }
