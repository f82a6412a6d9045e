package vault

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/identity"
)

// A Usage is what one principal has done with one version of a key.
type Usage struct {
	Version   Version
	Principal identity.PrincipalID
	Operation Operation
	Count     int64
	First     time.Time
	Last      time.Time
}

// maxUsage is the most that is told of a key's use.
const maxUsage = 1000

// KeyUsage returns who has used which version of a key, soft-deleted or not, the
// latest use first and at most a thousand: who still depends on it, as far as the
// vault knows. It is counted in the transaction that records each use.
func (v *Vaults) KeyUsage(ctx context.Context, c identity.Caller, vaultName Name, name KeyName) (all []Usage, err error) {
	a := begin(c, "KeyUsageGet", "")
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err := v.enter(tx, a, vaultName, name, actionKeyRead)
		if err != nil {
			return err
		}
		k, err := tx.VaultKey(vault.ID, name)
		if err != nil {
			return keyNotFound(name, "")
		}
		all, err = tx.VaultUsage(k.ID, maxUsage)
		return err
	})
	return all, err
}

// A KeyUse is a usage of one of a vault's keys.
type KeyUse struct {
	Key KeyName
	Usage
}

// DeletedVaultUsage returns who has used which keys of a soft-deleted vault, those keys
// included that were soft-deleted before it: who loses something for good when it is
// purged. It is told to whoever may purge it, since no role at the vault itself can be
// held any more; of each key, the latest use first and at most a thousand.
func (v *Vaults) DeletedVaultUsage(ctx context.Context, c identity.Caller, f Flavour, sub string, name Name) (all []KeyUse, err error) {
	a := begin(c, "VaultUsageGet", Subscription{ID: sub}.Scope())
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err := v.deleted(tx, a, f, sub, name, actionDeletedPurge)
		if err != nil {
			return err
		}
		return eachKey(tx, vault.ID, func(k Key) error {
			used, err := tx.VaultUsage(k.ID, maxUsage)
			for _, u := range used {
				all = append(all, KeyUse{k.Name, u})
			}
			return err
		})
	})
	return all, err
}
