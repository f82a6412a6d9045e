package vault

import (
	"context"
	"errors"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
)

var afterPurge = failpoint.New("vault/sweep/after-purge")

const sweepBatch = 100

// Sweep does what is due by now, each in a transaction of its own: it purges the
// keys and vaults whose retention has ended, gives back what drills have left away,
// rotates keys as their policies say, tells of versions that near their expiry or have
// expired, destroys what purged keys, and keys that were made and never kept, have left
// elsewhere, and drops changes that are too old for the feed and approvals that have
// long expired. A crash in between loses nothing: the next call goes on. It is for a server to call now and then.
func (v *Vaults) Sweep(ctx context.Context, now time.Time) error {
	return errors.Join(
		v.sweepKeys(ctx, now), v.sweepVaults(ctx, now), v.sweepRemains(ctx, now),
		v.sweepDrills(ctx, now), v.sweepRotations(ctx, now), v.sweepNotices(ctx, now), v.sweepFeeds(ctx, now), v.sweepApprovals(ctx, now),
	)
}

func (v *Vaults) sweepKeys(ctx context.Context, now time.Time) error {
	for {
		var due []Key
		err := v.store.View(ctx, func(tx Tx) (err error) {
			due, err = tx.DueVaultKeys(now, sweepBatch)
			return err
		})
		if err != nil || len(due) == 0 {
			return err
		}
		for _, k := range due {
			a := begin(identity.Caller{}, "KeyPurge", "")
			err := v.write(ctx, a, func(tx Tx) error {
				vault, err := tx.VaultByID(k.Vault)
				if err != nil {
					return err
				}
				cur, err := tx.VaultKey(k.Vault, k.Name)
				if err != nil {
					return err
				}
				if cur.ID != k.ID || cur.PurgeAt.IsZero() || cur.PurgeAt.After(now) {
					return fault.New(fault.Conflict, "The key was recovered meanwhile.")
				}
				a.entry.Tenant, a.entry.Resource = string(vault.Tenant), string(vault.KeyScope(k.Name))
				a.note("vault", string(vault.ID))
				a.note("retention", "ended")
				return v.purgeKey(tx, a, vault, cur)
			})
			if r := fault.ReasonOf(err); err != nil && r != fault.Conflict && r != fault.KeyNotFound && r != fault.VaultNotFound {
				return err
			}
			if err == nil {
				v.forget(k.ID)
			}
			if err := afterPurge.Hit(); err != nil {
				return err
			}
		}
	}
}

func (v *Vaults) sweepVaults(ctx context.Context, now time.Time) error {
	for {
		var due []Vault
		err := v.store.View(ctx, func(tx Tx) (err error) {
			due, err = tx.DueVaults(now, sweepBatch)
			return err
		})
		if err != nil || len(due) == 0 {
			return err
		}
		for _, vault := range due {
			a := begin(identity.Caller{Tenant: vault.Tenant}, "VaultPurge", vault.Scope())
			a.note("vault", string(vault.ID))
			a.note("retention", "ended")
			var gone []KeyID
			err := v.write(ctx, a, func(tx Tx) error {
				cur, err := tx.VaultByID(vault.ID)
				if err != nil {
					return err
				}
				if cur.PurgeAt.IsZero() || cur.PurgeAt.After(now) {
					return fault.New(fault.Conflict, "The vault was recovered meanwhile.")
				}
				gone, err = v.purgeVault(tx, a, cur)
				return err
			})
			if r := fault.ReasonOf(err); err != nil && r != fault.Conflict && r != fault.VaultNotFound {
				return err
			}
			if err == nil {
				v.forget(gone...)
			}
		}
	}
}

func (v *Vaults) sweepFeeds(ctx context.Context, now time.Time) error {
	var old []ID // vaults whose oldest change is too old
	before := now.Add(-feedAge)
	err := v.store.View(ctx, func(tx Tx) error {
		ids, err := tx.VaultIDs()
		if err != nil {
			return err
		}
		for _, id := range ids {
			first, err := tx.VaultChanges(id, 0, 1)
			if err != nil {
				return err
			}
			if len(first) > 0 && first[0].Time.Before(before) {
				old = append(old, id)
			}
		}
		return nil
	})
	for _, id := range old {
		err = errors.Join(err, v.store.Update(ctx, func(tx Tx) error { return tx.TrimVaultChanges(id, 0, before) }))
	}
	return err
}
