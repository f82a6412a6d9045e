package store

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// Identity returns the database as a directory's store.
func (d Domains) Identity() identity.Store {
	return domain[identity.Tx]{d.runner, func(t *Tx) identity.Tx { return t }}
}

// DirectoryTenant implements [identity.Tx].
func (t *Tx) DirectoryTenant(id identity.TenantID) (identity.Tenant, error) {
	d := identity.Tenant{ID: id}
	var created int64
	err := t.row("SELECT name, created FROM directory_tenant WHERE id = $1", []any{string(id)}, &d.Name, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.Tenant{}, fault.New(fault.TenantNotFound, "There is no such tenant.").About(string(id))
	}
	d.Created = time.UnixMicro(created).UTC()
	return d, err
}

// PutDirectoryTenant implements [identity.Tx].
func (t *Tx) PutDirectoryTenant(d identity.Tenant) error {
	_, err := t.exec("INSERT INTO directory_tenant (id, name, created) VALUES ($1, $2, $3)", string(d.ID), d.Name, d.Created.UnixMicro())
	if isConstraint(err) {
		return fault.New(fault.Conflict, "The tenant exists already.").About(string(d.ID))
	}
	return err
}

const principalColumns = "SELECT id, tenant, type, application, user_name, name, enabled, generation, created, created_by FROM principal"

func scanPrincipal(scan func(into ...any) error) (identity.Principal, error) {
	var p identity.Principal
	var created int64
	var user sql.NullString
	err := scan(&p.ID, &p.Tenant, &p.Type, &p.Application, &user, &p.Name, &p.Enabled, &p.Generation, &created, &p.CreatedBy)
	p.Created = time.UnixMicro(created).UTC()
	if user.Valid { // its application only fills the column
		p.UserName, p.Application = user.String, ""
	}
	return p, err
}

// Principal implements [identity.Tx].
func (t *Tx) Principal(tenant identity.TenantID, id identity.PrincipalID) (identity.Principal, error) {
	p, err := scanPrincipal(func(into ...any) error {
		return t.row(principalColumns+" WHERE tenant = $1 AND id = $2", []any{string(tenant), string(id)}, into...)
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
func (t *Tx) Principals(tenant identity.TenantID, f identity.Filter, limit int) ([]identity.Principal, error) {
	where, args := " WHERE tenant = $1", []any{string(tenant)}
	for _, c := range []struct{ condition, value string }{
		{"type = ", string(f.Type)}, {"application = ", f.Application}, {"user_name = ", f.UserName}, {"name = ", f.Name},
	} {
		if c.value != "" {
			args = append(args, c.value)
			where += " AND " + c.condition + nth(len(args))
		}
	}
	if f.Prefix != "" { // no LIKE: its value may hold a pattern
		args = append(args, f.Prefix)
		where += " AND lower(substr(name, 1, length(" + nth(len(args)) + "))) = lower(" + nth(len(args)) + ")"
	}
	var found []identity.Principal
	args = append(args, limit)
	err := t.rows(principalColumns+where+" ORDER BY id LIMIT "+nth(len(args)), args, func(scan func(into ...any) error) error {
		p, err := scanPrincipal(scan)
		found = append(found, p)
		return err
	})
	return found, err
}

// PutPrincipal implements [identity.Tx].
func (t *Tx) PutPrincipal(p identity.Principal) error {
	application, user := p.Application, sql.NullString{String: p.UserName, Valid: p.UserName != ""}
	if user.Valid {
		application = string(p.ID)
	}
	_, err := t.exec(`INSERT INTO principal (id, tenant, type, application, user_name, name, enabled, generation, created, created_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		string(p.ID), string(p.Tenant), string(p.Type), application, user, p.Name, p.Enabled, p.Generation,
		p.Created.UnixMicro(), string(p.CreatedBy))
	switch {
	case isConstraint(err) && user.Valid:
		return fault.New(fault.PrincipalExists, "There is a user of this name in this directory already.").About(p.UserName)
	case isConstraint(err):
		return fault.New(fault.PrincipalExists, "The application has a principal in this directory already.").About(p.Application)
	}
	if err != nil {
		return err
	}
	return t.principalsChanged()
}

// SetPrincipal implements [identity.Tx].
func (t *Tx) SetPrincipal(p identity.Principal) error {
	n, err := t.exec("UPDATE principal SET name = $1, enabled = $2, generation = $3 WHERE tenant = $4 AND id = $5",
		p.Name, p.Enabled, p.Generation, string(p.Tenant), string(p.ID))
	if err != nil {
		return err
	}
	if n == 0 {
		return principalNotFound(p.ID)
	}
	return t.principalsChanged()
}

func (t *Tx) principalsChanged() error {
	_, err := t.exec("UPDATE principal_change SET serial = serial + 1 WHERE one = 1")
	return err
}

// PrincipalChanges implements [identity.Tx].
func (t *Tx) PrincipalChanges() (serial int64, err error) {
	err = t.row("SELECT serial FROM principal_change WHERE one = 1", nil, &serial)
	return serial, err
}

// PrincipalGenerations implements [identity.Tx].
func (t *Tx) PrincipalGenerations() (map[identity.TenantID]map[identity.PrincipalID]int64, error) {
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
func (t *Tx) ClientSecrets(tenant identity.TenantID, principal identity.PrincipalID) ([]identity.StoredSecret, error) {
	var all []identity.StoredSecret
	err := t.rows(`SELECT id, name, hash, created, expires FROM client_secret WHERE tenant = $1 AND principal = $2 ORDER BY created, id`,
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
func (t *Tx) PutClientSecret(s identity.StoredSecret) error {
	_, err := t.exec("INSERT INTO client_secret (id, tenant, principal, name, hash, created, expires) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		s.ID, string(s.Tenant), string(s.Principal), s.Name, s.Hash[:], s.Created.UnixMicro(), s.Expires.UnixMicro())
	return err
}

// DeleteClientSecret implements [identity.Tx].
func (t *Tx) DeleteClientSecret(tenant identity.TenantID, principal identity.PrincipalID, id string) error {
	n, err := t.exec("DELETE FROM client_secret WHERE tenant = $1 AND principal = $2 AND id = $3", string(tenant), string(principal), id)
	if err == nil && n == 0 {
		return fault.New(fault.NotFound, "There is no such secret.").About(id)
	}
	return err
}

// DeleteClientSecrets implements [identity.Tx].
func (t *Tx) DeleteClientSecrets(tenant identity.TenantID, principal identity.PrincipalID) error {
	_, err := t.exec("DELETE FROM client_secret WHERE tenant = $1 AND principal = $2", string(tenant), string(principal))
	return err
}

// Password implements [identity.Tx].
func (t *Tx) Password(tenant identity.TenantID, principal identity.PrincipalID) (identity.StoredPassword, error) {
	p := identity.StoredPassword{Tenant: tenant, Principal: principal}
	var since int64
	err := t.row("SELECT hash, since FROM user_password WHERE tenant = $1 AND principal = $2", []any{string(tenant), string(principal)}, &p.Hash, &since)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.StoredPassword{}, nil
	}
	p.Since = time.UnixMicro(since).UTC()
	return p, err
}

// SetPassword implements [identity.Tx].
func (t *Tx) SetPassword(p identity.StoredPassword) error {
	_, err := t.exec(`INSERT INTO user_password (principal, tenant, hash, since) VALUES ($1, $2, $3, $4)
		ON CONFLICT (principal) DO UPDATE SET hash = excluded.hash, since = excluded.since`,
		string(p.Principal), string(p.Tenant), p.Hash, p.Since.UnixMicro())
	return err
}

// SignIn implements [identity.Tx].
func (t *Tx) SignIn(tenant identity.TenantID, id string) (identity.StoredSignIn, error) {
	s := identity.StoredSignIn{ID: id, Tenant: tenant}
	var created, expires, rotated int64
	err := t.row(`SELECT principal, client, generation, redirect, scope, challenge, nonce, created, expires, serial, rotated
		FROM sign_in WHERE tenant = $1 AND id = $2`, []any{string(tenant), id},
		&s.Principal, &s.Client, &s.Generation, &s.Redirect, &s.Scope, &s.Challenge, &s.Nonce, &created, &expires, &s.Serial, &rotated)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.StoredSignIn{}, fault.New(fault.NotFound, "There is no such sign-in.").About(id)
	}
	s.Created, s.Expires, s.Rotated = time.UnixMicro(created).UTC(), time.UnixMicro(expires).UTC(), time.UnixMicro(rotated).UTC()
	return s, err
}

// PutSignIn implements [identity.Tx].
func (t *Tx) PutSignIn(s identity.StoredSignIn) error {
	_, err := t.exec(`INSERT INTO sign_in (id, tenant, principal, client, generation, redirect, scope, challenge, nonce, created, expires, serial, rotated)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		s.ID, string(s.Tenant), string(s.Principal), s.Client, s.Generation, s.Redirect, s.Scope, s.Challenge, s.Nonce,
		s.Created.UnixMicro(), s.Expires.UnixMicro(), int64(s.Serial), s.Rotated.UnixMicro())
	return err
}

// SetSignIn implements [identity.Tx].
func (t *Tx) SetSignIn(s identity.StoredSignIn) error {
	_, err := t.exec("UPDATE sign_in SET serial = $1, rotated = $2 WHERE tenant = $3 AND id = $4",
		int64(s.Serial), s.Rotated.UnixMicro(), string(s.Tenant), s.ID)
	return err
}

// DeleteSignIn implements [identity.Tx].
func (t *Tx) DeleteSignIn(tenant identity.TenantID, id string) error {
	_, err := t.exec("DELETE FROM sign_in WHERE tenant = $1 AND id = $2", string(tenant), id)
	return err
}

// DeleteSignIns implements [identity.Tx].
func (t *Tx) DeleteSignIns(before time.Time) error {
	_, err := t.exec("DELETE FROM sign_in WHERE expires < $1", before.UnixMicro())
	return err
}

// Throttle implements [identity.Tx].
func (t *Tx) Throttle(key [sha256.Size]byte) (time.Time, error) {
	var whole int64
	err := t.row("SELECT whole FROM sign_in_throttle WHERE key = $1", []any{key[:]}, &whole)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	return time.UnixMicro(whole).UTC(), err
}

// PutThrottle implements [identity.Tx].
func (t *Tx) PutThrottle(r identity.Throttle) error {
	_, err := t.exec(`INSERT INTO sign_in_throttle (key, whole) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET whole = excluded.whole`,
		r.Key[:], r.Whole.UnixMicro())
	return err
}

// DeleteThrottles implements [identity.Tx].
func (t *Tx) DeleteThrottles(by time.Time) error {
	_, err := t.exec("DELETE FROM sign_in_throttle WHERE whole <= $1", by.UnixMicro())
	return err
}

// DirectoryRoleHolders implements [identity.Tx].
func (t *Tx) DirectoryRoleHolders(tenant identity.TenantID, role identity.DirectoryRole) ([]identity.PrincipalID, error) {
	var all []identity.PrincipalID
	err := t.rows("SELECT principal FROM directory_role WHERE tenant = $1 AND role = $2 ORDER BY principal",
		[]any{string(tenant), string(role)}, func(scan func(into ...any) error) error {
			var id identity.PrincipalID
			err := scan(&id)
			all = append(all, id)
			return err
		})
	return all, err
}

// PutDirectoryRole implements [identity.Tx].
func (t *Tx) PutDirectoryRole(tenant identity.TenantID, principal identity.PrincipalID, role identity.DirectoryRole) error {
	_, err := t.exec("INSERT INTO directory_role (tenant, principal, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		string(tenant), string(principal), string(role))
	return err
}

// DeleteDirectoryRole implements [identity.Tx].
func (t *Tx) DeleteDirectoryRole(tenant identity.TenantID, principal identity.PrincipalID, role identity.DirectoryRole) error {
	_, err := t.exec("DELETE FROM directory_role WHERE tenant = $1 AND principal = $2 AND role = $3",
		string(tenant), string(principal), string(role))
	return err
}

// SigningKeys implements [identity.Tx].
func (t *Tx) SigningKeys() ([]identity.SealedSigningKey, error) {
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
func (t *Tx) PutSigningKey(k identity.SealedSigningKey) error {
	_, err := t.exec("INSERT INTO signing_key (id, created, ended, sealed) VALUES ($1, $2, NULL, $3)", k.ID, k.Created.UnixMicro(), k.Sealed)
	return err
}

// RetireSigningKeys implements [identity.Tx].
func (t *Tx) RetireSigningKeys(except string, end time.Time) error {
	_, err := t.exec("UPDATE signing_key SET ended = $1 WHERE ended IS NULL AND id <> $2", end.UnixMicro(), except)
	return err
}

// DeleteSigningKeys implements [identity.Tx].
func (t *Tx) DeleteSigningKeys(before time.Time) error {
	_, err := t.exec("DELETE FROM signing_key WHERE ended IS NOT NULL AND ended < $1", before.UnixMicro())
	return err
}
