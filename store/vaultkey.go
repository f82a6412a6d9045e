package store

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

const vaultKeyColumns = `id, vault, name, current, created, deleted, purge_at`

func scanVaultKey(scan func(...any) error) (k vault.Key, err error) {
	var created, deleted, purgeAt int64
	err = scan((*string)(&k.ID), (*string)(&k.Vault), (*string)(&k.Name), (*string)(&k.Current), &created, &deleted, &purgeAt)
	k.Created, k.Deleted, k.PurgeAt = fromMicros(created), fromMicros(deleted), fromMicros(purgeAt)
	return k, err
}

func (t *Tx) vaultKeysWhere(where string, args ...any) (all []vault.Key, err error) {
	err = t.rows(`SELECT `+vaultKeyColumns+` FROM vault_key WHERE `+where, args, func(scan func(...any) error) error {
		k, err := scanVaultKey(scan)
		all = append(all, k)
		return err
	})
	return all, err
}

func (t *Tx) VaultKey(id vault.ID, name vault.KeyName) (vault.Key, error) {
	k, err := scanVaultKey(func(into ...any) error {
		return t.row(`SELECT `+vaultKeyColumns+` FROM vault_key WHERE vault = $1 AND name_key = $2`,
			[]any{string(id), name.Key()}, into...)
	})
	return k, found(err, fault.KeyNotFound)
}

func (t *Tx) VaultKeyByID(id vault.KeyID) (vault.Key, error) {
	k, err := scanVaultKey(func(into ...any) error {
		return t.row(`SELECT `+vaultKeyColumns+` FROM vault_key WHERE id = $1`, []any{string(id)}, into...)
	})
	return k, found(err, fault.KeyNotFound)
}

func (t *Tx) VaultKeys(id vault.ID, deleted bool, after string, limit int) ([]vault.Key, error) {
	where := `vault = $1 AND name_key > $2 AND deleted = 0 ORDER BY name_key LIMIT $3`
	if deleted {
		where = `vault = $1 AND name_key > $2 AND deleted > 0 ORDER BY name_key LIMIT $3`
	}
	return t.vaultKeysWhere(where, string(id), after, limit)
}

func (t *Tx) PutVaultKey(k vault.Key) error {
	_, err := t.exec(`INSERT INTO vault_key (id, vault, name_key, name, current, created, deleted, purge_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET
		current = excluded.current, deleted = excluded.deleted, purge_at = excluded.purge_at`,
		string(k.ID), string(k.Vault), k.Name.Key(), string(k.Name), string(k.Current),
		micros(k.Created), micros(k.Deleted), micros(k.PurgeAt))
	return err
}

func (t *Tx) DropVaultKey(id vault.KeyID) error {
	if err := t.keepVaultRemains(`k.id = $1`, string(id)); err != nil {
		return err
	}
	t.shreds = Shredded
	_, err := t.exec(`DELETE FROM vault_key WHERE id = $1`, string(id))
	return err
}

func (t *Tx) DueVaultKeys(by time.Time, limit int) ([]vault.Key, error) {
	return t.vaultKeysWhere(`purge_at > 0 AND purge_at <= $1 ORDER BY purge_at LIMIT $2`, micros(by), limit)
}

const vaultVersionColumns = `key, version, ordinal, type, bits, curve, public, platform, operations, enabled, not_before, expires,
	created, updated, tags, notice`

func scanVaultVersion(scan func(...any) error) (v vault.KeyVersion, err error) {
	var operations, tags string
	var notBefore, expires, created, updated, notice int64
	err = scan((*string)(&v.Key), (*string)(&v.Version), &v.Ordinal, (*string)(&v.Type), &v.Bits, (*string)(&v.Curve), &v.Public,
		&v.Platform, &operations, &v.Enabled, &notBefore, &expires, &created, &updated, &tags, &notice)
	if err != nil {
		return v, err
	}
	v.NotBefore, v.Expires, v.Created, v.Updated = fromMicros(notBefore), fromMicros(expires), fromMicros(created), fromMicros(updated)
	v.Notice = fromMicros(notice)
	if len(v.Public) == 0 {
		v.Public = nil
	}
	return v, errors.Join(json.Unmarshal([]byte(operations), &v.Operations), json.Unmarshal([]byte(tags), &v.Tags))
}

func (t *Tx) VaultKeyVersion(key vault.KeyID, version vault.Version) (vault.KeyVersion, error) {
	v, err := scanVaultVersion(func(into ...any) error {
		return t.row(`SELECT `+vaultVersionColumns+` FROM vault_key_version WHERE key = $1 AND version = $2`,
			[]any{string(key), string(version)}, into...)
	})
	return v, found(err, fault.KeyNotFound)
}

func (t *Tx) VaultKeyVersions(key vault.KeyID, after, limit int) (all []vault.KeyVersion, err error) {
	err = t.rows(`SELECT `+vaultVersionColumns+` FROM vault_key_version WHERE key = $1 AND ordinal > $2 ORDER BY ordinal LIMIT $3`,
		[]any{string(key), after, limit}, func(scan func(...any) error) error {
			v, err := scanVaultVersion(scan)
			all = append(all, v)
			return err
		})
	return all, err
}

func (t *Tx) AddVaultKeyVersion(v vault.KeyVersion, sealed []byte) error {
	_, err := t.exec(`INSERT INTO vault_key_version (`+vaultVersionColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		string(v.Key), string(v.Version), v.Ordinal, string(v.Type), v.Bits, string(v.Curve), octets(v.Public), v.Platform,
		jsonColumn(v.Operations), v.Enabled, micros(v.NotBefore), micros(v.Expires), micros(v.Created), micros(v.Updated),
		jsonColumn(v.Tags), micros(v.Notice))
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO vault_key_private (key, version, sealed) VALUES ($1, $2, $3)`,
		string(v.Key), string(v.Version), sealed)
	return err
}

func (t *Tx) SetVaultKeyVersion(v vault.KeyVersion) error {
	n, err := t.exec(`UPDATE vault_key_version SET operations = $3, enabled = $4, not_before = $5, expires = $6, updated = $7, tags = $8,
		notice = $9
		WHERE key = $1 AND version = $2`,
		string(v.Key), string(v.Version), jsonColumn(v.Operations), v.Enabled,
		micros(v.NotBefore), micros(v.Expires), micros(v.Updated), jsonColumn(v.Tags), micros(v.Notice))
	if err == nil && n == 0 {
		return &fault.Error{Reason: fault.KeyNotFound}
	}
	return err
}

func (t *Tx) VaultKeySealed(key vault.KeyID, version vault.Version) (sealed []byte, err error) {
	err = t.row(`SELECT sealed FROM vault_key_private WHERE key = $1 AND version = $2`, []any{string(key), string(version)}, &sealed)
	return sealed, found(err, fault.KeyNotFound)
}

// octets returns bytes that a column takes when there are none, too.
func octets(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
