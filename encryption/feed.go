package encryption

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
)

// feeds are the long polls that the ring holds open towards kluis vaults: one for
// each vault and tenant that a scope in memory depends on. What they say is a
// hint to ask again now, never a decision.
type feeds struct {
	mu   sync.Mutex
	open map[feedKey]*feed
	busy sync.WaitGroup
}

type feedKey struct {
	tenant identity.TenantID
	vault  string
}

type feed struct {
	cancel context.CancelFunc
	wake   chan struct{} // ends a pause

	mu       sync.Mutex
	standing bool // the last poll was answered
}

const (
	feedWait  = 25 * time.Second // how long the vault may hold a poll
	feedPause = 100 * time.Millisecond
	feedRetry = time.Second      // after a poll that failed
	noFeed    = 10 * time.Minute // after which a vault without a feed is tried again
)

// follow opens the feeds of the slots' vaults and closes those that none needs.
func (f *feeds) follow(ctx context.Context, k *Keyring, slots []*slot) {
	needed := map[feedKey]kek.KeyIdentifier{} // any of the vault's keys
	for _, s := range slots {
		s.mu.Lock()
		if !s.key.IsZero() {
			needed[feedKey{s.tenant, s.key.Vault()}] = s.key
		}
		s.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = map[feedKey]*feed{}
	}
	for key, one := range f.open {
		if needed[key].IsZero() {
			one.cancel()
			delete(f.open, key)
		}
	}
	for key, id := range needed {
		if f.open[key] == nil {
			ctx, cancel := context.WithCancel(ctx)
			one := &feed{cancel: cancel, wake: make(chan struct{}, 1)}
			f.open[key] = one
			f.busy.Go(func() { one.listen(ctx, k, key, id) })
		}
	}
}

func (f *feeds) wait() { f.busy.Wait() }

// standing reports whether the vault has a feed that answers. One that does not
// is tried again at once: the vault has just answered something else.
func (f *feeds) standing(tenant identity.TenantID, vault string) bool {
	f.mu.Lock()
	one := f.open[feedKey{tenant, vault}]
	f.mu.Unlock()
	if one == nil {
		return false
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	if !one.standing {
		select {
		case one.wake <- struct{}{}:
		default:
		}
	}
	return one.standing
}

func (one *feed) listen(ctx context.Context, k *Keyring, key feedKey, id kek.KeyIdentifier) {
	cursor, stood := "", false
	for ctx.Err() == nil {
		wait := feedWait
		if cursor == "" {
			wait = 0
		}
		changes, err := k.vault.Changes(ctx, string(key.tenant), id, cursor, wait)
		pause := feedPause
		switch {
		case errors.Is(err, kek.ErrNoFeed) && !stood: // where it stood, a no may end
			pause = noFeed
		case err != nil:
			pause = feedRetry
		}
		one.mu.Lock()
		was := one.standing
		one.standing = err == nil
		one.mu.Unlock()
		if was != (err == nil) || changes.Reset {
			k.hint(key, "") // what was missed is not known
		}
		if err == nil {
			for _, c := range changes.Changes {
				k.hint(key, c.Key)
			}
			cursor, stood = changes.Cursor, true
		}
		select {
		case <-one.wake:
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// hint makes the ring ask again for the scopes under a key, or under any key of
// the vault if name is "".
func (k *Keyring) hint(key feedKey, name string) {
	now := k.now()
	for _, s := range k.all() {
		s.mu.Lock()
		concerns := s.tenant == key.tenant && s.key.Vault() == key.vault && (name == "" || strings.EqualFold(s.key.Name(), name))
		s.mu.Unlock()
		if concerns {
			s.hinted.Store(true)
			k.tend(s, now)
		}
	}
}
