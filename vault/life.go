package vault

import (
	"context"
	"fmt"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// DeleteKey soft-deletes a key with all its versions: from here on it does
// nothing, and it can be recovered until its retention ends.
func (v *Vaults) DeleteKey(ctx context.Context, c identity.Caller, vault Name, name KeyName) (Bundle, error) {
	a := begin(c, "KeyDelete", "")
	var b Bundle
	err := v.write(ctx, a, func(tx Tx) (err error) {
		if b.Vault, err = v.enter(tx, a, vault, name, actionKeyDelete); err != nil {
			return err
		}
		if b, err = find(tx, a, b.Vault, name, ""); err != nil {
			return err
		}
		if err := v.consent(tx, a, b.Vault, actionKeyDelete, true, b.Vault.KeyScope(name), b.Key.ID); err != nil {
			return err
		}
		b.Key.Deleted = v.clock()
		b.Key.PurgeAt = b.Key.Deleted.Add(time.Duration(b.Vault.RetentionDays) * 24 * time.Hour)
		if err := tx.PutVaultKey(b.Key); err != nil {
			return err
		}
		return v.changed(tx, a, Change{Vault: b.Vault.ID, Key: b.Key.Name, Kind: KeyDeleted})
	})
	if err == nil {
		v.forget(b.Key.ID)
	}
	return b, err
}

// DeletedKey returns the current version of a soft-deleted key.
func (v *Vaults) DeletedKey(ctx context.Context, c identity.Caller, vault Name, name KeyName) (Bundle, error) {
	a := begin(c, "KeyGetDeleted", "")
	var b Bundle
	err := v.read(ctx, a, func(tx Tx) (err error) {
		if b.Vault, err = v.enter(tx, a, vault, name, actionKeyRead); err != nil {
			return err
		}
		b, err = findDeleted(tx, a, b.Vault, name)
		return err
	})
	return b, err
}

// RecoverKey makes a soft-deleted key what it was before, roles included.
func (v *Vaults) RecoverKey(ctx context.Context, c identity.Caller, vault Name, name KeyName) (Bundle, error) {
	a := begin(c, "KeyRecover", "")
	var b Bundle
	err := v.write(ctx, a, func(tx Tx) (err error) {
		if b.Vault, err = v.enter(tx, a, vault, name, actionKeyRecover); err != nil {
			return err
		}
		if b, err = findDeleted(tx, a, b.Vault, name); err != nil {
			return err
		}
		b.Key.Deleted, b.Key.PurgeAt = time.Time{}, time.Time{}
		if err := tx.PutVaultKey(b.Key); err != nil {
			return err
		}
		return v.changed(tx, a, Change{Vault: b.Vault.ID, Key: b.Key.Name, Kind: KeyRecovered})
	})
	return b, err
}

// PurgeKey removes a soft-deleted key for ever, with its private parts and the
// roles given at it. Purge protection forbids it; the end of the retention does
// the same by itself, in [Vaults.Sweep].
func (v *Vaults) PurgeKey(ctx context.Context, c identity.Caller, vault Name, name KeyName) error {
	a := begin(c, "KeyPurge", "")
	var b Bundle
	err := v.write(ctx, a, func(tx Tx) (err error) {
		if b.Vault, err = v.enter(tx, a, vault, name, actionKeyPurge); err != nil {
			return err
		}
		if b, err = findDeleted(tx, a, b.Vault, name); err != nil {
			return err
		}
		if b.Vault.PurgeProtection {
			return purgeProtected()
		}
		if err := v.consent(tx, a, b.Vault, actionKeyPurge, true, b.Vault.KeyScope(name), b.Key.ID); err != nil {
			return err
		}
		return v.purgeKey(tx, a, b.Vault, b.Key)
	})
	if err == nil {
		v.forget(b.Key.ID)
	}
	return err
}

func (v *Vaults) purgeKey(tx Tx, a *act, vault Vault, k Key) error {
	if err := tx.DropVaultKey(k.ID); err != nil {
		return err
	}
	if err := tx.DeleteRoleAssignmentsBelow(vault.KeyScope(k.Name)); err != nil {
		return err
	}
	return v.changed(tx, a, Change{Vault: vault.ID, Key: k.Name, Kind: KeyPurged})
}

func findDeleted(tx Tx, a *act, vault Vault, name KeyName) (Bundle, error) {
	k, err := tx.VaultKey(vault.ID, name)
	if err == nil && k.Deleted.IsZero() || fault.ReasonOf(err) == fault.KeyNotFound {
		return Bundle{}, fault.New(fault.DeletedKeyNotFound, fmt.Sprintf("Deleted Key not found: %s", name)).About(string(name))
	}
	if err != nil {
		return Bundle{}, err
	}
	a.note("version", string(k.Current))
	kv, err := tx.VaultKeyVersion(k.ID, k.Current)
	return Bundle{Vault: vault, Key: k, Version: kv}, err
}

func purgeProtected() error {
	return fault.New(fault.PurgeProtected, `Operation "purge" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed.`)
}
