package store

import (
	"encoding/json"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// vaultRotation is what the column holds of a policy.
type vaultRotation struct {
	Rotate *vault.Trigger `json:"rotate,omitempty"`
	Notify *vault.Trigger `json:"notify,omitempty"`
	Expiry vault.Duration `json:"expiry,omitempty"`
}

func (t *Tx) VaultRotation(key vault.KeyID) (p vault.RotationPolicy, due time.Time, err error) {
	var text string
	var created, updated, next int64
	err = t.row(`SELECT policy, created, updated, due FROM vault_key_rotation WHERE key = $1`, []any{string(key)},
		&text, &created, &updated, &next)
	if err != nil {
		return p, due, found(err, fault.NotFound)
	}
	var r vaultRotation
	err = json.Unmarshal([]byte(text), &r)
	p = vault.RotationPolicy{Rotate: r.Rotate, Notify: r.Notify, Expiry: r.Expiry, Created: fromMicros(created), Updated: fromMicros(updated)}
	return p, fromMicros(next), err
}

func (t *Tx) PutVaultRotation(key vault.KeyID, p vault.RotationPolicy, due time.Time) error {
	_, err := t.exec(`INSERT INTO vault_key_rotation (key, policy, created, updated, due) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (key) DO UPDATE SET policy = excluded.policy, created = excluded.created, updated = excluded.updated, due = excluded.due`,
		string(key), jsonColumn(vaultRotation{p.Rotate, p.Notify, p.Expiry}), micros(p.Created), micros(p.Updated), micros(due))
	return err
}

// liveVaultKey is true of k where key and vault are not deleted.
const liveVaultKey = `k.deleted = 0 AND EXISTS (SELECT 1 FROM vault v WHERE v.id = k.vault AND v.deleted = 0)`

func (t *Tx) DueVaultRotations(by time.Time, after vault.KeyID, limit int) ([]vault.Key, error) {
	return t.vaultKeysWhere(`id IN (SELECT k.id FROM vault_key k
		JOIN vault_key_rotation r ON r.key = k.id JOIN vault_key_version w ON w.key = k.id AND w.version = k.current
		WHERE r.due > 0 AND r.due <= $1 AND w.enabled = 1 AND `+liveVaultKey+`) AND id > $2 ORDER BY id LIMIT $3`,
		micros(by), string(after), limit)
}

func (t *Tx) DueVaultNotices(by time.Time, limit int) (all []vault.KeyVersion, err error) {
	err = t.rows(`SELECT `+vaultVersionColumns+` FROM vault_key_version WHERE notice > 0 AND notice <= $1
		AND EXISTS (SELECT 1 FROM vault_key k WHERE k.id = key AND `+liveVaultKey+`) ORDER BY notice LIMIT $2`,
		[]any{micros(by), limit}, func(scan func(...any) error) error {
			v, err := scanVaultVersion(scan)
			all = append(all, v)
			return err
		})
	return all, err
}

func (t *Tx) PutVaultDrill(d vault.Drill) error {
	_, err := t.exec(`INSERT INTO vault_key_drill (key, version, taken, until) VALUES ($1, $2, $3, $4)
		ON CONFLICT (key, version) DO UPDATE SET taken = excluded.taken, until = excluded.until`,
		string(d.Key), string(d.Version), micros(d.Taken), micros(d.Until))
	return err
}

func (t *Tx) DropVaultDrill(key vault.KeyID, version vault.Version) error {
	_, err := t.exec(`DELETE FROM vault_key_drill WHERE key = $1 AND version = $2`, string(key), string(version))
	return err
}

func (t *Tx) DueVaultDrills(by time.Time, limit int) (all []vault.Drill, err error) {
	err = t.rows(`SELECT key, version, taken, until FROM vault_key_drill WHERE until <= $1 ORDER BY until, key, version LIMIT $2`,
		[]any{micros(by), limit}, func(scan func(...any) error) error {
			var d vault.Drill
			var taken, until int64
			err := scan((*string)(&d.Key), (*string)(&d.Version), &taken, &until)
			d.Taken, d.Until = fromMicros(taken), fromMicros(until)
			all = append(all, d)
			return err
		})
	return all, err
}

func (t *Tx) CountVaultUse(key vault.KeyID, u vault.Usage) error {
	_, err := t.exec(`INSERT INTO vault_key_usage (key, version, principal, operation, count, first, last)
		VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (key, version, principal, operation) DO UPDATE SET
		count = vault_key_usage.count + excluded.count, last = excluded.last`,
		string(key), string(u.Version), string(u.Principal), string(u.Operation), u.Count, micros(u.Last))
	return err
}

func (t *Tx) VaultUsage(key vault.KeyID, limit int) (all []vault.Usage, err error) {
	err = t.rows(`SELECT version, principal, operation, count, first, last FROM vault_key_usage WHERE key = $1
		ORDER BY last DESC, version, principal, operation LIMIT $2`, []any{string(key), limit}, func(scan func(...any) error) error {
		var u vault.Usage
		var first, last int64
		err := scan((*string)(&u.Version), (*string)(&u.Principal), (*string)(&u.Operation), &u.Count, &first, &last)
		u.First, u.Last = fromMicros(first), fromMicros(last)
		all = append(all, u)
		return err
	})
	return all, err
}

// keepVaultRemains notes the private parts that lie elsewhere of keys about to be
// dropped.
func (t *Tx) keepVaultRemains(where string, args ...any) error {
	_, err := t.exec(`INSERT INTO vault_key_remains (vault, key, version, type, bits, curve, public, platform, sealed)
		SELECT k.vault, w.key, w.version, w.type, w.bits, w.curve, w.public, w.platform, p.sealed FROM vault_key k
		JOIN vault_key_version w ON w.key = k.id JOIN vault_key_private p ON p.key = w.key AND p.version = w.version
		WHERE w.platform <> '`+vault.Software+`' AND `+where+` ON CONFLICT (key, version) DO NOTHING`, args...)
	return err
}

func (t *Tx) VaultRemains(by time.Time, limit int) (all []vault.Remains, err error) {
	err = t.rows(`SELECT vault, key, version, type, bits, curve, public, platform, sealed, due FROM vault_key_remains
		WHERE due <= $1 ORDER BY key, version LIMIT $2`, []any{micros(by), limit}, func(scan func(...any) error) error {
		var r vault.Remains
		m := &r.Material
		var due int64
		err := scan((*string)(&r.Vault), (*string)(&r.Key), (*string)(&r.Version), (*string)(&m.Type), &m.Bits, (*string)(&m.Curve),
			&m.Public, &r.Platform, &m.Sealed, &due)
		r.Due = fromMicros(due)
		all = append(all, r)
		return err
	})
	return all, err
}

// AddVaultRemains implements [vault.Tx].
func (t *Tx) AddVaultRemains(r vault.Remains) error {
	m := r.Material
	_, err := t.exec(`INSERT INTO vault_key_remains (vault, key, version, type, bits, curve, public, platform, sealed, due)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (key, version) DO UPDATE SET due = excluded.due`,
		string(r.Vault), string(r.Key), string(r.Version), string(m.Type), m.Bits, string(m.Curve), octets(m.Public), r.Platform, m.Sealed, micros(r.Due))
	return err
}

// TakeVaultRemains implements [vault.Tx].
func (t *Tx) TakeVaultRemains(r vault.Ref) error {
	n, err := t.exec(`DELETE FROM vault_key_remains WHERE key = $1 AND version = $2 AND due > 0`, string(r.Key), string(r.Version))
	if err == nil && n == 0 {
		err = &fault.Error{Reason: fault.NotFound}
	}
	return err
}

func (t *Tx) DropVaultRemains(r vault.Ref) error {
	_, err := t.exec(`DELETE FROM vault_key_remains WHERE key = $1 AND version = $2`, string(r.Key), string(r.Version))
	return err
}
