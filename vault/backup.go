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

const (
	backupPurpose       = "kluis/v1/vault-key-backup"
	domainBackupPurpose = "kluis/v1/vault-domain-key-backup"
)

// A backup is a key with all its versions, sealed. Private parts lie in it sealed for
// their old name: as they lie in the store, or in a backup under a security domain as
// [Keys.Export] seals them.
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
// only this instance opens it again, and only for the same tenant. That of a managed
// HSM with a security domain is sealed under that: any managed HSM opens it into which
// the domain was brought, wherever it is. It does not say what the vault allows with
// the key by then: roles are not in it.
func (v *Vaults) BackupKey(ctx context.Context, c identity.Caller, vaultName Name, name KeyName) ([]byte, error) {
	a := begin(c, "KeyBackup", "")
	var all backup
	var tenant identity.TenantID
	var domain *openDomain
	defer func() { domain.close() }()
	err := v.read(ctx, a, func(tx Tx) error {
		vault, err := v.enter(tx, a, vaultName, name, actionKeyBackup)
		if err != nil {
			return err
		}
		if err := v.canBackUp(); err != nil {
			return err
		}
		if domain, err = v.openDomain(tx, vault); err != nil {
			return err
		}
		k, err := liveKey(tx, vault, name)
		if err != nil {
			return err
		}
		tenant = vault.Tenant
		all.Key, all.Flavour = k, vault.Flavour
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
	if domain != nil {
		if err := v.export(ctx, all, domain.key); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	if domain != nil {
		return envelope.Seal(domain.key, domain.context(), text), nil
	}
	return envelope.Seal(v.backups, v.backupContext(tenant), text), nil
}

// export seals the private parts in a backup under another key than their own.
func (v *Vaults) export(ctx context.Context, b backup, under *envelope.Key) error {
	for i, bv := range b.Versions {
		keys, err := v.keeper(bv.KeyVersion)
		if err != nil {
			return err
		}
		m := bv.material()
		m.Sealed = bv.Sealed
		if b.Versions[i].Sealed, err = keys.Export(ctx, Ref{b.Key.Vault, b.Key.ID, bv.Version}, m, under); err != nil {
			return err
		}
	}
	return nil
}

// RestoreKey brings a key back from a backup under its old name and with its old
// versions, in a vault of the same tenant and flavour. It is a new key: roles given
// at the old one's name hold for it, and nothing else of the old one does.
func (v *Vaults) RestoreKey(ctx context.Context, c identity.Caller, vaultName Name, sealed []byte) (Bundle, error) {
	a := begin(c, "KeyRestore", "")
	var vault Vault
	var old backup
	var domain *openDomain
	defer func() { domain.close() }()
	prepare := func(tx Tx) (err error) {
		// The name is known only once the backup is open: the right must hold for the vault.
		if vault, err = v.enter(tx, a, vaultName, "", actionKeyRestore); err != nil {
			return err
		}
		if old.Key.Name == "" {
			domain, err = v.openDomain(tx, vault)
			return err
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
	text, under, err := v.openBackup(vault, domain, sealed)
	if err != nil || json.Unmarshal(text, &old) != nil || len(old.Versions) == 0 {
		if vault.Flavour == ManagedHSM {
			return fail(fault.New(fault.InvalidArgument, "The backup was not made under this managed HSM's security domain, or it is damaged."))
		}
		return fail(fault.New(fault.InvalidArgument, "The backup was not made by this instance for this tenant, or it is damaged."))
	}
	if err := v.store.View(ctx, prepare); err != nil {
		return fail(err)
	}
	k := old.Key
	k.ID, k.Vault = KeyID(uuid.NewString()), vault.ID
	places := make([][]byte, len(old.Versions))
	for i, bv := range old.Versions {
		keys, err := v.keeper(bv.KeyVersion)
		if err != nil {
			return fail(err)
		}
		m := bv.material()
		m.Sealed = bv.Sealed
		to := Ref{vault.ID, k.ID, bv.Version}
		if places[i], err = v.reserve(ctx, keys, to, m); err != nil {
			return fail(err)
		}
		m, err = keys.Move(ctx, Ref{old.Key.Vault, old.Key.ID, bv.Version}, to, m, under, places[i])
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
		for i, bv := range old.Versions {
			if err := take(tx, Ref{vault.ID, k.ID, bv.Version}, places[i]); err != nil {
				return err
			}
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

// openBackup opens a backup, and returns what its private parts are sealed under if
// that is not their own key.
func (v *Vaults) openBackup(vault Vault, domain *openDomain, sealed []byte) (text []byte, under *envelope.Key, err error) {
	if domain != nil {
		if text, err := envelope.Open(domain.key, domain.context(), sealed); err == nil {
			return text, domain.key, nil
		}
	}
	text, err = envelope.Open(v.backups, v.backupContext(vault.Tenant), sealed)
	return text, nil, err
}
