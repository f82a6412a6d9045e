package store

import (
	"encoding/json"
	"strings"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
)

// Account returns the database as package account's store.
func (d Domains) Account() account.Store {
	return domain[account.Tx]{d.recall, func(t *Tx) account.Tx { return t }}
}

const accountColumns = `id, tenant, subscription, resource_group, name, deleted, location, sku, kind, tags, identity_type,
	user_identities, key_identity, shared_key, created, updated, blob_service`

func scanAccount(scan func(...any) error) (r account.Row, err error) {
	var tags, users, service string
	var created, updated int64
	err = scan(&r.ID, &r.Tenant, &r.Subscription, &r.ResourceGroup, &r.Name, &r.Deleted, &r.Location, &r.SKU, &r.Kind, &tags,
		&r.Identity.Type, &users, &r.KeyIdentity, &r.SharedKey, &created, &updated, &service)
	if err != nil {
		return r, err
	}
	r.Created, r.Updated = fromMicros(created), fromMicros(updated)
	if users != "" {
		r.Identity.UserAssigned = strings.Split(users, "\n")
	}
	if err := json.Unmarshal([]byte(service), &r.BlobService); err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(tags), &r.Tags)
}

// AccountNamed implements [account.Tx].
func (t *Tx) AccountNamed(name account.Name) (account.Row, error) {
	about := func(account.Row) (int, rowKey) { return 1000, rowKey{} }
	r, ok, err := recallOne(t, rowKey{kind: accountByName, id: string(name)}, about, func() (account.Row, bool, error) {
		return one(t, scanAccount, `SELECT `+accountColumns+` FROM account WHERE name = $1 AND deleted = 0`, string(name))
	})
	if err == nil && !ok {
		return r, fault.New(fault.ResourceNotFound, "There is no such storage account.")
	}
	return r, err
}

// AccountsIn implements [account.Tx].
func (t *Tx) AccountsIn(subscription string) ([]account.Row, error) {
	return many(t, scanAccount, `SELECT `+accountColumns+` FROM account WHERE subscription = $1 AND deleted = 0 ORDER BY name`, subscription)
}

// AccountsDeleted implements [account.Tx].
func (t *Tx) AccountsDeleted() ([]account.Row, error) {
	return many(t, scanAccount, `SELECT `+accountColumns+` FROM account WHERE deleted = 1 ORDER BY id`)
}

// PutAccount implements [account.Tx].
func (t *Tx) PutAccount(r account.Row) error {
	if r.Tags == nil {
		r.Tags = map[string]string{}
	}
	tags, err := json.Marshal(r.Tags)
	if err != nil {
		return err
	}
	service, err := json.Marshal(r.BlobService)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO account (`+accountColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
		ON CONFLICT (id) DO UPDATE SET deleted = excluded.deleted, location = excluded.location, sku = excluded.sku,
		kind = excluded.kind, tags = excluded.tags, identity_type = excluded.identity_type,
		user_identities = excluded.user_identities, key_identity = excluded.key_identity, shared_key = excluded.shared_key,
		updated = excluded.updated, blob_service = excluded.blob_service`,
		string(r.ID), string(r.Tenant), r.Subscription, r.ResourceGroup, string(r.Name), r.Deleted, r.Location, r.SKU, r.Kind,
		string(tags), string(r.Identity.Type), strings.Join(r.Identity.UserAssigned, "\n"), r.KeyIdentity, r.SharedKey,
		micros(r.Created), micros(r.Updated), string(service))
	return conflict(err, "The storage account's name is taken.")
}

// DeleteAccount implements [account.Tx].
func (t *Tx) DeleteAccount(id encryption.ScopeID) error {
	t.shreds = Shredded
	for _, q := range []string{`DELETE FROM account_key WHERE account = $1`, `DELETE FROM account WHERE id = $1`} {
		if _, err := t.exec(q, string(id)); err != nil {
			return err
		}
	}
	return nil
}

// AccountKeys implements [account.Tx].
func (t *Tx) AccountKeys(id encryption.ScopeID) ([]account.KeyRow, error) {
	return many(t, func(scan func(...any) error) (k account.KeyRow, err error) {
		var made int64
		err = scan(&k.Account, &k.Name, &k.Serial, &k.Sealed, &made)
		k.Created = fromMicros(made)
		return k, err
	}, `SELECT account, name, serial, sealed, created FROM account_key WHERE account = $1 ORDER BY name`, string(id))
}

// PutAccountKey implements [account.Tx].
func (t *Tx) PutAccountKey(k account.KeyRow) error {
	t.shreds = Shredded
	_, err := t.exec(`INSERT INTO account_key (account, name, serial, sealed, created) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (account, name) DO UPDATE SET serial = excluded.serial, sealed = excluded.sealed, created = excluded.created`,
		string(k.Account), k.Name, k.Serial, k.Sealed, micros(k.Created))
	return err
}
