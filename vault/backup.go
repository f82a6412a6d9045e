package vault

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

const backupPurpose = "kluis/v1/vault-key-backup"

// A backup is a key with all its versions, sealed: private parts lie in it as they
// lie in the store, sealed for their old name.
type backup struct {
	Key      Key
	Flavour  Flavour
	Rotation *RotationPolicy `json:",omitempty"`
	Versions []backupVersion
}

type backupVersion struct {
	KeyVersion
	Sealed []byte
}

func (v *Vaults) backupContext(tenant identity.TenantID) envelope.Context {
	return envelope.NewContext(backupPurpose, v.instance, string(tenant))
}

func (v *Vaults) canBackUp() error {
	if v.backups == nil {
		return fault.New(fault.NotSupported, "Backups of keys are not configured.")
	}
	return nil
}

// BackupKey returns a live key with all its versions, sealed under the vault's root:
// only this instance opens it again, and only for the same tenant. It does not say
// what the vault allows with the key by then: roles are not in it.
func (v *Vaults) BackupKey(ctx context.Context, c identity.Caller, vaultName Name, name KeyName) ([]byte, error) {
	a := begin(c, "KeyBackup", "")
	var all backup
	var tenant identity.TenantID
	err := v.read(ctx, a, func(tx Tx) error {
		vault, err := v.enter(tx, a, vaultName, name, actionKeyBackup)
		if err != nil {
			return err
		}
		if err := v.canBackUp(); err != nil {
			return err
		}
		k, err := liveKey(tx, vault, name)
		if err != nil {
			return err
		}
		tenant = vault.Tenant
		all = backup{Key: k, Flavour: vault.Flavour}
		if p, _, err := tx.VaultRotation(k.ID); err == nil {
			all.Rotation = &p
		} else if fault.ReasonOf(err) != fault.NotFound {
			return err
		}
		for after := 0; ; {
			page, err := tx.VaultKeyVersions(k.ID, after, feedScan)
			if err != nil {
				return err
			}
			for _, kv := range page {
				sealed, err := tx.VaultKeySealed(k.ID, kv.Version)
				if err != nil {
					return err
				}
				all.Versions = append(all.Versions, backupVersion{kv, sealed})
				after = kv.Ordinal
			}
			if len(page) < feedScan {
				return nil
			}
		}
	})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return envelope.Seal(v.backups, v.backupContext(tenant), text), nil
}

// RestoreKey brings a key back from a backup under its old name and with its old
// versions, in a vault of the same tenant and flavour. It is a new key: roles given
// at the old one's name hold for it, and nothing else of the old one does.
func (v *Vaults) RestoreKey(ctx context.Context, c identity.Caller, vaultName Name, sealed []byte) (Bundle, error) {
	a := begin(c, "KeyRestore", "")
	var vault Vault
	var old backup
	prepare := func(tx Tx) (err error) {
		// The name is known only once the backup is open: the right must hold for the vault.
		if vault, err = v.enter(tx, a, vaultName, "", actionKeyRestore); err != nil {
			return err
		}
		if old.Key.Name == "" {
			return nil
		}
		a.entry.Resource = string(vault.KeyScope(old.Key.Name))
		if old.Flavour != vault.Flavour {
			return fault.New(fault.InvalidArgument, "The backup is of a key of another kind of vault.")
		}
		k, err := tx.VaultKey(vault.ID, old.Key.Name)
		switch {
		case err == nil && !k.Deleted.IsZero():
			return keyDeleted(k.Name)
		case err == nil:
			return fault.New(fault.Conflict, fmt.Sprintf("A key named %s exists: a restore does not replace it.", k.Name)).
				WithMend("Delete and purge that one first.").About(string(k.Name))
		case fault.ReasonOf(err) != fault.KeyNotFound:
			return err
		}
		return nil
	}
	fail := func(err error) (Bundle, error) { return Bundle{}, v.refused(ctx, a, err) }
	if err := v.store.View(ctx, prepare); err != nil {
		return fail(err)
	}
	if err := v.canBackUp(); err != nil {
		return fail(err)
	}
	text, err := envelope.Open(v.backups, v.backupContext(vault.Tenant), sealed)
	if err != nil || json.Unmarshal(text, &old) != nil || len(old.Versions) == 0 {
		return fail(fault.New(fault.InvalidArgument, "The backup was not made by this instance for this tenant, or it is damaged."))
	}
	if err := v.store.View(ctx, prepare); err != nil {
		return fail(err)
	}
	k := old.Key
	k.ID, k.Vault = KeyID(uuid.NewString()), vault.ID
	for i, bv := range old.Versions {
		keys, err := v.keeper(bv.KeyVersion)
		if err != nil {
			return fail(err)
		}
		m := bv.material()
		m.Sealed = bv.Sealed
		m, err = keys.Move(ctx, Ref{old.Key.Vault, old.Key.ID, bv.Version}, Ref{vault.ID, k.ID, bv.Version}, m)
		if err != nil {
			return fail(err)
		}
		old.Versions[i].Key, old.Versions[i].Sealed = k.ID, m.Sealed
	}
	var b Bundle
	err = v.write(ctx, a, func(tx Tx) error {
		was := vault.ID
		if err := prepare(tx); err != nil {
			return err
		}
		if vault.ID != was {
			return fault.New(fault.Conflict, "The vault was replaced at the same time.").WithMend("Try again.")
		}
		if err := tx.PutVaultKey(k); err != nil {
			return err
		}
		for _, bv := range old.Versions {
			if bv.Version == k.Current {
				b = Bundle{Vault: vault, Key: k, Version: bv.KeyVersion}
			}
			if err := tx.AddVaultKeyVersion(bv.KeyVersion, bv.Sealed); err != nil {
				return err
			}
		}
		if p := old.Rotation; p != nil {
			if err := tx.PutVaultRotation(k.ID, *p, p.Rotate.at(b.Version)); err != nil {
				return err
			}
		}
		a.note("version", string(k.Current))
		return v.changed(tx, a, Change{Vault: vault.ID, Key: k.Name, Version: k.Current, Kind: KeyCreated})
	})
	return b, err
}
