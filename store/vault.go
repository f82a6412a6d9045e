package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/vault"
)

// Vault returns the database as package vault's store.
func (d Domains) Vault() vault.Store {
	return domain[vault.Tx]{d.runner, func(t *Tx) vault.Tx { return t }}
}

// found turns "no row" into a domain's own reason.
func found(err error, missing fault.Reason) error {
	if errors.Is(err, sql.ErrNoRows) {
		return &fault.Error{Reason: missing}
	}
	return err
}

// jsonColumn returns v as the text of a column.
func jsonColumn(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // strings, and slices and maps of them, always marshal
		panic(err)
	}
	return string(b)
}

func (t *Tx) VaultSubscription(id string) (s vault.Subscription, err error) {
	err = t.row(`SELECT id, tenant, name FROM vault_subscription WHERE id = $1`, []any{strings.ToLower(id)},
		&s.ID, (*string)(&s.Tenant), &s.Name)
	return s, found(err, fault.SubscriptionNotFound)
}

func (t *Tx) VaultSubscriptions(tenant identity.TenantID) (all []vault.Subscription, err error) {
	err = t.rows(`SELECT id, tenant, name FROM vault_subscription WHERE tenant = $1 ORDER BY id`, []any{string(tenant)},
		func(scan func(...any) error) error {
			var s vault.Subscription
			err := scan(&s.ID, (*string)(&s.Tenant), &s.Name)
			all = append(all, s)
			return err
		})
	return all, err
}

func (t *Tx) PutVaultSubscription(s vault.Subscription) error {
	_, err := t.exec(`INSERT INTO vault_subscription (id, tenant, name) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, name = excluded.name`,
		strings.ToLower(s.ID), string(s.Tenant), s.Name)
	return err
}

const vaultGroupColumns = `subscription, name, location, tags, created`

func scanVaultGroup(scan func(...any) error) (g vault.ResourceGroup, err error) {
	var tags string
	var created int64
	if err := scan(&g.Subscription, &g.Name, &g.Location, &tags, &created); err != nil {
		return g, err
	}
	g.Created = fromMicros(created)
	return g, json.Unmarshal([]byte(tags), &g.Tags)
}

func (t *Tx) VaultGroup(subscription, name string) (vault.ResourceGroup, error) {
	g, err := scanVaultGroup(func(into ...any) error {
		return t.row(`SELECT `+vaultGroupColumns+` FROM vault_group WHERE subscription = $1 AND name_key = $2`,
			[]any{strings.ToLower(subscription), strings.ToLower(name)}, into...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return g, fault.New(fault.ResourceGroupNotFound, "The resource group could not be found.").About(name)
	}
	return g, err
}

func (t *Tx) VaultGroups(subscription string) (all []vault.ResourceGroup, err error) {
	err = t.rows(`SELECT `+vaultGroupColumns+` FROM vault_group WHERE subscription = $1 ORDER BY name_key`,
		[]any{strings.ToLower(subscription)}, func(scan func(...any) error) error {
			g, err := scanVaultGroup(scan)
			all = append(all, g)
			return err
		})
	return all, err
}

func (t *Tx) PutVaultGroup(g vault.ResourceGroup) error {
	_, err := t.exec(`INSERT INTO vault_group (subscription, name_key, name, location, tags, created)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (subscription, name_key) DO UPDATE SET
		name = excluded.name, location = excluded.location, tags = excluded.tags, created = excluded.created`,
		strings.ToLower(g.Subscription), strings.ToLower(g.Name), g.Name, g.Location, jsonColumn(g.Tags), micros(g.Created))
	return err
}

func (t *Tx) DropVaultGroup(subscription, name string) error {
	n, err := t.exec(`DELETE FROM vault_group WHERE subscription = $1 AND name_key = $2`,
		strings.ToLower(subscription), strings.ToLower(name))
	if err == nil && n == 0 {
		return fault.New(fault.ResourceGroupNotFound, "The resource group could not be found.").About(name)
	}
	return err
}

const vaultColumns = `id, name, tenant, subscription, resource_group, location, retention_days, purge_protection, rbac,
	access_policies, tags, created, updated, deleted, purge_at, network, trusted_services, require_approval, separate_duties,
	flavour, admins, activated`

func scanVault(scan func(...any) error) (v vault.Vault, err error) {
	var policies, tags, network, trusted, admins string
	var created, updated, deleted, purgeAt, activated int64
	err = scan((*string)(&v.ID), (*string)(&v.Name), (*string)(&v.Tenant), &v.Subscription, &v.ResourceGroup, &v.Location,
		&v.RetentionDays, &v.PurgeProtection, &v.RBAC, &policies, &tags, &created, &updated, &deleted, &purgeAt,
		&network, &trusted, &v.RequireApproval, &v.SeparateDuties, (*string)(&v.Flavour), &admins, &activated)
	if err != nil {
		return v, err
	}
	v.Created, v.Updated, v.Deleted, v.PurgeAt = fromMicros(created), fromMicros(updated), fromMicros(deleted), fromMicros(purgeAt)
	v.Activated = fromMicros(activated)
	return v, errors.Join(json.Unmarshal([]byte(policies), &v.AccessPolicies), json.Unmarshal([]byte(tags), &v.Tags),
		json.Unmarshal([]byte(network), &v.Network), json.Unmarshal([]byte(trusted), &v.TrustedServices),
		json.Unmarshal([]byte(admins), &v.Admins))
}

func (t *Tx) vaultWhere(where string, args ...any) (vault.Vault, error) {
	v, err := scanVault(func(into ...any) error {
		return t.row(`SELECT `+vaultColumns+` FROM vault WHERE `+where, args, into...)
	})
	return v, found(err, fault.VaultNotFound)
}

func (t *Tx) vaultsWhere(where string, args ...any) (all []vault.Vault, err error) {
	err = t.rows(`SELECT `+vaultColumns+` FROM vault WHERE `+where, args, func(scan func(...any) error) error {
		v, err := scanVault(scan)
		all = append(all, v)
		return err
	})
	return all, err
}

func (t *Tx) Vault(name vault.Name) (vault.Vault, error) {
	return t.vaultWhere(`name = $1`, strings.ToLower(string(name)))
}

func (t *Tx) VaultByID(id vault.ID) (vault.Vault, error) { return t.vaultWhere(`id = $1`, string(id)) }

func (t *Tx) Vaults(tenant identity.TenantID) ([]vault.Vault, error) {
	return t.vaultsWhere(`tenant = $1 ORDER BY name`, string(tenant))
}

func (t *Tx) PutVault(v vault.Vault) error {
	_, err := t.exec(`INSERT INTO vault (`+vaultColumns+`, newest_change, dropped_change)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, 0, 0)
		ON CONFLICT (id) DO UPDATE SET
		name = excluded.name, tenant = excluded.tenant, subscription = excluded.subscription,
		resource_group = excluded.resource_group, location = excluded.location, retention_days = excluded.retention_days,
		purge_protection = excluded.purge_protection, rbac = excluded.rbac, access_policies = excluded.access_policies,
		tags = excluded.tags, created = excluded.created, updated = excluded.updated, deleted = excluded.deleted,
		purge_at = excluded.purge_at, network = excluded.network, trusted_services = excluded.trusted_services,
		require_approval = excluded.require_approval, separate_duties = excluded.separate_duties,
		flavour = excluded.flavour, admins = excluded.admins, activated = excluded.activated`,
		string(v.ID), strings.ToLower(string(v.Name)), string(v.Tenant), v.Subscription, v.ResourceGroup, v.Location,
		v.RetentionDays, v.PurgeProtection, v.RBAC, jsonColumn(v.AccessPolicies), jsonColumn(v.Tags),
		micros(v.Created), micros(v.Updated), micros(v.Deleted), micros(v.PurgeAt),
		jsonColumn(v.Network), jsonColumn(v.TrustedServices), v.RequireApproval, v.SeparateDuties,
		string(v.Flavour), jsonColumn(v.Admins), micros(v.Activated))
	if isConstraint(err) {
		return fault.New(fault.VaultExists, "The vault's name is in use.").About(string(v.Name))
	}
	return err
}

func (t *Tx) DropVault(id vault.ID) error {
	if err := t.keepVaultRemains(`k.vault = $1`, string(id)); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM vault WHERE id = $1`, string(id))
	return err
}

func (t *Tx) VaultIDs() (all []vault.ID, err error) {
	err = t.rows(`SELECT id FROM vault ORDER BY id`, nil, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		all = append(all, vault.ID(id))
		return err
	})
	return all, err
}

func (t *Tx) DueVaults(by time.Time, limit int) ([]vault.Vault, error) {
	return t.vaultsWhere(`purge_at > 0 AND purge_at <= $1 ORDER BY purge_at LIMIT $2`, micros(by), limit)
}

// AppendVaultChange implements [vault.Tx]. The one writer makes the number that
// it reads stay true until commit.
func (t *Tx) AppendVaultChange(c vault.Change) error {
	n, err := t.exec(`UPDATE vault SET newest_change = newest_change + 1 WHERE id = $1`, string(c.Vault))
	if err != nil {
		return err
	}
	if n == 0 {
		return &fault.Error{Reason: fault.VaultNotFound}
	}
	_, err = t.exec(`INSERT INTO vault_change (vault, seq, key, version, principal, kind, time)
		SELECT id, newest_change, $2, $3, $4, $5, $6 FROM vault WHERE id = $1`,
		string(c.Vault), string(c.Key), string(c.Version), string(c.Principal), string(c.Kind), micros(c.Time))
	if err != nil {
		return err
	}
	return t.tell(VaultNews, string(c.Vault))
}

func (t *Tx) VaultRevision(id vault.ID) (newest, dropped int64, err error) {
	err = t.row(`SELECT newest_change, dropped_change FROM vault WHERE id = $1`, []any{string(id)}, &newest, &dropped)
	return newest, dropped, found(err, fault.VaultNotFound)
}

func (t *Tx) VaultChanges(id vault.ID, after int64, limit int) (all []vault.Change, err error) {
	err = t.rows(`SELECT seq, key, version, principal, kind, time FROM vault_change WHERE vault = $1 AND seq > $2 ORDER BY seq LIMIT $3`,
		[]any{string(id), after, limit}, func(scan func(...any) error) error {
			c := vault.Change{Vault: id}
			var at int64
			err := scan(&c.Seq, (*string)(&c.Key), (*string)(&c.Version), (*string)(&c.Principal), (*string)(&c.Kind), &at)
			c.Time = fromMicros(at)
			all = append(all, c)
			return err
		})
	return all, err
}

func (t *Tx) TrimVaultChanges(id vault.ID, upTo int64, before time.Time) error {
	if !before.IsZero() {
		var old int64
		err := t.row(`SELECT COALESCE(MAX(seq), 0) FROM vault_change WHERE vault = $1 AND time < $2`,
			[]any{string(id), micros(before)}, &old)
		if err != nil {
			return err
		}
		upTo = max(upTo, old)
	}
	if _, err := t.exec(`DELETE FROM vault_change WHERE vault = $1 AND seq <= $2`, string(id), upTo); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE vault SET dropped_change = $2 WHERE id = $1 AND dropped_change < $2`, string(id), upTo)
	return err
}

// flag keeps a boolean as 0 or 1.
