package fabric

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// Defaults of [Config].
const (
	defaultRate  = 50
	defaultBurst = 500
)

// maxPrincipals is how many principals' use is remembered. The one whose use is
// forgotten begins anew with a full burst.
const maxPrincipals = 10_000

// A throttle bounds how often each principal asks, so that one does not take the
// service away from others.
type throttle struct {
	rate  rate.Limit
	burst int

	mu   *sync.Mutex
	used map[user]*rate.Limiter
}

type user struct {
	tenant    identity.TenantID
	principal identity.PrincipalID
}

func newThrottle(perSecond float64, burst int) throttle {
	if perSecond == 0 {
		perSecond = defaultRate
	}
	if burst == 0 {
		burst = defaultBurst
	}
	return throttle{rate: rate.Limit(perSecond), burst: burst, mu: new(sync.Mutex), used: map[user]*rate.Limiter{}}
}

// admit counts a request of the caller's, or refuses it and says when the next may
// come.
func (t throttle) admit(w http.ResponseWriter, c identity.Caller) error {
	u := user{c.Tenant, c.Principal}
	t.mu.Lock()
	l := t.used[u]
	if l == nil {
		for other := range t.used {
			if len(t.used) < maxPrincipals {
				break
			}
			delete(t.used, other)
		}
		l = rate.NewLimiter(t.rate, t.burst)
		t.used[u] = l
	}
	t.mu.Unlock()
	now := time.Now()
	r := l.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	w.Header().Set("Retry-After", strconv.FormatInt(max(1, int64((wait+time.Second-1)/time.Second)), 10))
	return fault.New(fault.Throttled, "This principal asks more often than it may.")
}
