package identity

import (
	"sync"
	"time"
)

const (
	cacheSize = 8192
	// cacheTime bounds for how long a signature is taken for checked, and so for
	// how long a token outlives the withdrawal of the key that signed it.
	cacheTime = 5 * time.Minute
)

// A tokenCache remembers tokens whose signatures hold, by their SHA-256, so that
// no token itself stays in memory. It never remembers a refusal.
type tokenCache struct {
	limit int

	mu sync.Mutex
	m  map[[32]byte]cachedToken
}

type cachedToken struct {
	token *verifiedToken
	until time.Time
}

func newTokenCache(limit int) *tokenCache {
	return &tokenCache{limit: limit, m: map[[32]byte]cachedToken{}}
}

func (c *tokenCache) get(sum [32]byte, now time.Time) (*verifiedToken, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.m[sum]
	if !ok || !now.Before(e.until) {
		return nil, false
	}
	return e.token, true
}

// put remembers a token. A full cache drops what has ended, and if that is
// nothing, an eighth at random: an attacker cannot aim at what stays.
func (c *tokenCache) put(sum [32]byte, t *verifiedToken, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= c.limit {
		for k, e := range c.m {
			if !now.Before(e.until) {
				delete(c.m, k)
			}
		}
	}
	if excess := len(c.m) - c.limit + max(1, c.limit/8); len(c.m) >= c.limit {
		for k := range c.m { // in random order
			if excess--; excess < 0 {
				break
			}
			delete(c.m, k)
		}
	}
	c.m[sum] = cachedToken{t, now.Add(cacheTime)}
}
