package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// The names of an account's two keys, in Azure's words.
const (
	key1 = "key1"
	key2 = "key2"
)

// KeySize is the length of an account key in bytes.
const KeySize = 64

// A Key is one of an account's keys. Whoever has it may do all with the account's
// data.
type Key struct {
	Name    string
	Value   []byte // 64 bytes
	Created time.Time
}

const purposeAccountKey = "kluis/v1/account-key"

func (a *Accounts) keyContext(tenant identity.TenantID, k KeyRow) envelope.Context {
	return envelope.NewContext(purposeAccountKey, a.root.Instance(), string(tenant), string(k.Account), k.Name).WithUint64(uint64(k.Serial))
}

// newKey makes a key's row.
func (a *Accounts) newKey(row Row, name string, serial int64, now time.Time) KeyRow {
	k := KeyRow{Account: row.ID, Name: name, Serial: serial, Created: now}
	var value [KeySize]byte
	rand.Read(value[:])
	defer clear(value[:])
	under := a.root.Derive(purposeAccountKey)
	defer under.Clear()
	k.Sealed = envelope.Seal(under, a.keyContext(row.Tenant, k), value[:])
	return k
}

// openKeys opens an account's keys. The caller clears them.
func (a *Accounts) openKeys(tenant identity.TenantID, rows []KeyRow) (keys []Key, err error) {
	under := a.root.Derive(purposeAccountKey)
	defer under.Clear()
	for _, k := range rows {
		value, err := envelope.Open(under, a.keyContext(tenant, k), k.Sealed)
		if err == nil && len(value) != KeySize {
			err = fault.New(fault.Integrity, "An account's key has the wrong length.").About(string(k.Account))
		}
		if err != nil {
			clearKeys(keys)
			return nil, err
		}
		keys = append(keys, Key{k.Name, value, k.Created})
	}
	return keys, nil
}

func clearKeys(keys []Key) {
	for _, k := range keys {
		clear(k.Value)
	}
}

// Keys returns an account's keys. The caller clears them.
func (a *Accounts) Keys(ctx context.Context, c identity.Caller, p Path) (keys []Key, err error) {
	e := c.Entry("ListStorageAccountKeys", "/subscriptions")
	if err := a.checkPath(c, &p); err != nil {
		return nil, a.record(ctx, e, err)
	}
	e.Resource = string(p.Scope())
	var row Row
	var sealed []KeyRow
	err = a.read(ctx, e, func(tx Tx) error {
		if row, err = live(tx, c, rbac.AccountKeysList, p); err != nil {
			return err
		}
		sealed, err = tx.AccountKeys(row.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a.openKeys(row.Tenant, sealed)
}

// RegenerateKey makes one of an account's keys anew, and returns both. What was signed
// with the old one holds no longer.
func (a *Accounts) RegenerateKey(ctx context.Context, c identity.Caller, p Path, name string) ([]Key, error) {
	e := c.Entry("RegenerateStorageAccountKey", "/subscriptions")
	if err := a.checkPath(c, &p); err != nil {
		return nil, a.record(ctx, e, err)
	}
	e.Resource = string(p.Scope())
	var row Row
	var sealed []KeyRow
	err := a.write(ctx, &e, func(tx Tx) (err error) {
		if row, err = live(tx, c, rbac.AccountKeysRenew, p); err != nil {
			return err
		}
		if name != key1 && name != key2 {
			return fault.New(fault.InvalidArgument, "There is no such key.").About(name).WithMend("The keys are key1 and key2.")
		}
		if sealed, err = tx.AccountKeys(row.ID); err != nil {
			return err
		}
		for i, k := range sealed {
			if k.Name != name {
				continue
			}
			sealed[i] = a.newKey(row, name, k.Serial+1, a.time())
			e.Detail = map[string]string{"key": name, "serial": strconv.FormatInt(k.Serial+1, 10)}
			if err := tx.PutAccountKey(sealed[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.openKeys(row.Tenant, sealed)
}

// Verify returns the caller that a message speaks for which is signed with one of an
// account's keys by HMAC-SHA-256. It fails with [fault.Unauthenticated] if it is not,
// whether or not there is such an account, and with [fault.Denied] if the account does
// not accept its keys.
func (a *Accounts) Verify(ctx context.Context, name, message string, mac []byte) (identity.Caller, error) {
	var row Row
	var sealed []KeyRow
	err := a.store.View(ctx, func(tx Tx) (err error) {
		if row, err = tx.AccountNamed(Name(name)); err != nil {
			return err
		}
		sealed, err = tx.AccountKeys(row.ID)
		return err
	})
	if errors.Is(err, fault.ResourceNotFound) {
		return identity.Caller{}, errSignature()
	}
	if err != nil {
		return identity.Caller{}, err
	}
	keys, err := a.openKeys(row.Tenant, sealed)
	if err != nil {
		return identity.Caller{}, err
	}
	defer clearKeys(keys)
	signer := ""
	for _, k := range keys { // both, whichever it is
		h := hmac.New(sha256.New, k.Value)
		h.Write([]byte(message))
		if hmac.Equal(h.Sum(nil), mac) {
			signer = k.Name
		}
	}
	switch {
	case signer == "":
		return identity.Caller{}, errSignature()
	case !row.SharedKey:
		return identity.Caller{}, fault.New(fault.Denied, "Key based authentication is not permitted on this storage account.").
			WithMend("Use a token, or set allowSharedKeyAccess.")
	}
	return identity.Caller{
		Tenant: row.Tenant, Account: string(row.Path.Scope()), Context: map[string]string{"accountKey": signer},
	}, nil
}

func errSignature() error {
	return fault.New(fault.Unauthenticated, "The signature does not hold.")
}
