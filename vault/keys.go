package vault

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A KeyUpdate is what can change of a version. What is nil stays as it is.
type KeyUpdate struct {
	Operations *[]Operation
	Enabled    *bool
	NotBefore  *time.Time // seconds
	Expires    *time.Time // seconds
	Tags       *map[string]string
}

// apply changes a version and checks the result.
func (u KeyUpdate) apply(k *KeyVersion) error {
	if u.Operations != nil {
		ops, err := checkOperations(k.Type, *u.Operations)
		if err != nil {
			return err
		}
		k.Operations = ops
	}
	if u.Enabled != nil {
		k.Enabled = *u.Enabled
		if _, marked := k.Tags[TagDrill]; marked && u.Tags == nil { // no drill has done this
			k.Tags = cloneTags(k.Tags)
			delete(k.Tags, TagDrill)
		}
	}
	if u.NotBefore != nil {
		k.NotBefore = u.NotBefore.UTC()
	}
	if u.Expires != nil {
		k.Expires = u.Expires.UTC()
	}
	if !k.NotBefore.IsZero() && !k.Expires.IsZero() && !k.NotBefore.Before(k.Expires) {
		return fault.New(fault.InvalidArgument, "nbf must lie before exp.")
	}
	if u.Tags != nil {
		if err := checkTags(*u.Tags); err != nil {
			return err
		}
		k.Tags = cloneTags(*u.Tags)
	}
	return nil
}

// Key returns a version of a key; the current one if version is "". It tells of a
// disabled key too.
func (v *Vaults) Key(ctx context.Context, c identity.Caller, vault Name, name KeyName, version Version) (Bundle, error) {
	a := begin(c, "KeyGet", "")
	var b Bundle
	err := v.read(ctx, a, func(tx Tx) (err error) {
		if b.Vault, err = v.enter(tx, a, vault, name, actionKeyRead); err != nil {
			return err
		}
		b, err = find(tx, a, b.Vault, name, version)
		return err
	})
	return b, err
}

// UpdateKey changes a version of a key; the current one if version is "".
func (v *Vaults) UpdateKey(ctx context.Context, c identity.Caller, vault Name, name KeyName, version Version, u KeyUpdate) (Bundle, error) {
	a := begin(c, "KeyUpdate", "")
	var b Bundle
	err := v.write(ctx, a, func(tx Tx) (err error) {
		if b.Vault, err = v.enter(tx, a, vault, name, actionKeyUpdate); err != nil {
			return err
		}
		if b, err = find(tx, a, b.Vault, name, version); err != nil {
			return err
		}
		was, expired := b.Version.Enabled, b.Version.Expires
		if err := u.apply(&b.Version); err != nil {
			return err
		}
		b.Version.Updated = v.clock()
		if !b.Version.Expires.Equal(expired) {
			if err := schedule(tx, b.Vault, &b.Version, b.Version.Version == b.Key.Current); err != nil {
				return err
			}
		}
		if err := tx.SetVaultKeyVersion(b.Version); err != nil {
			return err
		}
		if err := u.order(tx, a, b.Version); err != nil {
			return err
		}
		kind := KeyUpdated
		switch {
		case was && !b.Version.Enabled:
			kind = KeyDisabled
		case !was && b.Version.Enabled:
			kind = KeyEnabled
		}
		a.note("enabled", strconv.FormatBool(b.Version.Enabled))
		return v.changed(tx, a, Change{Vault: b.Vault.ID, Key: b.Key.Name, Version: b.Version.Version, Kind: kind})
	})
	return b, err
}

// PageLimit is the most that one page of a listing holds, and what it holds if
// the caller asks for no size.
const PageLimit = 25

// A Page is one part of a listing: what comes after a marker that the part
// before has given; from the start if it is "".
type Page struct {
	After string
	Limit int // 1 to PageLimit; 0 stands for PageLimit
}

func (p *Page) check() error {
	if p.Limit == 0 {
		p.Limit = PageLimit
	}
	if p.Limit < 1 || p.Limit > PageLimit {
		return fault.New(fault.InvalidArgument, fmt.Sprintf("maxresults must lie between 1 and %d.", PageLimit))
	}
	return nil
}

// Keys lists the current versions of a vault's live keys by name, and returns the
// marker of the next page, "" at the end.
func (v *Vaults) Keys(ctx context.Context, c identity.Caller, vault Name, p Page) ([]Bundle, string, error) {
	return v.list(ctx, begin(c, "KeyList", ""), vault, p, false)
}

// DeletedKeys lists the soft-deleted keys in the same way.
func (v *Vaults) DeletedKeys(ctx context.Context, c identity.Caller, vault Name, p Page) ([]Bundle, string, error) {
	return v.list(ctx, begin(c, "KeyListDeleted", ""), vault, p, true)
}

func (v *Vaults) list(ctx context.Context, a *act, vaultName Name, p Page, deleted bool) (all []Bundle, next string, err error) {
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err := v.enter(tx, a, vaultName, "", actionKeyRead)
		if err != nil {
			return err
		}
		all, next, err = p.keys(tx, vault, deleted)
		return err
	})
	return all, next, err
}

// keys returns the page's keys, by name, and the marker of the next page.
func (p Page) keys(tx Tx, vault Vault, deleted bool) (all []Bundle, next string, err error) {
	if err := p.check(); err != nil {
		return nil, "", err
	}
	keys, err := tx.VaultKeys(vault.ID, deleted, p.After, p.Limit+1)
	if err != nil {
		return nil, "", err
	}
	if len(keys) > p.Limit {
		keys = keys[:p.Limit]
		next = keys[p.Limit-1].Name.Key()
	}
	for _, k := range keys {
		kv, err := tx.VaultKeyVersion(k.ID, k.Current)
		if err != nil {
			return nil, "", err
		}
		all = append(all, Bundle{Vault: vault, Key: k, Version: kv})
	}
	return all, next, nil
}

// KeyVersions lists a live key's versions in the order of their creation.
func (v *Vaults) KeyVersions(ctx context.Context, c identity.Caller, vaultName Name, name KeyName, p Page) (all []Bundle, next string, err error) {
	a := begin(c, "KeyListVersions", "")
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err := v.enter(tx, a, vaultName, name, actionKeyRead)
		if err != nil {
			return err
		}
		all, next, err = p.versions(tx, vault, name)
		return err
	})
	return all, next, err
}

// versions returns the page's versions of a live key, and the marker of the next page.
func (p Page) versions(tx Tx, vault Vault, name KeyName) (all []Bundle, next string, err error) {
	if err := p.check(); err != nil {
		return nil, "", err
	}
	after := 0
	if p.After != "" {
		if after, err = strconv.Atoi(p.After); err != nil {
			return nil, "", fault.New(fault.InvalidArgument, "$skiptoken is not one of this listing.")
		}
	}
	k, err := liveKey(tx, vault, name)
	if err != nil {
		return nil, "", err
	}
	versions, err := tx.VaultKeyVersions(k.ID, after, p.Limit+1)
	if err != nil {
		return nil, "", err
	}
	if len(versions) > p.Limit {
		versions = versions[:p.Limit]
		next = strconv.Itoa(versions[p.Limit-1].Ordinal)
	}
	for _, kv := range versions {
		all = append(all, Bundle{Vault: vault, Key: k, Version: kv})
	}
	return all, next, nil
}

// enter finds the vault and authorises a data action at it, or at one of its keys
// if a name is given: before anything is learnt about the key.
func (v *Vaults) enter(tx Tx, a *act, vaultName Name, name KeyName, action rbac.Action) (Vault, error) {
	vault, err := liveVault(tx, vaultName)
	if err != nil {
		return Vault{}, err
	}
	scope := vault.Scope()
	if name != "" {
		scope = vault.KeyScope(name)
	}
	a.entry.Resource = string(scope)
	a.note("vault", string(vault.ID))
	if err := v.admit(tx, a, vault, action, scope); err != nil {
		return vault, err
	}
	return vault, vault.activated()
}

// find returns a version of a live key, the current one if version is "".
func find(tx Tx, a *act, vault Vault, name KeyName, version Version) (Bundle, error) {
	k, err := liveKey(tx, vault, name)
	if err != nil {
		return Bundle{}, err
	}
	if version == "" {
		version = k.Current
	}
	a.note("version", string(version))
	kv, err := tx.VaultKeyVersion(k.ID, version)
	if fault.ReasonOf(err) == fault.KeyNotFound {
		err = keyNotFound(name, version)
	}
	return Bundle{Vault: vault, Key: k, Version: kv}, err
}

func liveKey(tx Tx, vault Vault, name KeyName) (Key, error) {
	k, err := tx.VaultKey(vault.ID, name)
	if err == nil && !k.Deleted.IsZero() || fault.ReasonOf(err) == fault.KeyNotFound {
		err = keyNotFound(name, "")
	}
	return k, err
}

func keyNotFound(name KeyName, version Version) error {
	id := string(name)
	if version != "" {
		id += "/" + string(version)
	}
	return fault.New(fault.KeyNotFound, fmt.Sprintf("A key with (name/id) %s was not found in this key vault.", id)).
		WithMend("If you recently deleted this key you may be able to recover it using the correct recovery command.").About(id)
}

func keyDeleted(name KeyName) error {
	return fault.New(fault.KeyDeleted, fmt.Sprintf("Key %s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the key can only be recovered or purged.", name)).About(string(name))
}
