package encryption

import (
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/identity"
)

// What a thief tries who has rows and a root, without the rest of the package.

// ScopeKeyOf opens a platform-managed generation's scope key.
func ScopeKeyOf(root Root, tenant identity.TenantID, g Generation) (*envelope.Key, error) {
	sh, err := openGeneration(root, tenant, g)
	if err != nil {
		return nil, err
	}
	key, _ := envelope.DeriveScopeKey(sh.customer, sh.platform, scopeKeyContext(root.Instance(), tenant, g.Scope, g.Number))
	return key, nil
}

// OpenGeneration opens what the root sealed, and nothing else.
func OpenGeneration(root Root, tenant identity.TenantID, g Generation) error {
	_, err := openGeneration(root, tenant, g)
	return err
}

var (
	OpenItemKey = openItemKey
	OpenLink    = openLink
)

// Veiled returns copies of the keys that a scope has open in memory, each byte inverted,
// so that no copy is found in the keys' place.
func (k *Keyring) Veiled(id ScopeID) (scopeKeys, itemKeys [][]byte) {
	e := k.slot(id).entry.Load()
	if e == nil {
		return nil, nil
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	veil := func(k *envelope.Key) []byte {
		b := make([]byte, envelope.KeySize)
		for i := range b {
			b[i] = ^k[i]
		}
		return b
	}
	for _, k := range e.scopeKeys {
		scopeKeys = append(scopeKeys, veil(k))
	}
	for _, k := range e.keys {
		k.mu.RLock()
		itemKeys = append(itemKeys, veil(k.key))
		k.mu.RUnlock()
	}
	return scopeKeys, itemKeys
}
