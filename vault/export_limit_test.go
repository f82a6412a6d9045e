package vault

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/identity"
)

// Turns are what gives work its turn.
type Turns struct{ t *turns }

// NewTurns returns turns at a number of slots.
func NewTurns(slots int, patience time.Duration) Turns { return Turns{newTurns(slots, patience)} }

// Do does work when it is the vault's turn.
func (t Turns) Do(ctx context.Context, tenant identity.TenantID, v ID, cost float64, work func()) error {
	return t.t.do(ctx, tenant, v, cost, func() error { work(); return nil })
}

// Flows returns how many tenants are remembered.
func (t Turns) Flows() int {
	t.t.mu.Lock()
	defer t.t.mu.Unlock()
	return len(t.t.tenants)
}

// Take takes one use of a key from the shares under limits.
func Take(l Limits, now func() time.Time) func(v Vault, typ KeyType, bits int) error {
	load := newLoad(l, now)
	return func(v Vault, typ KeyType, bits int) error { return load.take(v, "", l.cost(typ, bits)) }
}
