package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/vault"
)

// hearAgain is how long after its connection was lost a process listens again.
const hearAgain = time.Second

// hear has what other processes change looked at as soon as they have, until ctx ends. What
// is not heard, for want of a connection, is found by looking, every second.
func (s *server) hear(ctx context.Context) {
	if s.config.Replicas <= 1 {
		return
	}
	if s.ring != nil {
		s.operator.hear(ctx, s, store.ScopeNews, func(id string) { s.ring.Hear(encryption.ScopeID(id)) })
	}
	if s.vaults != nil {
		s.custodian.hear(ctx, s, store.VaultNews, func(id string) { s.vaults.Hear(vault.ID(id)) })
	}
}

func (p *party) hear(ctx context.Context, s *server, about string, look func(id string)) {
	if p.db.listen == nil {
		return
	}
	s.workers.Go(func() {
		for deaf := false; ctx.Err() == nil; {
			err := p.db.listen(ctx, func() { deaf = false }, func(what, id string) {
				if what == about && id != "" {
					look(id)
				}
			})
			if ctx.Err() == nil && !deaf {
				deaf = true
				slog.Warn("other processes are not heard: what they change is looked for every second", "party", p.name, "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(hearAgain):
			}
		}
	})
}
