package identity

import (
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/kluis-io/kluis/fault"
)

// How many failed sign-ins are borne, and how fast the allowance comes back. That of
// a name from one address is small; that of a name from anywhere is large, lest a
// stranger lock its user out; that of an address bounds who tries one password on
// many names. Each replica counts for itself.
var (
	pairRate    = allowance{rate.Every(30 * time.Second), 10}
	nameRate    = allowance{rate.Every(10 * time.Second), 100}
	addressRate = allowance{rate.Every(5 * time.Second), 50}
)

// maxThrottled bounds how many names and addresses are remembered.
const maxThrottled = 1 << 16

type allowance struct {
	rate  rate.Limit
	burst int
}

// A throttle slows down who guesses passwords. Names that exist and names that do
// not are treated alike. It keeps hashes of names, not the names.
type throttle struct {
	mu     sync.Mutex
	counts map[[sha256.Size]byte]*rate.Limiter
}

// limits returns what an attempt counts against.
func (t *throttle) limits(tenant TenantID, name string, from netip.Addr) []*rate.Limiter {
	address := from.String()
	if from.Is6() && !from.Is4In6() { // a subscriber has a /64
		p, _ := from.Prefix(64)
		address = p.String()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil || len(t.counts) >= maxThrottled {
		t.forget()
	}
	var out []*rate.Limiter
	for key, a := range map[string]allowance{
		"pair\x00" + string(tenant) + "\x00" + name + "\x00" + address: pairRate,
		"name\x00" + string(tenant) + "\x00" + name:                    nameRate,
		"address\x00" + address:                                        addressRate,
	} {
		sum := sha256.Sum256([]byte(key))
		if t.counts[sum] == nil {
			t.counts[sum] = rate.NewLimiter(a.rate, a.burst)
		}
		out = append(out, t.counts[sum])
	}
	return out
}

// forget drops half of a full memory, at random: nobody can aim at what stays.
func (t *throttle) forget() {
	if t.counts == nil {
		t.counts = map[[sha256.Size]byte]*rate.Limiter{}
	}
	for key := range t.counts {
		if len(t.counts) <= maxThrottled/2 {
			return
		}
		delete(t.counts, key)
	}
}

// An attempt is one try to sign in. It counts from its beginning, lest many at once
// see the same allowance, and no more once it succeeds.
type attempt struct {
	now      time.Time
	reserved []*rate.Reservation
}

// begin counts an attempt, or refuses it.
func (t *throttle) begin(tenant TenantID, name string, from netip.Addr, now time.Time) (*attempt, error) {
	a := &attempt{now: now}
	for _, l := range t.limits(tenant, strings.ToLower(name), from) {
		r := l.ReserveN(now, 1)
		a.reserved = append(a.reserved, r)
		if r.DelayFrom(now) > 0 {
			a.succeeded() // a refused attempt makes nobody wait longer
			return nil, fault.New(fault.Throttled, "There were too many failed attempts to sign in.").
				WithMend("Wait a minute, then try again.")
		}
	}
	return a, nil
}

// succeeded takes the attempt out of the count.
func (a *attempt) succeeded() {
	for _, r := range a.reserved {
		r.CancelAt(a.now)
	}
}
