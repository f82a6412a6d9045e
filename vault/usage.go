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
