package encryption

import (
	"context"
	"maps"
	"slices"

	"github.com/kluis-io/kluis/kek"
)

// KeyVersions returns the key versions that must unwrap for all that a store holds to be
// read: for a backup's manifest.
func KeyVersions(ctx context.Context, store Store) ([]kek.KID, error) {
	all := map[kek.KID]bool{}
	err := eachScope(ctx, store, func(s Scope) error {
		return store.View(ctx, func(tx Tx) error {
			generations, err := tx.Generations(s.ID)
			for _, g := range generations {
				if g.KID != "" {
					all[g.KID] = true
				}
			}
			return err
		})
	})
	return slices.Sorted(maps.Keys(all)), err
}
