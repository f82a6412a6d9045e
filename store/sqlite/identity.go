package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// Identity returns the database as a directory's store.
func (db *DB) Identity() identity.Store { return identityStore{db} }

type identityStore struct{ db *DB }

func (s identityStore) View(ctx context.Context, fn func(identity.Tx) error) error {
	return s.db.view(ctx, func(t *tx) error { return fn(t) })
}

func (s identityStore) Update(ctx context.Context, fn func(identity.Tx) error) error {
	return s.db.update(ctx, func(t *tx) error { return fn(t) })
}

// DirectoryTenant implements [identity.Tx].
func (t *tx) DirectoryTenant(id identity.TenantID) (identity.Tenant, error) {
	d := identity.Tenant{ID: id}
	var created int64
	err := t.row("SELECT name, created FROM directory_tenant WHERE id = ?", []any{string(id)}, &d.Name, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.Tenant{}, fault.New(fault.TenantNotFound, "There is no such tenant.").About(string(id))
	}
	d.Created = time.UnixMicro(created).UTC()
	return d, err
}

// PutDirectoryTenant implements [identity.Tx].
func (t *tx) PutDirectoryTenant(d identity.Tenant) error {
	_, err := t.exec("INSERT INTO directory_tenant (id, name, created) VALUES (?, ?, ?)", string(d.ID), d.Name, d.Created.UnixMicro())
	if isConstraint(err) {
		return fault.New(fault.Conflict, "The tenant exists already.").About(string(d.ID))
	}
	return err
}

const principalColumns = "SELECT id, tenant, type, application, name, enabled, generation, created, created_by FROM principal"

func scanPrincipal(scan func(into ...any) error) (identity.Principal, error) {
	var p identity.Principal
	var created int64
	err := scan(&p.ID, &p.Tenant, &p.Type, &p.Application, &p.Name, &p.Enabled, &p.Generation, &created, &p.CreatedBy)
	p.Created = time.UnixMicro(created).UTC()
	return p, err
}

// Principal implements [identity.Tx].
func (t *tx) Principal(tenant identity.TenantID, id identity.PrincipalID) (identity.Principal, error) {
	p, err := scanPrincipal(func(into ...any) error {
		return t.row(principalColumns+" WHERE tenant = ? AND id = ?", []any{string(tenant), string(id)}, into...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return identity.Principal{}, principalNotFound(id)
	}
	return p, err
}

func principalNotFound(id identity.PrincipalID) error {
	return fault.New(fault.PrincipalNotFound, "There is no such principal in this directory.").About(string(id))
}

// Principals implements [identity.Tx].
func (t *tx) Principals(tenant identity.TenantID, f identity.Filter, limit int) ([]identity.Principal, error) {
	where, args := " WHERE tenant = ?", []any{string(tenant)}
	if f.Application != "" {
		where += " AND application = ?"
		args = append(args, f.Application)
	}
	if f.Name != "" {
		where += " AND name = ?"
		args = append(args, f.Name)
	}
	var found []identity.Principal
	err := t.rows(principalColumns+where+" ORDER BY id LIMIT ?", append(args, limit), func(scan func(into ...any) error) error {
		p, err := scanPrincipal(scan)
		found = append(found, p)
		return err
	})
	return found, err
}

// PutPrincipal implements [identity.Tx].
func (t *tx) PutPrincipal(p identity.Principal) error {
	_, err := t.exec(`INSERT INTO principal (id, tenant, type, application, name, enabled, generation, created, created_by)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		string(p.ID), string(p.Tenant), string(p.Type), p.Application, p.Name, number(p.Enabled), p.Generation,
		p.Created.UnixMicro(), string(p.CreatedBy))
	if isConstraint(err) {
		return fault.New(fault.PrincipalExists, "The application has a principal in this directory already.").About(p.Application)
	}
	if err != nil {
		return err
	}
	return t.principalsChanged()
}

// SetPrincipal implements [identity.Tx].
func (t *tx) SetPrincipal(p identity.Principal) error {
	n, err := t.exec("UPDATE principal SET name = ?, enabled = ?, generation = ? WHERE tenant = ? AND id = ?",
		p.Name, number(p.Enabled), p.Generation, string(p.Tenant), string(p.ID))
	if err != nil {
		return err
	}
	if n == 0 {
		return principalNotFound(p.ID)
	}
	return t.principalsChanged()
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (t *tx) principalsChanged() error {
	_, err := t.exec("UPDATE principal_change SET serial = serial + 1 WHERE one = 1")
	return err
}

// PrincipalChanges implements [identity.Tx].
func (t *tx) PrincipalChanges() (serial int64, err error) {
	err = t.row("SELECT serial FROM principal_change WHERE one = 1", nil, &serial)
	return serial, err
}

// PrincipalGenerations implements [identity.Tx].
func (t *tx) PrincipalGenerations() (map[identity.TenantID]map[identity.PrincipalID]int64, error) {
	all := map[identity.TenantID]map[identity.PrincipalID]int64{}
	err := t.rows("SELECT tenant, id, generation FROM principal WHERE enabled = 1", nil, func(scan func(into ...any) error) error {
		var tenant identity.TenantID
		var id identity.PrincipalID
		var generation int64
		if err := scan(&tenant, &id, &generation); err != nil {
			return err
		}
		if all[tenant] == nil {
			all[tenant] = map[identity.PrincipalID]int64{}
		}
		all[tenant][id] = generation
		return nil
	})
	return all, err
}

// ClientSecrets implements [identity.Tx].
func (t *tx) ClientSecrets(tenant identity.TenantID, principal identity.PrincipalID) ([]identity.StoredSecret, error) {
	var all []identity.StoredSecret
	err := t.rows(`SELECT id, name, hash, created, expires FROM client_secret WHERE tenant = ? AND principal = ? ORDER BY created, id`,
		[]any{string(tenant), string(principal)}, func(scan func(into ...any) error) error {
			s := identity.StoredSecret{Tenant: tenant, Principal: principal}
			var hash []byte
			var created, expires int64
			if err := scan(&s.ID, &s.Name, &hash, &created, &expires); err != nil {
				return err
			}
			if copy(s.Hash[:], hash) != len(s.Hash) {
				return fault.New(fault.Integrity, "A client secret's hash is damaged.").About(s.ID)
			}
			s.Created, s.Expires = time.UnixMicro(created).UTC(), time.UnixMicro(expires).UTC()
			all = append(all, s)
			return nil
		})
	return all, err
}

// PutClientSecret implements [identity.Tx].
func (t *tx) PutClientSecret(s identity.StoredSecret) error {
	_, err := t.exec("INSERT INTO client_secret (id, tenant, principal, name, hash, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
		s.ID, string(s.Tenant), string(s.Principal), s.Name, s.Hash[:], s.Created.UnixMicro(), s.Expires.UnixMicro())
	return err
}

// DeleteClientSecret implements [identity.Tx].
func (t *tx) DeleteClientSecret(tenant identity.TenantID, principal identity.PrincipalID, id string) error {
	n, err := t.exec("DELETE FROM client_secret WHERE tenant = ? AND principal = ? AND id = ?", string(tenant), string(principal), id)
	if err == nil && n == 0 {
		return fault.New(fault.NotFound, "There is no such secret.").About(id)
	}
	return err
}

// DeleteClientSecrets implements [identity.Tx].
func (t *tx) DeleteClientSecrets(tenant identity.TenantID, principal identity.PrincipalID) error {
	_, err := t.exec("DELETE FROM client_secret WHERE tenant = ? AND principal = ?", string(tenant), string(principal))
	return err
}

// DirectoryRoleHolders implements [identity.Tx].
func (t *tx) DirectoryRoleHolders(tenant identity.TenantID, role identity.DirectoryRole) ([]identity.PrincipalID, error) {
	var all []identity.PrincipalID
	err := t.rows("SELECT principal FROM directory_role WHERE tenant = ? AND role = ? ORDER BY principal",
		[]any{string(tenant), string(role)}, func(scan func(into ...any) error) error {
			var id identity.PrincipalID
			err := scan(&id)
			all = append(all, id)
			return err
		})
	return all, err
}

// PutDirectoryRole implements [identity.Tx].
func (t *tx) PutDirectoryRole(tenant identity.TenantID, principal identity.PrincipalID, role identity.DirectoryRole) error {
	_, err := t.exec("INSERT INTO directory_role (tenant, principal, role) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
		string(tenant), string(principal), string(role))
	return err
}

// DeleteDirectoryRole implements [identity.Tx].
func (t *tx) DeleteDirectoryRole(tenant identity.TenantID, principal identity.PrincipalID, role identity.DirectoryRole) error {
	_, err := t.exec("DELETE FROM directory_role WHERE tenant = ? AND principal = ? AND role = ?",
		string(tenant), string(principal), string(role))
	return err
}

// SigningKeys implements [identity.Tx].
func (t *tx) SigningKeys() ([]identity.SealedSigningKey, error) {
	var all []identity.SealedSigningKey
	err := t.rows("SELECT id, created, ended, sealed FROM signing_key ORDER BY created DESC, id", nil, func(scan func(into ...any) error) error {
		var k identity.SealedSigningKey
		var created int64
		var ended sql.NullInt64
		if err := scan(&k.ID, &created, &ended, &k.Sealed); err != nil {
			return err
		}
		k.Created = time.UnixMicro(created).UTC()
		if ended.Valid {
			k.End = time.UnixMicro(ended.Int64).UTC()
		}
		all = append(all, k)
		return nil
	})
	return all, err
}

// PutSigningKey implements [identity.Tx].
func (t *tx) PutSigningKey(k identity.SealedSigningKey) error {
	_, err := t.exec("INSERT INTO signing_key (id, created, ended, sealed) VALUES (?, ?, NULL, ?)", k.ID, k.Created.UnixMicro(), k.Sealed)
	return err
}

// RetireSigningKeys implements [identity.Tx].
func (t *tx) RetireSigningKeys(except string, end time.Time) error {
	_, err := t.exec("UPDATE signing_key SET ended = ? WHERE ended IS NULL AND id <> ?", end.UnixMicro(), except)
	return err
}

// DeleteSigningKeys implements [identity.Tx].
func (t *tx) DeleteSigningKeys(before time.Time) error {
	_, err := t.exec("DELETE FROM signing_key WHERE ended IS NOT NULL AND ended < ?", before.UnixMicro())
	return err
}
