package identity

import (
	"context"
	"sync"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// standingTime is how old the memory of who is enabled may be: it bounds how long
// another replica's disabling goes unseen. Our own is seen at once.
const standingTime = 500 * time.Millisecond

// A standing remembers the generation of every enabled principal, so that asking
// on each request costs no query.
type standing struct {
	mu          sync.Mutex
	known       bool
	asked       time.Time
	changes     int64
	generations map[TenantID]map[PrincipalID]int64
}

// forget makes the next question read the database.
func (s *standing) forget() {
	s.mu.Lock()
	s.known = false
	s.mu.Unlock()
}

// Stands implements [Standing] for tokens of the embedded issuer: the principal
// exists, is enabled, and nothing has voided its tokens since.
func (d *Directory) Stands(ctx context.Context, t IssuedToken) error {
	g, err := d.Generation(ctx, t.Tenant, t.Principal)
	if err == nil && g != t.Generation {
		err = errNotStanding()
	}
	return err
}

// Generation implements [Standing].
func (d *Directory) Generation(ctx context.Context, t TenantID, p PrincipalID) (int64, error) {
	s := &d.standing
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := d.now(); !s.known || now.Sub(s.asked) >= standingTime || now.Before(s.asked) {
		if err := d.refresh(ctx, s); err != nil {
			return 0, fault.Wrap(fault.Unavailable, err, "The directory does not answer.")
		}
		s.known, s.asked = true, now
	}
	g, ok := s.generations[t][p]
	if !ok {
		return 0, errNotStanding()
	}
	return g, nil
}

func errNotStanding() error {
	return fault.New(fault.Unauthenticated, "The principal is disabled, or its credentials have changed since.")
}

// refresh is called with s locked, so that one query serves all who wait.
func (d *Directory) refresh(ctx context.Context, s *standing) error {
	ctx, cancel := detach(ctx)
	defer cancel()
	return d.store.View(ctx, func(tx Tx) error {
		changes, err := tx.PrincipalChanges()
		if err != nil {
			return err
		}
		if s.generations != nil && changes == s.changes {
			return nil
		}
		generations, err := tx.PrincipalGenerations()
		if err != nil {
			return err
		}
		s.changes, s.generations = changes, generations
		return nil
	})
}

// detach returns a context for a read that serves all who wait: one client that
// hangs up must not fail the others, and a database that hangs must not hold them
// for ever.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
}
