package vault

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// sweepRotations rotates the keys that are due. A key whose current version is
// disabled is not among them: that may be a revocation, which a new version would
// undo. One that fails does not keep the others waiting, and is tried again by the
// next call.
func (v *Vaults) sweepRotations(ctx context.Context, now time.Time) error {
	var failed []error
	for after := KeyID(""); ; {
		var due []Key
		err := v.store.View(ctx, func(tx Tx) (err error) {
			due, err = tx.DueVaultRotations(now, after, sweepBatch)
			return err
		})
		if err != nil || len(due) == 0 {
			return errors.Join(append(failed, err)...)
		}
		for _, k := range due {
			after = k.ID
			if err := v.rotateDue(ctx, k, now); err != nil && fault.ReasonOf(err) != fault.Conflict {
				failed = append(failed, err)
			}
		}
	}
}

// rotateDue makes the version that a key's policy asks for. In the transaction that
// keeps it, the key must still be due, with the version that it had: so a due time
// makes one version.
func (v *Vaults) rotateDue(ctx context.Context, k Key, now time.Time) error {
	a := begin(identity.Caller{}, "KeyRotate", "")
	a.note("policy", "due")
	_, err := v.make(ctx, a, k.Name, making{
		enter: func(tx Tx) (Vault, error) {
			vault, err := tx.VaultByID(k.Vault)
			if err != nil {
				return vault, err
			}
			a.entry.Tenant, a.entry.Resource = string(vault.Tenant), string(vault.KeyScope(k.Name))
			a.note("vault", string(vault.ID))
			cur, err := tx.VaultKeyByID(k.ID)
			if err != nil {
				return vault, err
			}
			kv, err := tx.VaultKeyVersion(k.ID, cur.Current)
			if err != nil {
				return vault, err
			}
			_, due, err := tx.VaultRotation(k.ID)
			if err == nil && (cur != k || !vault.live() || !kv.Enabled || due.IsZero() || due.After(now)) {
				err = fault.New(fault.Conflict, "The key has changed meanwhile.")
			}
			return vault, err
		},
		plan: v.next(k.Name),
		key:  generate,
	})
	return err
}

// sweepNotices tells of expiries.
func (v *Vaults) sweepNotices(ctx context.Context, now time.Time) error {
	for {
		var due []KeyVersion
		err := v.store.View(ctx, func(tx Tx) (err error) {
			due, err = tx.DueVaultNotices(now, sweepBatch)
			return err
		})
		if err != nil || len(due) == 0 {
			return err
		}
		for _, kv := range due {
			if err := v.notice(ctx, kv, now); err != nil {
				return err
			}
		}
	}
}

// notice tells of one version, if it is its key's current one, and sets what is
// told of it next.
func (v *Vaults) notice(ctx context.Context, due KeyVersion, now time.Time) error {
	a := begin(identity.Caller{}, "KeyNearExpiryEventGridNotification", "")
	err := v.store.Update(ctx, func(tx Tx) error {
		a.touched = a.touched[:0]
		kv, err := tx.VaultKeyVersion(due.Key, due.Version)
		if err != nil {
			return err
		}
		if kv.Notice.IsZero() || kv.Notice.After(now) {
			return fault.New(fault.Conflict, "The version has changed meanwhile.")
		}
		k, err := tx.VaultKeyByID(kv.Key)
		if err != nil {
			return err
		}
		vault, err := tx.VaultByID(k.Vault)
		if err != nil {
			return err
		}
		kind := KeyNearExpiry
		kv.Notice = kv.Expires
		if !now.Before(kv.Expires) {
			kind, kv.Notice = KeyExpired, time.Time{}
			a.entry.Operation = "KeyExpiredEventGridNotification"
		}
		if err := tx.SetVaultKeyVersion(kv); err != nil || k.Current != kv.Version {
			return err
		}
		a.entry.Tenant, a.entry.Resource = string(vault.Tenant), string(vault.KeyScope(k.Name))
		a.note("vault", string(vault.ID))
		a.note("version", string(kv.Version))
		if err := v.changed(tx, a, Change{Vault: vault.ID, Key: k.Name, Version: kv.Version, Kind: kind}); err != nil {
			return err
		}
		return appendEntry(tx, a.done())
	})
	switch fault.ReasonOf(err) {
	case "":
		v.tell(a.touched)
	case fault.Conflict, fault.KeyNotFound: // nothing to tell any more
		return nil
	}
	return err
}

// reserveTime is for how long a key that is being made may take to be kept. Whoever
// takes longer finds its place given up, and fails.
const reserveTime = 15 * time.Minute

// reserve chooses the place of a key that is to be made, nil if it lies in the store,
// and notes it before there is anything: if no transaction keeps the key, what lies
// there is destroyed.
func (v *Vaults) reserve(ctx context.Context, keys Keys, ref Ref, m Material) ([]byte, error) {
	place, err := keys.Place(ctx, ref)
	if err != nil || place == nil {
		return nil, err
	}
	m.Sealed = place
	return place, v.store.Update(ctx, func(tx Tx) error {
		return tx.AddVaultRemains(Remains{Ref: ref, Platform: keys.Platform(), Material: m, Due: v.clock().Add(reserveTime)})
	})
}

// take gives a reserved place to the key that lies there, in the transaction that
// keeps the key.
func take(tx Tx, ref Ref, place []byte) error {
	if place == nil {
		return nil
	}
	err := tx.TakeVaultRemains(ref)
	if fault.ReasonOf(err) == fault.NotFound {
		return fault.New(fault.Unavailable, "Making the key took too long, and it was given up.").WithMend("Try again.")
	}
	return err
}

// sweepRemains destroys what purged keys, and keys that were made and never kept, have
// left in an HSM. What cannot be destroyed now is tried again by the next call.
func (v *Vaults) sweepRemains(ctx context.Context, now time.Time) error {
	var all []Remains
	err := v.store.View(ctx, func(tx Tx) (err error) {
		all, err = tx.VaultRemains(now, sweepBatch)
		return err
	})
	for _, r := range all {
		err = errors.Join(err, v.destroy(ctx, r))
	}
	return err
}

func (v *Vaults) destroy(ctx context.Context, r Remains) error {
	if !r.Due.IsZero() { // from here on no transaction keeps it
		r.Due = time.Time{}
		err := v.store.Update(ctx, func(tx Tx) error {
			if err := tx.TakeVaultRemains(r.Ref); err != nil {
				return err
			}
			return tx.AddVaultRemains(r)
		})
		if fault.ReasonOf(err) == fault.NotFound { // one just has
			return nil
		}
		if err != nil {
			return err
		}
	}
	keys, err := v.keeper(KeyVersion{Platform: r.Platform})
	if err != nil {
		return err
	}
	if err := keys.Destroy(ctx, r.Ref, r.Material); err != nil {
		return err
	}
	return v.store.Update(ctx, func(tx Tx) error { return tx.DropVaultRemains(r.Ref) })
}

// ForgetReserved drops what a restored store says of keys that were being made when it
// was copied: one may have been kept since, in the store that was lost, and may come
// back with a later copy. What was not kept stays in the HSM then, unused.
func ForgetReserved(ctx context.Context, store Store) error {
	return store.Update(ctx, func(tx Tx) error {
		all, err := tx.VaultRemains(time.Unix(1<<40, 0), math.MaxInt32)
		for _, r := range all {
			if err == nil && !r.Due.IsZero() {
				err = tx.DropVaultRemains(r.Ref)
			}
		}
		return err
	})
}
